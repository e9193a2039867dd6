"""Fallback walks the decision's allow-list, in its order, and nothing else."""

import asyncio

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
        lambda processor: processor.transcribe(AUDIO, languages=("en",)),
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
