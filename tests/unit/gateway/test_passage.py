"""A ticket per touch: asked for after the record, given back before its end, seen in between."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest
from support.desk import Desk
from support.egress import HOST, TARGET, brokering, dialling, head, hello, vendor

from audit.errors import AppendError
from audit.model import Event, EventType
from gateway import passage as passages
from gateway.errors import ChannelBusyError
from gateway.note import Note
from gateway.passage import LOST, leaving
from gateway.permit import permitted
from gateway.touch import folded
from policy.model import Allowed, Stage
from residency.errors import EgressError, ProcessorBusyError
from residency.model import Contact, Grant, Observed, Passage
from residency.ports import Egress

pytestmark = pytest.mark.anyio

OTHER = "other.vendor.example:443"


@pytest.fixture
async def note(desk: Desk) -> Note:
    """Return a voice note of somebody who agreed."""
    await desk.consents()
    return await desk.spoken()


class Ledger:
    """A broker that remembers in which order it was asked; it may be closed, or lose its memory."""

    def __init__(self, desk: Desk, *, closed: bool = False, lost: bool = False) -> None:
        self.granted: list[Grant] = []
        self.then: list[int] = []
        self._desk = desk
        self._closed = closed
        self._lost = lost

    async def admit(self, grant: Grant) -> Passage:
        """Note *grant* and how much was on record by then."""
        if self._closed:
            raise EgressError("closed")
        self.granted.append(grant)
        self.then.append(len(self._desk.trail.seen))
        return Passage(proxy="127.0.0.1:1", ticket="k", secret="s")

    async def end(self, passage: Passage) -> tuple[Contact, ...]:
        """Note how much was on record by then."""
        self.then.append(len(self._desk.trail.seen))
        if self._lost:
            raise EgressError("lost")
        return ()

    async def aclose(self) -> None:
        """Do nothing."""


async def allowing(desk: Desk, note: Note, egress: Mapping[str, tuple[str, ...]]) -> Allowed:
    """Return a real decision, with *egress* as its obligation."""
    allowed = await permitted(note, Stage.TRANSCRIBE, desk.ports)
    options = {"stt.one": {"logging": "off"}}
    duties = replace(allowed.obligations, egress=egress, options=options)
    return replace(allowed, obligations=duties)


def reach(desk: Desk, egress: Egress, *hosts: str) -> None:
    """Have the cell leave by *egress*, and ``stt.one`` stand at *hosts*."""
    rows = dict(desk.ports.processors)
    rows["stt.one"] = replace(rows["stt.one"], hosts=hosts)
    desk.with_ports(egress=egress, processors=rows)


async def leave(desk: Desk, note: Note, allowed: Allowed, processor: str = "stt.one") -> Passage:
    """Touch by *processor* and do nothing; return the passage there was for it."""
    row = desk.ports.processors[processor]
    async with leaving(note, row, "transcribe", "a_1", allowed, desk.ports, deadline_s=5) as (
        _,
        passage,
    ):
        return passage


def ended(desk: Desk) -> Event:
    """Return the end of the last touch."""
    return [event for event in desk.trail.seen if event.type is EventType.TOUCH_ENDED][-1]


async def test_the_record_comes_before_the_ticket_and_its_end_after(desk: Desk, note: Note) -> None:
    """No evidence, no touch: and what the broker saw is in the touch's end."""
    ledger = Ledger(desk)
    reach(desk, ledger, TARGET)
    before = len(desk.trail.seen)
    allowed = await allowing(desk, note, {"stt.one": (TARGET,)})

    await leave(desk, note, allowed)

    assert ledger.then == [len(desk.trail.seen) - 1] * 2
    assert len(desk.trail.seen) > before + 1


async def test_the_grant_is_the_decision_s_and_the_touch_s(desk: Desk, note: Note) -> None:
    """A contact the broker saw must lead back to the decision that allowed it."""
    ledger = Ledger(desk)
    reach(desk, ledger, TARGET, OTHER)
    allowed = await allowing(desk, note, {"stt.one": (TARGET,), "stt.two": (OTHER,)})

    passage = await leave(desk, note, allowed)

    [granted] = ledger.granted
    assert (granted.processor, granted.hosts, granted.seconds) == ("stt.one", (TARGET,), 6.0)
    assert (granted.decision, granted.touch) == (allowed.provenance.id, ended(desk).touch)
    assert passage.options == {"logging": "off"}


