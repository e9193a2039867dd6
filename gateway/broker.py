"""
JetStream: tells workers which job to look at. Never the sole holder of anything.

Messages and subjects hold opaque ids only, because acknowledged payloads stay readable in the
broker's block files. Values: docs/adr/0004-broker.md.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
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


class Broker:
    """One cell's streams: work for the workers, and the dead letters."""

    def __init__(self, client: Client, region: str) -> None:
        self._client = client
        self._js: JetStreamContext = client.jetstream(timeout=2)
        self._region = region
        token = region.upper().replace("-", "_")
        self.work = f"JOBS_{token}"
        self.dead = f"DLQ_{token}"

    @classmethod
    async def connect(cls, url: str, region: str, *, token: str | None = None) -> "Broker":
        """Connect and keep reconnecting for ever; raises `MissingPartError` if nobody answers."""
        try:
            # The client tries for ever, also the first time: a start must say what is missing.
            async with asyncio.timeout(CONNECT_LIMIT_S):
                client = await nats.connect(
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
            raise MissingPartError(
                f"nats: {type(exc).__name__} (is [services] nats right?)"
            ) from None
        return cls(client, region)

    @property
    def connected(self) -> bool:
        """Whether the broker is reachable now."""
        return self._client.is_connected

    async def prepare(self) -> None:
        """Create the streams and the consumer, or bring them to the declared values."""
        await self._stream(
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
            )
        )
        await self._stream(
            StreamConfig(
                name=self.dead,
                subjects=[f"dlq.{self._region}.>"],
                retention=RetentionPolicy.LIMITS,
                storage=StorageType.FILE,
                max_age=72 * 3600,
                max_bytes=64 * 1024 * 1024,
                max_msg_size=512,
            )
        )
        await self._js.add_consumer(
            self.work,
            ConsumerConfig(
                durable_name=f"work-{self._region}",
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=ACK_WAIT_S,
                max_deliver=MAX_DELIVER,
                max_ack_pending=256,
            ),
        )

    async def _stream(self, config: StreamConfig) -> None:
        try:
            await self._js.stream_info(str(config.name))
            await self._js.update_stream(config)
        except NotFoundError:
            await self._js.add_stream(config)

    async def publish(self, job: str, attempt: int) -> None:
        """Tell the workers of *job*; durable once it returns. Repeats within 5 minutes are one."""
        body = {"job": job, "region": self._region, "stage": "answer", "attempt": attempt}
        await self._js.publish(
            f"job.{self._region}.answer",
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

    async def pending(self) -> int:
        """Return how many messages the workers have not finished with."""
        info = await self._js.consumer_info(self.work, f"work-{self._region}")
        return (info.num_pending or 0) + (info.num_ack_pending or 0)

    async def buried(self) -> int:
        """Return how many dead letters there are."""
        return (await self._js.stream_info(self.dead)).state.messages

    async def told(self, free: asyncio.Semaphore) -> AsyncIterator[Told]:
        """
        Yield messages while *free* has room; the receiver releases it when a job is over.

        Survives a broker that goes away, even one that comes back with an empty disk.
        """
        pull = await self._js.pull_subscribe_bind(f"work-{self._region}", self.work)
        try:
            while True:
                await free.acquire()
                try:
                    message = (await pull.fetch(1, timeout=FETCH_S))[0]
                except TimeoutError:
                    free.release()
                except NatsError:
                    free.release()
                    pull = await self._rebind(pull)
                else:
                    if job := _job(message):
                        yield Told(job, message)
                    else:
                        await message.term()
                        free.release()
        finally:
            await _unsubscribe(pull)

    async def _rebind(
        self, pull: JetStreamContext.PullSubscription
    ) -> JetStreamContext.PullSubscription:
        await asyncio.sleep(REBIND_S)
        try:
            await self.prepare()
            found = await self._js.pull_subscribe_bind(f"work-{self._region}", self.work)
        except (TimeoutError, NatsError):
            return pull
        await _unsubscribe(pull)
        return found

    async def aclose(self) -> None:
        """Drain and disconnect; from a broker that is away, just disconnect."""
        try:
            await self._client.drain()
        except (TimeoutError, NatsError):
            with contextlib.suppress(OSError):  # its last flush meets the broken connection
                await self._client.close()


async def _unsubscribe(pull: JetStreamContext.PullSubscription) -> None:
    # Left open, it makes `drain` wait for messages that nobody will take.
    with contextlib.suppress(NatsError):
        await pull.unsubscribe()


def _job(message: Msg) -> str | None:
    """Return which job *message* names, or None: anybody on the network may write to a subject."""
    try:
        found = json.loads(message.data)
    except ValueError:
        return None
    job = found.get("job") if isinstance(found, dict) else None
    return job if isinstance(job, str) else None


async def _quiet(_error: Exception) -> None:
    """Swallow the client's own report: it may quote a payload; `connected` says what matters."""
