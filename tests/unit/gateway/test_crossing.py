"""Between cells: through a real broker, at least once out, exactly once in."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from sqlalchemy import func, select
from support.desk import REGION, TENANT, Desk, until
from support.erasing import Eraser

from audit.errors import AppendError
from audit.model import EventType
from gateway.broker import Arrivals, Broker
from gateway.crossing import Arriving, Departures, Receiver
from gateway.errors import LeaseLostError
from gateway.forwards import Forwards, Post, Target
from gateway.jobs import ERASED
from gateway.natsd import NatsServer
from gateway.schema import aliases, jobs
from gateway.schema import forwards as waiting
from gateway.schema import inbox as accepted
from gateway.whatsapp.payload import Identity, Message, Parsed, Text

SECRET = b"app-secret"
CANARY = "meet me where the river bends"


@dataclass(slots=True)
class Border:
    """A front door and the cell beyond it, on one database and one real broker."""

    desk: Desk
    forwards: Forwards
    departures: Departures
    arriving: Arriving
    arrivals: Arrivals
    key: X25519PrivateKey

    def message(self, name: str, number: str | None = None) -> Message:
        """Return one typed message to the line of the cell beyond."""
        return Message(
            phone_number_id=number or self.desk.line.phone_number_id,
            id=f"wamid.{name}",
            sender=Identity(phone="6591234567"),
            sent_at=int(self.desk.clock().timestamp()),
            content=Text(body=CANARY),
        )

    async def count(self, table: object) -> int:
        """Return how many rows *table* has."""
        async with self.desk.ports.engine.connect() as tx:
            query = select(func.count()).select_from(table)  # type: ignore[arg-type]
            return int((await tx.execute(query)).scalar_one())

    def seen(self, kind: EventType) -> int:
        """Return how many leaves of *kind* there are."""
        return sum(event.type is kind for event in self.desk.trail.seen)


@pytest.fixture
async def border(desk: Desk, nats_url: str, nats_server: NatsServer) -> AsyncIterator[Border]:
    """Yield a border; nothing publishes or takes by itself."""
    cell = f"sg-{secrets.token_hex(4)}"
    key = X25519PrivateKey.generate()
    target = Target(cell=cell, region=REGION, key=key.public_key())
    number = desk.line.phone_number_id
    async with AsyncExitStack() as stack:
        broker = await Broker.connect(nats_url, REGION, lanes=())
        stack.push_async_callback(broker.aclose)
        arrivals = await broker.arrivals(cell)

        async def stream() -> Arrivals:
            return await Arrivals.connect(nats_url, region=REGION, cell=cell)

        departures = Departures(
            desk.ports.engine, desk.trail, {cell: stream}, cell="eu-1", now=desk.clock
        )
        stack.push_async_callback(departures.aclose)
        arriving = Arriving(
            broker,
            desk.inbox,
            desk.trail,
            {TENANT: Receiver(phone_number_ids=frozenset({number}), app_secrets=(SECRET,))},
            key=key,
            cell=cell,
            region=REGION,
            now=desk.clock,
        )
        stack.push_async_callback(arriving.aclose)
        post = Post(numbers={number: target, "9": target}, secret=SECRET)
        forwards = Forwards(
            desk.ports.engine, {TENANT: post}, cell="eu-1", now=desk.clock, wake=departures.wake
        )
        yield Border(desk, forwards, departures, arriving, arrivals, key)


@pytest.mark.anyio
async def test_an_update_crosses_once_and_leaves_nothing_behind(
    border: Border, nats_server: NatsServer
) -> None:
    """Committed, recorded, published, accepted, recorded; gone from table, stream and disk."""
    await border.forwards.accept(TENANT, [border.message("a")])
    border.departures.start()
    border.arriving.start()

    async def there() -> bool:
        return await border.count(accepted) == 1 and await border.arrivals.waiting() == 0

    await until(there)

    assert await border.count(waiting) == 0
    out, into = (
        next(e for e in border.desk.trail.seen if e.type is kind)
        for kind in (EventType.UPDATE_FORWARDED, EventType.UPDATE_ARRIVED)
    )
    assert out.detail["sealed_sha256"] == into.detail["sealed_sha256"]
    assert (out.detail["cell"], into.detail["cell"]) == (border.arriving._cell, "eu-1")
    assert out.id.partition(".")[0] == into.id.partition(".")[0]
    assert border.departures.alive
    assert border.arriving.alive


@pytest.mark.anyio
async def test_a_crash_between_publishing_and_forgetting_is_one_update(border: Border) -> None:
    """Published again after a crash, the broker and the inbox know it; the leaf is one."""
    await border.forwards.accept(TENANT, [border.message("a")])
    [cell] = border.departures._streams
    async with border.desk.ports.engine.connect() as tx:
        row = (await tx.execute(select(waiting))).one()
    await border.departures.publish(cell)
    async with border.desk.ports.engine.begin() as tx:
        await tx.execute(waiting.insert(), dict(row._mapping))

    await border.departures.publish(cell)

    assert await border.arrivals.waiting() == 1
    border.arriving.start()

    async def taken() -> bool:
        return await border.arrivals.waiting() == 0

    await until(taken)
    assert await border.count(accepted) == 1


@pytest.mark.anyio
async def test_delivered_twice_by_whatsapp_is_accepted_once(border: Border) -> None:
    """The front door cannot tell a repetition, the inbox can."""
    await border.forwards.accept(TENANT, [border.message("a")])
    await border.forwards.accept(TENANT, [border.message("a")])
    border.departures.start()
    border.arriving.start()

    async def both() -> bool:
        return border.seen(EventType.UPDATE_ARRIVED) == 2

    await until(both)
    assert await border.count(accepted) == 1


@pytest.mark.anyio
async def test_no_record_no_crossing(border: Border) -> None:
    """What cannot be put on record stays where it is."""
    border.desk.trail.refuses = lambda event: event.type is EventType.UPDATE_FORWARDED
    await border.forwards.accept(TENANT, [border.message("a")])
    [cell] = border.departures._streams

    with pytest.raises(AppendError):
        await border.departures.publish(cell)

    assert await border.arrivals.waiting() == 0
    assert await border.count(waiting) == 1


@pytest.mark.anyio
async def test_another_number_is_refused_and_does_not_come_round(border: Border) -> None:
    """A front door with old settings sends what is not ours."""
    await border.forwards.accept(TENANT, [border.message("a", "9")])
    border.departures.start()
    border.arriving.start()

    async def gone() -> bool:
        return await border.count(waiting) == 0 and await border.arrivals.waiting() == 0

    await until(gone)
    assert await border.count(accepted) == 0
    assert border.seen(EventType.UPDATE_ARRIVED) == 0


@pytest.mark.anyio
async def test_what_somebody_else_wrote_to_the_stream_is_refused(border: Border) -> None:
    """The stream is no proof of who wrote to it."""
    target = border.forwards._posts[TENANT].numbers["9"]
    forged = Forwards(
        border.desk.ports.engine,
        {TENANT: Post(numbers={border.desk.line.phone_number_id: target}, secret=b"guess")},
        cell="eu-1",
        now=border.desk.clock,
        wake=border.departures.wake,
    )
    await forged.accept(TENANT, [border.message("a")])
    await border.arrivals.put("f_1", "nobody", "eu-1", b"x")
    border.departures.start()
    border.arriving.start()

    async def gone() -> bool:
        return await border.count(waiting) == 0 and await border.arrivals.waiting() == 0

    await until(gone)
    assert await border.count(accepted) == 0


@pytest.mark.anyio
async def test_an_inbox_that_is_down_keeps_it_in_the_stream(border: Border) -> None:
    """Taken is what is durable here, and nothing else."""
    await border.desk.inbox.aclose()
    await border.forwards.accept(TENANT, [border.message("a")])
    border.departures.start()
    border.arriving.start()

    async def published() -> bool:
        return await border.count(waiting) == 0

    await until(published)
    assert await border.arrivals.waiting() == 1

    border.desk.inbox.start()

    async def taken() -> bool:
        return await border.arrivals.waiting() == 0

    await until(taken)
    assert await border.count(accepted) == 1


@pytest.mark.anyio
async def test_the_broker_keeps_no_readable_copy(border: Border, nats_server: NatsServer) -> None:
    """An acknowledged payload stays in the block file; an erased one does not."""
    await border.arrivals.put("f_1", TENANT, "eu-1", b"MARK-OF-THE-FIRST")
    await border.arrivals.put("f_2", TENANT, "eu-1", b"MARK-OF-THE-SECOND")
    blocks = list(nats_server._directory.rglob("*.blk"))
    assert any(b"MARK-OF-THE-FIRST" in path.read_bytes() for path in blocks)

    async for message in border.arrivals.taken():
        await border.arrivals.erase(message)
        break

    left = b"".join(path.read_bytes() for path in blocks if path.exists())
    assert b"MARK-OF-THE-SECOND" in left
    assert b"MARK-OF-THE-FIRST" not in left


@pytest.mark.anyio
async def test_a_commit_wakes_the_publisher(
    border: Border, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person waits at the other end: nobody sleeps out a tick first."""
    monkeypatch.setattr("gateway.crossing.TICK_S", 60.0)
    border.departures.start()
    await asyncio.sleep(0.1)  # it found nothing and sleeps

    await border.forwards.accept(TENANT, [border.message("a")])

    async def published() -> bool:
        return await border.count(waiting) == 0

    await until(published)


