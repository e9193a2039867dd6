"""
The scheduled probe: who answers for a processor, asked with synthetic audio only.

- What is sent is `tone`, made here by arithmetic. This module has no way to custody, sessions
  or the inbox: a health check that borrows a user's note is how audio gets abroad unseen.
- Each row with hosts, an agreement and a review is asked for its certificate through the broker;
  a speech engine also hears the tone, and says its region.
- A probe is a touch like any other (action ``probe``), and what it sees goes to `Findings`. A
  suspended processor is probed too: that is how a person learns that it is well again.
"""

import array
import asyncio
import math
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import cache

from gateway import log, touch
from gateway.audio import encode
from gateway.findings import Findings
from gateway.touch import Matter, Touch, Trail, folded
from residency import handshake, pins
from residency.model import Audio, Grant, Observed, Passage, Processor
from residency.ports import Egress, SpeechToText

DECISION = "probe"
SECONDS = 30.0
RATE = 16_000
TONE_S = 1.0
_PITCH = 440.0
_LOUDNESS = 3_000  # of 32767


@cache
def tone() -> Audio:
    """Return a second of 440 Hz: nobody's voice, said to be speech, or no adapter would send it."""
    count = int(RATE * TONE_S)
    wave = (_LOUDNESS * math.sin(2 * math.pi * _PITCH * n / RATE) for n in range(count))
    pcm = array.array("h", map(int, wave)).tobytes()
    return Audio(ogg=encode.to_ogg(pcm, RATE), pcm=pcm, seconds=TONE_S, voiced_seconds=TONE_S)


class Probe:
    """Probes *rows* every *every_s* seconds; *hearing* are the cell's speech engines by id."""

    def __init__(
        self,
        rows: Iterable[Processor],
        hearing: Mapping[str, SpeechToText],
        egress: Egress,
        findings: Findings,
        trail: Trail,
        *,
        cell: str,
        every_s: float,
        now: Callable[[], datetime],
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._rows = [row for row in rows if row.hosts]
        self._hearing = hearing
        self._egress = egress
        self._findings = findings
        self._trail = trail
        self._cell = cell
        self._every_s = every_s
        self._now = now
        self._trust = trust
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Probe until `aclose`; never, where *every_s* is 0."""
        if self._every_s:
            self._task = asyncio.create_task(self._run(), name="probe")

    @property
    def alive(self) -> bool:
        """Whether it still probes, if it is to."""
        return not self._every_s or (self._task is not None and not self._task.done())

    async def aclose(self) -> None:
        """Stop; safe to call twice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            await self.tick()
            await asyncio.sleep(self._every_s)

    @property
    def _job(self) -> str:
        return f"j_probe.{self._cell}"

    async def tick(self) -> None:
        """
        End what was left open, and probe once every row whose agreement and review hold today.

        Whatever is raised is logged by its type, and keeps nobody waiting: a vendor's answer may
        break any parser, and the trail may be away for a while.
        """
        await self._guarded(self._job, touch.close_killed(self._trail, self._job, now=self._now))
        today = self._now().date()
        for row in self._rows:
            if min(row.contract_expires, row.review_expires) >= today:
                await self._guarded(row.id, self._ask(row))

    async def _guarded(self, what: str, work: Awaitable[object]) -> None:
        try:
            await work
        except Exception as exc:  # noqa: BLE001 - a probe that ended would see nothing more
            log.get().warning("probe.failed", processor=what, error=type(exc).__name__)

    async def _ask(self, row: Processor) -> None:
        matter = Matter(
            tenant=self._cell,
            job=self._job,
            subject="nobody",
            artifact="synthetic-tone",
            decision=DECISION,
        )
        async with touch.touching(
            self._trail, matter, row, "probe", now=self._now, leave=_given
        ) as probing:
            passage = await self._egress.admit(
                Grant(
                    processor=row.id,
                    decision=DECISION,
                    touch=probing.id,
                    hosts=row.hosts,
                    seconds=SECONDS,
                    blocks=pins.blocks(row),
                )
            )
            try:
                await self._look(row, replace(passage, options=row.options), probing)
            finally:
                observed = folded(await asyncio.shield(self._egress.end(passage)))
                probing.observe(observed)
                self._findings.consider(row, observed)

    async def _look(self, row: Processor, passage: Passage, probing: Touch) -> None:
        for host in row.hosts:
            certificate = await handshake.look(host, passage, trust=self._trust)
            seen = Observed(host=certificate.host, tls=certificate.told)
            probing.observe(seen)
            self._findings.consider(row, seen, certificate=certificate)
        if engine := self._hearing.get(row.id):
            audio = await asyncio.to_thread(tone)
            async with asyncio.timeout(SECONDS):
                answer = await engine.transcribe(
                    audio, languages=row.languages[:1], passage=passage
                )
            probing.observe(answer.observed)
            self._findings.consider(row, answer.observed)


async def _given() -> None:
    """Leave to go on: a probe is nobody's job, and nobody takes it back."""
