"""Receipts that a command asked for: only the running cell issues them, and the log has them."""

import asyncio
import json

import pytest
from sqlalchemy import insert
from support.desk import TENANT, Desk

from audit.errors import AppendError
from audit.model import EventType
from gateway import phrases, requested, subjects
from gateway.compose import people
from gateway.compose.people import NoReceiptError, UnknownSubjectError
from gateway.errors import MissingPartError, UndecidedError
from gateway.jobs import micros
from gateway.note import SPOKEN
from gateway.requested import FETCHED_WITHIN, NOTHING, UNKNOWN_LAW
from gateway.schema import decisions, requests
from policy import receipt
from policy.model import Consent, ConsentState, Provenance, Undecided

NOBODY = Provenance(id="d_0", engine="none", revision="", data_sha256="", input_sha256="")


async def known(desk: Desk) -> str:
    """Return ada's pseudonym; she agreed, and lives in France."""
    await desk.consents()
    subject = await desk.subject()
    await subjects.declare(desk.ports.engine, subject, TENANT, at=desk.ports.now(), residence="FR")
    return subject


async def asked(desk: Desk, subject: str, purpose: str | None = None) -> str:
    """Ask for a receipt."""
    return await requested.ask(desk.ports.engine, subject, TENANT, purpose, desk.ports.now())


async def fault(desk: Desk, ident: str) -> str:
    """Return why there is no receipt."""
    found = await requested.answer(desk.ports.engine, ident)
    assert found is not None
    assert found.document is None
    return found.fault


@pytest.mark.anyio
async def test_the_running_cell_answers_and_the_log_knows(desk: Desk) -> None:
    """Signed by the cell's key, vouched for by a leaf that says an operator asked."""
    subject = await known(desk)
    ident = await asked(desk, subject)
    assert await requested.answer(desk.ports.engine, ident) is None

    for _ in range(2):
        await requested.serve(desk.ports)

    found = await requested.answer(desk.ports.engine, ident)
    assert found is not None
    [leaf] = [e for e in desk.trail.seen if e.type is EventType.RECEIPT_ISSUED]
    assert (leaf.actor, leaf.subject, leaf.job) == ("operator", subject, None)
    told = receipt.verify(found.document or b"", str(leaf.detail["key"]))
    assert told["vc:record"]["dpv:hasJurisdiction"] == ["FR"]
    assert told["vc:evidence"]["vc:recordSha256"] == leaf.detail["record_sha256"]
    assert desk.types("touch.began", "policy.decided") == []


@pytest.mark.anyio
async def test_one_purpose_is_told_alone(desk: Desk) -> None:
    """Who asks about one need not read the others."""
    subject = await known(desk)
    at = int(desk.clock().timestamp())
    row = Consent(
        id="c_more", tenant=TENANT, subject=subject, purpose="training", at=at,
        state=ConsentState.REFUSED, expires_at=at + 1, notice_version=phrases.VERSION,
        notice_sha256="0" * 64, language="en", channel="whatsapp", evidence="",
    )  # fmt: skip
    await desk.ports.consents.record(row)
    one, both = await asked(desk, subject, SPOKEN), await asked(desk, subject)

    await requested.serve(desk.ports)

    told = [await requested.answer(desk.ports.engine, ident) for ident in (one, both)]
    records = [json.loads(each.document or b"")["receipt"]["vc:record"] for each in told if each]
    assert [len(record["dpv:hasProcess"]) for record in records] == [1, 2]


@pytest.mark.anyio
async def test_the_law_is_the_one_that_the_newest_decision_went_by(desk: Desk) -> None:
    """Nobody keeps the number: what was decided by it says whose law held."""
    await desk.consents()
    subject = await desk.subject()
    for number, code in enumerate(("SE", "DE")):
        row = dict.fromkeys(
            ("revision", "data_sha256", "engine", "input_sha256", "answer_sha256"), "0"
        )
        row |= {"tenant": TENANT, "stage": "notice", "outcome": "allowed", "subject": subject}
        at = micros(desk.clock()) + number
        async with desk.ports.engine.begin() as tx:
            values = row | {"id": f"d_{number}", "at": at, "jurisdiction": code}
            await tx.execute(insert(decisions).values(**values))
    ident = await asked(desk, subject)

    await requested.serve(desk.ports)

    found = await requested.answer(desk.ports.engine, ident)
    assert found is not None
    record = json.loads(found.document or b"")["receipt"]["vc:record"]
    assert record["dpv:hasJurisdiction"] == ["DE"]


