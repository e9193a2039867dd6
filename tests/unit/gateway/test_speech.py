"""The spoken answer: beside the text, never instead of it."""

import pytest
from support.desk import Desk

from gateway import pipeline
from gateway.demo.graph import ACCEPT_THEN_DROP, refusal
from gateway.note import Note
from gateway.schema import replies
from residency.errors import ProcessorBusyError
from residency.model import Spoken
from vault.model import Kind


@pytest.fixture
async def note(desk: Desk) -> Note:
    """Return a voice note of somebody who agreed."""
    await desk.consents()
    return await desk.spoken()


def kinds(desk: Desk) -> list[str]:
    """Return the kinds of what ada received, in order."""
    return [message.kind for message in desk.ada.inbox]


@pytest.mark.anyio
async def test_the_text_comes_first_and_speech_beside_it(desk: Desk, note: Note) -> None:
    """Text is what a person can act on; speech is for who cannot read now."""
    await pipeline.answer(note, desk.ports)

    assert kinds(desk) == ["text", "voice"]
    text, language = desk.speaking["tts.one"].last
    assert ([text], language) == (desk.texts(), "en")
    kept = await desk.ports.custody.describe(note.label(Kind.REPLY_AUDIO).artifact)
    assert kept is not None
    assert await desk.ports.custody.open(kept) == desk.ada.inbox[1].audio


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer",
    [ProcessorBusyError("told to fail"), Spoken(pcm=b"", rate=16_000)],
    ids=["busy", "empty"],
)
async def test_a_voice_that_fails_leaves_the_text(desk: Desk, note: Note, answer: object) -> None:
    """The job is done: the person has the answer."""
    desk.script("tts.one", answer)

    await pipeline.answer(note, desk.ports)

    assert kinds(desk) == ["text"]


@pytest.mark.anyio
@pytest.mark.parametrize("operation", ["upload", "messages"])
async def test_a_channel_that_fails_leaves_the_text(desk: Desk, note: Note, operation: str) -> None:
    """Graph took the text and refuses the voice."""
    texts = iter([None, *[refusal(131053, 400)] * 9])

    def choose(each: str) -> object:
        return (
            next(texts)
            if each == "messages" == operation
            else (refusal(131053, 400) if each == operation else None)
        )

    desk.world.faults.choose = choose  # type: ignore[assignment]

    await pipeline.answer(note, desk.ports)

    assert kinds(desk) == ["text"]


@pytest.mark.anyio
async def test_a_voice_in_doubt_is_not_sent_again(desk: Desk, note: Note) -> None:
    """The text arrived; a second voice message would only disturb."""
    desk.world.faults.choose = lambda each: (
        ACCEPT_THEN_DROP if each == "messages" and desk.texts() else None
    )

    for _ in range(2):
        await pipeline.answer(note, desk.ports)

    assert kinds(desk) == ["text", "voice"]
    assert {row.kind: row.state for row in await desk.rows(replies)} == {
        "text": "sent",
        "typing": "intended",
        "voice": "attempted",
    }


@pytest.mark.anyio
async def test_speech_is_made_once(desk: Desk, note: Note) -> None:
    """A second run after a crash goes on from what is kept."""
    desk.world.faults.add("upload", refusal(131053, 400))
    await pipeline.answer(note, desk.ports)
    assert kinds(desk) == ["text"]

    await pipeline.answer(note, desk.ports)

    assert kinds(desk) == ["text", "voice"]
    assert desk.speaking["tts.one"].calls == 1


@pytest.mark.anyio
async def test_typed_words_are_not_spoken_to(desk: Desk) -> None:
    """Who types may be where sound is unwelcome."""
    await pipeline.answer(await desk.typed(), desk.ports)

    assert kinds(desk) == ["text"]
    assert desk.speaking["tts.one"].calls == 0
