"""Voice activity: speech is found, and what is not speech is not."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.audio import activity, child

GOOD = Path(__file__).parents[2] / "corpus" / "media" / "good"
TIME = np.arange(activity.RATE * 10) / activity.RATE
NOISE = np.random.default_rng(7).normal(0, 1, len(TIME))


def pcm_of(samples: NDArray[np.float64]) -> bytes:
    """Return *samples* in [-1, 1] as PCM."""
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def tone(*pitches: float, loudness: float = 0.3) -> NDArray[np.float64]:
    """Return sine waves of *pitches* in Hz."""
    return loudness * np.sum([np.sin(2 * np.pi * pitch * TIME) for pitch in pitches], axis=0)


def rumble() -> NDArray[np.float64]:
    """Return noise that falls off by 6 dB an octave above 20 Hz."""
    wandering = np.cumsum(NOISE)
    steady = wandering - np.convolve(wandering, np.ones(800) / 800, mode="same")
    return steady / np.abs(steady).max()


@pytest.mark.parametrize("path", sorted(GOOD.glob("*.ogg")), ids=lambda path: path.stem)
def test_most_of_a_recording_of_speech_is_speech(path: Path) -> None:
    """A person who spoke must not be told that nothing was heard."""
    pcm = child.to_pcm(path.read_bytes(), max_seconds=60)
    seconds = len(pcm) / (child.RATE * child.SAMPLE_BYTES)

    assert activity.voiced_seconds(pcm) > 0.6 * seconds


def test_nearly_all_of_the_corpus_is_speech() -> None:
    """Languages and speakers differ: taken together they must be heard, not just noticed."""
    notes = [child.to_pcm(path.read_bytes(), max_seconds=60) for path in GOOD.glob("*.ogg")]
    seconds = sum(map(len, notes)) / (child.RATE * child.SAMPLE_BYTES)

    assert sum(map(activity.voiced_seconds, notes)) > 0.75 * seconds


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(0 * TIME, id="silence"),
        pytest.param(0.1 * NOISE, id="noise at -20 dB"),
        pytest.param(0.01 * NOISE, id="noise at -40 dB"),
        pytest.param(tone(440), id="tone"),
        pytest.param(tone(440, loudness=0.01), id="quiet tone"),
        pytest.param(tone(697, 1209), id="dialled digit"),
        pytest.param(tone(*range(50, 400, 50), loudness=0.05), id="mains hum"),
        pytest.param(rumble(), id="wind"),
        pytest.param(tone(*range(120, 4000, 120), loudness=0.0001), id="far too quiet"),
        pytest.param((NOISE > 3.3) * 1.0, id="clicks"),
    ],
)
def test_what_is_not_speech_is_not(samples: NDArray[np.float64]) -> None:
    """Silence and noise must not be sent to a vendor, nor answered with a guess."""
    assert activity.voiced_seconds(pcm_of(samples)) < 0.5


def test_speech_is_found_where_it_is() -> None:
    """Two seconds of a voice's harmonics in ten of silence are two seconds, and a little."""
    voice = tone(*range(120, 4000, 120), loudness=0.01) * ((TIME > 4) & (TIME < 6))

    assert 1.9 < activity.voiced_seconds(pcm_of(voice)) < 2.6


def test_a_soft_low_voice_is_speech() -> None:
    """Most of its strength lies in one or two harmonics, and it is still no dialled digit."""
    voice = sum(tone(180 * n) / n**2 for n in range(1, 15))

    assert activity.voiced_seconds(pcm_of(np.asarray(voice))) > 9


@pytest.mark.parametrize("length", [0, 1, 2, 1023, 1024, 1025, 1026, 1345])
def test_the_shortest_notes_are_measured_too(length: int) -> None:
    """A slip of the thumb sends a note shorter than one frame."""
    assert activity.voiced_seconds(bytes(length)) == 0