@pytest.mark.anyio
async def test_what_cannot_be_said_truly_is_refused_with_its_reason(desk: Desk) -> None:
    """An empty receipt, or one under a guessed law, would look like one."""
    subject = await desk.subject()
    empty = await asked(desk, subject)
    await requested.serve(desk.ports)
    assert await fault(desk, empty) == NOTHING
    await desk.consents()
    lawless, other = await asked(desk, subject), await asked(desk, subject, "training")

    await requested.serve(desk.ports)

    assert await fault(desk, lawless) == UNKNOWN_LAW
    assert await fault(desk, other) == NOTHING
    assert desk.types("receipt.issued") == []


@pytest.mark.anyio
async def test_without_a_leaf_or_an_answer_of_the_rules_it_waits(desk: Desk) -> None:
    """What the log does not know is worth nothing; the next tick tries again."""
    ident = await asked(desk, await known(desk))
    decide = desk.ports.decide

    async def undecided(*_: object) -> Undecided:
        return Undecided(reasons=("engine.late",), provenance=NOBODY)

    desk.with_ports(decide=undecided)
    with pytest.raises(UndecidedError):
        await requested.serve(desk.ports)
    desk.with_ports(decide=decide)
    desk.trail.refuses = lambda event: event.type is EventType.RECEIPT_ISSUED
    with pytest.raises(AppendError):
        await requested.serve(desk.ports)
    assert await requested.answer(desk.ports.engine, ident) is None
    desk.trail.refuses = lambda _event: False

    await requested.serve(desk.ports)

    assert await requested.answer(desk.ports.engine, ident) is not None


@pytest.mark.anyio
async def test_what_nobody_fetched_goes(desk: Desk) -> None:
    """A command that was killed leaves its row; nobody reads the answer any more."""
    answered = await asked(desk, await known(desk))
    await requested.serve(desk.ports)
    desk.clock.move(1)
    await asked(desk, await desk.subject())
    desk.clock.move(FETCHED_WITHIN.total_seconds())

    await requested.serve(desk.ports)

    [row] = await desk.rows(requests)
    assert row.id != answered
    desk.clock.move(1)
    await requested.serve(desk.ports)
    assert await desk.rows(requests) == []


@pytest.mark.anyio
async def test_the_command_waits_reads_and_clears_up(desk: Desk) -> None:
    """What was printed need not lie in the database, too."""
    subject = await known(desk)
    asking = people.receipt(desk.ports.engine, subject, clock=desk.clock)
    waiting = asyncio.create_task(asking)
    while not await desk.rows(requests):  # noqa: ASYNC110 - a database row sets no event
        await asyncio.sleep(0.01)

    await requested.serve(desk.ports)

    assert b'"jws"' in await waiting
    assert await desk.rows(requests) == []


@pytest.mark.anyio
async def test_without_a_running_cell_the_command_says_so(desk: Desk) -> None:
    """It cannot sign by itself: a receipt without its leaf is worth nothing."""
    subject = await known(desk)

    with pytest.raises(MissingPartError, match="no running cell"):
        await people.receipt(desk.ports.engine, subject, wait_s=0.1)

    assert await desk.rows(requests) == []


@pytest.mark.anyio
async def test_what_nobody_can_answer_is_not_asked(desk: Desk) -> None:
    """A mistyped pseudonym or purpose is told at once."""
    subject = await known(desk)

    with pytest.raises(UnknownSubjectError):
        await people.receipt(desk.ports.engine, "s_nobody")
    with pytest.raises(NoReceiptError, match="human_review"):
        await people.receipt(desk.ports.engine, subject, "everything")

    assert await desk.rows(requests) == []
