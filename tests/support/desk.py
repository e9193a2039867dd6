"""
One cell's `Ports`, every part of it real but the engines, which say what a test tells them.

A `Desk` has one business line at the simulated WhatsApp and one person, ``ada``. Updates come in
by the real inbox; the test claims them and acts, or lets a worker do so.
"""

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncEngine
from support.gateway import Clock
from support.graph import account
from support.policy_world import build
from support.speech import a_processor

from audit.errors import AppendError
from audit.model import Event, Leaf, Receipt
from audit.trail import Trail
from gateway import assistant, phrases, turns
from gateway.accounts import Accounts
from gateway.audio.decode import Decoder
from gateway.broker import Broker
from gateway.decisions import Decisions
from gateway.demo.graph import GraphWorld, Line
from gateway.demo.graph.person import Person
from gateway.demo.graph.wire import wamid
from gateway.findings import Findings
from gateway.inbox import Inbox
from gateway.jobs import Job, Jobs
from gateway.metrics import Metrics
from gateway.note import SPOKEN, Note, opened
from gateway.persons import pseudonym
from gateway.ports import Ports
from gateway.relay import Relay
from gateway.schema import jobs as jobs_table
from gateway.settings import Tenant
from gateway.slots import URGENT, Share, Slots
from gateway.timekeeping import Timekeeper
from gateway.whatsapp.media import Media
from gateway.whatsapp.payload import Content, Identity, Message, Parsed, Status, Text, VoiceNote
from gateway.whatsapp.send import Graph
from gateway.worker import Worker
from policy import access, decide
from policy.access import Approval, Request, Verdict
from policy.bundle import Bundle
from policy.consents.sql import SqlConsents
from policy.embedded import EmbeddedEngine
from policy.model import Asked, Consent, ConsentState, Decision, Question
from residency.limits import Limits
from residency.model import Processor, Service, Spoken, Transcript, Understanding
from residency.processors.scripted import (
    ScriptedSpeechToText,
    ScriptedTextToSpeech,
    ScriptedUnderstander,
)
from residency.proxy import Broker as Egress
from residency.registry import Registry
from residency.route import Health
from vault.custody import Custody
from vault.keyrings.local import LocalKeyring
from vault.keys import Keys
from vault.objects.local import LocalObjects

REGION = "eu-central"
TENANT = "fernruf"
CONTROLLER = "Fernruf GmbH"
PHONE = "4915112345678"
GRACE_S = 120.0
RAW_AUDIO_S = 3_600
RECORDING = Path(__file__).parents[1] / "corpus" / "speech" / "psphinx_misc_en_goforward.ogg"
WORDS = Transcript(text="go forward ten meters", language="en", confidence=0.9)
MEANT = Understanding(intent="greeting", confidence=0.95, slots={})
SPEECH = Spoken(pcm=bytes(2 * 16_000), rate=16_000)


def _row(service: Service, name: str, **changed: Any) -> Processor:
    return a_processor(service, "scripted", id=name, languages=("en",), **changed)


ROWS = (
    _row(Service.MESSAGING, "msg.here"),
    _row(Service.SPEECH_TO_TEXT, "stt.one"),
    _row(Service.SPEECH_TO_TEXT, "stt.two"),
    _row(Service.SPEECH_TO_TEXT, "stt.abroad", region="us-east", jurisdiction="US"),
    _row(Service.UNDERSTANDING, "nlu.one"),
    _row(Service.TEXT_TO_SPEECH, "tts.one"),
)


@pytest.fixture(scope="session")
def desk_bundle() -> Bundle:
    """Return the shipped rules over the desk's processors and its one tenant."""
    return build(
        processors=Registry(ROWS).rows(),
        # The law's own 24 hours leave a clock that stands still no time to seal in.
        tenants={TENANT: {"retention": {"raw_audio_seconds": RAW_AUDIO_S}}},
        notices=[phrases.VERSION],
    )


async def until(holds: Callable[[], Awaitable[bool]], *, within_s: float = 10) -> None:
    """Wait until *holds*, or raise `TimeoutError`: what is waited for is in another process."""
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110 - a database row sets no event
            await asyncio.sleep(0.02)


def slots(concurrency: int) -> Slots:
    """Return slots that the desk's one tenant may have all of."""
    return Slots(concurrency, {TENANT: Share(concurrency=concurrency)})


