"""
Azure's Speech SDK as it runs in a child process: one call in, what was heard out.

- The endpoint is given whole: ``region=`` would let the SDK choose a cloud.
- The SDK's own retries re-send the whole audio: it is told how many it may do, and the process
  ends at once when it does more (asking it to stop would take a second in which it sends).
- Telemetry and audio logging are off, and read back before anything is dialled.
- What its callbacks raise the SDK swallows: an event that cannot be read fails the whole call,
  so that what is left of the words never passes for all of them.
- Certificate revocation lists are not fetched: that would be a way past the broker.

Of an error only the SDK's code crosses: its text may quote a person.
"""

import functools
import importlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from residency.errors import EngineMissingError
from residency.processors.child import Engine

FIX = "pip install vocustody[azure]"
PATH = "/stt/speech/universal/v2"
RATE = 16_000
BITS = 16
TELEMETRY = "SPEECH-TelemetryDataEnabled"
RETRIES = "SPEECH-Error-MaxRetryCount"
UNPROVEN = "OptionUnproven"
UNREADABLE = "AnswerUnreadable"
STARTED_AGAIN = 75  # EX_TEMPFAIL

SAFE = {"audio-logging": "off", "telemetry": "off"}
"""Options that every call carries, under the names a registry row may ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call: *proxy* is ``host:port``, *roots* PEM or empty for the system's."""

    host: str
    locales: tuple[str, ...]
    pcm: bytes = field(repr=False)
    key: str = field(repr=False)
    proxy: str
    ticket: str
    secret: str = field(repr=False)
    roots: str = ""
    retries: int
    max_connections: int


@dataclass(frozen=True, slots=True)
class Phrase:
    """One phrase: *ticks* (100 ns) is how long it is, *locale* empty where none was told."""

    text: str = field(repr=False)
    locale: str
    confidence: float
    ticks: int


@dataclass(slots=True)
class Answer:
    """
    What one call gave.

    *error* is a `CancellationErrorCode` by name, or one of ours; empty for a clean end.
    """

    phrases: list[Phrase] = field(default_factory=list)
    error: str = ""
    session: str = ""
    request_id: str = ""
    connections: int = 0


def load() -> Engine:
    """Run in the child: return ``Call -> Answer``."""
    try:
        sdk = importlib.import_module("azure.cognitiveservices.speech")
    except ImportError:
        raise EngineMissingError(f"no Azure Speech SDK ({FIX})") from None
    return functools.partial(recognise, sdk)


def recognise(sdk: Any, call: Call) -> Answer:
    """Send the audio once (or as often as *call* allows) and return what came back."""
    config = configured(sdk, call)
    if carried(sdk, config) != SAFE:
        return Answer(error=UNPROVEN)
    stream = sdk.audio.PushAudioInputStream(sdk.audio.AudioStreamFormat(RATE, BITS, 1))
    stream.write(call.pcm)
    stream.close()
    recognizer = sdk.SpeechRecognizer(
        config, audio_config=sdk.audio.AudioConfig(stream=stream), **_languages(sdk, call.locales)
    )
    ear = _Ear(sdk, recognizer, call.max_connections)
    recognizer.start_continuous_recognition_async().get()
    ear.stopped.wait()  # without end: the caller's deadline ends this process
    return ear.answer


def configured(sdk: Any, call: Call) -> Any:
    """Return the configuration of *call*: where to, which way, and what not to send."""
    config = sdk.SpeechConfig(endpoint=f"wss://{call.host}{PATH}", subscription=call.key)
    host, _, port = call.proxy.rpartition(":")
    config.set_proxy(host, int(port), call.ticket, call.secret)
    config.output_format = sdk.OutputFormat.Detailed
    config.set_property_by_name(TELEMETRY, "false")
    config.set_property_by_name(RETRIES, str(call.retries))
    config.set_property_by_name("OPENSSL_DISABLE_CRL_CHECK", "true")
    if call.roots:
        config.set_property_by_name("OPENSSL_SINGLE_TRUSTED_CERT", call.roots)
    return config


def carried(sdk: Any, config: Any) -> dict[str, str]:
    """Return the options as *config* really has them."""
    logging = config.get_property(sdk.PropertyId.SpeechServiceConnection_EnableAudioLogging)
    telemetry = config.get_property_by_name(TELEMETRY)
    return {
        "audio-logging": "off" if logging in ("", "false") else "on",
        "telemetry": "off" if telemetry == "false" else "on",
    }


def _languages(sdk: Any, locales: tuple[str, ...]) -> dict[str, Any]:
    if len(locales) == 1:
        return {"language": locales[0]}
    choice = sdk.languageconfig.AutoDetectSourceLanguageConfig(languages=list(locales))
    return {"auto_detect_source_language_config": choice}


class _Ear:
    """Gathers the events of one recogniser; the SDK calls it from threads of its own."""

    def __init__(self, sdk: Any, recognizer: Any, most: int) -> None:
        self.answer = Answer()
        self.stopped = threading.Event()
        self._sdk = sdk
        self._most = most
        self._connection = sdk.Connection.from_recognizer(recognizer)
        self._connection.connected.connect(self._read(self._connected))
        recognizer.session_started.connect(self._read(self._started))
        recognizer.recognized.connect(self._read(self._recognized))
        recognizer.canceled.connect(self._read(self._canceled))
        recognizer.session_stopped.connect(lambda _event: self.stopped.set())

    def _read(self, take: Callable[[Any], None]) -> Callable[[Any], None]:
        def called(event: Any) -> None:
            try:
                take(event)
            except Exception:  # noqa: BLE001 - whatever it is, the SDK would swallow it
                self.answer.error = UNREADABLE

        return called

    def _started(self, event: Any) -> None:
        self.answer.session = event.session_id

    def _connected(self, _event: Any) -> None:
        self.answer.connections += 1
        if self.answer.connections > self._most:
            os._exit(STARTED_AGAIN)

    def _recognized(self, event: Any) -> None:
        result = event.result
        request = self._sdk.PropertyId.SpeechServiceResponse_RequestId
        self.answer.request_id = result.properties.get(request, "")
        if result.reason == self._sdk.ResultReason.RecognizedSpeech:
            self.answer.phrases.append(phrase(json.loads(result.json)))

    def _canceled(self, event: Any) -> None:
        details = event.cancellation_details
        if details.reason == self._sdk.CancellationReason.Error:
            self.answer.error = details.code.name


def phrase(said: dict[str, Any]) -> Phrase:
    """Return a ``speech.phrase`` message as a phrase; a field it lacks is empty or 0."""
    best = (said.get("NBest") or [{}])[0]
    return Phrase(
        text=str(said.get("DisplayText") or "").strip(),
        locale=str((said.get("PrimaryLanguage") or {}).get("Language", "")),
        confidence=float(best.get("Confidence", 0.0)),
        ticks=int(said.get("Duration", 0)),
    )
