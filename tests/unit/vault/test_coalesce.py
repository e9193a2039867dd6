"""Many lookups in few calls, without losing one."""

import asyncio
from collections.abc import Sequence

import pytest

from vault.coalesce import MOST_CALLS, MOST_ITEMS, Coalescer


class Source:
    """Answers each key with its square, when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.fault: Exception | None = None

    async def fetch(self, keys: Sequence[int]) -> list[int | Exception]:
        """Return squares; a negative key is an error of its own."""
        self.batches.append(list(keys))
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return [ValueError("negative") if key < 0 else key * key for key in keys]


@pytest.mark.anyio
async def test_what_is_asked_meanwhile_goes_together() -> None:
    """The time of a call is the window: a timer would only add to it."""
    source = Source()
    coalescer = Coalescer(source.fetch)
    asked = [asyncio.create_task(coalescer.get(key)) for key in range(2 * MOST_ITEMS)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    source.gate.set()
    answers = await asyncio.gather(*asked)

    assert answers == [key * key for key in range(2 * MOST_ITEMS)]
    assert len(source.batches) <= MOST_CALLS + 2
    assert max(len(batch) for batch in source.batches) <= MOST_ITEMS


@pytest.mark.anyio
async def test_no_more_calls_than_allowed_are_in_flight() -> None:
    """A burst must not become as many connections."""
    source = Source()
    coalescer = Coalescer(source.fetch)
    asked = [asyncio.create_task(coalescer.get(key)) for key in range(50)]
    for _ in range(5):
        await asyncio.sleep(0)

    in_flight = len(source.batches)
    source.gate.set()
    await asyncio.gather(*asked)

    assert in_flight == MOST_CALLS


@pytest.mark.anyio
async def test_an_error_is_its_keys_own() -> None:
    """One bad key must not spoil the batch it travels in."""
    source = Source()
    source.gate.set()
    coalescer = Coalescer(source.fetch)

    answers = await asyncio.gather(*map(coalescer.get, (2, -1, 3)), return_exceptions=True)

    assert answers[0::2] == [4, 9]
    assert isinstance(answers[1], ValueError)


@pytest.mark.anyio
async def test_a_call_that_fails_answers_everybody() -> None:
    """A waiter left without an answer would hold its job until the lease ends."""
    source = Source()
    source.gate.set()
    source.fault = OSError("disk")
    coalescer = Coalescer(source.fetch)

    answers = await asyncio.gather(*map(coalescer.get, (1, 2, 3)), return_exceptions=True)

    assert [type(answer) for answer in answers] == [OSError] * 3


@pytest.mark.anyio
async def test_an_answer_is_never_older_than_the_question() -> None:
    """Who asks after an erasure must not get the key of a call that began before it."""
    source = Source()
    coalescer = Coalescer(source.fetch)
    early = asyncio.create_task(coalescer.get(1))
    for _ in range(3):
        await asyncio.sleep(0)

    late = asyncio.create_task(coalescer.get(1))
    for _ in range(3):
        await asyncio.sleep(0)
    source.gate.set()
    await asyncio.gather(early, late)

    assert source.batches == [[1], [1]]


@pytest.mark.anyio
async def test_a_call_is_about_one_group_and_no_group_starves() -> None:
    """A key service takes one KEK per request; a busy bucket must not keep a quiet one waiting."""
    source = Source()
    coalescer = Coalescer(source.fetch, group=lambda key: key % 2, calls=1)
    asked = [asyncio.create_task(coalescer.get(key)) for key in range(0, 2 * MOST_ITEMS + 4, 2)]
    asked.append(asyncio.create_task(coalescer.get(1)))
    for _ in range(3):
        await asyncio.sleep(0)

    source.gate.set()
    answers = await asyncio.gather(*asked)

    assert answers == [key * key for key in (*range(0, 2 * MOST_ITEMS + 4, 2), 1)]
    assert all(len({key % 2 for key in batch}) == 1 for batch in source.batches)
    assert source.batches.index([1]) < 3
    assert max(len(batch) for batch in source.batches) <= MOST_ITEMS