def never(_event: Event) -> bool:
    """Refuse no event."""
    return False


@dataclass(slots=True)
class StrictTrail:
    """A real trail that refuses the events that *refuses* names, and calls *seen* for each."""

    inner: Trail
    refuses: Callable[[Event], bool] = never
    seen: list[Event] = field(default_factory=list)

    async def append(self, event: Event) -> Receipt:
        """Append, or refuse as told."""
        if self.refuses(event):
            raise AppendError("told to refuse")
        receipt = await self.inner.append(event)
        self.seen.append(event)
        return receipt

    async def checkpoint(self) -> str:
        """Pass through."""
        return await self.inner.checkpoint()

    async def unended(self, job: str | None = None) -> list[Leaf]:
        """Pass through."""
        return await self.inner.unended(job)

    async def leaves(self, **which: str) -> list[Leaf]:
        """Pass through."""
        return await self.inner.leaves(**which)

    async def prove(self, receipt: Receipt) -> str:
        """Pass through."""
        return await self.inner.prove(receipt)


@dataclass(slots=True, kw_only=True)
class Desk:
    """A cell's parts, its world and its one person; see the module."""

    ports: Ports
    world: GraphWorld
    line: Line
    clock: Clock
    time: Timekeeper
    ada: Person
    inbox: Inbox
    trail: StrictTrail
    directory: Path
    hearing: dict[str, ScriptedSpeechToText]
    understanding: dict[str, ScriptedUnderstander]
    speaking: dict[str, ScriptedTextToSpeech]
    woken: list[str] = field(default_factory=list)
    wakers: list[Callable[[Sequence[str]], None]] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def script(self, processor: str, *answers: Any, delay_s: float = 0.0) -> Any:
        """Have *processor* give *answers* from now on, round and round; return it."""
        for adapters, kind in (
            (self.hearing, ScriptedSpeechToText),
            (self.understanding, ScriptedUnderstander),
            (self.speaking, ScriptedTextToSpeech),
        ):
            if processor in adapters:
                row = self.ports.processors[processor]
                scripted: Any = kind(row, answers, delay_s=delay_s)
                adapters[processor] = scripted  # type: ignore[index]
                return scripted
        raise KeyError(processor)

    def with_ports(self, **changed: Any) -> None:
        """Change some of the ports."""
        self.ports = replace(self.ports, **changed)

    def recording(self, content: bytes | None = None) -> VoiceNote:
        """Return a voice note that WhatsApp holds for the line."""
        item = self.ada.attach(RECORDING.read_bytes() if content is None else content)
        digest = sha256(item.content).digest()
        return VoiceNote(media_id=item.id, mime_type=item.mime, sha256=digest, voice=True)

    async def hear(
        self,
        content: Content,
        sender: Person | None = None,
        *,
        late_s: int = 0,
        wamid_: str | None = None,
    ) -> str:
        """
        Accept one message as the webhook does, and return its job.

        It was written *late_s* seconds ago, under the id *wamid_*.
        """
        who = sender or self.ada
        written = self.world.clock.now() - timedelta(seconds=late_s)
        who.last_wrote = max(who.last_wrote or written, written)
        message = Message(
            phone_number_id=self.line.phone_number_id,
            id=wamid_ or wamid(who.phone or who.bsuid or ""),
            sender=Identity(phone=who.phone, bsuid=who.bsuid),
            sent_at=int(self.clock.true.timestamp()) - late_s,
            content=content,
        )
        [job] = await self.inbox.accept(TENANT, Parsed(updates=(message,), dropped={}))
        return job

    async def status(self, reply: str, state: str = "delivered", code: int = 0) -> None:
        """Have WhatsApp say what became of *reply*, and with which *code* it failed."""
        told = Status(
            phone_number_id=self.line.phone_number_id,
            message_id=f"wamid.{next(self._numbers)}",
            state=state,
            at=int(self.clock.true.timestamp()),
            opaque=reply,
            error_codes=(code,) if code else (),
        )
        await self.inbox.accept(TENANT, Parsed(updates=(told,), dropped={}))

    async def claim(self, job: str, owner: str = "w1") -> Note:
        """Lease *job* and open it."""
        leased = await self.ports.jobs.claim(job, owner)
        assert isinstance(leased, Job), leased
        return await opened(leased, self.ports)

    async def note(self, content: Content, sender: Person | None = None) -> Note:
        """Accept, lease and open one message."""
        return await self.claim(await self.hear(content, sender))

    async def typed(self, text: str = "Hello") -> Note:
        """Accept, lease and open one typed message."""
        return await self.note(Text(body=text))

    async def spoken(self) -> Note:
        """Accept, lease and open one voice note."""
        return await self.note(self.recording())

    async def subject(self, sender: Person | None = None) -> str:
        """Return the pseudonym of *sender* (ada)."""
        who = sender or self.ada
        return await pseudonym(Identity(phone=who.phone, bsuid=who.bsuid), TENANT, self.ports)

    async def consents(self, state: ConsentState = ConsentState.GRANTED) -> None:
        """Have ada's consent stand at *state* from now on."""
        at = int(self.clock().timestamp())
        await self.ports.consents.record(
            Consent(
                id=f"c_{next(self._numbers)}",
                tenant=TENANT,
                subject=await self.subject(),
                purpose=SPOKEN,
                state=state,
                at=at,
                expires_at=at + 86_400,
                notice_version=phrases.VERSION,
                notice_sha256="0" * 64,
                language="en",
                channel="whatsapp",
                evidence="e" * 64,
            )
        )

    async def rows(self, table: Table) -> list[Any]:
        """Return the rows of *table*, in no order."""
        async with self.ports.engine.connect() as tx:
            return list((await tx.execute(select(table))).all())

    async def over(self, *found: str, within_s: float = 20) -> list[str]:
        """Wait until the jobs *found* ended or are parked, and return their states."""

        async def states() -> list[str]:
            return [(await self.state(job))[0] for job in found]

        async def settled() -> bool:
            return "accepted" not in await states()

        await until(settled, within_s=within_s)
        return await states()

    async def state(self, job: str) -> tuple[str, str]:
        """Return (state, reason) of *job*."""
        async with self.ports.engine.connect() as tx:
            row = (await tx.execute(select(jobs_table).where(jobs_table.c.id == job))).one()
        return row.state, row.reason

    def types(self, *kinds: str) -> list[str]:
        """Return what is on record, in order, as ``type action`` (only *kinds*, if given)."""
        found = [(event.type.value, event.action) for event in self.trail.seen]
        return [" ".join(filter(None, pair)) for pair in found if not kinds or pair[0] in kinds]

    def fetched(self) -> list[str]:
        """Return the requests for media that reached WhatsApp, as ``METHOD path``."""
        paths = {"/{v}/{media}", "/_cdn/{token}"}
        found = [each for each in self.world.receipts if each.path in paths]
        return [f"{each.method} {each.path}" for each in found]

    def texts(self) -> list[str]:
        """Return the texts on ada's phone."""
        return [message.text for message in self.ada.inbox if message.kind == "text"]


