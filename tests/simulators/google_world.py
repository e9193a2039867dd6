"""Google Speech at two locations, behind a real broker that knows the vendor's true names."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from simulators.engines import Engine
from simulators.google_speech import REGION_HEADER, GoogleSpeech
from support.pki import Authority
from support.speech import a_processor

from residency.model import Contact, Grant, Passage, Processor, Service
from residency.processors.google_account import ServiceAccount
from residency.processors.google_speech import GoogleSpeechToText
from residency.proxy import Broker

ACCOUNT = "stt@a-project.iam.gserviceaccount.com"
LOCATIONS = ("europe-west4", "us-central1")
LOCALES = {"de": "de-DE", "en": "en-US", "es": "es-ES", "fr": "fr-FR", "it": "it-IT"}
SAID = "Go forward 10 meters."


def recognizer(location: str) -> str:
    """Return the full name of a project's default recognizer at *location*."""
    return f"projects/a-project/locations/{location}/recognizers/_"


def google_row(location: str = "europe-west4", **changed: Any) -> Processor:
    """Return a whole registry row of Google Speech at *location*."""
    settings = {
        "recognizer": recognizer(location),
        "region_header": REGION_HEADER,
        "vendor_region": location,
    } | {f"locale.{tag}": code for tag, code in LOCALES.items()}
    fields: dict[str, Any] = {
        "id": f"stt.google.{location}",
        "vendor": "Google",
        "model": "short",
        "region": "eu-west" if location.startswith("eu") else "us-central",
        "hosts": (f"{location}-speech.googleapis.com:443",),
        "languages": tuple(LOCALES),
        "settings": settings,
    }
    return a_processor(Service.SPEECH_TO_TEXT, "google-speech", **(fields | changed))


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def account_file(**changed: str) -> bytes:
    """Return a service account's key file; its token address is a trap."""
    pem = _key().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    info = {
        "type": "service_account",
        "client_email": ACCOUNT,
        "private_key_id": "k1",
        "private_key": pem.decode(),
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    return json.dumps(info | changed).encode()


@dataclass(slots=True, kw_only=True)
class Google:
    """
    The vendor and the way to it.

    *detours* give a name another location's address; *lookups* are the names the broker asked for.
    """

    authority: Authority
    broker: Broker
    at: Mapping[str, GoogleSpeech]
    detours: dict[str, str] = field(default_factory=dict)
    lookups: list[str] = field(default_factory=list)

    def adapter(self, row: Processor | None = None, **changed: Any) -> GoogleSpeechToText:
        """Return the adapter for *row*, trusting the test authority."""
        fields: dict[str, Any] = {
            "credentials": account(),
            "roots": self.authority.ca.read_bytes(),
        } | changed
        return GoogleSpeechToText(row or google_row(), **fields)

    async def admit(self, row: Processor | None = None, seconds: float = 30) -> Passage:
        """Return a passage to *row*'s hosts."""
        row = row or google_row()
        return await self.broker.admit(
            Grant(processor=row.id, decision="d", touch="t", hosts=row.hosts, seconds=seconds)
        )

    async def transcribe(
        self, adapter: GoogleSpeechToText, *args: Any, **named: Any
    ) -> tuple[Any, tuple[Contact, ...]]:
        """Return what one call under its own passage gave or raised, and its contacts."""
        passage = await self.admit(adapter.processor)
        call = adapter.transcribe(*args, passage=passage, **({"languages": ("en",)} | named))
        (outcome,) = await asyncio.gather(call, return_exceptions=True)
        return outcome, await self.broker.end(passage)


def account() -> ServiceAccount:
    """Return the service account that the simulators know."""
    return ServiceAccount(account_file(), now=lambda: datetime.now(UTC))


@asynccontextmanager
async def google_at(authority: Authority, engine: Engine) -> AsyncIterator[Google]:
    """Run the vendor with *engine* behind a broker."""
    at = {
        location: GoogleSpeech(
            location=location,
            address=f"127.0.7.{number}",
            engine=engine,
            keys={ACCOUNT: _key().public_key()},
        )
        for number, location in enumerate(LOCATIONS, start=1)
    }
    by_host = {sim.host: sim for sim in at.values()}
    by_address = {sim.address: sim for sim in at.values()}

    async def resolve(name: str, _port: int) -> tuple[str, ...]:
        google.lookups.append(name)
        return (by_host[google.detours.get(name, name)].address,)

    async def connect(address: str, _port: int) -> Any:
        return await asyncio.open_connection(address, by_address[address].port)

    broker = Broker(development=True, resolve=resolve, connect=connect)
    google = Google(authority=authority, broker=broker, at=at)
    for sim in at.values():
        await sim.start(authority)
    await broker.start()
    try:
        yield google
    finally:
        await broker.aclose()
        for sim in at.values():
            await sim.stop()
