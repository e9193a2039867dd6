"""
What a person said, typed or is reachable at is nowhere in clear: files, broker, logs, processes.

Every scan is void unless the same scanner, in each of those places, finds a planted control in
every form. There is no export of traces; ``doctor`` and the exported log are what goes to support.
"""

from pathlib import Path

import pytest
from support import scanner
from support.stage import metrics, received, vocustody
from support.trap import CARD, TYPED, Trap

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]


async def told(trap: Trap, *command: str) -> bytes:
    """Return everything that a command prints."""
    said = await vocustody(*command, "--config", str(trap.town.cell.config))
    return (said.out + said.err).encode()


async def support_bundle(trap: Trap, to: Path) -> dict[str, bytes]:
    """Return what an operator would send to somebody who is to help, by name."""
    await told(trap, "export-log", str(to))
    return {
        "metrics": (await metrics(trap.town)).encode(),
        "doctor": await told(trap, "doctor"),
        "notes": await told(trap, "notes", "--json"),
        "exported log": b"\n".join(scanner.files([to]).values()),
    }


async def test_a_person_is_nowhere_in_clear(trap: Trap, tmp_path: Path) -> None:
    """Who steals the disk, the broker, the logs or the metrics learns nothing of anybody."""
    ada = trap.town.ada
    await trap.start()
    trap.watch_message("typed's id", await ada.type(f"{TYPED}, card {CARD}"))
    await received(trap.town, "text")
    trap.watch_message("note's id", await ada.say(trap.note))
    await received(trap.town, "buttons")
    parked = await trap.hits()
    await ada.press("consent.grant")
    await received(trap.town, "text", 2)
    trap.watch_bytes("reply", (await received(trap.town, "voice")).audio)
    bundle = await support_bundle(trap, tmp_path / "export")
    answered = await trap.hits(memory=True, **bundle)
    await trap.town.cell.kill()
    killed = await trap.hits()

    assert parked == []
    assert answered == []
    assert killed == []
    assert '"level": "debug"' in trap.town.cell.log, "it was at DEBUG"
    assert b"a_" in bundle["notes"], "there was something to list"
