"""Leases, fencing and the order of turns: the database decides, never the broker."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncEngine
from support.agreeing import agreed
from support.gateway import Clock

from gateway.errors import LeaseLostError
from gateway.jobs import LEASE_S, Job, Jobs, State, Unclaimed, micros
from gateway.schema import inbox, jobs, relay


class World:
    """Jobs on a real database, with whom they woke."""

    def __init__(self, engine: AsyncEngine, clock: Clock) -> None:
        self.engine = engine
        self.clock = clock
        self.woken: list[str] = []
        self.jobs = Jobs(engine, now=clock, woken=self._wake)

    def _wake(self, found: Sequence[str]) -> None:
        self.woken += found

    async def accept(self, name: str, conversation: str = "c1", *, urgent: bool = False) -> None:
        """Add one accepted job, as the inbox does."""
        at = micros(self.clock())
        row = {
            "id": name, "tenant": "t", "conversation": conversation, "artifact": f"a_{name}",
            "trace": "0" * 32, "urgent": urgent, "state": "accepted", "accepted_at": at,
            "deadline_at": at + 10**12,
        }  # fmt: skip
        box = {
            "key": name, "tenant": "t", "job": name, "digest": "", "body_key": "k",
            "sealed": b"body", "received_at": at,
        }  # fmt: skip
        async with self.engine.begin() as tx:
            await tx.execute(insert(jobs).values(row))
            await tx.execute(insert(inbox).values(box))

    async def claim(self, name: str, owner: str = "w1") -> Job:
        """Claim *name* and expect to get it; whose it is is known then."""
        job = await self.jobs.claim(name, owner)
        assert isinstance(job, Job)
        await self.jobs.identify(job, "s_1")
        return job

    async def state(self, name: str) -> str:
        """Return the state of *name*."""
        async with self.engine.connect() as tx:
            found = await tx.execute(select(jobs.c.state).where(jobs.c.id == name))
            return str(found.scalar_one())


@pytest.fixture
def world(each_db: AsyncEngine, clock: Clock) -> World:
    """Return jobs on a fresh database."""
    return World(each_db, clock)


@pytest.mark.anyio
async def test_a_leased_job_is_not_handed_out_again(world: World) -> None:
    """Two workers on one note would answer twice."""
    await world.accept("j1")
    await world.claim("j1")

    assert await world.jobs.claim("j1", "w2") is Unclaimed.HELD


@pytest.mark.anyio
async def test_a_lapsed_lease_moves_on_and_its_late_holder_is_refused(world: World) -> None:
    """A worker that was paused past its lease must not write over its successor."""
    await world.accept("j1")
    late = await world.claim("j1", "w1")
    world.clock.move(LEASE_S + 1)

    successor = await world.claim("j1", "w2")

    assert successor.fence > late.fence
    with pytest.raises(LeaseLostError):
        await world.jobs.end(late, State.DONE, "answered")
    with pytest.raises(LeaseLostError):
        await world.jobs.renew(late)
    with pytest.raises(LeaseLostError):
        await world.jobs.later(late, 0)
    await world.jobs.end(successor, State.DONE, "answered")
    assert await world.state("j1") == "done"


@pytest.mark.anyio
async def test_the_same_owner_does_not_pass_the_fence(world: World) -> None:
    """The token decides, not the name: a worker may meet its own earlier attempt."""
    await world.accept("j1")
    first = await world.claim("j1", "w1")
    world.clock.move(LEASE_S + 1)
    await world.claim("j1", "w1")

    with pytest.raises(LeaseLostError):
        await world.jobs.end(first, State.DONE, "answered")


@pytest.mark.anyio
async def test_a_renewed_lease_holds(world: World) -> None:
    """A long transcription keeps its job by renewing."""
    await world.accept("j1")
    job = await world.claim("j1")
    world.clock.move(LEASE_S - 1)
    await world.jobs.renew(job)
    world.clock.move(LEASE_S - 1)

    assert await world.jobs.claim("j1", "w2") is Unclaimed.HELD


@pytest.mark.anyio
async def test_turns_of_a_conversation_wait_for_the_earlier_one(world: World) -> None:
    """The second note may belong to the first one's request."""
    await world.accept("j1")
    await world.accept("j2")
    await world.accept("other", conversation="c2")

    assert await world.jobs.claim("j2", "w1") is Unclaimed.BLOCKED
    await world.claim("other")
    await world.jobs.end(await world.claim("j1"), State.DONE, "answered")

    assert world.woken == ["j2"]
    await world.claim("j2")


