"""
The certificate of an erasure: twelve parts, from what was found, done and tried; signed and logged.

The key is the cell's own and no person's. The document is kept before its digest goes to the log:
after a crash in between the same document is certified, not another one.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from audit.evidence import erasure as evidence
from audit.model import Event, EventType, Receipt
from gateway import db, erasure, log, tombstones
from gateway.erasure import Erasure, Scope
from gateway.holdings import COVERAGE, FORMAT
from gateway.jobs import micros
from gateway.ports import Ports
from gateway.schema import erasures
from gateway.tombstones import STANDS_FOR
from gateway.trials import Backup, trials
from vault.erasure import SHOWN_AS_DONE, Fate, Result, Verdict, verdict

KEY = "certificate-signing"
CONTEXT = {
    "dct": "http://purl.org/dc/terms/",
    "dpv": "https://w3id.org/dpv#",
    "eu-gdpr": "https://w3id.org/dpv/legal/eu/gdpr#",
}
LEAVES = (EventType.ERASURE_EXECUTED, EventType.ERASURE_HARDENED, EventType.ERASURE_REQUESTED)
NOT_INSPECTED = (
    "the inside of vendors and of WhatsApp",
    "backups and snapshots that the settings do not name",
    "memory of processes that have ended",
)

IDENTITY = {
    "": "by whoever asked, named in the trigger; this cell saw none",
    "person": "asked for and confirmed from the number or user id that led to the pseudonym",
}
"""How it was known who asks, by what the erasure was triggered."""


async def certify(one: Erasure, ports: Ports, *, backup: Backup | None = None) -> None:
    """Try to read what *one* erased, judge, sign, log, and keep the certificate."""
    draft = await _draft(one, ports)
    if draft is None:
        draft = await _made(one, ports, backup)
        facts = replace(one.facts, version=draft["certificate"]["identity"]["version"])
        await erasure.note(ports.engine, one.id, certificate=_encoded(draft), facts=facts)
    made = draft["certificate"]
    said = Verdict(made["verdict"]["verdict"])
    receipt = await _logged(one, draft, ports)
    document = {**draft, "proof": await ports.trail.prove(receipt)}
    await erasure.note(
        ports.engine,
        one.id,
        verdict=said.value,
        certificate=_encoded(document),
        certified_at=micros(ports.now()),
    )
    tell = log.get().info if said in SHOWN_AS_DONE else log.get().error
    tell("erasure.certified", outcome=said.value)


async def _draft(one: Erasure, ports: Ports) -> dict[str, Any] | None:
    """Return the signed document that a crash left without its proof, if there is one."""
    query = select(erasures.c.certificate).where(erasures.c.id == one.id)
    async with db.reading(ports.engine) as tx:
        kept: bytes | None = (await tx.execute(query)).scalar()
    found: dict[str, Any] = json.loads(kept) if kept else {}
    return found if found and "proof" not in found else None


async def _made(one: Erasure, ports: Ports, backup: Backup | None) -> dict[str, Any]:
    one = replace(one, facts=replace(one.facts, trials=await trials(one, ports, backup=backup)))
    key = Ed25519PrivateKey.from_private_bytes(await ports.keys.named(KEY))
    return evidence.sign(await _parts(one, evidence.thumbprint(key.public_key()), ports), key)


async def _logged(one: Erasure, draft: dict[str, Any], ports: Ports) -> Receipt:
    made = draft["certificate"]
    told = {
        "basis": "observed",
        "certificate_sha256": evidence.digest(made),
        "key": made["identity"]["key"],
        "verdict": made["verdict"]["verdict"],
    }
    return await ports.trail.append(
        Event(
            id=f"{one.id}.certified.{made['identity']['version']}",
            type=EventType.ERASURE_CERTIFIED,
            at=ports.now(),
            tenant=one.tenant,
            artifact=one.id,
            subject=one.subject,
            region=ports.region,
            outcome="done" if made["verdict"]["verdict"] in SHOWN_AS_DONE else "not done",
            detail=told,
        )
    )


async def _parts(one: Erasure, key: str, ports: Ports) -> dict[str, Any]:
    facts, at = one.facts, ports.now()
    said = verdict(facts.fates, facts.trials)
    vendors = [fate for fate in facts.fates if fate.copy.kind == "vendor"]
    kept = [fate for fate in facts.fates if fate.result in {Result.HELD, Result.KEPT}]
    gone = [fate for fate in facts.fates if fate not in vendors and fate not in kept]
    return {
        "@context": CONTEXT,
        "@type": ["dpv:RightFulfilmentNotice", "dpv:StorageDeletion"],
        "format": evidence.FORMAT,
        "identity": {
            "erasure": one.id,
            "version": await _version(one, ports),
            "issued": at.isoformat(),
            "issuer": {"cell": ports.cell, "region": ports.region, "controller": one.tenant},
            "key": key,
            "leaves": await _leaves(one, ports),
            "rfc3161": None,
        },
        "trigger": _trigger(one),
        "subject": {
            "reference": one.subject,
            "also": [each for each in facts.subjects if each != one.subject],
            "scheme": "random 128-bit pseudonym; an HMAC-SHA-256 of the number, under a key of "
            "the cell, led to it and is deleted",
            "identity_check": IDENTITY.get(one.trigger, IDENTITY[""]),
        },
        "selector": {
            "format": FORMAT,
            "scope": one.scope.value,
            "sha256": facts.selector_sha256,
            "coverage": dict(COVERAGE),
            "shared_with": "the access report of the same person",
        },
        "scope": [_copy(copy) for copy in facts.found],
        "copies": [_fate(fate) for fate in gone],
        "vendors": [_fate(fate) for fate in vendors],
        "trials": [_trial(trial) for trial in facts.trials],
        "residuals": [_fate(fate) for fate in kept],
        "other_people": "voices of others in this person's recordings went with them; records of "
        "others are their own, and their proofs hold as before",
        "resurrection_guard": await _guard(one, ports),
        "verdict": {
            "verdict": said.value,
            "shown_as_done": said in SHOWN_AS_DONE,
            "not_inspected": list(NOT_INSPECTED),
        },
    }


async def _guard(one: Erasure, ports: Ports) -> dict[str, Any]:
    """Return what keeps the erased from coming back; where the person stays, their jobs do."""
    if one.scope is not Scope.PERSON:
        return {"tombstone": None, "by": "ended jobs and keyed hashes of message ids, for 30 days"}
    until = one.facts.stone + int(STANDS_FOR.total_seconds())
    return {
        "tombstone": one.id,
        "since": _moment(one.facts.stone),
        "until": _moment(until),
        "barred": await tombstones.barred(ports.engine, one.id),
    }


def _trigger(one: Erasure) -> dict[str, Any]:
    return {
        "kind": one.trigger,
        "because": one.because,
        "asked_by": one.asked_by,
        "legal": "eu-gdpr:A17",
        "asked": one.asked_at.isoformat(),
        "due": one.due_at.isoformat(),
        "executed": one.executed_at.isoformat() if one.executed_at else "",
        "hardened": one.hardened_at.isoformat() if one.hardened_at else "",
        "late": one.late,
    }


async def _version(one: Erasure, ports: Ports) -> int:
    """Return the next number: the log counts too, for a restored database forgets certificates."""
    leaves = await ports.trail.leaves(artifact=one.id)
    told = sum(leaf.event.type is EventType.ERASURE_CERTIFIED for leaf in leaves)
    return max(one.facts.version, told) + 1


async def _leaves(one: Erasure, ports: Ports) -> dict[str, Any]:
    """Return the proof of each step, by its name; of a step told twice, the newest."""
    found = {}
    for leaf in await ports.trail.leaves(artifact=one.id):
        if leaf.event.type in LEAVES:
            receipt = await ports.trail.append(leaf.event)  # told again: the same receipt
            found[leaf.event.type.value.partition(".")[2]] = {
                "origin": receipt.origin,
                "index": receipt.index,
                "leaf_sha256": receipt.leaf_hash,
                "proof": await ports.trail.prove(receipt),
            }
    return found


def _copy(copy: Any) -> dict[str, Any]:
    return {
        "class": copy.kind,
        "store": copy.store,
        "region": copy.region,
        "ids": list(copy.idents),
        "count": copy.count,
        "bytes": copy.size,
    }


def _fate(fate: Fate) -> dict[str, Any]:
    return {
        **_copy(fate.copy),
        "method": fate.method.value,
        "term": "dpv:Erase" if fate.result is Result.ERASED else "dpv:StorageDeletion",
        "result": fate.result.value,
        "began": fate.began.isoformat(),
        "ended": fate.ended.isoformat(),
        "executor": fate.executor,
        "detail": fate.detail,
        "until": fate.until.isoformat() if fate.until else None,
        "ground": fate.ground,
    }


def _trial(trial: Any) -> dict[str, Any]:
    return {
        "name": trial.name,
        "held": trial.held,
        "at": trial.at.isoformat(),
        "said": trial.said,
    }


def _moment(stamp: int) -> str:
    return datetime.fromtimestamp(stamp, UTC).isoformat()


def _encoded(document: Sequence[Any] | dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True).encode()
