"""Recordings, registry rows, intents and engines for tests of speech."""

import os
import resource
import time
import tomllib
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import av

from residency.model import Audio, Intent, Processor, Service

CORPUS = Path(__file__).parents[1] / "corpus" / "speech"
TODAY = date(2026, 11, 23)


def recording(name: str) -> Audio:
    """Return the recording *name* of the corpus, decoded as the gateway decodes a note."""
    ogg = (CORPUS / f"{name}.ogg").read_bytes()
    pcm = bytearray()
    with av.open(str(CORPUS / f"{name}.ogg")) as container:
        to_16k = av.AudioResampler(format="s16", layout="mono", rate=16_000)
        for frame in [*container.decode(audio=0), None]:
            for piece in to_16k.resample(frame):
                pcm += piece.to_ndarray().tobytes()
    return heard(bytes(pcm), ogg=ogg)


def heard(pcm: bytes, *, ogg: bytes = b"", voiced: bool = True) -> Audio:
    """Return *pcm* (16 kHz mono s16le) as a note that is all speech, or none."""
    seconds = len(pcm) / 32_000
    return Audio(ogg=ogg, pcm=pcm, seconds=seconds, voiced_seconds=seconds if voiced else 0.0)


def a_processor(service: Service, adapter: str, **changed: Any) -> Processor:
    """Return a registry row of *service* that runs inside the cell."""
    fields: dict[str, Any] = {
        "id": f"{service.value}.{adapter}",
        "vendor": "self-hosted",
        "service": service,
        "product": adapter,
        "model": "test",
        "adapter": adapter,
        "region": "eu-central",
        "jurisdiction": "DE",
        "hosts": (),
        "languages": ("de", "en", "es", "fr", "it", "pt"),
        "options": {},
        "settings": {},
        "contract": "",
        "contract_expires": date.max,
        "retention": "none",
        "source": "a test",
        "as_of": TODAY,
        "reviewed_by": "a test",
        "review_expires": date.max - timedelta(days=1),
    }
    return Processor(**(fields | changed))


def switchboard() -> tuple[Intent, ...]:
    """Return the corpus's intents."""
    tables = tomllib.loads((CORPUS / "intents.toml").read_text(encoding="utf-8"))["intent"]
    return tuple(
        Intent(
            name=table["name"],
            examples={tag: tuple(texts) for tag, texts in table["examples"].items()},
            slots=table["slots"],
        )
        for table in tables
    )


def echo(greeting: str) -> Callable[..., Any]:
    """Set up an engine that repeats, sleeps, fails or dies, as asked; runs in a child."""
    if greeting == "broken":
        raise OSError("a text that may quote a person")

    def engine(word: str, argument: float = 0.0) -> object:
        if word == "sleep":
            time.sleep(argument)
        if word in ("RuntimeError", "MemoryError"):
            raise {"RuntimeError": RuntimeError, "MemoryError": MemoryError}[word]("a secret")
        if word == "environment":
            return sorted(os.environ)
        if word == "core":
            return resource.getrlimit(resource.RLIMIT_CORE)
        return f"{greeting} {word}"

    return engine
