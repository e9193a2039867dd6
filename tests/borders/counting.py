"""What was sent while something went on, and what of it should not have been."""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import Any

from borders.namespace import packets
from borders.vendors import Vendors

QUIET_S = 0.005


async def settled() -> Counter[str]:
    """Return the packets that left, once nothing more leaves."""
    before = packets()
    while True:
        await asyncio.sleep(QUIET_S)
        if (after := packets()) == before:
            return after
        before = after


async def counted(act: Awaitable[Any], vendors: Vendors) -> dict[str, int]:
    """Return the packets that left for each place while *act* went on."""
    before = await settled()
    await act
    after = await settled()
    return {vendors.net.place(name): n for name, n in (after - before).items()}


def strays(sent: dict[str, int], legal: set[str]) -> dict[str, int]:
    """Return the packets that left for places which are not *legal*: there must be none."""
    return {place: n for place, n in sent.items() if place not in legal}
