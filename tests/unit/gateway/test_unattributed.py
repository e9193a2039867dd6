"""What names nobody is kept sealed for a day, counted, bounded, and gone after it."""

from datetime import timedelta

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs
from support.desk import TENANT, Desk

from gateway import clocks, holdings, unattributed
from gateway.schema import inbox, jobs
from gateway.schema import unattributed as table
from gateway.sweeper import Sweeper
from gateway.unattributed import KEPT_FOR, MOST, MOST_BYTES
from gateway.whatsapp.payload import Parsed, Unattributed
from vault.errors import VaultError

pytestmark = pytest.mark.anyio

CANARY = "the seventh canary has no name"


def part(content: str = CANARY) -> Unattributed:
    """Return a part of a delivery that names nobody."""
    return Unattributed(phone_number_id="1", reason="sender", raw=content.encode())


async def accept(desk: Desk, *parts: Unattributed, tenant: str = TENANT) -> None:
    """Have one delivery hold *parts*."""
    assert await desk.inbox.accept(tenant, Parsed(updates=parts, dropped={})) == []


def row(number: int, *, size: int = 1, tenant: str = "t") -> dict[str, object]:
    """Return a row as the inbox makes it."""
    return {
        "id": f"{tenant}-{number}",
        "tenant": tenant,
        "body_key": "unattributed-20261119",
        "sealed": b"x",
        "size": size,
        "reason": "sender",
        "received_at": 1,
    }


async def test_it_is_sealed_under_the_key_of_its_day_and_opens_no_job(desk: Desk) -> None:
    """Nobody can be answered; somebody may have to find out what WhatsApp sends."""
    await accept(desk, part())

    [kept] = await desk.rows(table)
    assert CANARY.encode() not in kept.sealed
    assert kept.body_key == unattributed.key(desk.clock())
    opened = await desk.ports.custody.open_named(kept.body_key, kept.id, kept.sealed)
    assert opened == CANARY.encode()
    assert await desk.rows(jobs) == await desk.rows(inbox) == []


async def test_delivered_again_it_is_the_same(desk: Desk) -> None:
    """WhatsApp delivers again for a week, and its first day is the one that counts."""
    await accept(desk, part(), part("another"))
    first = {kept.id: kept.received_at for kept in await desk.rows(table)}
    desk.clock.move(3600)

    await accept(desk, part(), part("another"))

    assert {kept.id: kept.received_at for kept in await desk.rows(table)} == first
    assert len(first) == 2


async def test_a_day_later_it_is_gone_and_its_key_soon_after(desk: Desk) -> None:
    """Whose it is nobody knows, so nobody can ask for it: it goes by the clock."""
    sweeper = Sweeper(desk.ports, owner="w1")
    await accept(desk, part())
    [kept] = await desk.rows(table)

    desk.clock.move(KEPT_FOR.total_seconds() - 1)
    await sweeper.forget_unattributed()
    assert sweeper.unattributed == 1, "which /readyz warns of"
    assert b"vocustody_unattributed_updates 1.0" in desk.ports.metrics.render()
    desk.clock.move(1)
    await sweeper.forget_unattributed()

    assert (sweeper.unattributed, await desk.rows(table)) == (0, [])
    assert b"vocustody_unattributed_updates 0.0" in desk.ports.metrics.render()
    desk.clock.move(timedelta(days=unattributed.KEY_DAYS).total_seconds())
    await sweeper.forget()
    with pytest.raises(VaultError):
        await desk.ports.custody.open_named(kept.body_key, kept.id, kept.sealed)


async def test_the_key_lives_as_long_as_anything_under_it(desk: Desk) -> None:
    """What came in the last second of a day is kept through the next."""
    now = desk.clock()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    desk.clock.move((midnight - now).total_seconds() - 1)
    await accept(desk, part())
    [kept] = await desk.rows(table)
    desk.clock.move(KEPT_FOR.total_seconds() - 1)

    await Sweeper(desk.ports, owner="w1").forget()

    opened = await desk.ports.custody.open_named(kept.body_key, kept.id, kept.sealed)
    assert opened == CANARY.encode()


@pytest.mark.parametrize(
    ("size", "kept"), [(1, MOST), (MOST_BYTES // 10, 10)], ids=["rows", "bytes"]
)
async def test_a_flood_of_them_fills_no_disk(desk: Desk, size: int, kept: int) -> None:
    """What is beyond the bound is counted; another tenant's room is its own."""
    async with desk.ports.engine.begin() as tx:
        rows = [row(number, size=size) for number in range(kept + 5)]
        assert await unattributed.keep(tx, rows) == 5
        assert await unattributed.keep(tx, [row(9_999, size=size)]) == 1
        assert await unattributed.keep(tx, [row(1, size=size, tenant="other")]) == 0

    async with desk.ports.engine.connect() as tx:
        found = (await tx.execute(select(table.c.tenant))).scalars().all()
    assert (found.count("t"), found.count("other")) == (kept, 1)


async def test_it_is_told_in_the_log_without_a_word_of_it(desk: Desk) -> None:
    """Somebody has to hear of it while it can still be looked at."""
    with capture_logs() as lines:
        await accept(desk, part(), part("another"))

    told = {"event": "updates.unattributed", "log_level": "error", "count": 2, "dropped": 0}
    assert lines == [told]


async def test_its_clock_is_one_of_the_overdue_report(desk: Desk) -> None:
    """A sweep that does not happen must show."""
    await accept(desk, part())
    desk.clock.move(KEPT_FOR.total_seconds() + 3600)

    found = await clocks.readings(desk.ports.engine, desk.clock(), decisions_for=timedelta(days=1))

    [reading] = [each for each in found if each.clock.name == "unattributed"]
    assert (reading.count, reading.alarming) == (1, True)
    assert "names nobody" in holdings.COVERAGE["unattributed"]
