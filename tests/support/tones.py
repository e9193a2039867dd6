"""
Marker tones: sound that is known again after it was decoded, coded anew or resampled.

Bytes are read as samples of each kind and alignment; where most of the power of a stretch is at
the tone, that is no accident: ciphertext has it nowhere.
"""

from collections.abc import Iterator
from functools import cache
from itertools import product

import numpy as np
import numpy.typing as npt

# No overtones of a hum or of each other; the control has one of its own.
HERTZ = {"control": 1_741.0, "tone": 1_237.0}
STRETCH = 2_048  # bytes: half a page of a database
SHARE = 0.5
KINDS = {"s16": "<i2", "f32": "<f4"}
RATES = (8_000, 16_000, 24_000, 48_000)
MARKS = tuple(product(HERTZ, RATES))
LOUDEST = 40_000  # beyond all 16-bit samples
FAINTEST = 1e-6  # of power, for samples that go from -1 to 1
FORMS = tuple(f"{kind} {rate}" for kind in KINDS for rate in RATES)


def pcm(seconds: float, rate: int, kind: str = "s16", mark: str = "tone") -> bytes:
    """Return the tone *mark* as mono little-endian samples of *kind*."""
    times = np.arange(round(seconds * rate)) / rate
    wave = 0.5 * np.sin(2 * np.pi * HERTZ[mark] * times)
    return (wave * 32_767 if kind == "s16" else wave).astype(KINDS[kind]).tobytes()


def written() -> dict[str, bytes]:
    """Return the control's tone in each form that `found` knows."""
    return {
        f"{kind} {rate}": pcm(1.5 * STRETCH / rate, rate, kind, "control")
        for kind in KINDS
        for rate in RATES
    }


def found(text: bytes) -> set[tuple[str, str]]:
    """Return (mark, form) of each tone that stands in *text*."""
    seen = set()
    for kind, dtype in KINDS.items():
        size = np.dtype(dtype).itemsize
        for shift in range(size):
            samples = STRETCH // size
            usable = (len(text) - shift) // STRETCH * samples
            if usable > 0:
                raw = np.frombuffer(text, dtype=dtype, count=usable, offset=shift)
                marks = _marks(raw.reshape(-1, samples))
                seen |= {(mark, f"{kind} {rate}") for mark, rate in marks}
    return seen


def _marks(raw: npt.NDArray[np.generic]) -> Iterator[tuple[str, int]]:
    with np.errstate(all="ignore"):  # most bytes are no samples at all
        samples = raw.astype(np.float32)
        sound = np.abs(samples).max(axis=1) < LOUDEST  # false of what is no number, too
        samples = samples[sound] - samples[sound].mean(axis=1, keepdims=True)
        power = (samples**2).sum(axis=1)
        loud = power > raw.shape[1] * FAINTEST
        samples, power = samples[loud], power[loud]
    at_it = np.abs(samples @ _turns(raw.shape[1])) ** 2 * 2 / raw.shape[1]
    strong = (at_it > SHARE * power[:, None]).any(axis=0)
    yield from (mark for mark, there in zip(MARKS, strong, strict=True) if there)


@cache
def _turns(samples: int) -> npt.NDArray[np.complex64]:
    """Return one column for each of `MARKS`: a product with it is the amplitude there."""
    radians = np.array([2 * np.pi * HERTZ[mark] / rate for mark, rate in MARKS])
    return np.exp(1j * np.arange(samples)[:, None] * radians).astype(np.complex64)
