"""A desk whose worker is told of jobs by hand, so that hours pass in a moment."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from support.desk import Desk, slots

from gateway.broker import Broker, Told
from gateway.schema import replies
from gateway.sweeper import Sweeper
from gateway.waiting import Waiting
from gateway.worker import Worker


@dataclass
class Message:
    """A broker's message that notes what the worker says of it."""

    said: list[tuple[str, float | None]] = field(default_factory=list)

    async def ack(self) -> None:
        """Note it."""
        self.said.append(("done", None))

    async def nak(self, delay: float | None = None) -> None:
        """Note it."""
        self.said.append(("again", delay))

    async def in_progress(self) -> None:
        """Note it."""
        self.said.append(("working", None))


class Bench:
    """A desk with a worker who is told of jobs by hand, and the tick that wakes who waits."""

    def __init__(self, desk: Desk, broker: Broker) -> None:
        self.desk = desk
        self.worker = Worker(desk.ports, broker, owner="w1", slots=slots(4))
        self.waiting = Waiting(desk.ports)
        self.sweeper = Sweeper(desk.ports, owner="eu-1/aa")

    async def work(self) -> None:
        """Work on whatever was woken, until nothing is."""
        while self.desk.woken:
            job = self.desk.woken.pop(0)
            await self.worker._one(Told(job, Message()))  # type: ignore[arg-type]

    async def pass_time(self, seconds: float, *, step_s: float = 10.0) -> None:
        """Let time pass; the tick looks each *step_s*, and jobs whose time has come are told."""
        for _ in range(int(seconds / step_s)):
            self.desk.clock.move(step_s)
            await self.waiting.tick()
            self.desk.woken.extend(await self.desk.ports.jobs.stranded(0))
            await self.work()

    async def fails(self, code: int, *, kind: str = "text", job: str = "") -> str:
        """Have WhatsApp fail the newest sent reply of *kind* with *code*; return its id."""
        rows = [row for row in await self.desk.rows(replies) if row.kind == kind and row.sent_at]
        found = [row for row in rows if job in ("", row.job) and row.state == "sent"]
        reply = max(found, key=lambda row: row.sent_at).id
        await self.desk.status(reply, "failed", code)
        await self.sweeper.settle()
        return str(reply)

    def calls(self) -> int:
        """Return how many requests WhatsApp got."""
        return len(self.desk.world.receipts)

    async def states(self, jobs: Iterable[str]) -> set[tuple[str, str]]:
        """Return the states of *jobs*."""
        return {await self.desk.state(job) for job in jobs}
