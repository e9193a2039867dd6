"""
What happens in a schedule: to one person, to WhatsApp, to the clock, to the disks.

Each makes an act of the seed's choices; the trace tells it by its name. Those of `QUIET` leave
hardly anything to work on: most schedules end with one, from a point that they share.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random

from simulation.graph import DIGEST, Mood
from simulation.node import Node, Operation, Run
from simulation.person import Says

from gateway.whatsapp.payload import Choice, Revoked, Text, VoiceNote

NOES = (
    "STOP",
    "stop it",
    "STOP 😡",
    "🛑 STOP",
    "Stop ✋",
    "Hiermit widerrufe ich meine Einwilligung.",
    "Widerruf meiner Einwilligung",
    "I withdraw my consent",
)
PLAIN = 2  # of them, which every version understood
LATE = (timedelta(0), timedelta(0), timedelta(hours=25), timedelta(days=6))
JUMPS = (
    timedelta(hours=2),
    timedelta(days=45),
    timedelta(days=400),
    timedelta(hours=-2),
    timedelta(days=-45),
)
SPANS = (
    timedelta(minutes=5),
    timedelta(hours=2),
    timedelta(hours=25),
    timedelta(days=8),
    timedelta(days=40),
)
MOODS = (Mood.BUSY, Mood.LOST, Mood.SWALLOWED, Mood.REFUSED)


@dataclass(frozen=True, slots=True)
class Act:
    """One act: its name in the trace, what it does to the disks before, and in the life."""

    name: str
    do: Operation
    before: Callable[[Node], None] = lambda _node: None
    outside: bool = False  # it happens between two lives


def _told(name: str, do: Operation) -> Operation:
    async def act(run: Run) -> None:
        run.tell(name)
        await do(run)

    return act


def hello(draw: Random) -> Act:
    """Have the person type something that is no order."""

    async def do(run: Run) -> None:
        await run.deliver(Text(body="Hello"), Says.ELSE)
        await run.quiet()

    return Act("hello", do)


async def _speak(run: Run, late: timedelta = timedelta(0)) -> None:
    media = str(10_000 + len(run.node.messages))
    note = VoiceNote(media_id=media, mime_type="audio/ogg", sha256=DIGEST, voice=True)
    await run.deliver(note, Says.VOICE, late=late, media=media)


def voice(draw: Random) -> Act:
    """Have the person speak; WhatsApp delivers it at once or late."""
    late = draw.choice(LATE)

    async def do(run: Run) -> None:
        await _speak(run, late)
        await run.quiet()

    return Act(f"voice, {late} late", do)


def voice_now(draw: Random) -> Act:
    """Have the person speak."""

    async def do(run: Run) -> None:
        await _speak(run)
        await run.quiet()

    return Act("voice", do)


def speak_again(draw: Random) -> Act:
    """Have the person speak again some hours later, whatever they were asked."""

    async def do(run: Run) -> None:
        _pass(run, timedelta(hours=2))
        await _speak(run)
        await run.quiet()

    return Act("voice, two hours later", do)


def grant(draw: Random) -> Act:
    """Have the person press yes, if they were ever asked."""

    async def do(run: Run) -> None:
        if any(each.kind == "buttons" for each in run.world.shown):
            await run.deliver(Choice(id="consent.grant", title="Yes"), Says.YES)
            await run.quiet()

    return Act("press yes", do)


def refuse(draw: Random) -> Act:
    """Have the person press no, if they were ever asked."""

    async def do(run: Run) -> None:
        if any(each.kind == "buttons" for each in run.world.shown):
            await run.deliver(Choice(id="consent.refuse", title="No"), Says.NO)
            await run.quiet()

    return Act("press no", do)


def stop(draw: Random) -> Act:
    """Have the person take back their consent, in some words, delivered at once or late."""
    words, late = draw.choice(NOES), draw.choice(LATE)

    async def do(run: Run) -> None:
        await run.deliver(Text(body=words), Says.NO, late=late, then=run.mind.withdraws)
        await run.quiet()

    return Act(f"type {words!r}, {late} late", do)


def stop_and_speak(draw: Random) -> Act:
    """Have the person take back their consent in some words, and then speak all the same."""
    words = draw.choice(NOES)

    async def do(run: Run) -> None:
        await run.deliver(Text(body=words), Says.NO, then=run.mind.withdraws)
        await run.quiet()
        run.look()
        await _speak(run)
        await run.quiet()

    return Act(f"type {words!r}, then speak", do)


def burst(draw: Random) -> Act:
    """Have the person speak and take it back in one breath."""

    async def do(run: Run) -> None:
        await _speak(run)
        await run.cell.relay.publish()
        await run.deliver(Text(body="STOP"), Says.NO, then=run.mind.withdraws)
        await run.quiet()

    return Act("voice and STOP at once", do)


def revoke(draw: Random) -> Act:
    """Have the person delete the recording they sent last; WhatsApp tells us at once or late."""
    late = draw.choice(LATE)

    async def do(run: Run) -> None:
        spoken = [each for each in run.mind.said if each.says is Says.VOICE]
        if spoken:
            number = int(spoken[-1].media) - 10_000
            content = Revoked(original_id=f"wamid.{number}")
            job = spoken[-1].job
            await run.deliver(
                content, Says.REVOKE, late=late, then=lambda _said: run.mind.revoked.append(job)
            )
            await run.quiet()

    return Act(f"delete the last recording, {late} late", do)


def moody(draw: Random) -> Act:
    """Have WhatsApp fail in some way while somebody writes."""
    moods = [draw.choice(MOODS) for _ in range(draw.randint(1, 2))]

    async def do(run: Run) -> None:
        run.world.moods.extend(moods)
        await run.deliver(Text(body="Hello"), Says.ELSE)
        await run.quiet()
        run.world.moods.clear()

    return Act(f"hello, WhatsApp being {', '.join(moods)}", do)


def erase(draw: Random) -> Act:
    """Have a DPO erase the person, at once."""

    async def do(run: Run) -> None:
        found = run.bench.rows("SELECT DISTINCT subject FROM aliases ORDER BY subject")
        for (subject,) in found:
            await run.erase(subject)
        if found:
            await run.cell.erasures.tick()
            await run.quiet()

    return Act("erase", do)


def harden(draw: Random) -> Act:
    """Have the keeper roll what is to be rolled, and erasures become hard."""

    async def do(run: Run) -> None:
        _pass(run, timedelta(seconds=2))
        await run.cell.keeping.tick()
        await run.cell.erasures.tick()

    return Act("keep keys", do)


def sweep(draw: Random) -> Act:
    """Have the sweeper look at what is due."""

    async def do(run: Run) -> None:
        await run.cell.sweeper.delete_due()
        await run.cell.sweeper.destroy_leftovers()
        await run.cell.erasures.tick()

    return Act("sweep", do)


def tidy(draw: Random) -> Act:
    """Have the sweeper do its minutely and hourly work."""

    async def do(run: Run) -> None:
        await run.cell.sweeper.end_stale()
        await run.cell.sweeper.expire()
        await run.cell.sweeper.forget()

    return Act("tidy", do)


def wait(draw: Random) -> Act:
    """Let time pass, and have the sweeper look."""
    span = draw.choice(SPANS)

    async def do(run: Run) -> None:
        _pass(run, span)
        await run.cell.sweeper.delete_due()
        await run.cell.sweeper.end_stale()

    return Act(f"wait {span}", do)


def _pass(run: Run, span: timedelta) -> None:
    run.node.time.true += span


def err(draw: Random) -> Act:
    """Turn the wall clock for 14 seconds, let the cell do its chores by it, and turn it back."""
    jump, chores = draw.choice(JUMPS), draw.choice(("sweep", "tidy", "both"))

    async def do(run: Run) -> None:
        run.erred = True
        run.node.time.skew = jump
        if chores != "tidy":
            await run.cell.sweeper.delete_due()
        if chores != "sweep":
            await run.cell.sweeper.forget()
        _pass(run, timedelta(seconds=14))
        run.node.time.skew = timedelta(0)

    return Act(f"the clock {jump} off, and {chores}", do)


def again(draw: Random) -> Act:
    """Have WhatsApp deliver something once more."""
    which = draw.random()

    async def do(run: Run) -> None:
        young = [
            number
            for number, message in enumerate(run.node.messages)
            if message.sent_at > (run.node.time.now() - timedelta(days=7)).timestamp()
        ]
        if not young:
            return
        lost = any(each.lost for each in run.mind.said)
        if await run.accepted(young[int(which * len(young))]) and not lost:
            run.node.found.append("what was acknowledged was taken for new")
        await run.quiet()

    return Act("deliver something once more", do)


def report(draw: Random) -> Act:
    """Have WhatsApp report what became of our messages."""

    async def do(run: Run) -> None:
        await run.report()
        await run.cell.sweeper.settle()
        await run.quiet()

    return Act("report statuses", do)


def lose_broker(draw: Random) -> Act:
    """Delete the broker's disk."""

    async def do(run: Run) -> None:
        run.cell.broker.stream.waiting.clear()
        run.cell.broker.stream.heard.clear()
        await run.quiet()

    return Act("the broker's disk is lost", do)


