"""
One wrong clock destroys nothing, and work goes on: on a desk whose clocks a test can set.

Of the invariants of the design these are held here: I1 and I2 (what is accepted is answered), I3
(dedup keys outlive a jump), I10 and I11 (content has a clock, and one that never grows), I12 (a
hold holds), I13 (an erasure stands, after a restore too), I21 (a crash changes nothing).
"""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete
from structlog.testing import capture_logs
from support.desk import TENANT, Desk
from support.erasing import eraser_of
from support.gateway import Clock
from support.postgres import Postgres

from audit.model import EventType
from gateway import approvals, db, hearing, migrations, restored, schema, turns
from gateway.compose import surroundings
from gateway.jobs import State
from gateway.note import SPOKEN
from gateway.session import Memory
from gateway.sweeper import Sweeper
from gateway.timekeeping import Machine, Timekeeper, note
from gateway.whatsapp.payload import Text
from policy.consents.tables import consents
from policy.model import ConsentState
from vault import holds, orders, tables
from vault.agreed_time import AgreedTime, Rules
from vault.errors import GoneError, KeyLostError
from vault.model import Artifact, Hold, HoldState, Kind, Label, Scope

JUMPS = {
    "+2 h": timedelta(hours=2),
    "+45 d": timedelta(days=45),
    "+400 d": timedelta(days=400),
    "-2 h": timedelta(hours=-2),
    "-45 d": timedelta(days=-45),
}
LASTING = (
    schema.decisions, schema.handovers, schema.inbox, schema.jobs, schema.notices, schema.replies,
    schema.sessions, schema.statuses, schema.tombstones, consents, tables.artifacts,
    tables.ending_keks, tables.epoch_keys, tables.held, tables.holds, tables.named_keys,
    tables.subject_keys,
)  # fmt: skip
RULES = Rules()


def sweeper_of(desk: Desk) -> Sweeper:
    """Return the cell's sweeper with every chore that a cell gives it."""
    erasures = eraser_of(desk).erasures

    async def forget(time: AgreedTime) -> None:
        await approvals.forget(desk.ports.engine, time)

    return Sweeper(desk.ports, owner="eu-1/aa", chores=[erasures.prune, forget])


async def sweep(desk: Desk) -> None:
    """Do everything that the sweeper does by the clock."""
    sweeper = sweeper_of(desk)
    for tick in (
        sweeper.delete_due, sweeper.end_stale, sweeper.expire, sweeper.tend_holds,
        sweeper.forget, sweeper.destroy_leftovers, sweeper.reconcile,
    ):  # fmt: skip
        await tick()


async def kept(desk: Desk) -> dict[str, list[Any]]:
    """Return every row that a sweep could take away or change."""
    return {table.name: sorted(map(tuple, await desk.rows(table)), key=repr) for table in LASTING}


async def heard(desk: Desk) -> Artifact:
    """Let ada's voice note be heard; return what is kept of it in words."""
    told = await desk.spoken()
    await hearing.words(told, Memory(), desk.ports)
    await desk.ports.jobs.end(told.job, State.DONE, "answered")
    [words] = [
        row
        for row in await desk.rows(tables.artifacts)
        if row.kind == Kind.TRANSCRIPT and row.subject == await desk.subject()
    ][-1:]
    found = await desk.ports.custody.describe(words.id)
    assert found is not None
    return found


async def busy(desk: Desk) -> Artifact:
    """Give the desk a past: a note that was heard, an erasure, a hold, a day's updates."""
    await desk.ports.agreed()
    await desk.consents()
    words = await heard(desk)
    eraser = eraser_of(desk)
    other = desk.world.person("4915112345679", line=desk.line)
    await desk.hear(desk.recording(), other)
    await eraser.erased(await desk.subject(other))
    now, until = desk.clock(), desk.clock() + timedelta(days=30)
    scope = Scope(tenant=words.label.tenant, artifacts=(words.label.artifact,))
    hold = Hold(
        id=orders.ident_of("case-1", "litigation", scope, now, until),
        scope=scope,
        case="case-1",
        state=HoldState.OPENING,
        ground="litigation",
        placed_by="ann",
        placed_role="dpo",
        proposed_at=now,
        expires_at=until,
    )
    await holds.propose(desk.ports.custody, hold)
    await holds.place(desk.ports.engine, hold.id, by="ben", at=now)
    return words


