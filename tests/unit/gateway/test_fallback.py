"""Fallback walks the decision's allow-list, in its order, and nothing else."""

import asyncio
from dataclasses import replace

import pytest
from support.desk import WORDS, Desk

from audit.errors import AppendError
from audit.model import EventType
from gateway import fallback, hearing
from gateway.fallback import through
from gateway.note import Note
from gateway.permit import permitted
from gateway.session import Memory
from policy.model import Stage
from residency.errors import NoProcessorError, ProcessorBusyError, ProcessorRefusedError
from residency.limits import Limits
from residency.model import Audio, Observed, Transcript
from residency.route import FAILURES

BUSY = ProcessorBusyError("told to fail")
AUDIO = Audio(ogg=b"", pcm=b"", seconds=1.0, voiced_seconds=1.0)


async def heard(desk: Desk, note: Note, *only: str) -> Transcript:
    """Transcribe nothing in particular by the allowed processors, or by *only* some."""
    allowed = await permitted(note, Stage.TRANSCRIBE, desk.ports)
    adapters = {name: desk.hearing[name] for name in only or desk.hearing}
    return await through(
        note,
        allowed,
        "transcribe",
        note.job.artifact,
        adapters,
        lambda processor, passage: processor.transcribe(AUDIO, languages=("en",), passage=passage),
        desk.ports,
    )


def touches(desk: Desk) -> list[tuple[str | None, str | None]]:
    """Return (processor, outcome) of each touch that ended."""
    ended = [event for event in desk.trail.seen if event.type is EventType.TOUCH_ENDED]
    return [(event.processor, event.outcome) for event in ended]


@pytest.fixture
async def note(desk: Desk) -> Note:
    """Return a voice note of somebody who agreed."""
    await desk.consents()
    return await desk.spoken()


@pytest.mark.anyio
async def test_the_first_of_the_list_answers_alone(desk: Desk, note: Note) -> None:
    """A second processor that hears the recording for nothing is one touch too many."""
    assert await heard(desk, note) == WORDS

    assert touches(desk) == [("stt.one", "done")]
    assert desk.hearing["stt.two"].calls == 0


@pytest.mark.anyio
@pytest.mark.parametrize("error", [BUSY, ProcessorRefusedError("told to")], ids=["busy", "refused"])
async def test_the_next_of_the_list_is_tried_and_each_try_is_a_touch(
    desk: Desk, note: Note, error: ProcessorBusyError
) -> None:
    """After a failure the first one still heard the recording: it stays on record."""
    desk.script("stt.one", error)

    assert await heard(desk, note) == WORDS

    assert touches(desk) == [("stt.one", "raised"), ("stt.two", "done")]


@pytest.mark.anyio
async def test_nothing_outside_the_list_is_ever_tried(desk: Desk, note: Note) -> None:
    """Never spill: the processor abroad is at hand, healthy, and not asked."""
    desk.hearing["stt.abroad"] = abroad = type(desk.hearing["stt.one"])(
        desk.ports.processors["stt.abroad"], [WORDS]
    )
    desk.script("stt.one", BUSY)
    desk.script("stt.two", BUSY)

    with pytest.raises(NoProcessorError):
        await heard(desk, note)

    assert abroad.calls == 0
    assert touches(desk) == [("stt.one", "raised"), ("stt.two", "raised")]


@pytest.mark.anyio
async def test_what_the_cell_cannot_reach_is_passed_over(desk: Desk, note: Note) -> None:
    """A registry row without an adapter here is no reason to fail."""
    assert await heard(desk, note, "stt.two") == WORDS


