"""
Every door through which an erased person could come back: a test each, red without its guard.

The worker here is another process than the one that erases: it has the person's key in memory.
"""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from support.desk import REGION, TENANT, Desk, StrictTrail, until, working
from support.erasing import Eraser, eraser_of

from audit.model import Event, Receipt
from gateway import conclude, consents, handover, outbox, turns
from gateway.broker import Broker
from gateway.compose import people
from gateway.compose.people import UnknownSubjectError
from gateway.consents import Words
from gateway.decisions import Decisions
from gateway.demo.graph.wire import wamid
from gateway.errors import LeaseLostError
from gateway.holdings import KEPT_AS_PROOF, holdings
from gateway.jobs import ERASED, State, Unclaimed
from gateway.note import SPOKEN
from gateway.outbox import Body, Kind
from gateway.ports import Ports
from gateway.schema import aliases, decisions, handovers, jobs, replies, sessions, subjects
from gateway.slots import URGENT
from gateway.tombstones import PREFIX
from gateway.whatsapp.payload import Identity, Message, Parsed, Text
from policy.consents.tables import consents as ledger
from policy.model import ConsentState
from vault import keysheet
from vault.custody import Custody
from vault.errors import CustodyError, GoneError
from vault.keyrings.local import LocalKeyring
from vault.keys import Keys
from vault.model import Label
from vault.objects.local import LocalObjects
from vault.tables import artifacts

pytestmark = pytest.mark.anyio
Act = Callable[[], Awaitable[object]]


def another(desk: Desk, keys: type[Keys] = Keys, **changed: Any) -> Ports:
    """Return the ports of another process over the same database, keyring and objects."""
    theirs = keys(
        desk.ports.engine, LocalKeyring(desk.directory / "keys"), region=REGION, now=desk.clock
    )
    custody = Custody(desk.ports.engine, theirs, desk.ports.custody.objects, now=desk.clock)
    return replace(desk.ports, keys=theirs, custody=custody, **changed)


async def nothing_is_left(desk: Desk, subject: str) -> None:
    """Assert that the selector finds what is kept as proof, and no store has a byte."""
    found = await holdings(subject, TENANT, desk.ports)
    assert {copy.kind for copy in found.copies} <= KEPT_AS_PROOF.keys()
    names = await desk.ports.custody.objects.names()
    assert [name for name in names if not name.startswith((PREFIX, keysheet.PREFIX))] == []
    for table in (jobs, replies, sessions, handovers):
        assert await desk.rows(table) == [], table.name


@dataclass(slots=True)
class Interrupted(StrictTrail):
    """A trail at whose event *at* something else happens, once it is durable."""

    at: int = 0
    act: Act | None = None
    happened: list[str] = field(default_factory=list)

    async def append(self, event: Event) -> Receipt:
        """Append; then let the other thing happen, if it is time."""
        receipt = await StrictTrail.append(self, event)
        if self.act is not None and len(self.seen) == self.at + 1:
            self.happened.append(event.type.value)
            await self.act()
        return receipt


EVENTS = 30  # of one voice note, from its first decision to its spoken answer


@pytest.mark.parametrize("at", range(EVENTS))
async def test_an_erasure_at_any_moment_of_a_turn_is_final(eraser: Eraser, at: int) -> None:
    """A worker holds words, keys and answers of the erased; none of it comes to rest or leaves."""
    desk = eraser.desk
    await desk.consents()
    note = await desk.spoken()
    ident = await eraser.ask(note.subject)
    sent: list[int] = []

    async def erase() -> None:
        await eraser_of(desk).erasures.advance(ident)
        sent.append(len(desk.ada.inbox))

    trail = Interrupted(desk.trail.inner, at=at, act=erase)
    with contextlib.suppress(LeaseLostError, GoneError, CustodyError):
        await turns.act(note, another(desk, trail=trail))
    with pytest.raises(LeaseLostError):
        await conclude.end(note.job, State.DONE, "answered", desk.ports)

    assert trail.happened
    assert [len(desk.ada.inbox)] == sent
    await eraser.harden()
    await nothing_is_left(desk, note.subject)
    assert (await eraser.found(ident)).certified


