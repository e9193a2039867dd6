"""
What others still have of an erased person, and what we keep: each copy with its ground or its end.

Nothing here is deleted by us. A vendor's inside is its contract; a backup's row is dead when its
key is, and gone when the backup is; a snapshot of the key service is the one copy that no roll
reaches, so it is dated.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from audit.model import EventType, Leaf
from gateway import holding
from gateway.erasure import Erasure, Scope
from gateway.inbox import INTAKE_DAYS
from gateway.ports import Ports
from residency.model import Processor, Service
from vault.erasure import Copy, Fate, Method, Result

AT_META = timedelta(days=30)  # its default for media; a media id from a webhook works for 7 days
CACHED_FOR = timedelta(seconds=60)
FETCH, DELETE = "fetch", "delete-media"


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizons:
    """How long an operator keeps backups of the database, and snapshots of the key service."""

    database: timedelta
    snapshots: timedelta


@dataclass(slots=True)
class _Touched:
    """What the log says of one processor: touches by action, the last time, and who confirmed."""

    touches: int = 0
    last: datetime | None = None
    fetched: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)


async def remains(one: Erasure, ports: Ports, *, horizons: Horizons) -> list[Fate]:
    """Return what becomes of the copies that are not ours to delete."""
    touched = await _touched(one.facts.recordings, ports)
    vendors = [_vendor(name, seen, ports) for name, seen in sorted(touched.items())]
    if one.scope is not Scope.PERSON:
        return [*vendors, await _epochs(one, ports)]
    return [*vendors, *_ours(one, ports, horizons)]


async def _epochs(one: Erasure, ports: Ports) -> Fate:
    """Return until when backups of the object store open: the person's key lives on."""
    until = await ports.keys.epochs_end([artifact for artifact, _ in one.facts.objects])
    return _fate(
        "object-store-backups",
        "object-backup",
        Result.KEPT,
        Method.KEY_DESTRUCTION,
        ports,
        "a backup of the object store opens until the key of their hour or month ends: then, or "
        "when the last of what was stored in the same time has run out",
        ground="beyond use until the key ends",
        until=until,
    )


async def _touched(recordings: Iterable[str], ports: Ports) -> dict[str, _Touched]:
    found: dict[str, _Touched] = defaultdict(_Touched)
    for recording in recordings:
        leaves = await ports.trail.leaves(artifact=recording)
        done = {leaf.event.touch for leaf in leaves if _succeeded(leaf)}
        for event in (leaf.event for leaf in leaves if leaf.event.type is EventType.TOUCH_BEGAN):
            seen = found[event.processor or "unknown"]
            seen.touches += 1
            seen.last = max(filter(None, (seen.last, event.at)))
            if event.action == FETCH:
                seen.fetched.add(recording)
            if event.action == DELETE and event.touch in done:
                seen.deleted.add(recording)
    return found


def _succeeded(leaf: Leaf) -> bool:
    return leaf.event.type is EventType.TOUCH_ENDED and leaf.event.outcome == "done"


def _vendor(name: str, seen: _Touched, ports: Ports) -> Fate:
    row = ports.processors.get(name)
    if name == holding.READER:
        said = "opened for a legal hold, by people of the tenant: what they read is theirs"
        return _fate(name, "vendor", Result.KEPT, Method.EXPIRY, ports, said, seen=seen)
    if row is None:
        said = "no row of the registry tells what it keeps"
        return _fate(name, "vendor", Result.UNAUDITED, Method.EXPIRY, ports, said, seen=seen)
    if row.service is Service.MESSAGING:
        return _channel(row, seen, ports)
    if not row.hosts:
        said = "inside the cell: memory of one call"
        return _fate(name, "vendor", Result.ERASED, Method.EXPIRY, ports, said, seen=seen)
    said = f"by contract, unverified: {row.retention} ({_paper(row)})"
    return _fate(name, "vendor", Result.BY_CONTRACT, Method.EXPIRY, ports, said, seen=seen)


