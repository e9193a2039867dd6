"""Azure Speech in two regions, behind a real broker that knows the vendor's true names."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from simulators.azure_speech import AzureSpeech
from simulators.engines import Engine
from support.pki import Authority
from support.speech import a_processor

from residency.model import Contact, Grant, Passage, Processor, Service
from residency.processors.azure_speech import AzureSpeechToText
from residency.proxy import Broker

REGIONS = ("westeurope", "germanywestcentral")
LOCALES = {"de": "de-DE", "en": "en-US", "es": "es-ES", "fr": "fr-FR", "it": "it-IT"}
KEY = "0123456789abcdef0123456789abcdef"


def azure_row(region: str = "westeurope", **changed: Any) -> Processor:
    """Return a whole registry row of Azure Speech in *region*; settings are added to its own."""
    settings = {"vendor_region": region} | {f"locale.{tag}": code for tag, code in LOCALES.items()}
    fields: dict[str, Any] = {
        "id": f"stt.azure.{region}",
        "vendor": "Microsoft",
        "region": "nl-west",
        "hosts": (f"{region}.stt.speech.microsoft.com:443",),
        "languages": tuple(LOCALES),
        "settings": settings | changed.pop("settings", {}),
    }
    return a_processor(Service.SPEECH_TO_TEXT, "azure-speech", **(fields | changed))


@dataclass(slots=True, kw_only=True)
class Azure:
    """
    The vendor and the way to it.

    *detours* give a name another region's address; *lookups* are the names the broker asked for.
    """

    authority: Authority
    broker: Broker
    at: Mapping[str, AzureSpeech]
    detours: dict[str, str] = field(default_factory=dict)
    lookups: list[str] = field(default_factory=list)
    adapters: list[AzureSpeechToText] = field(default_factory=list)

    @property
    def here(self) -> AzureSpeech:
        """Return the region that rows name unless told otherwise."""
        return self.at["westeurope"]

    def adapter(self, row: Processor | None = None, **changed: Any) -> AzureSpeechToText:
        """Return the adapter for *row*, trusting the test authority; closed with the world."""
        fields = {"key": KEY, "roots": self.authority.ca.read_text()} | changed
        made = AzureSpeechToText(row or azure_row(), **fields)
        self.adapters.append(made)
        return made

    async def admit(self, row: Processor) -> Passage:
        """Return a passage to *row*'s hosts."""
        return await self.broker.admit(
            Grant(processor=row.id, decision="d", touch="t", hosts=row.hosts, seconds=60)
        )

    async def transcribe(
        self, adapter: AzureSpeechToText, *args: Any, **named: Any
    ) -> tuple[Any, tuple[Contact, ...]]:
        """Return what one call under its own passage gave or raised, and its contacts."""
        passage = await self.admit(adapter.processor)
        call = adapter.transcribe(*args, passage=passage, **({"languages": ("en",)} | named))
        (outcome,) = await asyncio.gather(call, return_exceptions=True)
        return outcome, await self.broker.end(passage)


@asynccontextmanager
async def azure_at(authority: Authority, engine: Engine) -> AsyncIterator[Azure]:
    """Run the vendor with *engine* behind a broker."""
    at = {
        region: AzureSpeech(region=region, address=f"127.0.8.{number}", engine=engine, keys=[KEY])
        for number, region in enumerate(REGIONS, start=1)
    }
    by_host = {sim.host: sim for sim in at.values()}
    by_address = {sim.address: sim for sim in at.values()}

    async def resolve(name: str, _port: int) -> tuple[str, ...]:
        azure.lookups.append(name)
        return (by_host[azure.detours.get(name, name)].address,)

    async def connect(address: str, _port: int) -> Any:
        return await asyncio.open_connection(address, by_address[address].port)

    broker = Broker(development=True, resolve=resolve, connect=connect)
    azure = Azure(authority=authority, broker=broker, at=at)
    for sim in at.values():
        await sim.start(authority)
    await broker.start()
    try:
        yield azure
    finally:
        for adapter in azure.adapters:
            await adapter.aclose()
        await broker.aclose()
        for sim in at.values():
            await sim.stop()