@pytest.mark.anyio
@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
async def test_a_jump_destroys_nothing_and_notes_are_answered(desk: Desk, jump: timedelta) -> None:
    """The wall clock was 400 days ahead for 14 seconds: a month's keys were gone for good."""
    await busy(desk)
    await sweep(desk)
    before = await kept(desk)
    desk.clock.jump(jump)
    desk.clock.move(7)

    with capture_logs() as logs:
        await sweep(desk)
        await sweep(desk)

    assert await kept(desk) == before
    told = [line for line in logs if line["event"] == "clock.disagrees"]
    assert [(line["kind"], line["apart_s"]) for line in told] == [("wall", jump.total_seconds())]
    # Work goes on, by what was counted: its epoch, its due time, its place in line.
    words = await heard(desk)
    assert abs(words.stored_at - desk.clock.true) < timedelta(seconds=2)
    assert await desk.ports.custody.open(words)
    desk.clock.move(7)
    desk.clock.jump(-jump)
    await sweep(desk)
    assert desk.time.apart is None
    assert await desk.ports.custody.open(words)


@pytest.mark.anyio
async def test_deletion_goes_on_once_the_clock_is_right(desk: Desk) -> None:
    """What came due meanwhile is late, and not forgotten (I11)."""
    await desk.ports.agreed()
    label = Label(
        tenant="fernruf", subject="s_1", artifact="a_1", kind=Kind.RAW_AUDIO, region="eu-central"
    )
    words = await desk.ports.custody.put(b"OggS", label, desk.clock() + timedelta(hours=1))
    desk.clock.jump(timedelta(days=400))
    await sweep(desk)
    desk.clock.move(3_605)
    await sweep(desk)
    assert await desk.ports.custody.describe(words.label.artifact) is not None
    with pytest.raises(GoneError):  # nobody reads it meanwhile
        await desk.ports.custody.open(words)

    desk.clock.jump(timedelta(days=-400))
    await sweep(desk)

    assert await desk.ports.custody.describe(words.label.artifact) is None


@pytest.mark.anyio
async def test_a_clock_that_stands_still_stops_no_work(desk: Desk) -> None:
    """Its time is counted on; that nothing is deleted is said within minutes."""
    await desk.ports.agreed()
    stopped = desk.clock()
    for _ in range(6):
        desk.clock.move(60)
        desk.clock.jump(timedelta(seconds=-60))
        await sweep(desk)

    assert desk.clock() == stopped
    assert desk.time.apart is not None
    assert abs(desk.ports.now() - desk.clock.true) < timedelta(seconds=1)


@pytest.mark.anyio
async def test_a_clock_that_runs_too_fast_is_found_out(desk: Desk) -> None:
    """Looked at often, each step is small: what is counted must not follow every one."""
    await desk.ports.agreed()
    for _ in range(90):
        desk.clock.move(5)
        desk.clock.jump(timedelta(seconds=5))
        await desk.ports.agreed()

    assert desk.time.apart is not None
    assert abs(desk.ports.now() - desk.clock.true) <= RULES.bound / 10


@pytest.mark.anyio
async def test_small_differences_are_slewed_away(desk: Desk) -> None:
    """NTP moves a clock by a minute now and then: nothing stops, and nothing adds up."""
    for _ in range(10):
        desk.clock.jump(timedelta(seconds=50))
        for _ in range(20):
            desk.clock.move(3_600)
            assert await desk.ports.agreed() is not None


def again(desk: Desk, clock: Clock, boot: str = "boot-1", **more: Any) -> Timekeeper:
    """Return the time of a process that starts now on a machine with *clock*."""
    return Timekeeper(desk.ports.engine, clock.machine(boot), **more)


def saying(at: datetime) -> Any:
    """Return a service that says it is *at*."""

    async def ask() -> datetime:
        return at

    return ask


@pytest.mark.anyio
@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
async def test_a_restart_does_not_make_a_wrong_clock_right(desk: Desk, jump: timedelta) -> None:
    """The machine has counted on: how long ago the last agreement was is known."""
    await desk.ports.agreed()
    desk.clock.move(14)
    desk.clock.jump(jump)

    time = again(desk, desk.clock)

    assert await time.agreed() is None
    assert time.now() == desk.clock.true


