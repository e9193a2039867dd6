"""At most one of each reply, although WhatsApp has no idempotency key."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.desk import GRACE_S, Desk

from audit.errors import AppendError
from audit.model import EventType
from gateway import outbox
from gateway.demo.graph import ACCEPT_THEN_500, ACCEPT_THEN_DROP, refusal
from gateway.errors import (
    ChannelBusyError,
    ChannelRefusedError,
    ChannelUnknownError,
    DoubtError,
    LeaseLostError,
    WaitingError,
)
from gateway.jobs import LEASE_S, State
from gateway.note import Note
from gateway.outbox import Body, Kind
from gateway.permit import permitted
from gateway.schema import replies
from policy.model import Stage
from residency.model import Passage

HELLO = "Hello, Ada."


class Reply:
    """One text reply of a typed note, intended and ready to be delivered."""

    def __init__(self, desk: Desk, note: Note) -> None:
        self.desk = desk
        self.note = note
        self.opaque: list[str] = []
        self.before: Callable[[], Awaitable[None]] | None = None

    async def intend(self, kind: Kind = Kind.TEXT) -> bool:
        """Commit that it will be sent."""
        ports = self.desk.ports
        kept = await outbox.sealed(self.note, kind, Body(text=HELLO, language="en"), ports)
        async with ports.engine.begin() as tx:
            return await outbox.intend(tx, self.note, kind, kept, ports)

    async def deliver(self, kind: Kind = Kind.TEXT) -> None:
        """Deliver it as the pipeline does."""
        ports = self.desk.ports
        allowed = await permitted(self.note, Stage.REPLY, ports)
        await outbox.deliver(self.note, kind, allowed, self._send, ports)

    async def _send(self, opaque: str, passage: Passage) -> str:
        if self.before:
            await self.before()
        self.opaque.append(opaque)
        graph = self.desk.ports.graphs[self.note.message.phone_number_id]
        return await graph.text(self.note.message.sender, HELLO, opaque=opaque, passage=passage)

    async def row(self, kind: Kind = Kind.TEXT) -> Any:
        """Return its row."""
        return next(row for row in await self.desk.rows(replies) if row.kind == kind)

    async def in_doubt(self) -> None:
        """Have WhatsApp take it and not say so, and let the grace time pass."""
        self.desk.world.faults.add("messages", ACCEPT_THEN_DROP)
        with pytest.raises(ChannelUnknownError):
            await self.deliver()
        await self.pass_by(GRACE_S + 1)

    async def pass_by(self, seconds: float) -> None:
        """Let *seconds* pass with the lease kept."""
        self.desk.clock.move(seconds)
        await self.desk.ports.jobs.renew(self.note.job)


@pytest.fixture
async def reply(desk: Desk) -> Reply:
    """Return an intended reply."""
    reply = Reply(desk, await desk.typed())
    await reply.intend()
    return reply


@pytest.mark.anyio
async def test_attempted_is_durable_before_the_request_leaves(reply: Reply) -> None:
    """A crash while WhatsApp reads the request must not look like "never tried"."""
    seen = []

    async def look() -> None:
        seen.append(((await reply.row()).state, reply.desk.types("touch.began", "touch.ended")))

    reply.before = look
    assert (await reply.row()).state == "intended"
    await reply.deliver()

    assert seen == [("attempted", ["touch.began send-text"])]
    assert (await reply.row()).state == "sent"
    assert reply.desk.texts() == [HELLO]


@pytest.mark.anyio
async def test_a_sent_reply_is_not_sent_again(reply: Reply) -> None:
    """A job that runs again after a crash goes past what is done."""
    await reply.deliver()
    await reply.deliver()

    assert reply.desk.texts() == [HELLO]


@pytest.mark.anyio
async def test_the_opaque_id_is_the_replys_random_one(reply: Reply) -> None:
    """It comes back in statuses, through Meta's systems: it must say nothing about anybody."""
    await reply.deliver()

    [message] = reply.desk.ada.inbox
    row = await reply.row()
    assert message.opaque == row.id == reply.opaque[0]
    assert row.id.startswith("r_")
    assert len(bytes.fromhex(row.id[2:])) == 16
    assert row.id[2:] not in reply.note.job.id