@pytest.mark.anyio
async def test_a_parked_job_lets_later_turns_pass(world: World) -> None:
    """The press on "I agree" comes after the note that waits for it."""
    await world.accept("note")
    await world.accept("press")
    await world.jobs.park(await world.claim("note"), "consent.missing")

    assert await world.jobs.claim("note", "w1") is Unclaimed.PARKED
    assert world.woken == ["press"]
    await world.claim("press")


@pytest.mark.anyio
async def test_unparked_jobs_are_told_to_the_broker(world: World) -> None:
    """A grant answers the parked note; a lost message would leave it parked for ever."""
    await world.accept("note")
    await world.jobs.park(await world.claim("note"), "consent.missing")

    assert await world.jobs.unpark("s_1", world.clock()) == ["note"]

    assert world.woken == ["note"]
    async with world.engine.connect() as tx:
        told = (await tx.execute(select(relay.c.job))).scalars().all()
    assert told == ["note"]
    await world.claim("note")


@pytest.mark.anyio
async def test_a_consent_reopens_the_window_of_what_waited_for_it(world: World) -> None:
    """A note granted after a day is answered: the press reopened WhatsApp's window."""
    await world.accept("note")
    await world.jobs.park(await world.claim("note"), "consent.missing")
    later = world.clock() + timedelta(days=2)

    await world.jobs.unpark("s_1", later)

    assert (await world.claim("note")).deadline_at == later


@pytest.mark.anyio
async def test_a_withdrawal_waits_for_no_earlier_turn(world: World) -> None:
    """An earlier note that waits for a slow processor must not hold up a "stop"."""
    await world.accept("note")
    await world.accept("stop", urgent=True)

    await world.claim("stop")


@pytest.mark.anyio
async def test_an_ended_job_forgets_its_body(world: World) -> None:
    """The sealed update holds the sender's number: it goes with the job."""
    await world.accept("j1")
    await world.jobs.end(await world.claim("j1"), State.REFUSED, "consent.refused")

    async with world.engine.connect() as tx:
        assert (await tx.execute(select(inbox.c.sealed))).scalar_one() is None
    assert await world.jobs.claim("j1", "w1") is Unclaimed.ENDED


@pytest.mark.anyio
async def test_a_job_put_off_is_not_due_early(world: World) -> None:
    """A retry that does not wait is a storm."""
    await world.accept("j1")
    await world.jobs.later(await world.claim("j1"), 30)

    assert await world.jobs.claim("j1", "w1") is Unclaimed.EARLY
    world.clock.move(31)
    assert (await world.claim("j1")).attempts == 1


@pytest.mark.anyio
async def test_stranded_jobs_are_found_once_per_quiet_time(world: World) -> None:
    """A broker that lost its disk must hear again of what it forgot, but not in a flood."""
    await world.accept("j1")

    assert await world.jobs.stranded(5) == ["j1"]
    assert await world.jobs.stranded(5) == []
    world.clock.move(6)
    assert await world.jobs.stranded(5) == ["j1"]


@pytest.mark.anyio
async def test_a_revoked_job_shuts_out_its_holder(world: World) -> None:
    """The person deleted the message: whoever works on it now must not go on writing."""
    await world.accept("j1")
    holder = await world.claim("j1")

    await world.jobs.discard("a_j1", "person.revoked")

    with pytest.raises(LeaseLostError):
        await world.jobs.renew(holder)
    assert await world.state("j1") == "refused"


@pytest.mark.anyio
async def test_only_the_named_owners_leases_are_released(world: World) -> None:
    """A restarted cell takes back its own dead leases and nobody else's."""
    await world.accept("mine", conversation="c1")
    await world.accept("theirs", conversation="c2")
    await world.claim("mine", "eu-1/aa")
    await world.claim("theirs", "eu-10/bb")

    await world.jobs.release("eu-1/")

    await world.claim("mine", "eu-1/cc")
    assert await world.jobs.claim("theirs", "eu-1/cc") is Unclaimed.HELD


@pytest.mark.anyio
async def test_released_jobs_are_told_to_the_broker(world: World) -> None:
    """The broker thinks a dead worker still has them, and would wait before telling again."""
    await world.accept("mine")
    await world.claim("mine", "eu-1/aa")

    await world.jobs.release("eu-1/")

    assert world.woken == ["mine"]


@pytest.mark.anyio
async def test_stale_parked_notes_end(world: World) -> None:
    """After six days WhatsApp has dropped the media: waiting longer serves nobody."""
    await world.accept("old")
    await world.jobs.park(await world.claim("old"), "consent.missing")
    world.clock.move(7 * 86_400)

    ended = await world.jobs.discard_stale(timedelta(days=6), agreed(world.clock()))

    assert ended == [("old", "a_old", "t")]
    assert await world.state("old") == "refused"