@pytest.mark.anyio
@pytest.mark.parametrize(("days", "second", "agrees"), [
    (2, False, True), (40, False, False), (40, True, True), (400, True, True),
    (-1, False, False), (-1, True, False),
])  # fmt: skip
async def test_after_a_restart_of_the_machine(
    desk: Desk,
    days: int,
    second: bool,  # noqa: FBT001
    agrees: bool,  # noqa: FBT001
) -> None:
    """A cell that was down for 40 days deletes again, if a second clock says 40 days."""
    await desk.ports.agreed()
    desk.clock.move(days * 86_400)
    others = {"key_service": saying(desk.clock())} if second else {}

    time = again(desk, desk.clock, "boot-2", others=others)

    assert (await time.agreed() is not None) is agrees


@pytest.mark.anyio
async def test_the_last_leaf_speaks_where_the_database_does_not(desk: Desk) -> None:
    """A database of before knows of no agreement; the log has its own time."""
    time = again(desk, desk.clock, newest=saying(desk.clock() - timedelta(days=40)))

    assert await time.agreed() is None
    assert (await again(desk, desk.clock).agreed()) is not None  # the control: a first start


@pytest.mark.anyio
@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
async def test_two_processes_whose_clocks_differ(desk: Desk, jump: timedelta) -> None:
    """The keeper ends keys: one whose clock is wrong ends none, and does not confuse the cell."""
    await desk.ports.agreed()
    wrong = Clock()
    wrong.at = desk.clock.at
    wrong.jump(jump)
    keeper = again(desk, wrong)

    assert await keeper.agreed() is None
    assert await desk.ports.agreed() is not None
    assert keeper.now() == desk.ports.now()


@pytest.mark.anyio
async def test_a_second_clock_that_lies_stops_destruction_too(desk: Desk) -> None:
    """Which of the two is wrong is for a person to find out; work goes by the counted one."""
    liar = saying(desk.clock() + timedelta(hours=2))

    time = again(desk, desk.clock, others={"key_service": liar})

    assert await time.agreed() is None
    assert time.apart is not None
    assert time.apart.says == "key_service +7200 s, wall +0 s"


@pytest.mark.anyio
async def test_a_second_clock_that_is_away_stops_nothing(desk: Desk) -> None:
    """A sealed key service must not keep recordings alive."""

    async def away() -> datetime:
        raise OSError

    assert await again(desk, desk.clock, others={"key_service": away}).agreed() is not None


@pytest.mark.anyio
async def test_a_paused_machine_is_believed_again(desk: Desk) -> None:
    """It counted no time while it was paused: two clocks that run evenly are right in the end."""
    said = datetime(2020, 1, 1, tzinfo=UTC)

    async def second() -> datetime:
        return desk.clock()

    time = again(desk, desk.clock, others={"key_service": second})
    assert await time.agreed() is not None
    desk.clock.jump(timedelta(hours=3))
    for minute in range(17):
        said = desk.clock()
        assert (await time.agreed() is not None) is (minute == 16)
        desk.clock.move(60)
    assert time.now() > said


@pytest.mark.anyio
@pytest.mark.parametrize("days", [40, -40])
async def test_an_operators_word_counts(desk: Desk, days: int) -> None:
    """Where there is one clock only, somebody has to look at a watch."""
    await desk.ports.agreed()
    desk.clock.jump(timedelta(days=days))
    assert await desk.ports.agreed() is None
    desk.clock.move(2)

    await note(desk.ports.engine, desk.clock.machine(), desk.clock(), bound=RULES.bound, by="ann")

    assert await desk.ports.agreed() is not None
    assert desk.ports.now() == desk.clock()


@pytest.mark.anyio
async def test_an_epoch_whose_key_is_gone_is_replaced(desk: Desk) -> None:
    """What it sealed is lost; every message after that was refused until the month's end, too."""
    await desk.ports.agreed()
    await desk.consents()
    words = await heard(desk)
    async with desk.ports.engine.begin() as tx:
        for table in (tables.epoch_keys, tables.named_keys):
            gone = table.update().values(ciphertext=None, destroyed_at=1)
            which = table.c.name.startswith("intake") if "name" in table.c else True
            await tx.execute(gone.where(which) if which is not True else gone)
    desk.ports.keys._cache._kept.clear()

    second = await heard(desk)
    for _ in range(2):
        await sweeper_of(desk).tell_replaced()

    custody = desk.ports.custody
    assert second.epoch == f"{words.epoch}-2"
    assert await custody.open(second)
    with pytest.raises(KeyLostError):
        await custody.open(words)
    told = {e.detail["kek"] for e in desk.trail.seen if e.type is EventType.KEY_REPLACED}
    assert told == {"intake-20261119-2", "raw-2026111914-2", "txt-202611-2"}