def _urgent(_tenant: str, message: Message) -> bool:
    return turns.urgent(message, ("en",))


def _tenant(line: Line) -> Tenant:
    # Its files are read elsewhere: nothing behind the channel needs a secret.
    return Tenant.model_construct(
        id=TENANT,
        controller=CONTROLLER,
        jurisdiction="DE",
        languages=("en",),
        whatsapp=None,
    )


@pytest.fixture
async def desk(
    cell_db: AsyncEngine,
    clock: Clock,
    trail: Trail,
    tmp_path: Path,
    graph: GraphWorld,
    http: httpx2.AsyncClient,
    desk_bundle: Bundle,
) -> AsyncIterator[Desk]:
    """Yield a desk; its inbox accepts, and nobody works."""
    async with AsyncExitStack() as stack:
        yield await _open(cell_db, clock, trail, tmp_path, graph, http, desk_bundle, stack)


async def _open(
    engine: AsyncEngine,
    clock: Clock,
    trail: Trail,
    directory: Path,
    world: GraphWorld,
    http: httpx2.AsyncClient,
    bundle: Bundle,
    stack: AsyncExitStack,
) -> Desk:
    line = next(iter(world.lines.values()))
    line.statuses = ()
    time = Timekeeper(engine, clock.machine())
    now = clock.work = time.now
    keys = Keys(engine, LocalKeyring(directory / "keys"), region=REGION, now=now)
    custody = Custody(engine, keys, LocalObjects(directory / "objects"), now=now)
    strict = StrictTrail(trail)
    rules = EmbeddedEngine(bundle)
    stack.push_async_callback(rules.aclose)
    woken: list[str] = []

    wakers: list[Callable[[Sequence[str]], None]] = [woken.extend]

    def wake(found: Sequence[str]) -> None:
        for waker in wakers:
            waker(found)

    async def ask(question: Question, kept: Callable[[Asked], None] | None = None) -> Decision:
        return await decide.decide(question, rules, facts=bundle.facts, deadline_s=10, kept=kept)

    async def ask_access(request: Request, approvals: Sequence[Approval] = ()) -> Verdict:
        at = int(now().timestamp())
        return await access.verdict(
            request, rules, facts=bundle.facts, now=at, approvals=approvals, deadline_s=10
        )

    broker = Egress(development=True)
    await broker.start()
    stack.push_async_callback(broker.aclose)
    rows = {row.id: row for row in ROWS}
    hearing = {name: ScriptedSpeechToText(rows[name], [WORDS]) for name in ("stt.one", "stt.two")}
    understanding = {"nlu.one": ScriptedUnderstander(rows["nlu.one"], [MEANT])}
    speaking = {"tts.one": ScriptedTextToSpeech(rows["tts.one"], [SPEECH])}
    tenant = _tenant(line)
    reached = account(world, line)
    metrics = Metrics(tenants=[TENANT], processors=list(rows), regions=[REGION])
    decisions = Decisions(engine, custody, metrics)
    ports = Ports(
        region=REGION,
        cell="eu-1",
        now=now,
        agreed=time.agreed,
        engine=engine,
        jobs=Jobs(engine, now=now, woken=wake),
        trail=strict,
        custody=custody,
        keys=keys,
        consents=SqlConsents(engine),
        decide=ask,
        ask_access=ask_access,
        decisions=decisions,
        processors=rows,
        health=Health(),
        limits=Limits(ROWS, [TENANT]),
        hearing=hearing,
        speaking=speaking,
        understanding=understanding,
        decoder=await stack.enter_async_context(Decoder(size=1)),
        graphs={line.phone_number_id: Graph(http, reached)},
        media={line.phone_number_id: Media(http, reached)},
        tenants={TENANT: tenant},
        assistants={TENANT: assistant.load(None, languages=tenant.languages)},
        metrics=metrics,
        findings=Findings(engine, trail, metrics, cell="cell-1", now=now),
        accounts=Accounts(engine, metrics, now=now),
        unknown_grace_s=GRACE_S,
        egress=broker,
        simulators=(world.url.removeprefix("http://"),),
    )
    inbox = Inbox(engine, keys, custody, now=now, committed=wake, urgent=_urgent)
    inbox.start()
    stack.push_async_callback(inbox.aclose)
    return Desk(
        ports=ports,
        world=world,
        line=line,
        clock=clock,
        time=time,
        ada=world.person(PHONE, line=line),
        inbox=inbox,
        trail=strict,
        directory=directory,
        hearing=hearing,
        understanding=understanding,
        speaking=speaking,
        woken=woken,
        wakers=wakers,
    )


@pytest.fixture
async def broker(nats_url: str) -> AsyncIterator[Broker]:
    """Yield streams of this test's own on the real server."""
    broker = await Broker.connect(nats_url, f"t-{secrets.token_hex(4)}", lanes=[URGENT, TENANT])
    await broker.prepare()
    yield broker
    for stream in (broker.work, broker.dead):
        await broker._js.delete_stream(stream)
    await broker.aclose()


@asynccontextmanager
async def working(desk: Desk, broker: Broker, *, concurrency: int = 4) -> AsyncIterator[Worker]:
    """Have a worker work for as long as the block lasts."""
    relay = Relay(desk.ports.engine, broker, desk.ports.jobs, now=desk.ports.now)
    worker = Worker(desk.ports, broker, owner="w1", slots=slots(concurrency))
    desk.wakers.append(relay.wake)
    relay.start()
    worker.start()
    try:
        yield worker
    finally:
        await worker.aclose(grace_s=1)
        await relay.aclose()
