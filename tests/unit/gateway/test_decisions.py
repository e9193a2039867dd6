"""The store of decisions: sealed, written behind, and never in the way of an answer."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text, update
from sqlalchemy.exc import SQLAlchemyError
from structlog.testing import capture_logs
from support.desk import TENANT, Desk, until

from gateway import decisions
from gateway.decisions import BATCH, KEPT_FOR, PAGE, Decisions, Made
from gateway.errors import ConsentNeededError
from gateway.permit import permitted
from gateway.schema import decisions as table
from gateway.sweeper import Sweeper
from policy import canonical
from policy.model import Stage, Undecided
from policy.replay import Fault, Gone, Stored
from vault.tables import subject_keys

ASKED = {"jurisdiction": "DE", "stage": "reply"}
ANSWER = {"allow": True}
AT = datetime(2026, 11, 19, 14, tzinfo=UTC)


def made(number: int = 1, **changed: Any) -> Made:
    """Return a decision of a subject that nobody has met yet."""
    given = Made(
        id=f"d_{number:032x}",
        at=AT,
        tenant=TENANT,
        subject="s_1",
        stage="reply",
        jurisdiction="DE",
        outcome="allowed",
        revision="a" * 64,
        data_sha256="b" * 64,
        engine="embedded/regorus-0",
        input_sha256=canonical.digest(ASKED),
        answer_sha256=canonical.digest(ANSWER),
        reasons=(),
        asked=ASKED,
        answer=ANSWER,
    )
    return replace(given, **changed)


def store(desk: Desk, **changed: Any) -> Decisions:
    """Return a store over the desk's database whose writer does not run yet."""
    return Decisions(desk.ports.engine, desk.ports.custody, desk.ports.metrics, **changed)


def unkept(desk: Desk, reason: str) -> float:
    """Return how many decisions are counted as not kept for *reason*."""
    name = f'vocustody_decisions_unkept_total{{reason="{reason}"}} '
    lines = desk.ports.metrics.render().decode().splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


async def read(desk: Desk, **given: Any) -> list[Stored | Gone | Fault]:
    """Return what is kept, newest first."""
    asked = {"since": None, "limit": 10_000} | given
    found = decisions.newest(desk.ports.engine, desk.ports.custody, **asked)
    return [one async for one in found]


@pytest.mark.anyio
async def test_a_decision_is_kept_with_all_that_a_replay_needs(desk: Desk) -> None:
    """Input and answer come back as they were, and their digests are those on record."""
    await desk.consents()
    note = await desk.spoken()

    allowed = await permitted(note, Stage.CAPTURE, desk.ports)
    await desk.ports.decisions.flush()

    [found] = await read(desk)
    assert isinstance(found, Stored)
    proof = allowed.provenance
    assert (found.id, found.outcome, found.revision) == (proof.id, "allowed", proof.revision)
    assert canonical.digest(found.asked) == proof.input_sha256 == found.input_sha256
    assert canonical.digest(found.answer) == proof.answer_sha256 == found.answer_sha256
    assert tuple(found.answer["processors"]) == allowed.processors


@pytest.mark.anyio
async def test_a_no_is_kept_like_a_yes(desk: Desk) -> None:
    """What a candidate would open is as telling as what it would close."""
    note = await desk.spoken()

    with pytest.raises(ConsentNeededError):
        await permitted(note, Stage.CAPTURE, desk.ports)
    await desk.ports.decisions.flush()

    [found] = await read(desk)
    assert isinstance(found, Stored)
    assert (found.outcome, found.reasons) == ("denied", ("consent.missing",))


@pytest.mark.anyio
async def test_an_answer_that_was_none_is_not_kept(desk: Desk) -> None:
    """It may be anything, of any size; its reason is enough."""
    note = await desk.spoken()
    decide = desk.ports.decide

    async def junk(question: Any, kept: Any) -> Undecided:
        decided = await decide(question, lambda one: kept(replace(one, answer=["<html>"])))
        return Undecided(reasons=("answer.type",), provenance=decided.provenance)

    desk.with_ports(decide=junk)
    with pytest.raises(Exception, match=r"answer\.type"):
        await permitted(note, Stage.CAPTURE, desk.ports)
    await desk.ports.decisions.flush()

    [found] = await read(desk)
    assert isinstance(found, Stored)
    assert (found.outcome, found.answer, found.reasons) == ("undecided", None, ("answer.type",))


