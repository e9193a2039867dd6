"""
A point of a schedule: the disks, the world, the clocks and the minds, to go on from in many ways.

`Run` is one life of a process on a copy of a node: operations act on it, and it ends in another
node. What it did is told line by line; the lines are the trace.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

from simulation import invariants
from simulation.cell import LINE, Bench, Cell, Plants
from simulation.graph import WhatsApp
from simulation.loop import SimulatedLoop
from simulation.machine import START, Disks, Power, Time
from simulation.person import NUMBER, Mind, Said, Says
from support.desk import TENANT

from gateway import erasure, restored
from gateway.errors import NotAcceptedError
from gateway.whatsapp.payload import Content, Identity, Message, Parsed, Status

MOST_ROUNDS = 400
QUIET_S = 61.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A message under way to us: WhatsApp delivers it until we say that we took it."""

    number: int
    says: Says
    late: timedelta
    media: str
    newest: int
    then: Callable[[Said], None] | None


@dataclass(slots=True)
class Node:
    """Where a schedule is between two lives of the process; *trace* is how it came there."""

    disks: Disks
    mind: Mind = field(default_factory=Mind)
    time: Time = field(default_factory=Time)
    shown: list[object] = field(default_factory=list)
    fetched: list[object] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    messages: list[Message] = field(default_factory=list)
    backup: Disks | None = None
    sent: Sent | None = None
    erasing: str = ""
    allowed: bool = False  # their yes was worked on, and no later no was
    due: dict[str, int] = field(default_factory=dict)
    stones: dict[str, datetime] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    trace: tuple[str, ...] = ()
    number: int = 0

    def copy(self) -> "Node":
        """Return a node that shares nothing which an operation changes."""
        return replace(
            self,
            disks=self.disks.copy(),
            mind=self.mind.copy(),
            time=copy(self.time),
            shown=list(self.shown),
            fetched=list(self.fetched),
            gone=set(self.gone),
            messages=list(self.messages),
            due=dict(self.due),
            stones=dict(self.stones),
            found=[],
        )


