"""
JetStream: tells workers which job to look at. Never the sole holder of anything.

Messages and subjects hold opaque ids only, because acknowledged payloads stay readable in the
broker's block files. Values: docs/adr/0004-broker.md.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import NotFoundError

from gateway.errors import MissingPartError
from gateway.slots import Slots

ACK_WAIT_S = 30
MAX_DELIVER = 1000  # the job's own attempts decide when to bury; the broker only redelivers
PUBLISH_S = 0.3
FETCH_S = 5
CONNECT_LIMIT_S = 5.0
REBIND_S = 0.5


@dataclass(frozen=True, slots=True)
class Told:
    """One message: look at *job*."""

    job: str
    message: Msg

    async def done(self) -> None:
        """Acknowledge: the database knows the rest."""
        await self.message.ack()

    async def again(self, delay_s: float) -> None:
        """Ask for redelivery after *delay_s* seconds."""
        await self.message.nak(delay=delay_s)

    async def working(self) -> None:
        """Tell the broker that the job is still being worked on."""
        await self.message.in_progress()


class Arrivals:
    """The stream of sealed updates for the cells of one region; see `gateway.forwards`."""

    HEADERS = ("Nats-Msg-Id", "Vocustody-Tenant", "Vocustody-Cell")

    def __init__(self, client: Client, region: str, cell: str) -> None:
        self._client = client
        self._js: JetStreamContext = client.jetstream(timeout=2)
        self._subject = f"arrival.{region}.{cell}"
        self._consumer = f"arrivals-{cell}"
        self.stream = f"ARRIVALS_{cell}".upper().replace("-", "_")

    @classmethod
    async def connect(
        cls, url: str, *, region: str, cell: str, token: str | None = None
    ) -> "Arrivals":
        """Connect to the broker of another cell; raise `MissingPartError` if nobody answers."""
        return cls(await _client(url, token, "tenants.forward.nats"), region, cell)

    async def prepare(self) -> None:
        """Create the stream and its consumer: the cell that takes does, no other."""
        config = StreamConfig(
            name=self.stream,
            subjects=[self._subject],
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,
            storage=StorageType.FILE,
            max_age=7 * 24 * 3600,  # as long as WhatsApp would deliver again
            max_bytes=256 * 1024 * 1024,
            max_msg_size=96 * 1024,
            duplicate_window=300,
        )
        await _upserted(self._js, config)
        await self._js.add_consumer(
            self.stream,
            ConsumerConfig(
                durable_name=self._consumer,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=ACK_WAIT_S,
                max_deliver=MAX_DELIVER,
            ),
        )

    async def put(self, forward: str, tenant: str, sender: str, sealed: bytes) -> None:
        """Publish one sealed update; durable once it returns. Repeats within 5 minutes are one."""
        values = dict(zip(self.HEADERS, (forward, tenant, sender), strict=True))
        await self._js.publish(
            self._subject,
            sealed,
            timeout=2,
            headers=values | {"Nats-Expected-Stream": self.stream},
        )

    async def taken(self) -> AsyncIterator[Msg]:
        """Yield messages one by one; each must be erased or given back."""
        pull = await self._js.pull_subscribe_bind(self._consumer, self.stream)
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    yield (await pull.fetch(1, timeout=FETCH_S))[0]
        finally:
            await _unsubscribe(pull)

    async def erase(self, message: Msg) -> None:
        """Overwrite *message* on the broker's disk, then acknowledge it."""
        with contextlib.suppress(NotFoundError):  # erased by an earlier try
            await self._js.delete_msg(self.stream, message.metadata.sequence.stream)
        await message.ack()

    async def waiting(self) -> int:
        """Return how many updates were not taken yet."""
        return (await self._js.stream_info(self.stream)).state.messages

    async def aclose(self) -> None:
        """Disconnect."""
        await _drained(self._client)