@pytest.mark.anyio
async def test_what_was_stored_in_the_future_is_kept_no_longer(desk: Desk) -> None:
    """A cell with one clock was started with that one 400 days ahead: a day would last 401."""
    label = Label(
        tenant="fernruf", subject="s_1", artifact="a_1", kind=Kind.RAW_AUDIO, region="eu-central"
    )
    custody, clock = desk.ports.custody, desk.clock
    clock.move(400 * 86_400)
    due = clock() + timedelta(hours=3)
    kept_ = await custody.put(b"OggS", label, due)
    clock.move(-400 * 86_400)
    assert (await desk.ports.agreed()) is not None

    for _ in range(2):
        await sweeper_of(desk).forget()
    clock.move(60)
    await sweeper_of(desk).forget()

    found = await custody.describe("a_1")
    assert found is not None
    assert (found.due, found.stored_at) == (
        due - timedelta(days=400),
        kept_.stored_at - timedelta(days=400),
    )


@pytest.mark.anyio
async def test_a_restore_after_a_wrong_clock_brings_nobody_back(desk: Desk) -> None:
    """The journal of erasures was pruned by the wrong clock: a restore would have undone them."""
    await busy(desk)
    eraser = eraser_of(desk)
    backup = {table: await desk.rows(table) for table in (schema.erasures, schema.tombstones)}
    assert backup[schema.tombstones]
    await restored.note(desk.ports, desk.trail.inner)
    for jump in (timedelta(days=400), timedelta(days=-400)):
        desk.clock.jump(jump)
        await sweep(desk)
    await turns.act(await desk.note(Text(body="STOP")), desk.ports)
    journal = {stone.erasure for stone in await eraser.erasures.journal.read()}
    assert journal >= {row.erasure for row in backup[schema.tombstones]}

    async with desk.ports.engine.begin() as tx:
        await tx.execute(delete(schema.tombstones))
        await tx.execute(delete(schema.erasures))
        await tx.execute(delete(consents).where(consents.c.state == "withdrawn"))

    assert await eraser.erasures.replay(await restored.erased(desk.ports, desk.trail.inner)) >= len(
        {row.erasure for row in backup[schema.tombstones]}
    )
    assert await restored.recall(desk.ports, desk.trail.inner) == 1
    newest = await desk.ports.consents.newest(TENANT, await desk.subject(), SPOKEN)
    assert newest is not None
    assert newest.state is ConsentState.WITHDRAWN
    assert {row.alias for row in backup[schema.tombstones]} <= {
        row.alias for row in await desk.rows(schema.tombstones)
    }


@pytest.mark.anyio
async def test_a_wrong_clock_on_postgres_is_told_by_the_database(
    postgres: Postgres,
) -> None:
    """The database is another machine's clock, as a rule: `now()` costs one round trip."""
    engine = db.connect((await postgres.create(password="pw")).replace("@", ":pw@"))
    await migrations.upgrade(engine)
    right = Timekeeper(engine, Machine(wall=surroundings.now, boot="b1"))
    wrong = Timekeeper(
        engine, Machine(wall=lambda: surroundings.now() + timedelta(hours=2), boot="b2")
    )

    assert await right.agreed() is not None
    assert await wrong.agreed() is None
    await engine.dispose()
    assert wrong.apart is not None
    assert wrong.apart.apart["wall"] - wrong.apart.apart["database"] > timedelta(minutes=119)


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(6))
async def test_whatever_a_wall_clock_does_for_some_hours(desk: Desk, seed: int) -> None:
    """Jumps, drift and restarts, at random: never too early by more than NTP's own error."""
    chance, clock = random.Random(seed), desk.clock
    times = [desk.time, again(desk, clock)]
    await desk.ports.agreed()
    for _ in range(120):
        act = chance.randrange(6)
        if act == 0:
            clock.jump(timedelta(seconds=chance.choice([60, 7_200, 86_400 * 45, 86_400 * 400])))
        elif act == 1:
            clock.jump(timedelta(seconds=-chance.choice([60, 7_200, 86_400 * 45])))
        elif act == 2:
            clock.jump(-clock.wrong)  # somebody sets it right
        elif act == 3:
            times[chance.randrange(2)] = again(desk, clock)  # a process is started anew
        clock.move(chance.randrange(1, 300))

        time = chance.choice(times)
        said = await time.agreed()

        allowed = timedelta(minutes=2)  # what they let the counted time follow a wall clock
        if said is not None:
            assert said.at <= clock.true + allowed
        assert abs(time.now() - clock.true) <= RULES.bound + allowed