@pytest.mark.anyio
async def test_an_attempted_reply_waits_for_a_status(reply: Reply) -> None:
    """WhatsApp may have it: sending again at once would be a second message to a person."""
    reply.desk.world.faults.add("messages", ACCEPT_THEN_DROP)
    with pytest.raises(ChannelUnknownError):
        await reply.deliver()
    await reply.pass_by(GRACE_S - 20)

    with pytest.raises(WaitingError) as waiting:
        await reply.deliver()

    assert waiting.value.seconds == 20
    assert reply.desk.texts() == [HELLO]


@pytest.mark.anyio
@pytest.mark.parametrize("fault", [ACCEPT_THEN_DROP, ACCEPT_THEN_500], ids=["dropped", "500"])
async def test_a_status_settles_an_attempted_reply(reply: Reply, fault: Any) -> None:
    """WhatsApp took it and failed to say so; its status says it later."""
    reply.desk.world.faults.add("messages", fault)
    with pytest.raises(ChannelUnknownError):
        await reply.deliver()
    await reply.desk.status((await reply.row()).id)

    await reply.deliver()

    assert (await reply.row()).state == "sent"
    assert reply.desk.texts() == [HELLO], "sent once"


@pytest.mark.anyio
async def test_a_failed_status_settles_it_as_failed(reply: Reply) -> None:
    """WhatsApp took the request and gave up on the message: the person has no answer."""
    reply.desk.world.faults.add("messages", ACCEPT_THEN_DROP)
    with pytest.raises(ChannelUnknownError):
        await reply.deliver()
    await reply.desk.status((await reply.row()).id, "failed")

    with pytest.raises(ChannelRefusedError, match=r"reply\.failed"):
        await reply.deliver()

    assert (await reply.row()).state == "failed"


@pytest.mark.anyio
async def test_after_the_grace_time_it_is_sent_once_more_and_that_is_on_record(
    reply: Reply,
) -> None:
    """A person without any answer is worse off than one with two; the doubt is not hidden."""
    await reply.in_doubt()

    await reply.deliver()

    row = await reply.row()
    assert (row.state, row.possible_duplicate) == ("sent", True)
    assert reply.desk.texts() == [HELLO, HELLO]
    assert len(set(reply.opaque)) == 1, "both carry the same id"
    [unknown] = [e for e in reply.desk.trail.seen if e.type is EventType.REPLY_UNKNOWN]
    assert (unknown.artifact, unknown.outcome) == (row.id, "resent")
    assert unknown.detail["basis"] == "unknown"


@pytest.mark.anyio
async def test_nothing_is_sent_again_unless_the_doubt_is_on_record(reply: Reply) -> None:
    """No evidence, no touch: no possible duplicate that nobody can see afterwards."""
    await reply.in_doubt()
    reply.desk.trail.refuses = lambda event: event.type is EventType.REPLY_UNKNOWN

    for _ in range(2):
        with pytest.raises(AppendError):
            await reply.deliver()

    assert reply.desk.texts() == [HELLO]


@pytest.mark.anyio
async def test_a_second_doubt_is_for_a_human(reply: Reply) -> None:
    """A third copy helps nobody."""
    await reply.in_doubt()
    await reply.in_doubt()

    with pytest.raises(DoubtError):
        await reply.deliver()

    assert reply.desk.texts() == [HELLO, HELLO]


@pytest.mark.anyio
async def test_a_busy_channel_is_no_doubt(reply: Reply) -> None:
    """What was not sent is intended again, and does not use up the one resend."""
    reply.desk.world.faults.add("messages", refusal(130429, 429), times=2)
    for _ in range(2):
        with pytest.raises(ChannelBusyError):
            await reply.deliver()
        assert (await reply.row()).state == "intended"
    await reply.in_doubt()

    await reply.deliver()

    assert (await reply.row()).state == "sent"


@pytest.mark.anyio
async def test_a_refusal_is_final(reply: Reply) -> None:
    """What WhatsApp refused for good is not tried again, and never counts as sent."""
    reply.desk.world.faults.add("messages", refusal(131047, 400))
    with pytest.raises(ChannelRefusedError):
        await reply.deliver()

    with pytest.raises(ChannelRefusedError, match=r"reply\.failed"):
        await reply.deliver()

    assert (await reply.row()).state == "failed"
    assert reply.desk.texts() == []


