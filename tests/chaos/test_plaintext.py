"""
Nothing is in clear when the cell dies or errs at a named step, nor after it went on.

The ordinary run kills at the steps where most is held; the long one at each, one at a time.
"""

import asyncio
import contextlib
from collections.abc import Collection

import pytest
from support.erased import (
    KEEP_ALIASES,
    VERDICTS,
    aliases,
    ask,
    ask_erasure,
    certified,
    step,
    subject_of,
    tables_with,
)
from support.points import ANSWERING, ERASING
from support.stage import PHONE
from support.trap import NAME, Trap

from gateway.demo.graph.person import Person

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

# One conversation each, killed three times.
IN_TURN = (
    ("accept.committed", "audio.kept", "transcript.kept"),
    ("touch.began", "turn.committed", "reply.attempted"),
)
ERRING = ("audio.kept", "transcript.kept", "reply.sent", "erasure.keys", "erasure.rows")
WAVES, AT_ONCE, PATIENCE_S = 12, 4, 10.0  # who is not answered by then will not be


async def answered_though_killed_at(trap: Trap, *points: str) -> None:
    """Let a person converse with a cell that is killed at each of *points* in turn."""
    first, *rest = points
    await trap.start(VOCUSTODY_CRASH_AT=first)
    async with trap.bringing():
        talking = asyncio.create_task(trap.converse())
        for following in rest:
            assert await trap.killed() == []
            await trap.revive(VOCUSTODY_CRASH_AT=following)
        assert await trap.killed() == []
        await trap.revive()
        await talking
    assert await trap.hits() == []


async def erased_though_killed_at(trap: Trap, *points: str) -> None:
    """Erase a person on a cell that is killed at each of *points* in turn."""
    first, *rest = points
    town = trap.town
    await trap.start(VOCUSTODY_CRASH_AT=first)
    await trap.converse()
    subject, known_as = await subject_of(town, PHONE), aliases(town)
    assert tables_with(town, known_as) == {"aliases"}
    ident = await ask_erasure(town, subject)
    for following in rest:
        assert await trap.killed() == []
        await trap.revive(VOCUSTODY_CRASH_AT=following)
    assert await trap.killed() == []
    assert step(town, ident) == points[-1].removeprefix("erasure."), "it died where it should"
    await trap.revive()

    assert await certified(town, ident) in VERDICTS
    certificate = await ask(town, "erasures", "certificate", ident)
    assert certificate.status == 0
    assert await trap.hits(certificate=certificate.out.encode()) == []
    assert tables_with(town, known_as) == KEEP_ALIASES, "nothing leads from the number to anybody"
    assert not any(alias in certificate.out for alias in known_as)
    assert (await ask(town, "subject", "find", "fernruf", typed=f"{PHONE}\n")).status == 2


@pytest.mark.parametrize("points", IN_TURN, ids=lambda points: points[0])
async def test_nothing_is_in_clear_when_it_dies(trap: Trap, points: tuple[str, ...]) -> None:
    """What a process held when it was killed is nowhere but in the memory that is gone."""
    await answered_though_killed_at(trap, *points)


async def test_an_erasure_that_dies_at_every_step_is_finished(trap: Trap) -> None:
    """Each start goes on from the last step that is done; the end is a certificate."""
    await erased_though_killed_at(trap, *ERASING)


@pytest.mark.long
@pytest.mark.parametrize("point", ANSWERING)
async def test_nothing_is_in_clear_when_it_dies_at(trap: Trap, point: str) -> None:
    """The same at every step there is, one at a time."""
    await answered_though_killed_at(trap, point)


@pytest.mark.long
@pytest.mark.parametrize("point", ERASING)
async def test_an_erasure_that_dies_at_one_step_is_finished(trap: Trap, point: str) -> None:
    """The same with a cell that dies once."""
    await erased_though_killed_at(trap, point)


async def erred_at(trap: Trap, points: tuple[str, ...]) -> None:
    """Let people converse with a cell that errs once at each of *points*, and erase one."""
    answering, erasing = set(ANSWERING) & set(points), set(ERASING) & set(points)
    await trap.start(VOCUSTODY_CRASH_AT=",".join(f"{point}:raise" for point in points))
    async with trap.bringing():
        for wave in range(WAVES):
            if not unreached(trap, answering):
                break
            crowd = [person(trap, AT_ONCE * wave + nth) for nth in range(AT_ONCE)]
            await asyncio.gather(*(gives_up(trap, one) for one in crowd))
        assert unreached(trap, answering) == set()
        last = person(trap, AT_ONCE * WAVES)
        await gives_up(trap, last)
    ident = await ask_erasure(trap.town, await subject_of(trap.town, str(last.phone)))

    assert await certified(trap.town, ident) in VERDICTS
    assert unreached(trap, erasing) == set()
    assert await trap.hits() == []


async def test_nothing_is_in_clear_when_it_errs(trap: Trap) -> None:
    """An error's text may quote a person; so may what is left when a step is not finished."""
    await erred_at(trap, ERRING)


@pytest.mark.long
async def test_nothing_is_in_clear_when_every_step_errs(trap: Trap) -> None:
    """The same at every step there is, in one life of a cell."""
    await erred_at(trap, (*ANSWERING, *ERASING))


def unreached(trap: Trap, points: Collection[str]) -> set[str]:
    """Return those of *points* at which no error was raised yet."""
    log = trap.town.cell.log
    return {point for point in points if f"crash point: {point}\n" not in log}


def person(trap: Trap, nth: int) -> Person:
    """Return somebody new, who is looked for from now on."""
    phone, bsuid = f"4930231252{nth:02}", f"DE.19374206852147{nth:02}"
    one = trap.town.world.person(phone, bsuid=bsuid, name=f"{NAME} {nth}", line=trap.town.line)
    trap.watch_person(one, f"person {nth}")
    return one


async def gives_up(trap: Trap, one: Person) -> None:
    """Converse, until no answer comes."""
    with contextlib.suppress(TimeoutError):
        await trap.converse(one, within_s=PATIENCE_S)