class Broker:
    """One cell's streams: work for the workers, and the dead letters."""

    def __init__(self, client: Client, region: str, lanes: Sequence[str]) -> None:
        self._client = client
        self._js: JetStreamContext = client.jetstream(timeout=2)
        self._region = region
        self._lanes = tuple(lanes)
        token = region.upper().replace("-", "_")
        self.work = f"JOBS_{token}"
        self.dead = f"DLQ_{token}"

    @classmethod
    async def connect(
        cls, url: str, region: str, *, lanes: Sequence[str], token: str | None = None
    ) -> "Broker":
        """Connect and keep reconnecting for ever; raises `MissingPartError` if nobody answers."""
        return cls(await _client(url, token, "[services] nats"), region, lanes)

    async def arrivals(self, cell: str) -> Arrivals:
        """Return the stream of what other cells hand to *cell*, which is ours."""
        found = Arrivals(self._client, self._region, cell)
        await found.prepare()
        return found

    @property
    def connected(self) -> bool:
        """Whether the broker is reachable now."""
        return self._client.is_connected

    async def prepare(self) -> None:
        """Create the streams and the consumer, or bring them to the declared values."""
        await _upserted(
            self._js,
            StreamConfig(
                name=self.work,
                subjects=[f"job.{self._region}.>"],
                retention=RetentionPolicy.WORK_QUEUE,
                discard=DiscardPolicy.NEW,
                storage=StorageType.FILE,
                max_age=6 * 3600,
                max_bytes=256 * 1024 * 1024,
                max_msg_size=512,
                duplicate_window=300,
            ),
        )
        await _upserted(
            self._js,
            StreamConfig(
                name=self.dead,
                subjects=[f"dlq.{self._region}.>"],
                retention=RetentionPolicy.LIMITS,
                storage=StorageType.FILE,
                max_age=72 * 3600,
                max_bytes=64 * 1024 * 1024,
                max_msg_size=512,
            ),
        )
        for lane in self._lanes:
            await self._js.add_consumer(
                self.work,
                ConsumerConfig(
                    durable_name=_durable(lane),
                    filter_subject=self._subject(lane),
                    ack_policy=AckPolicy.EXPLICIT,
                    ack_wait=ACK_WAIT_S,
                    max_deliver=MAX_DELIVER,
                    max_ack_pending=256,
                ),
            )

    def _subject(self, lane: str) -> str:
        return f"job.{self._region}.answer.{lane}"

    async def publish(self, job: str, attempt: int, lane: str) -> None:
        """Tell *lane* of *job*; durable once it returns. Repeats within 5 minutes are one."""
        body = {"job": job, "region": self._region, "stage": "answer", "attempt": attempt}
        await self._js.publish(
            self._subject(lane),
            json.dumps(body).encode(),
            timeout=PUBLISH_S,
            headers={"Nats-Msg-Id": f"{job}:{attempt}", "Nats-Expected-Stream": self.work},
        )

    async def bury(self, job: str, reason: str) -> None:
        """Put *job* among the dead letters."""
        body = {"job": job, "region": self._region, "reason": reason[:64]}
        await self._js.publish(
            f"dlq.{self._region}.answer",
            json.dumps(body).encode(),
            timeout=2,
            headers={"Nats-Msg-Id": f"dlq:{job}"},
        )

    async def forget(self, jobs: Collection[str]) -> int:
        """Delete every message about *jobs*, dead letters included, and return how many."""
        gone = 0
        for stream in (self.work, self.dead):
            seq = 0
            with contextlib.suppress(NotFoundError):  # there is none after *seq*
                while True:
                    message = await self._js.get_msg(stream, seq + 1, subject=">", next=True)
                    seq = message.seq or seq + 1
                    if _named(message.data) in jobs:
                        gone += bool(await self._js.delete_msg(stream, seq))
        return gone

    async def pending(self) -> int:
        """Return how many messages the workers have not finished with."""
        return (await self._js.stream_info(self.work)).state.messages

    async def buried(self) -> int:
        """Return how many dead letters there are."""
        return (await self._js.stream_info(self.dead)).state.messages

    async def told(self, lane: str, slots: Slots) -> AsyncIterator[Told]:
        """
        Yield *lane*'s messages, each with a slot; the receiver gives it back after the job.

        Survives a broker that goes away, even one that comes back with an empty disk.
        """
        pull = await self._bound(lane)
        try:
            await slots.reserve(lane)
            while True:
                try:
                    message = (await pull.fetch(1, timeout=FETCH_S))[0]
                except TimeoutError:
                    continue
                except NatsError:
                    pull = await self._rebind(lane, pull)
                    continue
                if job := _job(message):
                    await self._enter(lane, slots, message)
                    yield Told(job, message)
                    await slots.reserve(lane)
                else:
                    await message.term()
        finally:
            await _unsubscribe(pull)

    async def _enter(self, lane: str, slots: Slots, message: Msg) -> None:
        """Wait for a slot, and keep *message* from being given to somebody else meanwhile."""
        waiting = asyncio.ensure_future(slots.enter(lane))
        try:
            while not (await asyncio.wait([waiting], timeout=ACK_WAIT_S / 3))[0]:
                with contextlib.suppress(NatsError):
                    await message.in_progress()
            await waiting
        except BaseException:
            waiting.cancel()
            with contextlib.suppress(NatsError):
                await asyncio.shield(message.nak(delay=0))  # stopping: whoever is next may have it
            raise

    async def _bound(self, lane: str) -> JetStreamContext.PullSubscription:
        return await self._js.pull_subscribe_bind(_durable(lane), self.work)

    async def _rebind(
        self, lane: str, pull: JetStreamContext.PullSubscription
    ) -> JetStreamContext.PullSubscription:
        await asyncio.sleep(REBIND_S)
        try:
            await self.prepare()
            found = await self._bound(lane)
        except (TimeoutError, NatsError):
            return pull
        await _unsubscribe(pull)
        return found

    async def aclose(self) -> None:
        """Drain and disconnect; from a broker that is away, just disconnect."""
        await _drained(self._client)


