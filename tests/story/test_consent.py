"""
A consent's life, on real parts: asked, given, proven, renewed, refused for more, taken back.

One cell process with scripted engines each time, WhatsApp's simulator beside it, and the
commands that a DPO uses while the cell runs.
"""

import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.cell import NOTE, Town
from support.stage import Said, agree, received, scripted, staged, until, vocustody

from gateway import phrases, rights
from gateway.demo.graph import GraphWorld
from gateway.note import SPOKEN
from policy import receipt

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(90)]

SLOW_MS = "2500"
REVIEW = "human_review"
YEAR_S = 366 * 86_400
KINDS = {"raw_audio", "transcript", "redacted_transcript", "reply_audio"}


@pytest.fixture
async def slow(tmp_path: Path, graph: GraphWorld) -> AsyncIterator[Town]:
    """Yield a running cell whose speech-to-text takes its time."""
    town = staged(tmp_path / "cell", graph, registry=scripted(tmp_path / "r", delay_ms=SLOW_MS))
    # The tenant would leave it to the clocks; the person's law does not.
    more(town, "withdrawal_erases = false")
    await town.cell.start()
    yield town
    await town.cell.kill()


def more(town: Town, setting: str) -> None:
    """Add *setting* to the tenant's about consents."""
    with town.cell.config.open("a") as settings:
        settings.write(f"[tenants.consents]\n{setting}\n")


async def leaves(town: Town, kind: str, nth: int = 1) -> list[dict[str, Any]]:
    """Return the leaves of *kind* once there are *nth*."""

    async def found() -> list[dict[str, Any]]:
        some = [leaf for leaf in await town.leaves() if leaf["type"] == kind]
        return some if len(some) >= nth else []

    return list(await until(found))


async def ask(town: Town, *command: str) -> Said:
    """Run a command against the running cell."""
    return await vocustody(*command, "--config", str(town.cell.config))


async def history(town: Town, subject: str) -> dict[str, str]:
    """Return the newest state of each purpose, as the command tells it."""
    said = await ask(town, "consent", "history", subject, "--json")
    assert said.status == 0, said.err
    return {row["purpose"]: row["state"] for row in json.loads(said.out)}


def aged(town: Town, seconds: int) -> None:
    """Let every consent in the ledger be *seconds* older."""
    database = sqlite3.connect(town.cell.config.parent / "data" / "cell.db")
    with database:
        database.execute(
            "UPDATE consents SET at = at - ?, expires_at = expires_at - ?", (seconds,) * 2
        )
    database.close()


async def test_what_was_agreed_to_is_in_the_persons_hands_and_a_dpos(town: Town) -> None:
    """GDPR Art. 7(1): asked, given, answered; the proof verifies against the log's own word."""
    await town.cell.start()
    await agree(town, NOTE.read_bytes())
    await received(town, "text")
    await town.ada.type("consent receipt")
    document = await received(town, "document")
    [issued] = await leaves(town, "receipt.issued")
    subject = issued["subject"]

    theirs = receipt.verify(document.text.encode(), issued["detail"]["key"])
    declared = await ask(town, "subject", "declare", subject, "--residence", "FR")
    printed = await ask(town, "consent", "receipt", subject, "--purpose", SPOKEN)
    nothing = await ask(town, "consent", "receipt", subject, "--purpose", REVIEW)

    assert declared.status == printed.status == 0, declared.err + printed.err
    [_, again] = await leaves(town, "receipt.issued", 2)
    ours = receipt.verify(printed.out.encode(), again["detail"]["key"])
    log = await town.leaves()
    for found, leaf in ((theirs, issued), (ours, again)):
        assert log[found["vc:evidence"]["vc:logIndex"]] == leaf
        assert found["vc:evidence"]["vc:recordSha256"] == leaf["detail"]["record_sha256"]
    assert (issued["actor"], again["actor"], again.get("job")) == ("gateway", "operator", None)
    assert theirs["vc:record"]["dpv:hasJurisdiction"] == ["DE"]
    assert ours["vc:record"]["dpv:hasJurisdiction"] == ["FR"]
    assert (nothing.status, nothing.out) == (2, "")
    assert await history(town, subject) == {SPOKEN: "granted"}


