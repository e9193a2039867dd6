"""
``policy replay`` and ``policy explain``: stored decisions, old bundles, and the embedded engine.

Both only read, and work while the gateway runs. What they load is checked as an archive is;
a candidate needs no signature, because nothing here enforces it.
"""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Row
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import decisions
from gateway.compose import egress as exits
from gateway.compose import identities, publication, stores
from gateway.compose.surroundings import now
from gateway.errors import GatewayError, MissingPartError
from gateway.replayed import Explanation
from gateway.settings import Settings
from policy import archive, explain, replay
from policy.bundle import Bundle
from policy.embedded import EmbeddedEngine
from policy.errors import BundleError
from policy.release import Releases
from policy.replay import Fault, Gone, Judge, Report, Stored
from vault.custody import Custody

_IDENT = re.compile(r"d_[0-9a-f]{32}")


class UnexplainedError(GatewayError):
    """No decision of this id can be explained; the message says why."""


async def replayed(
    settings: Settings, candidate: Path, *, since: datetime | None, limit: int
) -> Report:
    """
    Return what the bundle in *candidate* would have decided otherwise.

    The newest *limit* decisions are looked at, or those of them made at *since* or after.

    Raises:
        BundleError: *candidate* is no bundle that could be enforced.
        MissingPartError: there is no database, or it cannot be read.

    """
    bundle = archive.read(candidate)
    async with _opened(settings) as (engine, custody), _judges(settings) as judges:
        found = decisions.newest(engine, custody, since=since, limit=limit)
        return await replay.replay(found, judges.of, judges.judge(bundle))


async def explained(settings: Settings, ident: str) -> Explanation:
    """
    Return why the decision *ident* chose whom it chose, and whether it comes back as it was made.

    Raises:
        BundleError: its bundle is kept, and is not what it was.
        MissingPartError: there is no database, or it cannot be read.
        UnexplainedError: it is unknown, or its input or bundle is gone.

    """
    if not _IDENT.fullmatch(ident):
        raise UnexplainedError("not the id of a decision (they are d_ and 32 hex digits)")
    async with _opened(settings) as (engine, custody), _judges(settings) as judges:
        row = await decisions.find(engine, ident)
        if row is None:
            raise UnexplainedError(f"{ident}: no such decision is kept (the log keeps more)")
        stored = _openable(await decisions.opened(row, custody))
        judge = await judges.of(stored.revision)
        if judge is None:
            raise UnexplainedError(f"{ident}: bundle {stored.revision} is kept no longer")
        if isinstance(judge, BundleError):
            raise judge
        return await _explanation(row, stored, judge)


async def _explanation(row: Row[Any], stored: Stored, judge: Judge) -> Explanation:
    undecided = stored.outcome == "undecided"
    found = await explain.asked_again(stored.asked, judge.engine, facts=judge.facts)
    return Explanation(
        stored=stored,
        at=datetime.fromtimestamp(row.at / 1e6, UTC).isoformat(timespec="milliseconds"),
        engine=row.engine,
        fault="" if undecided else await replay.reproduce(stored, judge),
        law=found.law,
        processors=found.processors,
    )


def _openable(found: Stored | Gone | Fault) -> Stored:
    if isinstance(found, Gone):
        raise UnexplainedError(f"{found.id}: its input died with its subject's key")
    if isinstance(found, Fault):
        raise UnexplainedError(f"{found.id}: its row cannot be read ({found.why}): a fault")
    return found


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[AsyncEngine, Custody]]:
    engine = stores.existing_database(settings)
    objects = await stores.objects(settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(engine.dispose)
        mount = await exits.vault_mount(settings, await exits.egress(settings, stack), stack)
        keyring = stores.keyring(settings, identities.worker(settings, mount))
        keys = stores.keys(settings, engine, keyring)
        try:
            yield engine, Custody(engine, keys, objects, now=now)
        except SQLAlchemyError as exc:
            raise MissingPartError(
                f"the database cannot be read: {type(exc).__name__} (has the gateway run once?)"
            ) from None


@dataclass(slots=True)
class Judges:
    """One embedded engine per bundle that was enforced here, loaded when first asked for."""

    releases: Releases
    stack: AsyncExitStack
    _known: dict[str, Judge | BundleError | None] = field(default_factory=dict)

    async def of(self, revision: str) -> Judge | BundleError | None:
        """Return the judge with the bundle of *revision*; see `policy.replay.replay`."""
        if revision not in self._known:
            self._known[revision] = self._load(revision)
        return self._known[revision]

    def judge(self, bundle: Bundle) -> Judge:
        """Return a judge with *bundle*, until the stack closes."""
        engine = EmbeddedEngine(bundle)
        self.stack.push_async_callback(engine.aclose)
        return Judge(engine, bundle.facts)

    def _load(self, revision: str) -> Judge | BundleError | None:
        if revision not in self.releases.revisions():
            return None
        try:
            return self.judge(self.releases.bundle(revision))
        except BundleError as exc:
            return exc


@asynccontextmanager
async def _judges(settings: Settings) -> AsyncIterator[Judges]:
    async with AsyncExitStack() as stack:
        yield Judges(publication.releases(settings), stack)
