"""Fairness: whoever floods waits for itself."""

import asyncio

import pytest
from aiolimiter import AsyncLimiter

from gateway.slots import URGENT, Share, Slots, fair_share


async def began(slots: Slots, lane: str) -> bool:
    """Whether *lane* gets a slot at once."""
    try:
        async with asyncio.timeout(0.05):
            await slots.reserve(lane)
            await slots.enter(lane)
    except TimeoutError:
        return False
    return True


@pytest.mark.anyio
async def test_a_flood_leaves_room_for_the_others() -> None:
    """However much one tenant has to do, it never has every slot."""
    slots = Slots(4, {"loud": Share(concurrency=3), "calm": Share(concurrency=3)})

    loud = [await began(slots, "loud") for _ in range(10)]

    assert loud.count(True) == 3
    assert await began(slots, "calm")


@pytest.mark.anyio
async def test_all_together_have_no_more_than_the_cell() -> None:
    """Shares may add up to more than there is."""
    slots = Slots(2, {"a": Share(concurrency=2), "b": Share(concurrency=2)})

    assert [await began(slots, lane) for lane in ("a", "a", "b")] == [True, True, False]

    slots.release("a")
    slots.release("a")
    assert await began(slots, "b")


@pytest.mark.anyio
async def test_slots_go_round() -> None:
    """With more lanes than slots, who asked first is first; a lane asks for one at a time."""
    slots = Slots(1, {"loud": Share(concurrency=1), "calm": Share(concurrency=1)})
    order: list[str] = []

    async def work(lane: str, jobs: int) -> None:
        for _ in range(jobs):
            await slots.reserve(lane)
            await slots.enter(lane)
            order.append(lane)
            await asyncio.sleep(0.001)
            slots.release(lane)

    await asyncio.gather(work("loud", 50), work("calm", 5))

    assert order.index("calm") <= 1
    assert order[:12].count("calm") == 5


@pytest.mark.anyio
async def test_a_withdrawal_waits_behind_no_flood_of_its_tenant() -> None:
    """What takes rights away from us has a lane of its own."""
    slots = Slots(4, {"loud": Share(concurrency=3)})
    for _ in range(3):
        assert await began(slots, "loud")

    assert not await began(slots, "loud")
    assert await began(slots, URGENT)
    assert set(slots.lanes) == {"loud", URGENT}


@pytest.mark.anyio
async def test_a_rate_lets_so_many_begin_and_keeps_the_rest_waiting() -> None:
    """What is over the rate waits; other lanes do not."""
    slots = Slots(9, {"loud": Share(concurrency=9, per_minute=2), "calm": Share(concurrency=9)})

    assert [await began(slots, "loud") for _ in range(3)] == [True, True, False]
    assert await began(slots, "calm")
    assert isinstance(slots._rates["loud"], AsyncLimiter)


@pytest.mark.parametrize(
    ("concurrency", "tenants", "share"), [(4, 1, 4), (4, 2, 3), (1, 2, 1), (8, 3, 6), (2, 5, 1)]
)
def test_a_fair_share_leaves_a_quarter(concurrency: int, tenants: int, share: int) -> None:
    """Alone a tenant has all; with others at most three quarters, and never nothing."""
    assert fair_share(concurrency, tenants) == share
