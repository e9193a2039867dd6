"""
How much of a note is speech: a small detector in numpy, so that "nobody spoke" is known early.

A frame is a voice when it is loud enough, repeats with the period of a voice, and is more than
one or two lines of the spectrum (a tone, a dialled digit). Speech is what lies within 0.2 s of a
run of such frames: that takes in consonants and the gaps between words.

It tells speech from silence, noise, hum and tones. Music with a melody and an animal's cry count
as speech; what follows then is an empty or doubtful transcript, and a question back.
"""

import numpy as np
from numpy.typing import NDArray

RATE = 16_000

_HOP = 160  # 10 ms
_FRAME = 512  # 32 ms: two periods of the lowest voice
_BLOCK = 4096  # frames at a time: bounds the memory that a 15 min note takes
_EMPHASIS = 0.97  # a first difference: takes hum and the lowest harmonics down
_WINDOW = np.hanning(_FRAME).astype(np.float32)
_LAGS = slice(RATE // 400, RATE // 70)  # the pitch of a voice, 70 to 400 Hz
_LINE_BINS = 5  # either side of a peak: the window's main lobe

_QUIETEST = 10 ** (-55 / 20)  # of full scale, after emphasis
_PERIODIC = 0.5
_LINES = 0.9
_LEAST_RUN = 4  # frames
_REACH = 20  # frames

_Floats = NDArray[np.float32]
_Bools = NDArray[np.bool_]


def voiced_seconds(pcm: bytes) -> float:
    """Return the seconds of speech in *pcm* (16 kHz mono signed 16-bit little-endian)."""
    samples = np.frombuffer(pcm[: len(pcm) & ~1], dtype="<i2").astype(np.float32) / 32768
    if len(samples) <= _FRAME:
        return 0.0
    emphasised = (samples[1:] - _EMPHASIS * samples[:-1]).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(emphasised, _FRAME)[::_HOP]
    blocks = [_voiced(frames[at : at + _BLOCK]) for at in range(0, len(frames), _BLOCK)]
    speech = _near(_run_starts(np.concatenate(blocks)))
    return float(np.count_nonzero(speech)) * _HOP / RATE


def _voiced(frames: _Floats) -> _Bools:
    """Say of each frame whether a voice sounds in it."""
    power = np.abs(np.fft.rfft(frames * _WINDOW, 2 * _FRAME, axis=1)).astype(np.float32) ** 2
    loud = np.sqrt(np.mean(frames**2, axis=1)) > _QUIETEST
    return np.asarray(loud & (_periodicity(power) > _PERIODIC) & (_line_share(power) < _LINES))


def _periodicity(power: _Floats) -> _Floats:
    """
    Return the highest autocorrelation at a voice's pitch, by frame; 1 is a perfect repetition.

    Divided by the window's own autocorrelation, which would favour short periods.
    """
    correlation = np.fft.irfft(power, axis=1)
    energy = np.maximum(correlation[:, :1], np.finfo(np.float32).tiny)
    return np.asarray((correlation[:, _LAGS] / energy / _WINDOW_CORRELATION).max(axis=1))


def _line_share(power: _Floats) -> _Floats:
    """Return the share of each frame's power that lies in its two strongest spectral lines."""
    rest = power.copy()
    bins = np.arange(power.shape[1])
    for _ in range(2):
        peaks = rest.argmax(axis=1)
        rest[np.abs(bins - peaks[:, None]) <= _LINE_BINS] = 0
    total = np.maximum(power.sum(axis=1), np.finfo(np.float32).tiny)
    return np.asarray(1 - rest.sum(axis=1) / total)


def _run_starts(voiced: _Bools) -> _Bools:
    """Keep the frames from which a run of `_LEAST_RUN` voiced ones goes on: clicks are shorter."""
    run = np.convolve(voiced, np.ones(_LEAST_RUN), mode="full")[_LEAST_RUN - 1 :]
    return np.asarray(run == _LEAST_RUN)


def _near(voiced: _Bools) -> _Bools:
    """Mark everything within `_REACH` frames of a voiced run."""
    reach = np.ones(2 * _REACH + 1)
    return np.asarray(np.convolve(voiced, reach, mode="full")[_REACH:-_REACH] > 0)


def _window_correlation() -> _Floats:
    spectrum = np.abs(np.fft.rfft(_WINDOW, 2 * _FRAME)) ** 2
    correlation = np.fft.irfft(spectrum)
    return np.asarray((correlation / correlation[0])[_LAGS], dtype=np.float32)


_WINDOW_CORRELATION = _window_correlation()
