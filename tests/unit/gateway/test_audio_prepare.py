"""From bytes to what a processor may hear."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support import oggs

from gateway.audio import prepare
from gateway.audio.decode import Decoder
from gateway.errors import AudioRefusedError

pytestmark = pytest.mark.anyio

GOOD = Path(__file__).parents[2] / "corpus" / "media" / "good"


@pytest.fixture
async def decoder() -> AsyncIterator[Decoder]:
    """Yield one warm process."""
    async with Decoder(size=1) as decoder:
        yield decoder


async def test_a_note_is_measured(decoder: Decoder) -> None:
    """Seconds are billed and bounded, and voiced seconds tell whether to ask again."""
    content = (GOOD / "psphinx_cards_en_005.ogg").read_bytes()

    audio = await prepare.prepare(content, decoder)

    assert audio.ogg == content
    assert audio.seconds == pytest.approx(3.5, abs=0.02)
    assert len(audio.pcm) == audio.seconds * 32_000
    assert 2 < audio.voiced_seconds <= audio.seconds


async def test_silence_is_a_note_without_voice(decoder: Decoder) -> None:
    """Nobody spoke: the answer is a question, and no vendor is needed for it."""
    audio = await prepare.prepare(oggs.note(3), decoder)

    assert audio.voiced_seconds == 0
    assert audio.seconds == pytest.approx(3, abs=0.02)


async def test_nothing_is_decoded_before_it_was_walked() -> None:
    """The decoder is never given what the walk refuses; this one was not even started."""
    with pytest.raises(AudioRefusedError, match=r"^audio\.too_long$"):
        await prepare.prepare(oggs.RECIPES["dtx-bomb-200k"](), Decoder())


async def test_no_content_shows_in_a_repr(decoder: Decoder) -> None:
    """Audio in a traceback or a log line would be plaintext on a disk."""
    content = (GOOD / "psphinx_cards_en_003.ogg").read_bytes()

    shown = repr(await prepare.prepare(content, decoder))

    assert "OggS" not in shown
    assert len(shown) < 100
