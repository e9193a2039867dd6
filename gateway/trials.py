"""
Negative tests: what was erased is looked for in every way that we have, and must not be found.

A trial that could not be made says so (`held` None): nothing uninspected passes for erased.
"""

from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import db, holdings
from gateway.erasure import Erasure, Scope
from gateway.holdings import KEPT_AS_PROOF
from gateway.ports import Ports
from gateway.schema import inbox
from vault.erasure import Result, Trial
from vault.errors import GoneError, VaultError
from vault.model import WrappedKey
from vault.tables import subject_keys

Said = tuple[bool, str]
Backup = Callable[[], AsyncEngine]
"""Opens a database that was restored from the newest backup."""
MOST_BODIES = 500


async def trials(one: Erasure, ports: Ports, *, backup: Backup | None) -> tuple[Trial, ...]:
    """Try to read what *one* erased; *backup* opens the newest backup, if the operator named it."""
    if one.scope is not Scope.PERSON:
        told = (("re-read", lambda: _reread(one, ports)), ("list", lambda: _rows(one, ports)))
        return tuple([await _trial(name, act, ports) for name, act in told])
    tried: Sequence[tuple[str, Callable[[], Awaitable[Said]]]] = (
        ("re-read", lambda: _reread(one, ports)),
        ("decrypt", lambda: _decrypt(one, ports)),
        ("key", lambda: _key(one, ports)),
        ("list", lambda: _list(one, ports)),
        ("bodies", lambda: _bodies(one, ports)),
        ("restore", lambda: _restore(one, ports, backup)),
    )
    return tuple([await _trial(name, act, ports) for name, act in tried])


async def _trial(name: str, act: Callable[[], Awaitable[Said]], ports: Ports) -> Trial:
    try:
        held, said = await act()
    except (VaultError, SQLAlchemyError, OSError) as exc:
        return Trial(name=name, held=None, at=ports.now(), said=f"not tried: {type(exc).__name__}")
    return Trial(name=name, held=held, at=ports.now(), said=said)


async def _reread(one: Erasure, ports: Ports) -> Said:
    """Ask the object store for every object there was."""
    held = {i for f in one.facts.fates if f.result is Result.HELD for i in f.copy.idents}
    asked = [name for artifact, name in one.facts.objects if artifact not in held]
    found = [name for name in asked if await _is_there(name, ports)]
    return not found, f"{len(asked)} objects asked for, {len(found)} there"


async def _is_there(name: str, ports: Ports) -> bool:
    try:
        await ports.custody.objects.get(name)
    except GoneError:
        return False
    return True


async def _decrypt(one: Erasure, ports: Ports) -> Said:
    """Have the key service unwrap what was wrapped beside the person's key, just before."""
    if not one.facts.planted:
        return True, "there never was a key"
    opened = [each for each in one.facts.planted if await ports.keys.opens(each)]
    said = f"{len(one.facts.planted)} keys of nobody, wrapped as theirs were, {len(opened)} open"
    return not opened, said


async def _key(one: Erasure, ports: Ports) -> Said:
    living = [each for each in one.facts.subjects if await ports.keys.lives(each)]
    return not living, f"{len(one.facts.subjects)} pseudonyms, {len(living)} with a key"


async def _list(one: Erasure, ports: Ports) -> Said:
    """Run the selector again: only what another ground keeps may come up."""
    found = await holdings.holdings(
        one.subject, one.tenant, ports, known=one.facts.subjects, jobs_of=one.facts.jobs
    )
    kept = {*KEPT_AS_PROOF, "legal-holds", *_held_kinds(one)}
    left = sorted({copy.kind for copy in found.copies if copy.kind not in kept})
    return not left, f"left: {', '.join(left) or 'nothing but what is listed as kept'}"


async def _rows(one: Erasure, ports: Ports) -> Said:
    """Ask the ledger of custody for what was in scope."""
    held = {i for f in one.facts.fates if f.result is Result.HELD for i in f.copy.idents}
    asked = [artifact for artifact, _ in one.facts.objects if artifact not in held]
    left = await ports.custody.among(asked)
    return not left, f"{len(asked)} artifacts in scope, {len(left)} not destroyed"


def _held_kinds(one: Erasure) -> set[str]:
    return {fate.copy.kind for fate in one.facts.fates if fate.result is Result.HELD}


async def _bodies(one: Erasure, ports: Ports) -> Said:
    """Look for sealed bodies of accepted updates: the key of their day may live for a week."""
    count = 0
    async with db.reading(ports.engine) as tx:
        for first in range(0, len(one.facts.jobs), MOST_BODIES):
            some = inbox.c.job.in_(one.facts.jobs[first : first + MOST_BODIES])
            query = select(inbox.c.job).where(some & inbox.c.sealed.is_not(None))
            count += len((await tx.execute(query)).all())
    return count == 0, f"{len(one.facts.jobs)} jobs, {count} with a body"


async def _restore(one: Erasure, ports: Ports, backup: Backup | None) -> Said:
    """Try the person's rows of the newest backup; without one, what a backup would have held."""
    if backup is None:
        held, said = await _decrypt(one, ports)
        return held, f"no backup is named in the settings, so by the keys of nobody: {said}"
    engine = backup()
    try:
        rows = await _wrapped(one, engine)
    finally:
        await engine.dispose()
    opened = [row for row in rows if await ports.keys.opens(row)]
    return not opened, f"the newest backup holds {len(rows)} of their keys, {len(opened)} open"


async def _wrapped(one: Erasure, engine: AsyncEngine) -> list[WrappedKey]:
    c = subject_keys.c
    theirs = c.subject.in_(one.facts.subjects) & c.ciphertext.is_not(None)
    async with db.reading(engine) as tx:
        rows = (await tx.execute(select(subject_keys).where(theirs))).all()
    return [WrappedKey(kek=r.kek, version=r.version, ciphertext=r.ciphertext) for r in rows]
