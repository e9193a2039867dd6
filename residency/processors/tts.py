"""
`TextToSpeech` inside the cell: hibari for English, espeak-ng for the other languages.

hibari (Apache-2.0) sounds natural; espeak-ng is a formant synthesiser and sounds like one.
espeak-ng is GPL-3.0-or-later: it is loaded in the child process only, from its own wheel, and
is no part of this program. Trusted for the sound it returns.
"""

import ctypes
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from residency.errors import EngineMissingError, ProcessorRefusedError
from residency.model import INSIDE, Passage, Processor, Spoken
from residency.processors import pins
from residency.processors.child import Child, Engine

MAX_CHARACTERS = 1_000  # about a minute of speech: a voice message is at most 512 KB
FULL_SCALE = 32767.0
VOICES = {"de": "de", "es": "es-419", "fr": "fr", "it": "it", "pt": "pt-br"}
NATURAL = "en"

Speaker = Callable[[str], tuple[bytes, int]]

# espeak-ng's speak_lib.h
_SYNCHRONOUS = 2
_CHARACTERS = 1
_UTF8 = 1
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class LocalTextToSpeech:
    """
    Two engines in one child process; the registry row's languages say which are needed.

    Raises `EngineMissingError` when one of them is not installed.
    """

    def __init__(self, processor: Processor) -> None:
        self.processor = processor
        wanted = {"hibari" if tag == NATURAL else "espeakng_loader" for tag in processor.languages}
        if absent := sorted(name for name in wanted if importlib.util.find_spec(name) is None):
            raise EngineMissingError(
                f"{processor.id}: no {', '.join(absent)} (install vocustody[demo])"
            )
        self._child = Child(processor.id, load, processor.languages, pins.of(processor))

    async def warm(self) -> None:
        """Load the engines now (about 1 s)."""
        await self._child.warm()

    async def speak(
        self,
        text: str,
        *,
        language: str,
        passage: Passage = INSIDE,  # noqa: ARG002 - no connection is opened
    ) -> Spoken:
        """See `TextToSpeech.speak`; text is 1 to `MAX_CHARACTERS` characters."""
        if language not in self.processor.languages:
            raise ProcessorRefusedError(f"{self.processor.id}: no voice for the language")
        if not text.strip() or len(text) > MAX_CHARACTERS:
            raise ProcessorRefusedError(f"{self.processor.id}: {len(text)} characters to speak")
        pcm, rate = await self._child.ask(text, language)
        return Spoken(pcm=pcm, rate=rate)

    async def aclose(self) -> None:
        """End the child."""
        await self._child.aclose()


def load(languages: tuple[str, ...], pinned: Mapping[str, str]) -> Engine:
    """Run in the child: return ``(text, language) -> (pcm, rate)``."""
    speakers: dict[str, Speaker] = {}
    if NATURAL in languages:
        speakers[NATURAL] = _hibari(pinned)
    if others := [tag for tag in languages if tag != NATURAL]:
        espeak = _Espeak()
        speakers |= {tag: espeak.voice(VOICES.get(tag, tag)) for tag in others}
    return lambda text, language: speakers[language](text)


def _hibari(pinned: Mapping[str, str]) -> Speaker:
    module = importlib.import_module("hibari.tts")
    pins.check("hibari.onnx", Path(module.ASSETS, "hibari.onnx").read_bytes(), pinned)
    engine = module.Hibari()  # never with voice=: every other voice is fetched from the internet

    def speak(text: str) -> tuple[bytes, int]:
        wave = np.clip(engine(text), -1.0, 1.0) * FULL_SCALE
        return wave.astype("<i2").tobytes(), int(module.SAMPLE_RATE)

    return speak


class _Espeak:
    """The library's C interface: text in, samples through a callback."""

    def __init__(self) -> None:
        loader = importlib.import_module("espeakng_loader")
        self._lib: Any = ctypes.CDLL(loader.get_library_path())
        place = str(loader.get_data_path()).encode()
        self._rate = int(self._lib.espeak_Initialize(_SYNCHRONOUS, 0, place, 0))
        if self._rate <= 0:
            raise EngineMissingError("espeak-ng cannot read its data")
        self._heard = bytearray()
        self._callback = _CALLBACK(self._hear)  # kept: C holds only the pointer
        self._lib.espeak_SetSynthCallback(self._callback)

    def voice(self, name: str) -> Speaker:
        if self._lib.espeak_SetVoiceByName(name.encode()):
            raise EngineMissingError(f"espeak-ng has no voice {name}")
        return lambda text: self._speak(name, text)

    def _speak(self, name: str, text: str) -> tuple[bytes, int]:
        self._heard.clear()
        self._lib.espeak_SetVoiceByName(name.encode())
        raw = text.replace("\0", " ").encode()
        size = ctypes.c_size_t(len(raw) + 1)
        self._lib.espeak_Synth(raw, size, 0, _CHARACTERS, 0, _UTF8, None, None)
        self._lib.espeak_Synchronize()
        pcm = bytes(self._heard)
        self._heard.clear()
        return pcm, self._rate

    def _hear(self, samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            self._heard += ctypes.string_at(samples, count * 2)
        return 0