@pytest.mark.anyio
async def test_without_a_record_nothing_leaves_and_nothing_is_in_doubt(reply: Reply) -> None:
    """A trail that cannot be written stops the reply before it is tried: no doubt arises."""
    reply.desk.trail.refuses = lambda event: event.type is EventType.TOUCH_BEGAN

    with pytest.raises(AppendError):
        await reply.deliver()

    assert (await reply.row()).state == "intended"
    assert reply.desk.texts() == []


@pytest.mark.anyio
async def test_a_reply_whose_end_could_not_be_recorded_stays_attempted(reply: Reply) -> None:
    """It was sent: calling it intended again would send it twice."""
    reply.desk.trail.refuses = lambda event: event.type is EventType.TOUCH_ENDED

    with pytest.raises(AppendError):
        await reply.deliver()

    assert (await reply.row()).state == "attempted"
    assert reply.desk.texts() == [HELLO]


@pytest.mark.anyio
async def test_a_lease_that_moved_on_sends_nothing(reply: Reply) -> None:
    """A worker that was paused for a minute is not the one to answer any more."""
    reply.desk.clock.move(LEASE_S + 1)
    await reply.desk.claim(reply.note.job.id, "w2")

    with pytest.raises(LeaseLostError):
        await reply.deliver()

    assert (await reply.row()).state == "intended"
    assert reply.desk.texts() == []


@pytest.mark.anyio
async def test_a_lease_lost_while_sending_marks_nothing(reply: Reply) -> None:
    """Its successor decides what became of the reply, from what is on record."""

    async def lose() -> None:
        reply.desk.clock.move(LEASE_S + 1)
        await reply.desk.claim(reply.note.job.id, "w2")

    reply.before = lose
    with pytest.raises(LeaseLostError):
        await reply.deliver()

    assert (await reply.row()).state == "attempted"


@pytest.mark.anyio
async def test_kinds_are_independent_and_each_is_intended_once(reply: Reply) -> None:
    """A text and a notice of one job are two messages; a second text is none."""
    await reply.deliver()

    assert await reply.intend(Kind.NOTICE)
    assert not await reply.intend(Kind.TEXT)
    await reply.deliver(Kind.NOTICE)

    assert reply.desk.texts() == [HELLO, HELLO]
    assert {row.kind: row.state for row in await reply.desk.rows(replies)} == {
        "text": "sent",
        "notice": "sent",
    }


@pytest.mark.anyio
async def test_what_was_decided_is_read_back_after_a_crash(reply: Reply) -> None:
    """The answer is decided once: a second run must not say something else."""
    ports = reply.desk.ports

    assert await outbox.intended(reply.note, Kind.TEXT, ports) == Body(text=HELLO, language="en")
    assert await outbox.intended(reply.note, Kind.VOICE, ports) is None
    assert HELLO.encode() not in (await reply.row()).sealed


@pytest.mark.anyio
async def test_the_typing_sign_shows_once_and_is_never_in_the_way(reply: Reply) -> None:
    """It is a courtesy: its failure is no failure, and it is not repeated."""
    allowed = await permitted(reply.note, Stage.REPLY, reply.desk.ports)
    tried = 0

    async def fail(_opaque: str, _passage: Passage) -> str:
        nonlocal tried
        tried += 1
        raise ChannelUnknownError("no_answer")

    for _ in range(2):
        await outbox.typing(reply.note, allowed, fail, reply.desk.ports)

    assert tried == 1


@pytest.mark.anyio
async def test_a_stale_lease_shows_no_typing(reply: Reply) -> None:
    """Somebody else answers now."""
    allowed = await permitted(reply.note, Stage.REPLY, reply.desk.ports)
    await reply.desk.ports.jobs.end(reply.note.job, State.DONE, "answered")

    with pytest.raises(LeaseLostError):
        await outbox.typing(reply.note, allowed, reply._send, reply.desk.ports)

    assert reply.desk.texts() == []
