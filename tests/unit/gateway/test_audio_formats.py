"""Audio files that people forward: each is opened by name, bounded, and given to vendors as Ogg."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support import audio_files, oggs

from gateway.audio import child, formats, ogg, prepare
from gateway.audio.decode import Decoder, Limits
from gateway.audio.formats import CODECS, Format
from gateway.errors import AudioRefusedError

pytestmark = pytest.mark.anyio

BAD = Path(__file__).parents[2] / "corpus" / "media" / "bad"
SECONDS = 3.5


@pytest.fixture
async def decoder() -> AsyncIterator[Decoder]:
    """Yield one warm process."""
    async with Decoder(size=1) as decoder:
        yield decoder


async def test_files_that_phones_write_are_heard(decoder: Decoder) -> None:
    """Somebody who forwards a recording said something, whatever container it came in."""
    for name in audio_files.FILES:
        audio = await prepare.prepare(audio_files.file(name), decoder)

        assert audio.seconds == pytest.approx(SECONDS, abs=0.06), name
        assert audio.voiced_seconds > 2, name
        # Vendors are promised Ogg/Opus.
        assert ogg.inspect(audio.ogg).seconds == pytest.approx(SECONDS, abs=0.1), name


async def test_files_that_are_too_long_are_refused() -> None:
    """Fifteen minutes are a limit for every container."""
    async with Decoder(size=1, limits=Limits(seconds=2)) as decoder:
        for name in audio_files.FILES:
            with pytest.raises(AudioRefusedError, match=r"^audio\.too_long$"):
                await prepare.prepare(audio_files.file(name), decoder)


async def test_hours_in_a_few_bytes_are_refused(decoder: Decoder) -> None:
    """Empty AAC frames are eleven bytes for 128 ms: a small file is no short one."""
    with pytest.raises(AudioRefusedError, match=r"^audio\.too_long$"):
        await prepare.prepare(audio_files.adts_silence(20_000), decoder)


async def test_files_that_were_cut_short_are_heard_or_refused(decoder: Decoder) -> None:
    """A cut file is the file's fault: never ours to try again, and never a dead decoder."""
    refused = set()
    for name, share in itertools.product(audio_files.FILES, (0.05, 0.5, 0.98)):
        whole = audio_files.file(name)
        try:
            audio = await prepare.prepare(whole[: int(len(whole) * share)], decoder)
        except AudioRefusedError as exc:
            refused.add(exc.code)
        else:
            assert audio.seconds <= SECONDS + 0.1, (name, share)

    assert "decode.failed" in refused
    assert refused <= {"decode.failed", "decode.codec", "audio.no_sound"}
    assert (await prepare.prepare(oggs.note(1), decoder)).seconds == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "audio.empty"),
        (b"GIF89a" + bytes(100), "audio.unknown_format"),
        (b"%PDF-1.7", "audio.unknown_format"),
        (b"#EXTM3U\nhttp://example.invalid/x.ts", "audio.unknown_format"),
        (b"\xff\xd8\xff\xe0JFIF", "audio.unknown_format"),
        (b"\xff", "audio.unknown_format"),
        (b"OggS" + bytes(formats.MOST_BYTES), "audio.too_large"),
    ],
)
def test_what_is_no_audio_says_what_it_is_not(content: bytes, code: str) -> None:
    """The sentence that the person reads depends on it."""
    with pytest.raises(AudioRefusedError, match=f"^{code}$"):
        formats.recognise(content)


async def test_an_encrypted_file_is_refused(decoder: Decoder) -> None:
    """What no decoder here can read is another format, whatever its name."""
    with pytest.raises(AudioRefusedError, match=r"^decode\.codec$"):
        await prepare.prepare((BAD / "mp4-cenc.bin").read_bytes(), decoder)


def test_a_file_cannot_choose_a_decoder() -> None:
    """A WAV may name any of two hundred codecs: only those of its format are opened."""
    content = bytearray(audio_files.file("plain.wav"))
    content[20:22] = (0x0050).to_bytes(2, "little")  # MPEG audio

    with pytest.raises((child.CodecError, ValueError)):
        child.file_to_pcm(bytes(content), Format.WAV, max_seconds=10)


def test_every_format_has_its_decoders() -> None:
    """A new format without a list would be open to every decoder there is."""
    assert set(CODECS) == set(Format)
    assert {formats.recognise(audio_files.file(name)) for name in audio_files.FILES} == set(
        Format
    ) - {Format.OGG}


async def test_streams_in_a_chain_are_one_recording(decoder: Decoder) -> None:
    """A recorder that was paused writes one stream after the other."""
    content = audio_files.RECORDING.read_bytes()

    audio = await prepare.prepare(content * 3, decoder)

    assert audio.seconds == pytest.approx(3 * SECONDS, abs=0.1)
    assert len(ogg.inspect(audio.ogg).links) == 1


async def test_a_stream_cut_out_of_a_longer_one_is_heard(decoder: Decoder) -> None:
    """RFC 7845, section 4.5: the first granule position need not be the first sample's."""
    content = oggs.later(audio_files.RECORDING.read_bytes(), seconds=3_600)

    assert ogg.inspect(content).shifted
    audio = await prepare.prepare(content, decoder)

    assert audio.seconds == pytest.approx(SECONDS, abs=0.1)
    assert audio.voiced_seconds > 2
    assert ogg.inspect(audio.ogg).plain


def test_a_chain_shares_one_limit() -> None:
    """Many short streams are as long as one long one."""
    with pytest.raises(AudioRefusedError, match=r"^audio\.too_long$"):
        ogg.inspect(oggs.note(2) * 3, max_seconds=5)
    with pytest.raises(AudioRefusedError, match=r"^ogg\.chained$"):
        ogg.inspect(oggs.note(0.1) * (ogg.MOST_LINKS + 1))