@pytest.mark.anyio
async def test_an_answer_held_against_two_releases_is_kept_once(desk: Desk) -> None:
    """While a server swaps bundles, one answer is read twice and one reading counts."""
    await desk.consents()
    note = await desk.spoken()
    decide = desk.ports.decide

    async def twice(question: Any, kept: Any) -> Any:
        await decide(question, kept)
        return await decide(question, kept)

    desk.with_ports(decide=twice)
    allowed = await permitted(note, Stage.CAPTURE, desk.ports)
    await desk.ports.decisions.flush()

    assert [one.id for one in await read(desk)] == [allowed.provenance.id]


@pytest.mark.anyio
async def test_nothing_of_input_or_answer_lies_in_the_database_in_clear(desk: Desk) -> None:
    """A consent's id and a notice's digest are about a person."""
    await desk.consents()
    note = await desk.spoken()

    await permitted(note, Stage.CAPTURE, desk.ports)
    await desk.ports.decisions.flush()

    [row] = await desk.rows(table)
    assert row.subject == note.subject
    assert row.sealed
    assert b"consent" not in row.sealed
    assert "consent" not in str({**row._mapping, "sealed": ""})


@pytest.mark.anyio
async def test_the_input_dies_with_the_subjects_key(desk: Desk) -> None:
    """Erasure needs no list of tables; what is decided too late is not kept at all."""
    kept = store(desk)
    kept.keep(made(1))
    await kept.flush()
    await desk.ports.keys.destroy_subject("s_1")
    kept.keep(made(2))
    await kept.flush()

    found = await read(desk)

    assert found == [Gone(f"d_{1:032x}", "key.destroyed")]


@pytest.mark.anyio
async def test_a_row_moved_to_another_decision_does_not_open(desk: Desk) -> None:
    """A sealed input belongs to its decision: swapped rows would explain each other."""
    kept = store(desk)
    kept.keep(made(1))
    await kept.flush()
    async with desk.ports.engine.begin() as tx:
        await tx.execute(update(table).values(id="d_" + "f" * 32))

    assert await read(desk) == [Fault("d_" + "f" * 32, "row.tampered")]


@pytest.mark.anyio
async def test_the_writer_writes_many_in_one_transaction(desk: Desk) -> None:
    """A transaction is an fsync: one for each decision would be paid by every answer."""
    commits = []
    event.listen(desk.ports.engine.sync_engine, "commit", commits.append)
    kept = store(desk)
    kept.start()
    kept.keep(made(0))  # whose subject's key is made
    await until(lambda: written(desk, 1))
    commits.clear()

    for number in range(1, BATCH + 1):
        kept.keep(made(number))
    await until(lambda: written(desk, BATCH + 1))

    assert len(commits) == 1 + reads(commits)
    await kept.aclose()


def reads(commits: list[Any]) -> int:
    """Return how many of *commits* only read."""
    return sum(bool(each.get_execution_options().get("reading")) for each in commits)


async def written(desk: Desk, count: int) -> bool:
    """Return whether *count* rows are there."""
    return await decisions.count(desk.ports.engine) == count


@pytest.mark.anyio
async def test_closing_writes_what_waits(desk: Desk) -> None:
    """An orderly end loses nothing."""
    kept = store(desk)
    kept.start()
    for number in range(BATCH + 1):
        kept.keep(made(number))

    await kept.aclose()

    assert await written(desk, BATCH + 1)
    assert unkept(desk, "store.closed") == 0


@pytest.mark.anyio
async def test_a_full_store_drops_the_oldest_and_counts_them(desk: Desk) -> None:
    """Memory has an end, and no job waits: the log has the decision either way."""
    kept = store(desk, most_waiting=3)

    for number in range(5):
        kept.keep(made(number))
    await kept.flush()

    assert sorted(one.id[-1] for one in await read(desk)) == ["2", "3", "4"]
    assert unkept(desk, "store.full") == 2


async def renamed(desk: Desk, old: str, new: str) -> None:
    """Rename a table."""
    async with desk.ports.engine.begin() as tx:
        await tx.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))


@pytest.mark.anyio
async def test_what_could_not_be_written_is_written_later_and_once(desk: Desk) -> None:
    """A locked database is a moment, not a loss; and nobody knows whether a commit arrived."""
    kept = store(desk)
    kept.keep(made(1))
    await kept.flush()
    kept.keep(made(1))
    kept.keep(made(2))
    await renamed(desk, "decisions", "away")
    with pytest.raises(SQLAlchemyError):
        await kept.flush()
    await renamed(desk, "away", "decisions")

    await kept.flush()

    assert await written(desk, 2)