@pytest.mark.anyio
async def test_one_cell_away_does_not_delay_another(border: Border) -> None:
    """Each cell has its own line."""
    target = replace(border.forwards._posts[TENANT].numbers["9"], cell="br-1")
    away = Forwards(
        border.desk.ports.engine,
        {TENANT: Post(numbers={"8": target}, secret=SECRET)},
        cell="eu-1",
        now=border.desk.clock,
        wake=border.departures.wake,
    )

    async def nobody() -> Arrivals:
        raise OSError

    streams = {"br-1": nobody, **border.departures._streams}
    departures = Departures(
        border.desk.ports.engine, border.desk.trail, streams, cell="eu-1", now=border.desk.clock
    )
    await away.accept(TENANT, [border.message("a", "8")])
    await border.forwards.accept(TENANT, [border.message("b")])
    departures.start()
    border.arriving.start()

    async def ours() -> bool:
        return await border.count(accepted) == 1

    await until(ours)
    assert await border.count(waiting) == 1
    assert departures.alive
    await departures.aclose()


@pytest.mark.anyio
async def test_what_another_cell_hands_on_late_is_barred(border: Border, eraser: Eraser) -> None:
    """The front door may keep an update while we are away: its author may be erased meanwhile."""
    desk = border.desk
    known = await desk.inbox.accept(TENANT, Parsed(updates=(border.message("first"),), dropped={}))
    note = await desk.claim(known[0])
    await border.forwards.accept(TENANT, [border.message("late")])
    await eraser.erased(note.subject)
    border.departures.start()
    border.arriving.start()

    async def there() -> bool:
        return border.seen(EventType.UPDATE_ARRIVED) == 1

    await until(there)
    [job] = [row.id for row in await desk.rows(jobs)]
    with pytest.raises(LeaseLostError):
        await desk.claim(job)

    assert await desk.state(job) == ("refused", ERASED)
    assert await desk.rows(aliases) == []