@pytest.mark.anyio
async def test_a_late_processor_is_left_for_the_next(
    desk: Desk, note: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person waits; the deadline cancels the call, and the touch says so."""
    monkeypatch.setitem(fallback.DEADLINE_S, "transcribe", 0.05)
    desk.script("stt.one", WORDS, delay_s=30)

    async with asyncio.timeout(10):
        await heard(desk, note)

    assert touches(desk) == [("stt.one", "raised"), ("stt.two", "done")]
    [late] = [e for e in desk.trail.seen if e.outcome == "raised"]
    assert late.detail == {"error": "ProcessorBusyError"}


@pytest.mark.anyio
async def test_an_open_breaker_is_skipped(desk: Desk, note: Note) -> None:
    """A processor that failed over and over is not given another recording to fail on."""
    desk.script("stt.one", BUSY)
    for _ in range(FAILURES):
        await heard(desk, note)
    desk.trail.seen.clear()

    await heard(desk, note)

    assert touches(desk) == [("stt.two", "done")]


@pytest.mark.anyio
async def test_an_answer_closes_the_breaker(desk: Desk, note: Note) -> None:
    """Failures count in a row, not over a lifetime."""
    first = desk.script("stt.one", BUSY, BUSY, WORDS)
    for _ in range(2 * FAILURES):
        await heard(desk, note)

    assert first.calls == 2 * FAILURES


@pytest.mark.anyio
async def test_without_a_record_the_processor_hears_nothing(desk: Desk, note: Note) -> None:
    """And nobody else does: a trail that fails is not the processor's fault."""
    desk.trail.refuses = lambda event: event.type is EventType.TOUCH_BEGAN

    with pytest.raises(AppendError):
        await heard(desk, note)

    assert [each.calls for each in desk.hearing.values()] == [0, 0]


@pytest.mark.anyio
async def test_what_was_seen_of_the_connection_is_on_record(desk: Desk, note: Note) -> None:
    """An observed address is evidence; a declared one is a promise."""
    seen = Observed(host="stt.example", peer="192.0.2.7")
    desk.script("stt.one", Transcript(text="a", language="en", confidence=1.0, observed=seen))

    await heard(desk, note)

    [ended] = [e for e in desk.trail.seen if e.type is EventType.TOUCH_ENDED]
    assert ended.detail == {"basis": "observed", "host": "stt.example", "peer": "192.0.2.7"}


@pytest.mark.anyio
async def test_a_fault_of_ours_is_not_hidden_by_the_next_processor(desk: Desk, note: Note) -> None:
    """Only a processor's own error moves on: a bug would send the recording to everyone."""
    desk.script("stt.one", {"not": "a transcript"})

    with pytest.raises(AttributeError):
        await heard(desk, note)

    assert desk.hearing["stt.two"].calls == 0


@pytest.mark.anyio
async def test_nothing_heard_of_somebody_who_spoke_is_a_failure(desk: Desk, note: Note) -> None:
    """An empty transcript of voiced audio is the processor's failure, not an empty message."""
    desk.script("stt.one", Transcript(text=" ", language="en", confidence=0.9))

    assert await hearing.words(note, Memory(), desk.ports) == WORDS

    assert ("stt.one", "raised") in touches(desk)


def outside(desk: Desk, *names: str) -> None:
    """Have the processors *names* stand outside the cell."""
    changed = {
        name: replace(desk.ports.processors[name], hosts=("vendor.example:443",)) for name in names
    }
    desk.with_ports(processors={**desk.ports.processors, **changed})


async def walked(desk: Desk, note: Note) -> Transcript:
    """Walk as `heard` does, under a decision that names no hosts: nothing could be dialled."""
    allowed = await permitted(note, Stage.TRANSCRIBE, desk.ports)
    egress = dict.fromkeys(allowed.processors, ("vendor.example:443",))
    allowed = replace(allowed, obligations=replace(allowed.obligations, egress=egress))
    return await through(
        note,
        allowed,
        "transcribe",
        note.job.artifact,
        desk.hearing,
        lambda processor, passage: processor.transcribe(AUDIO, languages=("en",), passage=passage),
        desk.ports,
    )


@pytest.mark.anyio
async def test_a_silent_vendor_leaves_time_for_the_next(
    desk: Desk, note: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One try outside is shorter than all of them."""
    monkeypatch.setattr(fallback, "VENDOR_S", 0.6)
    outside(desk, "stt.one", "stt.two")
    desk.script("stt.one", WORDS, delay_s=30)

    async with asyncio.timeout(10):
        assert await walked(desk, note) == WORDS

    assert touches(desk) == [("stt.one", "raised"), ("stt.two", "done")]


@pytest.mark.anyio
async def test_vendors_together_have_one_deadline(
    desk: Desk, note: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person waits for all of them, not for each: with no time left, the next is not touched."""
    monkeypatch.setattr(fallback, "VENDORS_S", 0.7)
    outside(desk, "stt.one", "stt.two")
    desk.script("stt.one", WORDS, delay_s=30)

    async with asyncio.timeout(10):
        with pytest.raises(NoProcessorError):
            await walked(desk, note)

    assert touches(desk) == [("stt.one", "raised")]


@pytest.mark.anyio
async def test_a_full_processor_is_passed_over_for_a_free_one(desk: Desk, note: Note) -> None:
    """A bulkhead is no failure: the breaker does not hear of it."""
    limits = Limits(desk.ports.processors.values(), ["fernruf"])
    while limits.enter("stt.one", "fernruf"):
        pass
    desk.with_ports(limits=limits)

    await heard(desk, note)

    assert touches(desk) == [("stt.two", "done")]
    assert desk.ports.health.admit("stt.one")


@pytest.mark.anyio
async def test_when_all_are_full_a_place_is_waited_for(desk: Desk, note: Note) -> None:
    """A moment's patience is better than an answer that nothing was heard."""
    limits = Limits(desk.ports.processors.values(), ["fernruf"])
    for name in ("stt.one", "stt.two"):
        while limits.enter(name, "fernruf"):
            pass
    desk.with_ports(limits=limits)
    waiting = asyncio.create_task(heard(desk, note))
    await asyncio.sleep(0.1)
    assert touches(desk) == []

    limits.leave("stt.two", "fernruf")
    await waiting

    assert touches(desk) == [("stt.two", "done")]


@pytest.mark.anyio
async def test_nobody_waits_for_ever_for_a_place(
    desk: Desk, note: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the answer becomes text, or a human."""
    monkeypatch.setattr(fallback, "WAIT_S", 0.05)
    limits = Limits(desk.ports.processors.values(), ["fernruf"])
    for name in ("stt.one", "stt.two"):
        while limits.enter(name, "fernruf"):
            pass
    desk.with_ports(limits=limits)

    with pytest.raises(NoProcessorError):
        await heard(desk, note)

    assert touches(desk) == []


@pytest.mark.anyio
@pytest.mark.parametrize("answer", [WORDS, BUSY], ids=["answered", "failed"])
async def test_a_place_is_given_back_whatever_became_of_the_call(
    desk: Desk, note: Note, answer: object
) -> None:
    """Or the processor would be full for good after so many calls."""
    desk.script("stt.one", answer)

    await heard(desk, note)

    assert sum(desk.ports.limits._inside.values()) == 0


@pytest.mark.anyio
async def test_a_resting_processor_keeps_no_place(desk: Desk, note: Note) -> None:
    """A breaker that says no gives back the place that was taken to ask it."""
    desk.script("stt.one", BUSY)
    for _ in range(FAILURES + 1):
        await heard(desk, note)

    assert sum(desk.ports.limits._inside.values()) == 0


@pytest.mark.anyio
async def test_an_engine_in_the_cell_is_reached_whatever_the_vendors_cost(
    desk: Desk, note: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tries and time are counted for vendors: what stands inside waits for nobody abroad."""
    monkeypatch.setattr(fallback, "MOST_TRIES", 0)
    outside(desk, "stt.one")

    assert await walked(desk, note) == WORDS

    assert touches(desk) == [("stt.two", "done")]
