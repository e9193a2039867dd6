"""Accepted means durable: one job per message, whatever arrives how often."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from support.gateway import Clock

from gateway.errors import NotAcceptedError
from gateway.inbox import WINDOW_S, Inbox, conversation
from gateway.schema import inbox, jobs, relay, statuses
from gateway.whatsapp.payload import Identity, Message, Parsed, Status, Text
from vault.custody import Custody
from vault.keyrings.local import LocalKeyring
from vault.keys import Keys
from vault.objects.local import LocalObjects

PHONE = "12025550143"
BODY = "the canary sings at noon"


def message(name: str, body: str = BODY, phone: str = PHONE) -> Message:
    """Return one typed message."""
    return Message(
        phone_number_id="1", id=f"wamid.{name}", sender=Identity(phone=phone), sent_at=1_763_000,
        content=Text(body=body),
    )  # fmt: skip


def parsed(*updates: Message | Status) -> Parsed:
    """Return one delivery."""
    return Parsed(updates=updates, dropped={})


class World:
    """An inbox with real keys and a real database."""

    def __init__(self, engine: AsyncEngine, clock: Clock, path: Path, **limits: Any) -> None:
        self.engine = engine
        self.told: list[str] = []
        keys = Keys(engine, LocalKeyring(path / "keys"), region="eu-central", now=clock)
        self.custody = Custody(engine, keys, LocalObjects(path / "objects"), now=clock)
        self.inbox = Inbox(engine, keys, self.custody, now=clock, committed=self._told, **limits)

    def _told(self, found: Sequence[str]) -> None:
        self.told += found

    async def count(self, table: object) -> int:
        """Return how many rows *table* has."""
        async with self.engine.connect() as tx:
            query = select(func.count()).select_from(table)  # type: ignore[arg-type]
            return int((await tx.execute(query)).scalar_one())


def everything(directory: Path) -> bytes:
    """Return the bytes of every file under *directory*."""
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


@pytest.fixture
async def world(each_db: AsyncEngine, clock: Clock, tmp_path: Path) -> AsyncIterator[World]:
    """Yield a running inbox."""
    world = World(each_db, clock, tmp_path)
    world.inbox.start()
    yield world
    await world.inbox.aclose()


@pytest.mark.anyio
async def test_a_message_delivered_fifty_times_at_once_is_one_job(world: World) -> None:
    """WhatsApp redelivers what it thinks was lost, also in parallel."""
    found = await asyncio.gather(
        *(world.inbox.accept("t", parsed(message("1"))) for _ in range(50))
    )

    assert sum(map(len, found)) == 1
    assert [await world.count(table) for table in (inbox, jobs, relay)] == [1, 1, 1]
    assert len(world.told) == 1


@pytest.mark.anyio
async def test_a_repeat_after_the_job_ended_opens_nothing(world: World) -> None:
    """Redelivery may come days later: the key outlives the job."""
    await world.inbox.accept("t", parsed(message("1")))

    assert await world.inbox.accept("t", parsed(message("1"))) == []


@pytest.mark.anyio
async def test_the_same_id_of_another_tenant_is_another_message(world: World) -> None:
    """The idempotency key is the tenant's own: tenants must not see into each other."""
    await world.inbox.accept("t", parsed(message("1")))

    assert len(await world.inbox.accept("u", parsed(message("1")))) == 1


@pytest.mark.anyio
async def test_a_batch_keeps_its_order_and_its_statuses(world: World) -> None:
    """One delivery may hold a thousand updates of every kind."""
    status = Status(phone_number_id="1", message_id="wamid.9", state="sent", at=1, opaque="r_1")

    found = await world.inbox.accept("t", parsed(message("1"), status, message("2")))

    async with world.engine.connect() as tx:
        stored = (await tx.execute(select(jobs.c.id).order_by(jobs.c.seq))).scalars().all()
    assert found == stored
    assert await world.count(statuses) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("each_db", ["sqlite"], indirect=True)
async def test_nothing_personal_is_written_in_clear(world: World, tmp_path: Path) -> None:
    """Text, number and message id (which holds the number) are sealed or keyed before a write."""
    await world.inbox.accept("t", parsed(message("HBgLMTIwMjU1NTAxNDM")))
    await world.inbox.aclose()

    written = everything(tmp_path)
    assert len(written) > 10_000
    for canary in (BODY, PHONE, "HBgLMTIwMjU1NTAxNDM"):
        assert canary.encode() not in written


@pytest.mark.anyio
async def test_a_broken_database_is_refused_not_acknowledged(world: World) -> None:
    """200 without a row would lose the note for good."""
    async with world.engine.begin() as tx:
        await tx.execute(text("DROP TABLE jobs"))

    with pytest.raises(NotAcceptedError, match="database"):
        await world.inbox.accept("t", parsed(message("1")))

    assert await world.count(inbox) == 0


@pytest.mark.anyio
async def test_a_stopped_inbox_accepts_nothing(world: World) -> None:
    """During shutdown a delivery must be refused, so that WhatsApp brings it again."""
    await world.inbox.aclose()

    with pytest.raises(NotAcceptedError, match="stopped"):
        await world.inbox.accept("t", parsed(message("1")))


