"""From words to meaning: processors see redacted text, or nothing at all."""

import pytest
from support.desk import MEANT, Desk

from audit.model import EventType
from gateway import pipeline, understanding
from gateway.dialogue import Trouble, Turn
from gateway.errors import DecisionError
from gateway.note import Note
from gateway.session import Memory
from policy.model import ConsentState
from residency.errors import ProcessorBusyError
from residency.model import Transcript, Understanding
from vault.errors import NotAnalysedError
from vault.model import Kind

SECRET = "my card is 4111 1111 1111 1111"


def words(text: str, language: str = "en") -> Transcript:
    """Return *text* as a transcript."""
    return Transcript(text=text, language=language, confidence=0.9)


def turn(text: str | None, trouble: Trouble | None = None) -> Turn:
    """Return one turn with *text*."""
    return Turn(text=text, language="en", at=0, trouble=trouble)


@pytest.fixture
async def note(desk: Desk) -> Note:
    """Return a voice note of somebody who agreed."""
    await desk.consents()
    return await desk.spoken()


@pytest.mark.anyio
async def test_processors_see_redacted_text_only(desk: Desk, note: Note) -> None:
    """The whole path: what was spoken reaches understanding without the number in it."""
    desk.script("stt.one", words(SECRET))

    await pipeline.answer(note, desk.ports)

    text, *_ = desk.understanding["nlu.one"].last
    assert text == "my card is <CARD_1>"
    assert desk.understanding["nlu.one"].calls == 1


@pytest.mark.anyio
async def test_the_redacted_version_is_kept_on_a_clock_of_its_own(desk: Desk, note: Note) -> None:
    """It may live longer than the transcript, because it holds less."""
    clean = await understanding.redacted(words(SECRET), note, desk.ports)

    kept = await desk.ports.custody.describe(note.label(Kind.REDACTED_TRANSCRIPT).artifact)
    assert kept is not None
    assert await desk.ports.custody.open(kept) == clean.encode()
    assert "4111" not in clean


@pytest.mark.anyio
async def test_redacting_again_after_a_crash_changes_nothing(desk: Desk, note: Note) -> None:
    """The same words come out the same, and the artifact is the one that is kept."""
    first = await understanding.redacted(words(SECRET), note, desk.ports)

    assert await understanding.redacted(words(SECRET), note, desk.ports) == first

    stored = [e for e in desk.trail.seen if e.type is EventType.ARTIFACT_STORED]
    assert len({event.id for event in stored}) == 1


@pytest.mark.anyio
async def test_text_that_was_not_analysed_goes_nowhere(desk: Desk, note: Note) -> None:
    """That nobody looked is another answer than that nothing was found: it stops the job."""
    desk.script("stt.one", words(SECRET * 20_000))

    with pytest.raises(NotAnalysedError):
        await pipeline.answer(note, desk.ports)

    assert desk.understanding["nlu.one"].calls == 0
    assert await desk.ports.custody.describe(note.label(Kind.REDACTED_TRANSCRIPT).artifact) is None
    assert desk.texts() == []


@pytest.mark.anyio
async def test_without_permission_text_is_not_even_redacted(desk: Desk, note: Note) -> None:
    """The rules say which classes are removed: without them there is no redaction to trust."""
    desk.clock.move(1)
    await desk.consents(ConsentState.WITHDRAWN)

    with pytest.raises(DecisionError):
        await understanding.redacted(words(SECRET), note, desk.ports)
    with pytest.raises(DecisionError):
        await understanding.understood(turn("Hello"), note, Memory(), desk.ports)

    assert desk.understanding["nlu.one"].calls == 0


@pytest.mark.anyio
async def test_what_no_processor_understands_was_not_understood(desk: Desk, note: Note) -> None:
    """A failed processor becomes a question to the person, never a guess."""
    desk.script("nlu.one", ProcessorBusyError("told to fail"))

    found = await understanding.understood(turn("Hello"), note, Memory(), desk.ports)

    assert found.understanding == Understanding(intent=None, confidence=0.0, slots={})


@pytest.mark.anyio
@pytest.mark.parametrize(
    "given", [turn(None), turn(None, Trouble.SILENT), turn("x", Trouble.UNCLEAR)]
)
async def test_a_turn_without_words_to_trust_asks_no_processor(
    desk: Desk, note: Note, given: Turn
) -> None:
    """Who was not heard clearly is asked again, not interpreted."""
    assert await understanding.understood(given, note, Memory(), desk.ports) == given

    assert desk.understanding["nlu.one"].calls == 0


@pytest.mark.anyio
async def test_the_open_question_goes_along(desk: Desk, note: Note) -> None:
    """A "four" means something only beside what was asked."""
    known = Memory(pending="greeting")

    found = await understanding.understood(turn("Four"), note, known, desk.ports)

    assert found.understanding == MEANT
    assert desk.understanding["nlu.one"].last[3] == "greeting"
