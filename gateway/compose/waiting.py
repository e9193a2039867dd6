"""Commands that ask a running cell by a row, and wait for what it writes there."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.errors import MissingPartError

LOOK_EVERY_S = 0.2

Found = TypeVar("Found")


async def until(ask: Callable[[], Awaitable[Found | None]], wait_s: float, otherwise: str) -> Found:
    """
    Return what *ask* returns as soon as it is not None.

    Raises:
        MissingPartError: saying *otherwise*, when *wait_s* seconds are over.

    """
    try:
        async with asyncio.timeout(wait_s):
            while (found := await ask()) is None:  # noqa: ASYNC110 - the cell is another process
                await asyncio.sleep(LOOK_EVERY_S)
            return found
    except TimeoutError:
        raise MissingPartError(otherwise) from None