def _channel(row: Processor, seen: _Touched, ports: Ports) -> Fate:
    """WhatsApp: it confirmed the deletion of media or its clock ends them; messages are its own."""
    said = (
        f"attested by vendor: deletion confirmed for {len(seen.deleted)} of {len(seen.fetched)} "
        f"recordings; by contract, unverified: {row.retention} ({_paper(row)}); "
        "what was sent and received is in the person's own WhatsApp"
    )
    return _fate(
        row.id,
        "vendor",
        Result.BY_CONTRACT,
        Method.VENDOR_DELETION if seen.deleted else Method.EXPIRY,
        ports,
        said,
        seen=seen,
        until=seen.last + AT_META if seen.last and seen.fetched - seen.deleted else None,
    )


def _paper(row: Processor) -> str:
    if not row.contract:
        return "no contract is filed"
    digest = hashlib.sha256(row.contract.encode()).hexdigest()
    return f"contract {row.contract}, sha256 of its reference {digest[:16]}"


def _ours(one: Erasure, ports: Ports, horizons: Horizons) -> Sequence[Fate]:
    gone = one.executed_at or ports.now()
    return [*_older_copies(gone, ports, horizons), *_kept(ports)]


def _older_copies(gone: datetime, ports: Ports, horizons: Horizons) -> Sequence[Fate]:
    return [
        _fate(
            "processes",
            "key-caches",
            Result.ERASED,
            Method.EXPIRY,
            ports,
            "dropped here at once, elsewhere within 60 s; Python memory is not wiped",
            until=gone + CACHED_FOR,
        ),
        _fate(
            "database-backups",
            "database-backup",
            Result.ERASED,
            Method.KEY_DESTRUCTION,
            ports,
            "content in older copies is sealed under a key whose wrapping is trimmed by the roll",
        ),
        _fate(
            "database-backups",
            "database-backup-rows",
            Result.KEPT,
            Method.EXPIRY,
            ports,
            "pseudonyms, times and keyed hashes in backups from before; erased again on restore",
            ground="beyond use until the backup expires",
            until=gone + horizons.database,
        ),
        _fate(
            "database-backups",
            "database-backup-intake",
            Result.KEPT,
            Method.EXPIRY,
            ports,
            "an update of theirs that was waiting when a backup was made is in it, sealed under "
            "the key of its day and no person's; that key is destroyed on its own clock",
            ground="beyond use until the key of the day goes",
            until=gone + timedelta(days=INTAKE_DAYS + 1),
        ),
        _fate(
            "key-service",
            "key-service-snapshot",
            Result.KEPT,
            Method.EXPIRY,
            ports,
            "snapshots from before the roll hold the old key versions; they open something only "
            "together with a backup of the database from before and the unseal keys",
            ground="beyond use until the snapshot expires",
            until=gone + horizons.snapshots,
        ),
    ]


def _kept(ports: Ports) -> Sequence[Fate]:
    return [
        _fate(
            "audit-log",
            "audit-log",
            Result.KEPT,
            Method.EXPIRY,
            ports,
            "random pseudonyms and salted commitments; no row leads to a person any more",
            ground="GDPR Art. 5(2), 17(3)(b) and (e)",
        ),
        _fate(
            "handed-out",
            "access-reports",
            Result.KEPT,
            Method.EXPIRY,
            ports,
            "reports that were handed out are their recipients'; none is kept here",
            ground="not ours",
        ),
    ]


def _fate(
    store: str,
    kind: str,
    result: Result,
    method: Method,
    ports: Ports,
    detail: str,
    *,
    seen: _Touched | None = None,
    ground: str = "",
    until: datetime | None = None,
) -> Fate:
    at = ports.now()
    return Fate(
        copy=Copy(kind=kind, store=store, region=_region(store, ports), count=_count(seen)),
        method=method,
        result=result,
        began=at,
        ended=at,
        executor=ports.cell,
        detail=detail,
        until=until,
        ground=ground,
    )


def _region(store: str, ports: Ports) -> str:
    row = ports.processors.get(store)
    return row.region if row else ports.region


def _count(seen: _Touched | None) -> int:
    return seen.touches if seen else 0