async def test_a_host_that_the_row_does_not_name_is_not_granted(desk: Desk, note: Note) -> None:
    """Registry and decision must agree: an answer alone opens nothing."""
    ledger = Ledger(desk)
    reach(desk, ledger, TARGET)

    await leave(desk, note, await allowing(desk, note, {"stt.one": (TARGET, OTHER)}))

    assert [granted.hosts for granted in ledger.granted] == [(TARGET,)]


async def test_the_grant_is_held_to_the_row_s_addresses(desk: Desk, note: Note) -> None:
    """Where a row says at which addresses its region stands, no others are dialled."""
    ledger = Ledger(desk)
    reach(desk, ledger, TARGET)
    rows = dict(desk.ports.processors)
    blocks = {"addresses": "192.0.2.0/24|2001:db8::/32"}
    rows["stt.one"] = replace(rows["stt.one"], settings=blocks)
    desk.with_ports(processors=rows)

    await leave(desk, note, await allowing(desk, note, {"stt.one": (TARGET,)}))

    assert [granted.blocks for granted in ledger.granted] == [("192.0.2.0/24", "2001:db8::/32")]


async def test_a_broker_that_does_not_answer_is_not_waited_for(
    desk: Desk, note: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ticket is a matter of milliseconds; a person waits for what it is for."""
    monkeypatch.setattr(passages, "ADMIT_S", 0.05)

    class Silent(Ledger):
        """A broker that hangs."""

        async def admit(self, grant: Grant) -> Passage:
            """Never answer."""
            await asyncio.Event().wait()
            raise AssertionError

    reach(desk, Silent(desk), TARGET)

    async with asyncio.timeout(10):
        with pytest.raises(ProcessorBusyError, match=r"egress\.closed"):
            await leave(desk, note, await allowing(desk, note, {"stt.one": (TARGET,)}))


async def test_without_a_record_no_ticket_is_asked_for(desk: Desk, note: Note) -> None:
    """A way that is open is half a touch."""
    ledger = Ledger(desk)
    reach(desk, ledger, TARGET)
    allowed = await allowing(desk, note, {"stt.one": (TARGET,)})
    desk.trail.refuses = lambda event: event.type is EventType.TOUCH_BEGAN

    with pytest.raises(AppendError):
        await leave(desk, note, allowed)

    assert ledger.granted == []


async def test_inside_the_cell_there_is_no_ticket(desk: Desk, note: Note) -> None:
    """An engine of our own that opened a connection would be a leak, not a call."""
    ledger = Ledger(desk)
    reach(desk, ledger)

    passage = await leave(desk, note, await allowing(desk, note, {}))

    assert passage == Passage(options={"logging": "off"})
    assert ledger.granted == []


@pytest.mark.parametrize(
    ("processor", "error"),
    [("stt.one", ProcessorBusyError), ("msg.here", ChannelBusyError)],
)
async def test_without_a_broker_nothing_leaves(
    desk: Desk, note: Note, processor: str, error: type[Exception]
) -> None:
    """It dies closed, and the job waits as for any vendor that is down."""
    reach(desk, Ledger(desk, closed=True), TARGET)
    allowed = await allowing(desk, note, {"stt.one": (TARGET,)})

    with pytest.raises(error, match=r"egress\.closed"):
        await leave(desk, note, allowed, processor)

    assert ended(desk).outcome == "raised"


async def test_a_decision_that_names_no_host_opens_nothing(desk: Desk, note: Note) -> None:
    """A processor elsewhere without an obligation to hold it to is not reached at all."""
    async with vendor() as world, brokering(world) as broker:
        reach(desk, broker, TARGET)

        with pytest.raises(ProcessorBusyError):
            await leave(desk, note, await allowing(desk, note, {}))


async def test_what_a_lost_broker_saw_is_not_called_nothing(desk: Desk, note: Note) -> None:
    """Silence about a connection would read as: there was none."""
    reach(desk, Ledger(desk, lost=True), TARGET)

    await leave(desk, note, await allowing(desk, note, {"stt.one": (TARGET,)}))

    assert ended(desk).detail["refused"] == [LOST]


async def test_connections_are_in_the_touch_s_end(desk: Desk, note: Note) -> None:
    """Where the bytes really went, beside where the registry says they go."""
    async with vendor() as world, brokering(world) as broker:
        reach(desk, broker, TARGET)
        allowed = await allowing(desk, note, {"stt.one": (TARGET,)})
        start = hello(HOST)
        row = desk.ports.processors["stt.one"]
        async with leaving(note, row, "transcribe", "a_1", allowed, desk.ports, deadline_s=5) as (
            touch,
            passage,
        ):
            async with dialling(passage.proxy) as client:
                await client.ask(head(passage))
                await client.echo(start)
            async with dialling(passage.proxy) as client:
                await client.ask(head(passage, OTHER))
            touch.observe(Observed(request_id="r-1", region="westeurope", connections=7))

    assert ended(desk).detail.items() >= {
        "basis": "observed", "host": TARGET, "connections": 1, "bytes": len(start),
        "received": len(start),
    }.items()  # fmt: skip
    assert ended(desk).detail["attested"] == {
        "basis": "attested by vendor", "request_id": "r-1", "region": "westeurope",
    }  # fmt: skip
    assert ended(desk).detail["peers"] == ["127.0.0.1"]
    assert ended(desk).detail["refused"] == [f"{OTHER} host.not_granted"]


async def test_a_cancelled_call_is_cut_and_on_record(desk: Desk, note: Note) -> None:
    """A worker that is told to stop must not leave a voice half way out."""
    async with vendor() as world, brokering(world) as broker:
        reach(desk, broker, TARGET)
        allowed = await allowing(desk, note, {"stt.one": (TARGET,)})
        open_ = asyncio.Event()
        row = desk.ports.processors["stt.one"]

        async def call() -> None:
            async with (
                leaving(note, row, "transcribe", "a_1", allowed, desk.ports, deadline_s=5) as (
                    _,
                    passage,
                ),
                dialling(passage.proxy) as client,
            ):
                await client.ask(head(passage))
                open_.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(call())
        await open_.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        assert broker._ways == {}
    assert (ended(desk).outcome, ended(desk).detail["connections"]) == ("cancelled", 1)


async def test_whatsapp_is_reached_through_the_broker(desk: Desk, note: Note) -> None:
    """The channel is a processor like any other: its peer stands in the touch."""
    graph = desk.ports.graphs[note.message.phone_number_id]
    allowed = await permitted(note, Stage.REPLY, desk.ports)
    row = desk.ports.processors["msg.here"]
    async with leaving(note, row, "send-text", "r_1", allowed, desk.ports, deadline_s=5) as (
        _,
        passage,
    ):
        await graph.text(note.message.sender, "hello", opaque="r_1", passage=passage)

    seen = ended(desk).detail
    assert (seen["peers"], seen["connections"]) == (["127.0.0.1"], 1)
    assert seen["host"] == desk.ports.simulators[0]
    assert desk.texts() == ["hello"]


async def test_only_messaging_may_reach_the_simulator(desk: Desk, note: Note) -> None:
    """The development cell's loophole must not be a way out for a processor."""
    ledger = Ledger(desk)
    reach(desk, ledger, TARGET)

    await leave(desk, note, await allowing(desk, note, {"stt.one": (TARGET,)}))
    await leave(desk, note, await allowing(desk, note, {}), "msg.here")

    assert [granted.hosts for granted in ledger.granted] == [(TARGET,), desk.ports.simulators]


def test_contacts_are_folded_without_loss_of_a_peer() -> None:
    """A second address or a refused host is the finding: it may not vanish in a sum."""
    contacts = [
        Contact(host=TARGET, peer="8.8.8.8", refused="", sent=10, received=1),
        Contact(host=TARGET, peer="9.9.9.9", refused="tunnel.idle", sent=5, received=2),
        Contact(host=OTHER, peer="", refused="host.not_granted", sent=0, received=0),
        Contact(host=OTHER, peer="", refused="host.not_granted", sent=0, received=0),
    ]

    assert folded(contacts) == Observed(
        host=TARGET, connections=2, bytes_sent=15, bytes_received=3, peers=("8.8.8.8", "9.9.9.9"),
        refused=(f"{TARGET} tunnel.idle", f"{OTHER} host.not_granted"),
    )  # fmt: skip
