"""
The real way of one note: decide, walk the allow-list, a touch and a ticket for each try.

Real are the rules, `gateway.fallback`, `gateway.passage`, `gateway.touch`, the breakers, the limits
and the broker in its strictest form (no development); the trail is a list.
"""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from borders.oracle import World
from borders.vendors import BODY, GOOGLE_HOST, Vendors
from simulators.engines import scripted
from simulators.google_speech import GoogleSpeech
from simulators.google_world import ACCOUNT, _key, account, google_row
from support.speech import a_processor, recording

from audit.model import Event, EventType
from gateway.fallback import through
from gateway.metrics import Metrics
from policy.model import Allowed, Question
from residency.errors import ProcessorBusyError, ProcessorRefusedError
from residency.limits import Limits
from residency.model import Audio, Passage, Processor, Service, Transcript
from residency.processors.google_speech import GoogleSpeechToText
from residency.proxy import Broker
from residency.route import FAILURES, Health

ACTIONS = {"speak": "speak", "transcribe": "transcribe", "understand": "understand"}
RECORDING = "psphinx_misc_en_goforward"
HEARD = Transcript(text="heard", language="en", confidence=0.9)


async def connected(passage: Passage, target: str) -> tuple[Any, Any]:
    """Return a tunnel to *target* under *passage*; raise `OSError` where the broker refuses."""
    host, _, port = passage.proxy.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    secret = base64.b64encode(f"{passage.ticket}:{passage.secret}".encode()).decode()
    writer.write(
        f"CONNECT {target} HTTP/1.1\r\nProxy-Authorization: Basic {secret}\r\n\r\n".encode()
    )
    try:
        answer = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        answer = b""
    if not answer.startswith(b"HTTP/1.1 200"):
        writer.transport.abort()
        raise ConnectionRefusedError(target)
    return reader, writer


async def told(reader: Any, writer: Any, host: str, roots: str) -> str:
    """Speak with the vendor *host* over a connection that is up; return its line."""
    try:
        context = ssl.create_default_context(cafile=roots)
        await writer.start_tls(context, server_hostname=host)
        writer.write(b"HEAR\n" + bytes(BODY))
        return str((await reader.readuntil(b"\n")).decode().strip())
    except asyncio.IncompleteReadError:
        raise ConnectionResetError(host) from None
    finally:
        writer.transport.abort()


@dataclass(slots=True)
class Tiny:
    """
    A minimal adapter: one call, one connection, its row's host and no other.

    *chatter* are targets that it tries under the same ticket, as SDKs do that phone home.
    """

    processor: Processor
    roots: str
    chatter: Sequence[str] = ()

    async def hear(self, passage: Passage) -> Transcript:
        """Return what the vendor heard; a redirect is refused, never followed."""
        if not self.processor.hosts:
            return HEARD
        for target in self.chatter:
            with contextlib.suppress(OSError):
                _, writer = await connected(passage, target)
                writer.transport.abort()
        target = self.processor.hosts[0]
        try:
            ends = await connected(passage, target)
            said = await told(*ends, target.rpartition(":")[0], self.roots)
        except OSError as exc:
            raise ProcessorBusyError(f"{self.processor.id}: {type(exc).__name__}") from None
        if said.startswith("MOVED"):
            raise ProcessorRefusedError(f"{self.processor.id}: moved")
        if said != "OK":
            raise ProcessorBusyError(f"{self.processor.id}: busy")
        return HEARD


@dataclass(slots=True)
class Google:
    """The real Google adapter under the same name of its one call."""

    adapter: GoogleSpeechToText
    audio: Audio

    async def hear(self, passage: Passage) -> Transcript:
        """Return the transcript."""
        return await self.adapter.transcribe(self.audio, languages=("en",), passage=passage)


@dataclass(slots=True)
class Trail:
    """A trail that keeps what it is given."""

    events: list[Event] = field(default_factory=list)

    async def append(self, event: Event) -> None:
        """Keep *event*."""
        self.events.append(event)