class Paused(Keys):
    """Keys that wait, once *act* is there, between the key of an artifact and its use."""

    act: Act | None = None

    async def storing_key(self, label: Label, epoch: str) -> tuple[str, bytes]:
        """Return the key; then let the other thing happen."""
        key = await super().storing_key(label, epoch)
        if self.act is not None:
            act, self.act = self.act, None
            await act()
        return key


@dataclass(slots=True)
class Slow(LocalObjects):
    """Files before whose next `put` something else happens."""

    act: Act | None = None

    def __init__(self, desk: Desk, act: Act) -> None:
        LocalObjects.__init__(self, desk.directory / "objects")
        self.act = act

    async def put(self, name: str, sealed: bytes) -> None:
        """Let the other thing happen, then put."""
        if self.act is not None:
            act, self.act = self.act, None
            await act()
        await LocalObjects.put(self, name, sealed)


class Late(Custody):
    """A custody whose caller is stopped between what it kept and what it says of it."""

    act: Act | None = None

    async def put(self, *given: Any, **more: Any) -> Any:
        """Put; then let the other thing happen."""
        kept = await super().put(*given, **more)
        if self.act is not None:
            act, self.act = self.act, None
            await act()
        return kept


@pytest.mark.parametrize("where", ["key", "put", "record"])
async def test_a_worker_that_stopped_while_it_stored_stores_nothing(
    eraser: Eraser, where: str
) -> None:
    """It has the key, then the row, then the object: an erasure in between must win each time."""
    desk = eraser.desk
    await desk.consents()
    note = await desk.spoken()
    ident = await eraser.ask(note.subject)
    ran: list[str] = []

    async def erase() -> None:
        ran.append(where)
        await eraser_of(desk).erasures.advance(ident)

    theirs = another(desk, Paused)
    await theirs.custody.seal_small(note.subject, "warm", b"so that the key is in memory")
    if where == "key":
        theirs.keys.act = erase  # type: ignore[attr-defined]
    elif where == "put":
        theirs.custody.objects = Slow(desk, erase)
    else:
        late = Late(desk.ports.engine, theirs.keys, theirs.custody.objects, now=desk.clock)
        late.act = erase
        theirs = replace(theirs, custody=late)

    with pytest.raises((LeaseLostError, GoneError, CustodyError)):
        await turns.act(note, theirs)

    assert ran == [where]
    assert {row.state for row in await desk.rows(artifacts)} <= {"destroyed"}
    await nothing_is_left(desk, note.subject)


async def old_news(desk: Desk, sent_at: int) -> Message:
    """Return a message that ada sent at *sent_at*, as WhatsApp delivers it today."""
    return Message(
        phone_number_id=desk.line.phone_number_id,
        id=wamid(desk.ada.phone or ""),
        sender=Identity(phone=desk.ada.phone, bsuid=desk.ada.bsuid),
        sent_at=sent_at,
        content=Text(body="what I said before"),
    )


async def test_a_redelivery_from_before_is_barred(eraser: Eraser) -> None:
    """Meta delivers for seven days, and the hash that knows the message may be gone by then."""
    desk = eraser.desk
    note = await desk.typed()
    before = int(desk.clock().timestamp())
    await eraser.erased(note.subject)
    message = await old_news(desk, before)

    [job] = await desk.inbox.accept(TENANT, Parsed(updates=(message,), dropped={}))
    with pytest.raises(LeaseLostError):
        await desk.claim(job)

    assert await desk.state(job) == ("refused", ERASED)
    assert await desk.rows(aliases) == []
    assert desk.texts() == []


