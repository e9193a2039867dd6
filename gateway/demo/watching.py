"""What a scene may look at: the phone, the log, and what a command says."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from audit.stores.folder import Folder
from audit.trail import Trail
from gateway.demo.town import Resident

PATIENCE_S = 60.0


async def message(resident: Resident, kind: str, nth: int = 1) -> Any:
    """Return the *nth* message of *kind* on the phone, once it is there."""
    person = resident.person

    def is_it(message: Any) -> bool:
        found = [each for each in person.inbox if each.kind == kind]
        return len(found) >= nth and message is found[nth - 1]

    return await person.expect(is_it, within_s=PATIENCE_S)


async def leaves(resident: Resident) -> list[dict[str, Any]]:
    """Return every leaf of the resident's log, as stored."""
    async with await Trail.read(Folder(resident.audit, resident.place.region)) as trail:
        _, head = await trail.reader().head()
        return [json.loads(entry) for entry in await trail.reader().entries(0, head.size)]


async def destroyed(resident: Resident, artifact: str) -> dict[str, Any] | None:
    """Return the leaf that says *artifact* was destroyed, if it is there."""
    for leaf in await leaves(resident):
        if leaf["type"] == "artifact.destroyed" and leaf["artifact"] == artifact:
            return leaf
    return None


async def until(
    look: Callable[[], Awaitable[dict[str, Any] | None]], within_s: float
) -> dict[str, Any] | None:
    """Return what *look* finds; None if it finds nothing *within_s*."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                if found := await look():
                    return found
                await asyncio.sleep(0.5)
    except TimeoutError:
        return None


async def vocustody(resident: Resident, *command: str) -> tuple[int, str]:
    """Run one command against the resident's cell; return its status and what it said."""
    config = [] if command[0] == "verify" else ["--config", str(resident.cell.config)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *command, *config,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    return await process.wait(), said.decode()
