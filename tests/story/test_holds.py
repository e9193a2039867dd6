"""
A legal hold on a running cell, by the commands of those who place and end it.

The person goes on writing, is erased while the hold lasts, and what it kept goes with its end.
"""

import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.cell import NOTE, Town
from support.stage import PHONE, Said, agree, received, scripted, staged, until, vocustody

from gateway.demo.graph import GraphWorld

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

TERMS = ("--case", "case-7", "--ground", "GDPR Art. 17(3)(e)", "--until", "2027-06-30T00:00:00Z")


@pytest.fixture
async def town(tmp_path: Path, graph: GraphWorld) -> AsyncIterator[Town]:
    """Yield a running cell that a person agreed with and spoke to."""
    town = staged(tmp_path / "cell", graph, registry=scripted(tmp_path / "r"))
    await town.cell.start()
    await agree(town, NOTE.read_bytes())
    await received(town, "voice")
    yield town
    await town.cell.kill()


async def ask(town: Town, *command: str, typed: str = "") -> Said:
    """Run a command against the running cell."""
    return await vocustody(*command, "--config", str(town.cell.config), typed=typed)


async def told(town: Town, *command: str) -> dict[str, Any]:
    """Run a command that must succeed, and return the first row it prints."""
    said = await ask(town, *command, "--json")
    assert said.status in {0, 1}, said.err
    row: dict[str, Any] = json.loads(said.out)[0]
    return row


def states(town: Town) -> list[str]:
    """Return the states of the artifacts that a hold keeps, or kept when they were stored."""
    database = sqlite3.connect(town.cell.config.parent / "data" / "cell.db")
    rows = database.execute(
        "SELECT artifacts.state FROM artifacts JOIN retention ON artifact = id "
        "WHERE hold IS NOT NULL OR freed_at > 0"
    ).fetchall()
    database.close()
    return [state for (state,) in rows]


async def test_a_hold_from_its_proposal_to_its_end(town: Town) -> None:
    """Two people keep it, no processor gets it, an erasure waits for it, and then it is gone."""
    found = await ask(town, "subject", "find", "fernruf", typed=f"+{PHONE}\n")
    subject = found.out.strip()
    hold = (await told(town, "hold", "propose", *TERMS, "--by", "p_1", "--subject", subject))[
        "hold"
    ]
    alone = await ask(town, "hold", "approve", hold, "--by", "p_1")
    assert (alone.status, "approval.missing" in alone.err) == (2, True)
    placed = await told(town, "hold", "approve", hold, "--by", "p_2")
    assert (placed["state"], placed["by"], placed["approved_by"]) == ("placed", "p_1", "p_2")
    before = [leaf for leaf in await town.leaves() if leaf.get("action") == "transcribe"]

    await town.ada.say(NOTE.read_bytes())

    async def refused() -> list[Any]:
        ended = [leaf for leaf in await town.leaves() if leaf["type"] == "job.ended"]
        return [leaf for leaf in ended if leaf["detail"].get("reason") == "hold.active"]

    [job] = await until(refused)
    after = [leaf for leaf in await town.leaves() if leaf.get("action") == "transcribe"]
    assert [leaf["type"] for leaf in after[len(before) :]] in ([], ["policy.decided"])
    assert set(states(town)) == {"kept"}
    kept = len(states(town))
    assert kept >= 2, "a transcript of before, and the recording of after"

    await ask(town, "erase", subject, "--because", "request 17", "--by", "dpo", "--hard")

    async def executed() -> list[Any]:
        return [leaf for leaf in await town.leaves() if leaf["type"] == "erasure.certified"]

    [certified] = await until(executed)
    assert certified["detail"]["verdict"] == "complete-with-residuals"
    assert states(town) == ["kept"] * kept

    await told(town, "hold", "release", hold, "--by", "p_1")
    assert (await told(town, "hold", "approve", hold, "--by", "p_2"))["state"] == "released"

    async def gone() -> bool:
        return states(town) == ["destroyed"] * kept

    assert await until(gone)

    async def all_told() -> list[str]:
        kinds = [leaf["type"] for leaf in await town.leaves() if leaf["type"].startswith("hold.")]
        return kinds if len(kinds) == 3 else []

    assert await until(all_told) == ["hold.proposed", "hold.placed", "hold.released"]
    assert job["outcome"] == "refused"
