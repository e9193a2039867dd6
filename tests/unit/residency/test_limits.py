"""A vendor's room is shared out: nobody floods it, and nothing else takes its place."""

import asyncio

import pytest
from support.speech import a_processor

from residency.limits import DEFAULT_CONCURRENT, MINUTE_S, Limits
from residency.model import Service


class Clock:
    """A monotonic clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        """Return the time it is."""
        return self.at


def limits(
    clock: Clock | None = None, tenants: tuple[str, ...] = ("a", "b"), **settings: str
) -> Limits:
    """Return the limits of one processor, ``stt``."""
    row = a_processor(Service.SPEECH_TO_TEXT, "scripted", id="stt", settings=settings)
    return Limits([row], tenants, monotonic=clock or Clock())


def test_a_processor_takes_so_many_at_once() -> None:
    """Whoever comes after waits or goes elsewhere on the list."""
    room = limits(max_concurrent="4")

    taken = [room.enter("stt", tenant) for tenant in "aabbab"]

    assert taken == [True, True, True, True, False, False]


def test_one_tenant_has_three_quarters_at_most() -> None:
    """A flood of one leaves a place for the others."""
    room = limits(max_concurrent="4")

    assert [room.enter("stt", "a") for _ in range(4)] == [True, True, True, False]
    assert room.enter("stt", "b")


def test_alone_a_tenant_has_everything() -> None:
    """There is nobody to keep a place for."""
    room = limits(tenants=("a",), max_concurrent="2")

    assert [room.enter("stt", "a") for _ in range(3)] == [True, True, False]


def test_a_row_that_says_nothing_has_a_limit_all_the_same() -> None:
    """No processor is called without bound."""
    room = limits(tenants=("a",))

    assert sum(room.enter("stt", "a") for _ in range(DEFAULT_CONCURRENT + 5)) == DEFAULT_CONCURRENT


def test_a_place_given_back_is_free_again() -> None:
    """What left counts no more, for the tenant and for all."""
    room = limits(tenants=("a",), max_concurrent="1")
    assert room.enter("stt", "a")

    room.leave("stt", "a")

    assert room.enter("stt", "a")


def test_a_rate_lets_so_many_begin_in_a_minute() -> None:
    """Tokens come back evenly, and no more than a minute's worth is saved up."""
    clock = Clock()
    room = limits(clock, ("a",), per_minute="2", max_concurrent="100")

    assert [room.enter("stt", "a") for _ in range(3)] == [True, True, False]

    clock.at += MINUTE_S / 2
    assert [room.enter("stt", "a") for _ in range(2)] == [True, False]
    clock.at += MINUTE_S * 60
    assert [room.enter("stt", "a") for _ in range(3)] == [True, True, False]


def test_one_tenants_rate_is_three_quarters_at_most() -> None:
    """A quota at the vendor is shared out as well; who is refused has spent nothing of it."""
    room = limits(per_minute="4", max_concurrent="100")

    assert [room.enter("stt", "a") for _ in range(4)] == [True, True, True, False]
    assert room.enter("stt", "b")
    assert not room.enter("stt", "b")
    assert room._rate["stt", "b"].tokens == 2.0


def test_a_rate_of_one_still_admits_with_several_tenants() -> None:
    """Three quarters of one token would never be a whole one: the row would be dead for all."""
    clock = Clock()
    room = limits(clock, per_minute="1")

    assert [room.enter("stt", "a"), room.enter("stt", "b")] == [True, False]

    clock.at += MINUTE_S * 4 / 3
    assert room.enter("stt", "a")


@pytest.mark.anyio
async def test_who_waits_is_told() -> None:
    """A place that becomes free soon is better than an answer in text."""
    room = limits(tenants=("a",), max_concurrent="1")
    assert room.enter("stt", "a")
    waiting = asyncio.create_task(room.freed(5))
    await asyncio.sleep(0)

    room.leave("stt", "a")

    assert await waiting
    assert not await room.freed(0.01)