async def test_a_withdrawal_stops_what_runs_and_destroys_what_rested_on_it(slow: Town) -> None:
    """GDPR Art. 7(3), 17(1)(b), at the real cell: in the log, no touch of it begins behind."""
    await agree(slow, NOTE.read_bytes())
    await received(slow, "text")
    await leaves(slow, "job.ended", 2)
    await slow.ada.say(NOTE.read_bytes())

    async def running() -> list[Any]:
        began = await leaves(slow, "touch.began")
        return [leaf for leaf in began if leaf["action"] == "transcribe"][1:]

    [second] = await until(running)
    await slow.ada.type("STOP")

    assert (await received(slow, "text", 2)).text == phrases.say("withdrawn_erased", "en")

    async def over() -> list[Any]:
        ended = await leaves(slow, "touch.ended")
        return [leaf for leaf in ended if leaf["touch"] == second["touch"]]

    [end] = await until(over)
    await leaves(slow, "job.ended", 4)
    log = await slow.leaves()
    [withdrawn] = [x for x in log if x["type"] == "consent.withdrawn"]
    assert log.index(withdrawn) < log.index(end), "it was still with the engine"
    behind = [x for x in log[log.index(withdrawn) :] if x["type"] == "touch.began"]
    assert [(x["action"], x["job"]) for x in behind] == [("send-notice", withdrawn["job"])]
    stored = [x["artifact"] for x in log if x["type"] == "artifact.stored"]
    gone = {x["artifact"]: x["detail"] for x in log if x["type"] == "artifact.destroyed"}
    assert {detail["kind"] for detail in gone.values()} == KINDS
    assert set(gone) == set(stored)
    assert {detail["reason"] for detail in gone.values()} == {"consent.withdrawn"}

    await slow.ada.say(NOTE.read_bytes())
    await received(slow, "buttons", 2)
    assert len(slow.of_kind("text")) == 2


async def test_another_purpose_is_asked_by_itself_and_a_no_to_it_changes_nothing(
    town: Town,
) -> None:
    """GDPR recital 43: bundled consents are not free; an answer never hangs on the second one."""
    more(town, f'ask = ["{REVIEW}"]')
    await town.cell.start()
    await agree(town, NOTE.read_bytes())
    answer = await received(town, "text")
    question = await received(town, "buttons", 2)

    await town.ada.press(rights.button(rights.REFUSE, REVIEW))

    assert question.at >= answer.at
    assert (await received(town, "text", 2)).text == phrases.say("purpose_refused", "en")
    [refused] = await leaves(town, "consent.refused")
    assert refused["detail"]["purpose"] == REVIEW
    await town.ada.say(NOTE.read_bytes())
    assert (await received(town, "text", 3)).text == answer.text
    assert len(town.of_kind("buttons")) == 2, "a no is respected"
    assert await history(town, refused["subject"]) == {SPOKEN: "granted", REVIEW: "refused"}


async def test_a_restart_keeps_the_question_and_a_year_later_it_is_asked_again(town: Town) -> None:
    """What was asked, agreed and ran out outlives every process (EDPB 05/2020, 110-111)."""
    await town.cell.start()
    await town.ada.say(NOTE.read_bytes())
    await received(town, "buttons")
    await town.cell.kill()
    await town.cell.start()
    await town.ada.press("consent.grant")
    await received(town, "text")
    await leaves(town, "job.ended", 2)
    await town.cell.stop()
    aged(town, YEAR_S)
    await town.cell.start()
    [expired] = await leaves(town, "consent.expired")

    await town.ada.say(NOTE.read_bytes())
    await received(town, "buttons", 2)
    await town.ada.press("consent.grant")
    await received(town, "text", 2)

    log = await town.leaves()
    kinds = [x["type"] for x in log if x["type"].startswith("consent.")]
    assert kinds == [
        "consent.asked",
        "consent.granted",
        "consent.expired",
        "consent.asked",
        "consent.renewed",
    ]
    assert await history(town, expired["subject"]) == {SPOKEN: "renewed"}
