"""No evidence, no touch: began before, ended after, in every outcome."""

import asyncio
from datetime import date

import pytest
from support.gateway import Clock

from audit.errors import AppendError
from audit.model import Event, EventType, Leaf, Receipt
from audit.trail import Trail
from gateway.touch import Matter, close_killed, touching
from residency.model import Observed, Processor, Service

MATTER = Matter(tenant="t", job="j_1", subject="s_1", artifact="a_1", decision="d_1")
PROCESSOR = Processor(
    id="stt.one", vendor="v", service=Service.SPEECH_TO_TEXT, product="p", model="m",
    adapter="scripted", region="eu-central", jurisdiction="DE", hosts=(), languages=("en",),
    options={}, settings={}, contract="", contract_expires=date.min, retention="none",
    source="test", as_of=date(2026, 11, 19), reviewed_by="test",
    review_expires=date.max,
)  # fmt: skip


async def freely() -> None:
    """Give leave."""


async def recorded(trail: Trail) -> list[tuple[str, str | None]]:
    """Return (type, outcome) of every leaf about the job."""
    leaves = await trail.leaves(job="j_1")
    return [(leaf.event.type.value, leaf.event.outcome) for leaf in leaves]


@pytest.mark.anyio
async def test_a_touch_is_on_record_before_it_happens(trail: Trail, clock: Clock) -> None:
    """If the process dies in the body, the trail already names the processor."""
    async with touching(trail, MATTER, PROCESSOR, "transcribe", now=clock, leave=freely) as touch:
        [open_touch] = await trail.unended("j_1")

    assert open_touch.event.touch == touch.id
    assert open_touch.event.processor == "stt.one"
    assert await recorded(trail) == [("touch.began", None), ("touch.ended", "done")]
    assert await trail.unended("j_1") == []


@pytest.mark.anyio
async def test_what_was_observed_is_in_the_end(trail: Trail, clock: Clock) -> None:
    """An address that was seen is evidence of another rank than one that was declared."""
    async with touching(trail, MATTER, PROCESSOR, "transcribe", now=clock, leave=freely) as touch:
        touch.observe(Observed(host="stt.example", peer="192.0.2.7", bytes_sent=12))

    [_, ended] = await trail.leaves(job="j_1")
    assert ended.event.detail == {
        "basis": "observed", "bytes": 12, "host": "stt.example", "peer": "192.0.2.7",
    }  # fmt: skip


@pytest.mark.anyio
async def test_what_the_vendor_says_of_itself_is_not_what_was_seen(
    trail: Trail, clock: Clock
) -> None:
    """Its word for the region must never pass for an observation of ours."""
    async with touching(trail, MATTER, PROCESSOR, "transcribe", now=clock, leave=freely) as touch:
        touch.observe(Observed(request_id="r-1"))
        touch.observe(Observed(region="westeurope"))

    [_, ended] = await trail.leaves(job="j_1")
    assert ended.event.detail == {
        "attested": {
            "basis": "attested by vendor", "region": "westeurope", "request_id": "r-1",
        },
    }  # fmt: skip


@pytest.mark.anyio
async def test_an_error_ends_the_touch_and_its_text_stays_out(trail: Trail, clock: Clock) -> None:
    """After a failure the bytes were still sent; the error's text may quote the speaker."""
    with pytest.raises(ValueError, match="canary"):
        async with touching(trail, MATTER, PROCESSOR, "transcribe", now=clock, leave=freely):
            raise ValueError("canary")

    [_, ended] = await trail.leaves(job="j_1")
    assert (ended.event.outcome, ended.event.detail) == ("raised", {"error": "ValueError"})
    assert b"canary" not in ended.data


@pytest.mark.anyio
async def test_a_cancelled_touch_ends_too(trail: Trail, clock: Clock) -> None:
    """A deadline cancels: the processor may still have heard everything."""
    inside = asyncio.Event()

    async def work() -> None:
        async with touching(trail, MATTER, PROCESSOR, "transcribe", now=clock, leave=freely):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert await recorded(trail) == [("touch.began", None), ("touch.ended", "cancelled")]


class Deaf:
    """A trail that cannot be written."""

    async def append(self, event: Event) -> Receipt:
        """Refuse."""
        raise AppendError("no space")

    async def unended(self, job: str | None = None) -> list[Leaf]:
        """Return nothing."""
        return []


@pytest.mark.anyio
async def test_without_a_record_there_is_no_touch(clock: Clock) -> None:
    """The first promise: no evidence, no touch."""
    touched = False

    with pytest.raises(AppendError):
        async with touching(Deaf(), MATTER, PROCESSOR, "transcribe", now=clock, leave=freely):
            touched = True

    assert not touched


@pytest.mark.anyio
async def test_a_killed_holders_touches_are_closed_by_its_successor(
    trail: Trail, clock: Clock
) -> None:
    """A dead process cannot write its end; the trail must not show an endless touch."""
    await trail.append(
        Event(
            id="t_9.began", type=EventType.TOUCH_BEGAN, at=clock(), tenant="t", artifact="a_1",
            job="j_1", touch="t_9", action="transcribe", processor="stt.one", region="eu-central",
        )
    )  # fmt: skip

    assert await close_killed(trail, "j_1", now=clock) == 1

    assert await recorded(trail) == [("touch.began", None), ("touch.ended", "killed")]
    assert await close_killed(trail, "j_1", now=clock) == 0
