"""
Erasures over HTTP: asked for by whoever may erase, followed by whoever may read proofs.

- Whether a pseudonym is known cannot be told from the answer to a request: it looks the same,
  and comes no sooner, for a stranger's or another tenant's, of whom nothing is begun.
- People are pseudonyms here. What looks like a number is not taken as a reason either.
"""

import asyncio
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.responses import Response

from audit.personal import looks_personal
from gateway import db, erasure, subjects
from gateway.console import cursor
from gateway.console.call import Call, Endpoint, may
from gateway.console.wire import HEADERS, Field, flag, one_of, shaped, told
from gateway.errors import ProblemError
from gateway.schema import erasures as table
from policy.access import Action
from vault.erasure import SHOWN_AS_DONE

PATH = "/admin/v1/erasures"
FLOOR_S = 0.25
"""How long an answer to a request takes at least: longer than a transaction and a leaf do."""
MOST = 100
USUAL = 50

_IDENT = re.compile(r"e_[0-9a-f]{32}")
_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,64}")


def _reason(value: Any) -> bool:
    if not isinstance(value, str) or not value.strip() or not _LINE.fullmatch(value):
        return False
    return not looks_personal(value)


async def begin(call: Call) -> Response:
    """Ask for an erasure."""
    loop = asyncio.get_running_loop()
    until = loop.time() + FLOOR_S
    ports, given = call.console.ports, call.given
    subject = await subjects.became(ports.engine, given["subject"])
    owner = await subjects.known(ports.engine, subject)
    ident = f"e_{secrets.token_hex(16)}"
    if await may(call, Action.ERASE, subject, owner):
        ident = await erasure.ask(
            ports.engine,
            subject,
            call.person.tenant,
            because=given["because"],
            trigger=given["trigger"],
            by=call.person.name,
            at=ports.now(),
            urgent=given["urgent"],
        )
    await call.console.rest(max(0.0, until - loop.time()))
    status = f"{PATH}/{ident}"
    return told({"erasure": ident, "status": status}, 202, Location=status)


async def listed(call: Call) -> Response:
    """Return the tenant's erasures, the newest first."""
    person, limit = call.person, int(call.given["limit"])
    after = call.given["cursor"]
    place = cursor.read(after, person.seal) if after is not None else None
    await may(call, Action.READ_AUDIT, "erasures", person.tenant)
    rows = await _page(call.console.ports.engine, person.tenant, place, limit + 1)
    shown, more = rows[:limit], rows[limit:]
    last = shown[-1] if more else None
    following = cursor.made(last.asked_at, last.id, person.seal) if last is not None else None
    return told({"erasures": [_summary(row) for row in shown], "next": following})


async def one(call: Call) -> Response:
    """Return how far an erasure is."""
    row = await _mine(call)
    found = await erasure.find(call.console.ports.engine, row.id)
    steps = found.facts.steps if found is not None else ()
    passed = [{"step": name, "at": at.isoformat()} for name, at in steps]
    return told(_summary(row) | {"steps": passed})


async def certificate(call: Call) -> Response:
    """Return the certificate, as it was signed."""
    row = await _mine(call)
    found = await erasure.certificate(call.console.ports.engine, row.id)
    if found is None:
        raise ProblemError(404, "certificate.none")
    return Response(found, media_type="application/json", headers=HEADERS)


async def _mine(call: Call) -> Row[Any]:
    """Return the row that the path names, if the person may read it."""
    ident = call.ident if _IDENT.fullmatch(call.ident) else "malformed"
    async with db.reading(call.console.ports.engine) as tx:
        row = (await tx.execute(select(*SHOWN).where(table.c.id == ident))).one_or_none()
    owner = row.tenant if row is not None else None
    if not await may(call, Action.READ_AUDIT, ident, owner) or row is None:
        raise ProblemError(404, "erasure.unknown")
    return row


SHOWN = [column for column in table.c if column.name not in {"certificate", "facts"}]


async def _page(
    engine: AsyncEngine, tenant: str, place: tuple[int, str] | None, limit: int
) -> Sequence[Row[Any]]:
    query = select(*SHOWN).where(table.c.tenant == tenant)
    if place is not None:
        at, ident = place
        same = and_(table.c.asked_at == at, table.c.id < ident)
        query = query.where(or_(table.c.asked_at < at, same))
    query = query.order_by(table.c.asked_at.desc(), table.c.id.desc()).limit(limit)
    async with db.reading(engine) as tx:
        return (await tx.execute(query)).all()


def _summary(row: Row[Any]) -> dict[str, Any]:
    return {
        "erasure": row.id,
        "subject": row.subject,
        "because": row.because,
        "trigger": row.trigger,
        "by": row.asked_by,
        "urgent": row.urgent,
        "asked": _time(row.asked_at),
        "due": _time(row.due_at),
        "step": row.step or "requested",
        "executed": _time(row.executed_at),
        "hardened": _time(row.hardened_at),
        "certified": _time(row.certified_at),
        "verdict": row.verdict or None,
        # Only a verdict that may be shown as done looks done.
        "done": row.verdict in SHOWN_AS_DONE,
    }


def _time(stamp: int | None) -> str | None:
    return datetime.fromtimestamp(stamp / 1e6, UTC).isoformat() if stamp else None


def _fits_limit(value: Any) -> bool:
    return bool(re.fullmatch(r"[1-9][0-9]{0,2}", str(value))) and int(value) <= MOST


ENDPOINTS = (
    Endpoint(
        method="POST",
        path=PATH,
        act=begin,
        body={
            "subject": Field(fits=shaped(r"s_[0-9a-f]{32}")),
            "because": Field(fits=_reason),
            "trigger": Field(fits=one_of(*erasure.TRIGGERS), default="request"),
            "urgent": Field(fits=flag, default=False),
        },
    ),
    Endpoint(
        method="GET",
        path=PATH,
        act=listed,
        query={
            "cursor": Field(fits=shaped(f".{{0,{cursor.LONGEST}}}"), default=None),
            "limit": Field(fits=_fits_limit, default=str(USUAL)),
        },
    ),
    Endpoint(method="GET", path=f"{PATH}/{{ident}}", act=one),
    Endpoint(method="GET", path=f"{PATH}/{{ident}}/certificate", act=certificate),
)