@pytest.mark.anyio
async def test_closing_waits_for_the_transaction_under_way(
    cell_db: AsyncEngine, clock: Clock, tmp_path: Path
) -> None:
    """What is being written is said to be: cut off, it might be there and be denied."""
    world = World(cell_db, clock, tmp_path)
    world.inbox.start()
    await world.inbox.accept("t", parsed(message("0")))  # its keys are made
    async with cell_db.begin():
        accepting = asyncio.create_task(world.inbox.accept("t", parsed(message("1"))))
        while world.inbox._idle.is_set():  # noqa: ASYNC110 - until the writer has it
            await asyncio.sleep(0.01)
        closing = asyncio.create_task(world.inbox.aclose())
        await asyncio.sleep(0.05)
        assert not world.inbox.alive

    await closing

    assert len(await accepting) == 1
    assert await world.count(inbox) == 2


@pytest.mark.anyio
async def test_closing_does_not_wait_for_ever(
    cell_db: AsyncEngine, clock: Clock, tmp_path: Path
) -> None:
    """A database that hangs holds up no shutdown: WhatsApp delivers again."""
    world = World(cell_db, clock, tmp_path, answer_s=0.1)
    world.inbox.start()
    await world.inbox.accept("t", parsed(message("0")))
    async with cell_db.begin():
        accepting = asyncio.create_task(world.inbox.accept("t", parsed(message("1"))))
        while world.inbox._idle.is_set():  # noqa: ASYNC110 - until the writer has it
            await asyncio.sleep(0.01)

        async with asyncio.timeout(5):
            await world.inbox.aclose()

        with pytest.raises(NotAcceptedError):
            await accepting


@pytest.fixture
async def stuck(cell_db: AsyncEngine, clock: Clock, tmp_path: Path) -> AsyncIterator[World]:
    """Yield an inbox with room for one, whose database does not answer; others never wait long."""
    world = World(cell_db, clock, tmp_path, most_waiting=1, answer_s=0.3)
    world.inbox.start()
    await world.inbox.accept("t", parsed(message("0")))  # its keys are known from now on
    async with cell_db.begin():  # SQLite's one connection
        yield world
    await world.inbox.aclose()


@pytest.mark.anyio
async def test_what_waits_too_long_for_the_database_is_refused(stuck: World) -> None:
    """WhatsApp gives up after a while: an honest 503 is sooner, and is delivered again."""
    async with asyncio.timeout(5):
        with pytest.raises(NotAcceptedError, match=r"database\.slow"):
            await stuck.inbox.accept("t", parsed(message("1")))


@pytest.mark.anyio
async def test_more_than_the_queue_holds_is_refused_at_once(stuck: World) -> None:
    """Memory is finite: a flood while the database is away must not end the process."""
    waiting = []
    for name in ("1", "2"):  # the writer has the first in hand, the second is in the queue
        waiting += [asyncio.create_task(stuck.inbox.accept("t", parsed(message(name))))]
        for _ in range(20):
            await asyncio.sleep(0)

    with pytest.raises(NotAcceptedError, match=r"database\.slow"):
        await stuck.inbox.accept("t", parsed(message("3")))

    assert not any(task.done() for task in waiting), "refused at once, not after a while"
    await asyncio.gather(*waiting, return_exceptions=True)


def test_conversations_differ_by_person_and_number() -> None:
    """Order is kept per person and number, and the name gives neither away."""
    one = Identity(phone=PHONE)
    names = {
        conversation(b"k" * 32, "1", one),
        conversation(b"k" * 32, "2", one),
        conversation(b"k" * 32, "1", Identity(phone="12025550144")),
        conversation(b"x" * 32, "1", one),
    }

    assert len(names) == 4
    assert not any(PHONE in name for name in names)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("told", "days"), [(0, 0), (4_000_000_000, 0), (-1, -1)], ids=["unknown", "to-come", "earlier"]
)
async def test_a_message_is_dated_by_a_time_that_can_be(
    cell_db: AsyncEngine, clock: Clock, tmp_path: Path, told: int, days: int
) -> None:
    """No answer is sent outside of the window because WhatsApp's clock was odd."""
    world, now = World(cell_db, clock, tmp_path), int(clock().timestamp())
    world.inbox.start()
    update = msgspec.structs.replace(
        message("1"), sent_at=told if told >= 0 else now + told * 24 * 3600
    )

    [job] = await world.inbox.accept("t", parsed(update))
    await world.inbox.aclose()

    async with cell_db.connect() as tx:
        box = (await tx.execute(select(inbox))).one()
        row = (await tx.execute(select(jobs))).one()
    sealed = await world.custody.open_named(box.body_key, job, box.sealed)
    written = now + days * 24 * 3600
    assert msgspec.json.decode(sealed, type=Message).sent_at == written
    assert row.deadline_at == (written + WINDOW_S) * 1_000_000


@pytest.mark.anyio
async def test_a_status_without_a_time_is_dated_on_arrival(
    cell_db: AsyncEngine, clock: Clock, tmp_path: Path
) -> None:
    """In 1970 the sweeper would drop it before anybody reads it."""
    world = World(cell_db, clock, tmp_path)
    world.inbox.start()

    told = Status(phone_number_id="1", message_id="", state="failed", at=0, opaque="r_1")
    await world.inbox.accept("t", parsed(told))
    await world.inbox.aclose()

    async with cell_db.connect() as tx:
        row = (await tx.execute(select(statuses))).one()
    assert row.at == int(clock().timestamp() * 1_000_000)
