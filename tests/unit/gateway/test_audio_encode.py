"""Our spoken replies: what WhatsApp takes as a voice note."""

import numpy as np
import pytest
from support import oggs

from gateway.audio import child, encode, ogg
from gateway.errors import AudioRefusedError


def speech(seconds: float, rate: int) -> bytes:
    """Return a buzz with the harmonics of a voice."""
    time = np.arange(int(seconds * rate)) / rate
    wave = sum(np.sin(2 * np.pi * 150 * n * time) / n for n in range(1, 20))
    return (wave * 6000).astype("<i2").tobytes()


@pytest.mark.anyio
@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000, 48_000])
async def test_a_reply_is_a_mono_note_of_the_same_length(rate: int) -> None:
    """Engines speak at different rates; WhatsApp takes Opus, mono, and drops the rest later."""
    reply = await encode.encode(speech(3.3, rate), rate)

    note = ogg.inspect(reply)
    heard = np.frombuffer(child.to_pcm(reply, max_seconds=10), "<i2")
    spectrum = np.abs(np.fft.rfft(heard[:16_000]))
    assert note.channels == 1
    assert 3.3 <= note.seconds < 3.4
    assert len(heard) / child.RATE == pytest.approx(3.3, abs=0.03)
    assert spectrum[:400].argmax() == pytest.approx(150, abs=2)  # the right speed: same pitch
    assert len(reply) < 3.3 * 5000  # about 20 kbit/s, and the container


@pytest.mark.anyio
@pytest.mark.parametrize("pcm", [b"", b"\0"])
async def test_nothing_is_no_reply(pcm: bytes) -> None:
    """An engine that said nothing must not become a note of nothing."""
    with pytest.raises(AudioRefusedError, match=r"^reply\.empty$"):
        await encode.encode(pcm, 16_000)


@pytest.mark.anyio
async def test_an_odd_byte_is_no_sample() -> None:
    """A cut stream may end within a sample; the rest of it is still a reply."""
    assert await encode.encode(speech(0.2, 16_000) + b"\0", 16_000)


def test_a_reply_over_512_kilobytes_is_refused() -> None:
    """Over that, WhatsApp shows a file and no play button: the text serves better."""
    with pytest.raises(AudioRefusedError, match=r"^reply\.too_long$"):
        encode.admit(bytes(512 * 1024 + 1))


def test_a_stereo_reply_is_refused() -> None:
    """WhatsApp takes mono only, and says so minutes after it said 200."""
    with pytest.raises(AudioRefusedError, match=r"^reply\.not_mono$"):
        encode.admit(oggs.note(head=oggs.head(channels=2)))