def back_up(draw: Random) -> Act:
    """Take a backup of the database."""

    async def do(run: Run) -> None:
        run.node.backup = run.cell.image()

    return Act("back up", do)


def restore(draw: Random) -> Act:
    """Put the database back to its backup; the log, the objects, the keys and the journal stay."""

    async def do(run: Run) -> None:
        await run.quiet()
        await run.cell.erasures.tick()

    def before(node: Node) -> None:
        if node.backup is None:
            return
        node.disks.database = node.backup.database
        for said in node.mind.said:
            said.lost = True  # the backup may be older than it: nothing is asked of its end

    return Act("restore the database", do, before, outside=True)


def restart(draw: Random) -> Act:
    """Stop and start."""

    async def do(run: Run) -> None:
        await run.recover()

    return Act("restart", do, outside=True)


def _one(act: Act) -> Act:
    return replace(act, do=_told(act.name, act.do))


Maker = Callable[[Random], Act]
BUSY: tuple[tuple[Maker, int], ...] = (
    (voice_now, 6),
    (voice, 2),
    (grant, 4),
    (stop, 3),
    (stop_and_speak, 2),
    (hello, 1),
    (revoke, 2),
    (burst, 1),
    (refuse, 1),
    (moody, 1),
    (erase, 3),
    (harden, 1),
    (back_up, 3),
    (wait, 2),
)
QUIET: tuple[tuple[Maker, int], ...] = (
    (sweep, 6),
    (wait, 10),
    (err, 8),
    (again, 12),
    (report, 5),
    (lose_broker, 4),
    (back_up, 2),
    (restore, 10),
    (restart, 4),
    (tidy, 2),
)
LAST = tuple((maker, weight * 14) for maker, weight in QUIET) + tuple(
    (maker, weight * 2) for maker, weight in BUSY
)


def draw_from(pool: tuple[tuple[Maker, int], ...], draw: Random) -> Act:
    """Return an act of *pool*, as its weights have it."""
    [maker] = draw.choices([maker for maker, _ in pool], [weight for _, weight in pool])
    return _one(maker(draw))
