"""
The one selector: everything we hold of a person, for an access report and for an erasure alike.

It covers every table there is. `COVERAGE` says of each how its rows are found; a test walks the
schema and fails for a table that is in no line.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson
from sqlalchemy import ColumnElement, Table, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway import db, persons, subjects
from gateway.persons import Held
from gateway.schema import (
    aliases,
    decisions,
    erasures,
    handovers,
    identity_changes,
    inbox,
    jobs,
    merges,
    notices,
    pauses,
    relay,
    replies,
    requests,
    sessions,
    statuses,
    tombstones,
)
from gateway.schema import subjects as declared
from policy.consents.tables import consents
from vault.custody import Custody
from vault.erasure import Copy
from vault.model import Kind
from vault.tables import artifacts, retention, subject_keys

COVERAGE: Mapping[str, str] = {
    "access_approvals": "no person: staff, and what they approved",
    "access_requests": "no person: opaque ids of what staff asked to do, for 30 days",
    "accounts": "no person: the operator's numbers",
    "agreed_times": "no person: what time it was agreed to be",
    "aliases": "by subject",
    "artifacts": "by subject",
    "buckets": "no person: key-encryption keys",
    "consents": "by subject",
    "decisions": "by subject",
    "duties": "no person: leases of processes",
    "ending_keks": "no person: key-encryption keys",
    "epoch_keys": "no person: keys of hours and months",
    "erasures": "by subject",
    "findings": "no person: processors",
    "forwards": "sealed to another cell, which answers for it; gone once it is there",
    "handovers": "by subject",
    "held": "with the artifact",
    "hold_requests": "no person for long: what a command wants, for a minute",
    "hold_scopes": "named by a hold, and kept with it (GDPR Art. 17(3)(e))",
    "holds": "counted as legal-holds; the ground of what is kept",
    "identity_changes": "by subject; gone once the log has them",
    "inbox": "by job",
    "jobs": "by subject",
    "merges": "by subject",
    "named_keys": "no person: keys of the cell",
    "notices": "by subject",
    "observations": "no person: processors",
    "pauses": "by subject",
    "positions": "no person: how far the log is",
    "relay": "by job",
    "replies": "by job",
    "requests": "by subject",
    "retention": "by artifact",
    "sessions": "by subject",
    "statuses": "by reply",
    "subject_keys": "by subject",
    "subjects": "by subject",
    "tombstones": "by erasure",
    "unattributed": "names nobody (GDPR Art. 11): sealed parts of deliveries, for a day",
}
"""Every table, and how a person's rows in it are found."""

KEPT_AS_PROOF: Mapping[str, str] = {
    "consents": "proof of consent (GDPR Art. 7(1), 17(3)(e)); no number leads to it any more",
    "erasures": "proof of this erasure (GDPR Art. 5(2))",
    "inbox": "keyed hashes of message ids, for 30 days, so that nothing is answered twice",
    "tombstones": "keyed hashes of the numbers, for 60 days, so that nothing comes back",
}
"""Tables whose rows outlive an erasure, and on which ground."""

FORMAT = "vocustody-selector-v1"