async def _client(url: str, token: str | None, setting: str) -> Client:
    try:
        # The client tries for ever, also the first time: a start must say what is missing.
        async with asyncio.timeout(CONNECT_LIMIT_S):
            return await nats.connect(
                url,
                token=token,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.5,
                ping_interval=10,
                max_outstanding_pings=2,
                connect_timeout=2,
                drain_timeout=10,
                allow_reconnect=True,
                inbox_prefix=b"_INBOX_vocustody",
                error_cb=_quiet,
            )
    except (TimeoutError, NatsError, OSError) as exc:
        raise MissingPartError(f"nats: {type(exc).__name__} (is {setting} right?)") from None


async def _upserted(js: JetStreamContext, config: StreamConfig) -> None:
    try:
        await js.stream_info(str(config.name))
        await js.update_stream(config)
    except NotFoundError:
        await js.add_stream(config)


async def _drained(client: Client) -> None:
    try:
        await client.drain()
    except (TimeoutError, NatsError):
        with contextlib.suppress(OSError):  # its last flush meets the broken connection
            await client.close()


async def _unsubscribe(pull: JetStreamContext.PullSubscription) -> None:
    # Left open, it makes `drain` wait for messages that nobody will take.
    with contextlib.suppress(NatsError):
        await pull.unsubscribe()


def _durable(lane: str) -> str:
    return f"work-{lane}"


def _job(message: Msg) -> str | None:
    """Return which job *message* names, or None: anybody on the network may write to a subject."""
    return _named(message.data)


def _named(body: bytes | None) -> str | None:
    try:
        found = json.loads(body or b"")
    except ValueError:
        return None
    job = found.get("job") if isinstance(found, dict) else None
    return job if isinstance(job, str) else None


async def _quiet(_error: Exception) -> None:
    """Swallow the client's own report: it may quote a payload; `connected` says what matters."""