@pytest.mark.anyio
async def test_a_failure_does_not_end_the_writer(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be noticed when somebody needs what was never kept."""
    monkeypatch.setattr(decisions, "RETRY_S", 0.05)
    kept = store(desk)
    await renamed(desk, "decisions", "away")
    with capture_logs() as said:
        kept.start()
        kept.keep(made(1))
        await until(lambda: _said(said))
    await renamed(desk, "away", "decisions")

    await until(lambda: written(desk, 1))

    assert said[0] | {"log_level": ""} == {
        "error": "OperationalError",
        "event": "decisions.delayed",
        "log_level": "",
    }
    await kept.aclose()


async def _said(lines: list[Any]) -> bool:
    return bool(lines)


@pytest.mark.anyio
async def test_an_end_without_a_database_counts_what_is_lost(desk: Desk) -> None:
    """The cell must stop, and say what it could not keep."""
    await desk.ports.custody.seal_small("s_1", "any", b"")
    await renamed(desk, "decisions", "away")
    kept = store(desk)
    kept.start()
    kept.keep(made(1))

    async with asyncio.timeout(3):
        await kept.aclose()

    assert unkept(desk, "store.closed") == 1


@pytest.mark.anyio
async def test_decisions_are_forgotten_after_their_time(desk: Desk) -> None:
    """Replay is a reason to keep an input for a while, not for ever."""
    kept = store(desk)
    kept.keep(made(1, at=desk.clock() - KEPT_FOR))
    kept.keep(made(2, at=desk.clock() - KEPT_FOR - timedelta(microseconds=1)))
    await kept.flush()

    await Sweeper(desk.ports, owner="eu-1/aa").forget()

    assert [one.id for one in await read(desk)] == [made(1).id]


@pytest.mark.anyio
async def test_the_newest_come_first_and_every_one_once(desk: Desk) -> None:
    """Pages that overlap or leave a gap would make every count of a report wrong."""
    kept = store(desk)
    for number in range(PAGE + 3):
        # Four share one time, also where a page ends: order must not hang on time alone.
        kept.keep(made(number, at=desk.clock() + timedelta(seconds=number // 4)))
    await kept.flush()

    found = [one.id for one in await read(desk)]

    assert found == [made(number).id for number in reversed(range(PAGE + 3))]


@pytest.mark.anyio
async def test_a_reader_gets_what_it_asks_for(desk: Desk) -> None:
    """A limit and a time make a replay affordable."""
    kept = store(desk)
    for number in range(4):
        kept.keep(made(number, at=desk.clock() + timedelta(seconds=number)))
    await kept.flush()

    since = desk.clock() + timedelta(seconds=1)

    assert [one.id[-1] for one in await read(desk, since=since)] == ["3", "2", "1"]
    assert [one.id[-1] for one in await read(desk, limit=2)] == ["3", "2"]
    assert await decisions.count(desk.ports.engine, since=since) == 3


@pytest.mark.anyio
async def test_one_that_can_never_be_written_holds_up_no_other(desk: Desk) -> None:
    """It is counted and left out: the log's leaf is the record."""
    kept = store(desk)
    kept.keep(replace(made(1), asked={"n": 1.5}))
    kept.keep(made(2))

    await kept.flush()

    assert await written(desk, 1)
    assert unkept(desk, "row.unusable") == 1


async def lose_the_key_of(subject: str, desk: Desk) -> None:
    """Damage the row of the key that nobody destroyed."""
    async with desk.ports.engine.begin() as tx:
        theirs = subject_keys.c.subject == subject
        await tx.execute(update(subject_keys).where(theirs).values(ciphertext="local:v1:AAAA"))
    desk.ports.keys.forget(subject)


@pytest.mark.anyio
async def test_an_input_whose_key_is_lost_is_a_fault_and_no_erasure(desk: Desk) -> None:
    """Who reads "destroyed" believes that somebody asked for it."""
    kept = store(desk)
    kept.keep(made(1))
    await kept.flush()
    await lose_the_key_of("s_1", desk)

    assert await read(desk) == [Fault(f"d_{1:032x}", "key.lost")]


@pytest.mark.anyio
async def test_one_persons_lost_key_holds_up_no_other(desk: Desk) -> None:
    """It comes back with no outage's end: what waits behind it would wait for ever."""
    kept = store(desk)
    kept.keep(made(1))
    await kept.flush()
    await lose_the_key_of("s_1", desk)
    kept.keep(made(2))
    kept.keep(made(3, subject="s_2"))

    await kept.flush()

    assert await written(desk, 2)
    assert unkept(desk, "key.lost") == 1
