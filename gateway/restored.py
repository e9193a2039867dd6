"""
What a restored database does not know of those who said no since its backup; the log knows it.

- The database notes how far the log is (`note`). When a cell starts, it reads the log from there
  on (`recall`), before a door opens: after an ordinary stop that is a moment's leaves, after a
  restore everything since the backup.
- Only a no is taken from the log: a yes that was lost is asked for again. That an account became
  somebody else's is one, too: WhatsApp says it once, and nobody's yes counts for the next holder.
- Of erasures the log is a third journal, for the day when both places of the journal were put back
  together with the database (`erased`).
"""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from audit.model import Event, EventType, Leaf
from gateway import consents, db, persons
from gateway.erasure import RESTORE, Scope
from gateway.identity import Why
from gateway.ports import Ports
from gateway.schema import positions
from gateway.tombstones import STANDS_FOR, Stone
from policy.model import Consent, ConsentState, Expressed

LOG = "log"
NOES = {
    EventType.CONSENT_REFUSED: ConsentState.REFUSED,
    EventType.CONSENT_WITHDRAWN: ConsentState.WITHDRAWN,
}
KEPT_FOR = timedelta(days=366)


class Log(Protocol):
    """The part of the trail that is read here; see `audit.trail.Quarters`."""

    async def sizes(self) -> dict[str, int]:
        """Return how many leaves the log of each quarter has."""
        ...

    def since(self, sizes: Mapping[str, int]) -> AsyncIterator[Leaf]:
        """Yield every leaf that was not there when the logs had *sizes*."""
        ...


async def note(ports: Ports, trail: Log) -> None:
    """Note how far the log is: everything before that is known to the tables."""
    sizes = await trail.sizes()
    insert = sqlite.insert if ports.engine.dialect.name == "sqlite" else postgresql.insert
    async with ports.engine.begin() as tx:
        for quarter, size in sizes.items():
            row = {"quarter": quarter, "size": size}
            await tx.execute(
                insert(positions)
                .values(name=f"{LOG}.{quarter}", **row)
                .on_conflict_do_update(index_elements=[positions.c.name], set_=row)
            )


async def recall(ports: Ports, trail: Log) -> int:
    """Put into the ledger every no that only the log knows; return how many those were."""
    count = 0
    async for leaf in trail.since(await _noted(ports)):
        if former := _renewed(leaf.event):
            await persons.end_names(former, int(leaf.event.at.timestamp()), ports)
        row = _no(leaf.event)
        if row is not None and not await _known(row, ports):
            await ports.consents.record(row)
            count += 1
    await note(ports, trail)
    return count


async def erased(ports: Ports, trail: Log) -> list[Stone]:
    """Return the persons that were erased since the tables noted how far the log was, as stones."""
    noted = await _noted(ports)
    found = [_stone(leaf.event) async for leaf in trail.since(noted)]
    return list({stone.erasure: stone for stone in found if stone is not None}.values())


async def _known(row: Consent, ports: Ports) -> bool:
    return any(row.id == each.id for each in await ports.consents.history(row.tenant, row.subject))


async def _noted(ports: Ports) -> dict[str, int]:
    async with db.reading(ports.engine) as tx:
        query = select(positions).where(positions.c.name.startswith(f"{LOG}."))
        return {row.quarter: row.size for row in await tx.execute(query)}


def _stone(event: Event) -> Stone | None:
    """Return what a journal would say of *event*, if it is a person's erasure."""
    person = event.detail.get("scope") == Scope.PERSON
    if event.type is not EventType.ERASURE_EXECUTED or not person or not event.subject:
        return None
    return Stone(
        erasure=str(event.artifact),
        tenant=event.tenant,
        subject=event.subject,
        subjects=tuple(dict.fromkeys((event.subject, *event.detail.get("subjects", ())))),
        aliases=(),  # the log does not know them; the database that was put back does
        because=RESTORE,
        trigger=RESTORE,
        erased_at=int(event.at.timestamp()),
        until=int((event.at + STANDS_FOR).timestamp()),
    )


def _renewed(event: Event) -> str:
    """Return whose account became somebody else's, as *event* tells; WhatsApp says it once."""
    split = event.type is EventType.SUBJECT_SPLIT
    changed = event.detail.get("evidence") == Why.IDENTITY_CHANGED
    return str(event.detail["former"]) if split and changed else ""


def _no(event: Event) -> Consent | None:
    """Return the row that *event* tells of, if it is a no."""
    if event.type not in NOES or event.subject is None or event.job is None:
        return None
    at, told = int(event.at.timestamp()), event.detail
    return Consent(
        id=consents.ident(event.job, str(told["purpose"])),
        tenant=event.tenant,
        subject=event.subject,
        purpose=str(told["purpose"]),
        state=NOES[event.type],
        at=at,
        expires_at=at + int(KEPT_FOR.total_seconds()),
        notice_version=str(told["notice_version"]),
        notice_sha256=str(told["notice_sha256"]),
        language=str(told["language"]),
        channel=consents.CHANNEL,
        evidence="",
        expressed=Expressed.UNKNOWN,
    )