class Place(Protocol):
    """Where a cell keeps what it holds."""

    @property
    def region(self) -> str:
        """Return the cell's region."""
        ...

    @property
    def engine(self) -> AsyncEngine:
        """Return its database."""
        ...

    @property
    def custody(self) -> Custody:
        """Return what keeps its artifacts."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """
    What is held of *subject* and of those who became it (*subjects*, all of them).

    *aliases* are keyed hashes, and *held* from when to when each was theirs; *jobs* and
    *recordings* are ids. *selector* says how this was found,
    and its digest is what a report and a certificate of the same selection share.
    """

    tenant: str
    subject: str
    subjects: tuple[str, ...]
    aliases: tuple[str, ...]
    held: tuple[Held, ...]
    jobs: tuple[str, ...]
    recordings: tuple[str, ...]
    copies: tuple[Copy, ...]
    selector: Mapping[str, Any]

    @property
    def selector_sha256(self) -> str:
        """Return the digest of *selector* in its canonical form."""
        return hashlib.sha256(orjson.dumps(self.selector, option=orjson.OPT_SORT_KEYS)).hexdigest()


async def holdings(
    subject: str,
    tenant: str,
    place: Place,
    *,
    known: Sequence[str] = (),
    jobs_of: Sequence[str] = (),
) -> Holdings:
    """
    Return everything that is held of *subject* of *tenant*.

    *known* are others that became this subject, and *jobs_of* jobs of theirs, which the tables
    may have forgotten meanwhile.
    """
    formerly = await subjects.formerly(place.engine, subject)
    whole = tuple(dict.fromkeys((*known, *formerly)))
    async with db.reading(place.engine) as tx:
        theirs = (await tx.execute(select(jobs).where(jobs.c.subject.in_(whole)))).all()
        held = await persons.held_by(tx, whole)
        found = Holdings(
            tenant=tenant,
            subject=subject,
            subjects=whole,
            aliases=tuple(dict.fromkeys(each.alias for each in held)),
            held=tuple(held),
            jobs=tuple(dict.fromkeys((*jobs_of, *(row.id for row in theirs)))),
            recordings=tuple(row.artifact for row in theirs),
            copies=(),
            selector={
                "coverage": dict(COVERAGE),
                "format": FORMAT,
                "subjects": sorted(whole),
                "tenant": tenant,
            },
        )
        copies = (*await _artifacts(tx, found, place), *await _rows(tx, found, place))
    return replace(found, copies=copies)


def rows_of(found: Holdings) -> list[tuple[Table, ColumnElement[bool]]]:
    """Return the tables that hold rows of this person, and which rows; artifacts aside."""
    whole, work = found.subjects, found.jobs
    replied = select(replies.c.id).where(replies.c.job.in_(work))
    return [
        (sessions, sessions.c.subject.in_(whole)),
        (statuses, statuses.c.reply.in_(replied)),
        (replies, replies.c.job.in_(work)),
        (relay, relay.c.job.in_(work)),
        (inbox, inbox.c.job.in_(work)),
        (notices, notices.c.subject.in_(whole)),
        (pauses, pauses.c.subject.in_(whole)),
        (handovers, handovers.c.subject.in_(whole)),
        (decisions, decisions.c.subject.in_(whole)),
        (requests, requests.c.subject.in_(whole)),
        (declared, declared.c.subject.in_(whole)),
        (identity_changes, identity_changes.c.subject.in_(whole)),
        (aliases, aliases.c.subject.in_(whole)),
        (merges, or_(merges.c.subject.in_(whole), merges.c.into.in_(whole))),
        (jobs, jobs.c.subject.in_(whole)),
        (consents, consents.c.subject.in_(whole)),
        (erasures, erasures.c.subject.in_(whole)),
        (tombstones, tombstones.c.alias.in_(found.aliases)),
        (subject_keys, subject_keys.c.subject.in_(whole) & subject_keys.c.ciphertext.is_not(None)),
    ]


async def _artifacts(tx: AsyncConnection, found: Holdings, place: Place) -> list[Copy]:
    kept = artifacts.c.subject.in_(found.subjects) & (artifacts.c.state != "destroyed")
    query = select(artifacts).where(kept).order_by(artifacts.c.id)
    rows = (await tx.execute(query)).all()
    return [
        Copy(
            kind=kind.value,
            store=f"objects:{place.custody.objects.name}",
            region=place.region,
            idents=tuple(row.id for row in rows if row.kind == kind),
            count=sum(row.kind == kind for row in rows),
            size=sum(row.size for row in rows if row.kind == kind),
        )
        for kind in Kind
        if any(row.kind == kind for row in rows)
    ]


async def _rows(tx: AsyncConnection, found: Holdings, place: Place) -> list[Copy]:
    copies = []
    for table, which in rows_of(found):
        count = (
            await tx.execute(select(func.count()).select_from(table).where(which))
        ).scalar_one()
        if count:
            copies.append(
                Copy(kind=str(table.name), store="database", region=place.region, count=count)
            )
    held = retention.c.hold.is_not(None) & retention.c.artifact.in_(
        select(artifacts.c.id).where(artifacts.c.subject.in_(found.subjects))
    )
    count = (await tx.execute(select(func.count()).select_from(retention).where(held))).scalar_one()
    if count:
        copies.append(Copy(kind="legal-holds", store="database", region=place.region, count=count))
    return copies