@pytest.mark.parametrize("letter", ["work", "dead"])
async def test_a_broker_that_comes_back_with_its_messages_finds_no_job(
    eraser: Eraser, broker: Broker, letter: str
) -> None:
    """A stream's disk is restored, a dead letter is sent again: the message is but a random id."""
    desk = eraser.desk
    note = await desk.typed()
    await broker.bury(note.job.id, "test")
    await broker.publish(note.job.id, 1, URGENT)
    eraser.erasures.forget_messages = broker.forget
    await eraser.erased(note.subject)
    assert (await broker.pending(), await broker.buried()) == (0, 0)

    async with working(desk, broker):
        await broker.publish(note.job.id, 2 if letter == "work" else 3, URGENT)

        async def over() -> bool:
            return await broker.pending() == 0

        await until(over)

    assert await desk.ports.jobs.claim(note.job.id, "w2") is Unclaimed.UNKNOWN
    await nothing_is_left(desk, note.subject)
    assert desk.texts() == []


async def test_a_reply_that_was_intended_before_is_not_sent(eraser: Eraser) -> None:
    """The outbox keeps what we owe a person; whom we erased we owe nothing."""
    desk = eraser.desk
    note = await desk.typed()
    body = Body(text="an answer", language="en")
    sealed = await outbox.sealed(note, Kind.TEXT, body, desk.ports)
    async with desk.ports.engine.begin() as tx:
        await outbox.intend(tx, note, Kind.TEXT, sealed, desk.ports)
    assert await outbox.pending(note, Kind.TEXT, desk.ports)
    await eraser.erased(note.subject)

    with pytest.raises(LeaseLostError):
        await turns.act(note, desk.ports)

    assert await outbox.intended(note, Kind.TEXT, desk.ports) is None
    assert desk.texts() == []


async def test_a_handover_that_comes_late_opens_nothing(eraser: Eraser) -> None:
    """A row for the people who answer would show the erased person's conversation again."""
    desk = eraser.desk
    note = await desk.typed()
    await eraser.erased(note.subject)

    for act in (handover.hand_over, handover.open_row):
        with pytest.raises((LeaseLostError, GoneError)):
            await act(note, "late", desk.ports)

    await nothing_is_left(desk, note.subject)


async def test_nothing_is_declared_of_an_erased_pseudonym(eraser: Eraser) -> None:
    """Whoever still has the pseudonym on paper must not begin a file under it."""
    desk = eraser.desk
    await desk.consents()  # that row stays, as proof
    note = await desk.typed()
    engine = desk.ports.engine
    assert await people.declare(engine, note.subject, residence="FR", minor=None)
    await eraser.erased(note.subject)

    with pytest.raises(UnknownSubjectError):
        await people.declare(engine, note.subject, residence="DE", minor=True)

    assert await desk.rows(subjects) == []


async def test_a_consent_that_comes_late_is_not_recorded(eraser: Eraser) -> None:
    """The button was pressed before, the worker gets to it after: nobody has agreed any more."""
    desk = eraser.desk
    note = await desk.typed()
    before = await desk.rows(ledger)
    await eraser.erased(note.subject)

    words = Words("1", "0" * 64, "en")
    with pytest.raises(LeaseLostError):
        await consents.record(note, SPOKEN, ConsentState.GRANTED, words, desk.ports)

    assert await desk.rows(ledger) == before


async def test_a_decision_that_is_written_behind_comes_too_late(eraser: Eraser) -> None:
    """What waits for the next batch when its person is erased must not be the row that is left."""
    desk = eraser.desk
    note, theirs = await desk.typed(), another(desk)
    store = Decisions(desk.ports.engine, theirs.custody, desk.ports.metrics)
    theirs = replace(theirs, decisions=store)
    await turns.act(note, theirs)
    await store.flush()
    assert await desk.rows(decisions), "it is written when nothing is in its way"
    await desk.ports.jobs.end(note.job, State.DONE, "answered")
    later = await desk.typed("again")
    await turns.act(later, theirs)
    ident = await eraser.ask(note.subject)
    await eraser.erasures.advance(ident)

    await store.flush()

    assert await desk.rows(decisions) == []
    await eraser.harden()
    assert (await eraser.found(ident)).certified