@dataclass(slots=True)
class NothingHeld:
    """A custody in which no legal hold closes anything."""

    async def closed(self, _artifacts: Sequence[str]) -> bool:
        """Say no."""
        return False


class Findings:
    """Findings that nobody looks at."""

    def consider(self, *_: Any) -> tuple[()]:
        """Find nothing."""
        return ()


@dataclass(slots=True, kw_only=True)
class Gateway:
    """The parts that outlive a note."""

    vendors: Vendors
    broker: Broker
    audio: Audio
    metrics: Metrics
    trail: Trail = field(default_factory=Trail)

    def adapter(self, row: Processor, chatter: Sequence[str] = ()) -> Tiny | Google:
        """Return what speaks to *row*."""
        roots = self.vendors.authority.ca
        if row.hosts == (f"{GOOGLE_HOST}:443",):
            settings = google_row().settings
            speaking = google_row(id=row.id, settings=settings)
            return Google(
                GoogleSpeechToText(speaking, credentials=account(), roots=roots.read_bytes()),
                self.audio,
            )
        return Tiny(row, str(roots), chatter)

    async def answered(
        self,
        question: Question,
        allowed: Allowed,
        world: World,
        *,
        resting: Sequence[str] = (),
        chatter: Sequence[str] = (),
    ) -> Transcript:
        """Have *question*'s note heard; raise `NoProcessorError` where nobody is left."""
        rows = {row["id"]: processor(row) for row in world.rows}
        health = Health()
        for name in resting:
            for _ in range(FAILURES):
                health.failed(name)
        ports: Any = SimpleNamespace(
            processors=rows,
            health=health,
            limits=Limits(rows.values(), [question.tenant]),
            metrics=self.metrics,
            trail=self.trail,
            now=lambda: datetime.now(UTC),
            egress=self.broker,
            findings=Findings(),
            custody=NothingHeld(),
            simulators=(),
        )
        return await through(
            _note(question, allowed),
            allowed,
            ACTIONS[question.stage],
            "a_1",
            {name: self.adapter(row, chatter) for name, row in rows.items()},
            lambda adapter, passage: adapter.hear(passage),
            ports,
        )

    def touches(self, kind: EventType) -> list[Event]:
        """Return the touches of *kind* on record."""
        return [event for event in self.trail.events if event.type is kind]


def processor(row: Any) -> Processor:
    """Return the registry row that the bundle's *row* is made of."""
    return a_processor(
        Service(row["service"]),
        "tiny",
        id=row["id"],
        region=row["region"],
        jurisdiction=row["jurisdiction"],
        hosts=tuple(row["hosts"]),
    )


def _note(question: Question, allowed: Allowed) -> Any:
    async def leave() -> None:
        return

    def matter(artifact: str, decision: str) -> Any:
        return SimpleNamespace(
            tenant=question.tenant, job="j_1", subject="s_1", artifact=artifact, decision=decision
        )

    return SimpleNamespace(
        tenant=SimpleNamespace(id=question.tenant), leave=lambda ports: leave, matter=matter
    )


@asynccontextmanager
async def gateway(vendors: Vendors) -> AsyncIterator[Gateway]:
    """Yield a gateway, and Google at its one location."""
    hosts = [f"{p}.v{n}.example:443" for p in vendors.places for n in range(12)]
    broker = Broker(private=[*hosts, f"{GOOGLE_HOST}:443"], resolve=vendors.resolve)
    google = GoogleSpeech(
        location="europe-west4",
        address="127.0.7.1",
        engine=scripted("go forward"),
        keys={ACCOUNT: _key().public_key()},
    )
    await google.start(vendors.authority)
    vendors.google = (google.address, google.port)
    await broker.start()
    try:
        yield Gateway(
            vendors=vendors,
            broker=broker,
            audio=recording(RECORDING),
            metrics=Metrics(tenants=["acme"], processors=[], regions=[]),
        )
    finally:
        await broker.aclose()
        await google.stop()