class Run:
    """One life of a process; see the module."""

    def __init__(
        self, node: Node, bench: Bench, draw: Random, scratch: Path, plants: Plants
    ) -> None:
        self.node = node
        self.fetched_before = len(node.fetched)
        self.said_before = len(node.mind.said)
        self.erred = False  # the wall clock was wrong at some time of this life
        self.draw = draw
        self.bench = bench
        self.world = WhatsApp(node.time.now, shown=node.shown, gone=node.gone)  # type: ignore[arg-type]
        self.world.fetched = node.fetched  # type: ignore[assignment]
        self.power = Power(lambda: self.cell.image())  # noqa: PLW0108 - made next
        node.number += 1
        self.cell = Cell(
            bench,
            node.disks,
            self.power,
            node.time,
            self.world,
            scratch,
            plants=plants,
            life=node.number,
        )

    @property
    def mind(self) -> Mind:
        """Return the person's mind."""
        return self.node.mind

    def look(self) -> None:
        """Hold what was fetched so far against the rule; from here on their last word counts."""
        self.node.found += invariants.consented(self)
        self.node.allowed = self.mind.agrees
        self.fetched_before, self.said_before = len(self.node.fetched), len(self.mind.said)

    def tell(self, line: str) -> None:
        """Add *line* to the trace."""
        self.node.trace = (*self.node.trace, line)

    async def deliver(
        self,
        content: Content,
        says: Says,
        *,
        late: timedelta = timedelta(0),
        media: str = "",
        then: Callable[[Said], None] | None = None,
    ) -> None:
        """Have the person write, and WhatsApp deliver it *late*; *then* is told once we took it."""
        written = self.node.time.now()
        self.node.messages.append(
            Message(
                phone_number_id=LINE,
                id=f"wamid.{len(self.node.messages)}",
                sender=Identity(phone=NUMBER),
                sent_at=int(written.timestamp()),
                content=content,
            )
        )
        self.node.time.true += late
        newest = self.bench.rows("SELECT coalesce(max(seq), 0) FROM jobs")[0][0]
        self.node.sent = Sent(len(self.node.messages) - 1, says, late, media, newest, then)
        await self.redeliver()

    async def redeliver(self) -> None:
        """Deliver what we have not said to have taken; after a crash WhatsApp does so."""
        sent = self.node.sent
        if sent is None:
            return
        jobs = await self.accepted(sent.number)
        if jobs is None:
            return
        if not jobs:  # it was durable, and the power failed before we could say so
            sql = "SELECT id FROM jobs WHERE seq > ? ORDER BY seq LIMIT 1"
            jobs = [job for (job,) in self.bench.rows(sql, sent.newest)]
        if not jobs:
            self.node.found.append("what we said to have taken is not there")
            self.node.sent = None
            return
        self.node.sent = None
        now, message = self.node.time.now(), self.node.messages[sent.number]
        said = Said(
            jobs[0],
            sent.says,
            now,
            datetime.fromtimestamp(message.sent_at, now.tzinfo),
            sent.late >= timedelta(hours=24),
            sent.media,
            calm=not self.world.moods,
            shown_before=len(self.world.shown),
        )
        said.asked_before = any(
            each.kind == "buttons" and each.at > now - timedelta(hours=1)
            for each in self.world.shown
        )
        self.mind.hear(said)
        if sent.then is not None:
            sent.then(said)

    async def accepted(self, number: int) -> list[str] | None:
        """Deliver the message *number* as a webhook does; return the new jobs, None if refused."""
        parsed = Parsed(updates=(self.node.messages[number],), dropped={})
        try:
            return await self.cell.inbox.accept(TENANT, parsed)
        except NotAcceptedError as exc:
            self.tell(f"  not accepted: {exc.code}")
            return None

    async def erase(self, subject: str) -> None:
        """Ask for the erasure of *subject*, as a DPO who asks again when the machine died."""
        self.node.erasing = subject
        await erasure.ask(
            self.cell.ports.engine,
            subject,
            TENANT,
            because="Art. 17 request",
            trigger="request",
            by="dpo",
            at=self.cell.ports.now(),
            urgent=True,
        )
        self.node.erasing = ""
        self.mind.vanishes(subject)

    async def recover(self) -> None:
        """Have everybody do again what they do not know to have been done."""
        await self.redeliver()
        if self.node.erasing:
            await self.erase(self.node.erasing)
            await self.cell.erasures.tick()
        await self.quiet()

    async def report(self) -> None:
        """Have WhatsApp say what became of its messages."""
        for number, (opaque, state) in enumerate(self.world.reports):
            told = Status(
                phone_number_id=LINE,
                message_id=f"wamid.status.{number}",
                state=state,
                at=int(self.node.time.now().timestamp()),
                opaque=opaque,
            )
            with contextlib.suppress(NotAcceptedError):
                await self.cell.inbox.accept(TENANT, Parsed(updates=(told,), dropped={}))
        self.world.reports.clear()

    async def quiet(self) -> None:
        """Let everybody work until nothing is left to do now; time passes where it must."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        cell = self.cell
        for _ in range(MOST_ROUNDS):
            while await cell.relay.publish():
                pass
            await loop.idle()
            if cell.relay._work.is_set():
                cell.relay._work.clear()
            elif cell.worker._busy:
                await asyncio.sleep(1)
            elif (wait_s := cell.broker.next_in()) is not None:
                await asyncio.sleep(wait_s + 0.001)
                if self.world.reports:
                    await self.report()
                    await cell.sweeper.settle()
            elif self._waiting():
                await asyncio.sleep(QUIET_S)
                await cell.relay.redrive()
            elif self._erasing():
                await cell.erasures.tick()
            else:
                return
        self.tell("  never quiet")

    def _erasing(self) -> bool:
        """Whether an erasure has steps that can be done now; a cell looks each half second."""
        sql = "SELECT 1 FROM erasures WHERE step NOT IN ('remains') LIMIT 1"
        return bool(self.bench.rows(sql))

    def _waiting(self) -> bool:
        """Whether a job that is due waits for nobody to be told of it."""
        now = int(self.node.time.wall().timestamp() * 1e6)
        sql = "SELECT 1 FROM jobs WHERE state = 'accepted' AND next_try_at <= ? LIMIT 1"
        return bool(self.bench.rows(sql, now))


Operation = Callable[[Run], Awaitable[None]]


def live(
    node: Node,
    bench: Bench,
    draw: Random,
    scratch: Path,
    plants: Plants,
    *operations: Operation,
    crash: tuple[int, bool] | None = None,
    last: bool = False,
    resumed: bool = False,
) -> tuple[Node, bool]:
    """
    Return the node after *operations* in one life, and whether the process died on the way.

    With *crash* = (n, before) the power fails at the n-th write of the operations, before it or
    after it. Nothing follows on the *last* life: it need not note how far its log is.
    A *resumed* one goes on where another one stopped, without what a start does.
    """
    loop = SimulatedLoop(draw)
    asyncio.set_event_loop(loop)
    node.time.ran = loop.time
    run = Run(node, bench, draw, scratch, plants)
    try:
        try:
            loop.run_until_complete(_life(run, operations, crash, last=last, resumed=resumed))
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - whatever it was, it is a finding
            # A part may have made another error of it: the disks were taken when the power went.
            if run.power.found is None:
                run.tell(f"  {type(exc).__name__}: {exc}")
                node.found.append(f"the cell failed ({type(exc).__name__})")
                _bury(loop)
                return node, False
        if run.power.found is None:
            return node, False
        run.tell(f"  power failure at write {run.power.writes} ({run.power.at})")
        node.disks = run.power.found
        _bury(loop)
        return node, True
    finally:
        node.time.settle()
        loop.close()
        asyncio.set_event_loop(None)


async def _life(
    run: Run,
    operations: tuple[Operation, ...],
    crash: tuple[int, bool] | None,
    *,
    last: bool,
    resumed: bool,
) -> None:
    await run.cell.start(resumed=resumed)
    if crash:
        run.power.fails_at, run.power.before = run.power.writes + crash[0], crash[1]
    for operation in operations:
        await operation(run)
    run.power.fails_at = 0
    if not last:
        await restored.note(run.cell.ports, run.cell.trail)
    run.node.found += invariants.broken(run)
    await run.cell.stop()
    run.node.disks = run.cell.image()


def _bury(loop: SimulatedLoop) -> None:
    """End the tasks of a dead process: they have no machine any more, and change nothing."""
    loop.set_exception_handler(lambda _loop, _context: None)
    for _ in range(MOST_ROUNDS):
        left = asyncio.all_tasks(loop)
        if not left:
            return
        for task in left:
            task.cancel()
        loop.call_soon(loop.stop)
        with contextlib.suppress(SystemExit):
            loop.run_forever()


def digest(trace: tuple[str, ...]) -> str:
    """Return the SHA-256 of *trace*, by which two runs are compared."""
    return hashlib.sha256("\n".join(trace).encode()).hexdigest()


def first(bench: Bench) -> Node:
    """Return the node from which every schedule begins: a cell that never ran."""
    return Node(Disks(database=bench.fresh()), time=Time(true=START))
