"""
The access report (GDPR Art. 15): everything that is held of one person, opened and readable.

- What is in it is chosen by the selector that an erasure uses (`gateway.holdings`); the report
  names the selector's digest, as the certificate of an erasure does.
- What cannot be opened is listed with the reason, never left out.
- The recipients are those that the log saw, not those that a contract lists.
"""

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from sqlalchemy import Row, Table, select

from audit.model import EventType
from audit.trail import Quarters
from gateway import db, decisions, holdings
from gateway.holdings import Holdings, Place
from vault.errors import VaultError
from vault.ledger import artifact_of, rows
from vault.model import Kind
from vault.tables import artifacts

ENDINGS = {
    Kind.RAW_AUDIO: "ogg",
    Kind.REDACTED_TRANSCRIPT: "txt",
    Kind.REPLY_AUDIO: "ogg",
    Kind.TRANSCRIPT: "json",
}
SEALED = frozenset({"ciphertext", "salt", "sealed"})
TIMES = frozenset({"at", "until"})
MOST_SECONDS = 10**11  # in the year 5138
DOES_NOT_OPEN = "cannot be opened"
FILES_FIRST = ("data.json", "index.html")


async def report(
    found: Holdings, place: Place, log: Quarters | None, *, at: datetime, by: str
) -> AsyncIterator[tuple[str, bytes]]:
    """Yield (name, content) of each file of the report on *found*; *log* tells who received."""
    kept = []
    async for entry, content in _artifacts(found, place):
        kept.append(entry)
        if content is not None:
            yield entry["file"], content
    data = {
        "format": "vocustody-access-report-v1",
        "subject": found.subject,
        "also": [each for each in found.subjects if each != found.subject],
        "controller": found.tenant,
        "cell_region": place.region,
        "made": at.isoformat(),
        "made_by": by,
        "selector_sha256": found.selector_sha256,
        "artifacts": kept,
        "tables": await _tables(found, place),
        "recipients": await _recipients(found, log) if log else [],
        "kept_elsewhere": "recipients keep what their contracts say; see the page",
    }
    yield FILES_FIRST[0], json.dumps(data, ensure_ascii=False, indent=1, sort_keys=True).encode()
    yield FILES_FIRST[1], page(data).encode()


async def _artifacts(
    found: Holdings, place: Place
) -> AsyncIterator[tuple[dict[str, Any], bytes | None]]:
    theirs = artifacts.c.subject.in_(found.subjects) & (artifacts.c.state != "destroyed")
    async with db.reading(place.engine) as tx:
        kept = (await tx.execute(rows().where(theirs).order_by(artifacts.c.stored_at))).all()
    for row in kept:
        one = artifact_of(row)
        entry = {
            "id": row.id,
            "class": row.kind,
            "bytes": row.size,
            "stored": one.stored_at.isoformat(),
            "deleted_by": one.due.isoformat(),
            "file": f"artifacts/{row.id}.{ENDINGS[one.label.kind]}",
        }
        try:
            yield entry, await place.custody.open(one)
        except VaultError as exc:
            yield entry | {"file": "", "why": f"{DOES_NOT_OPEN}: {type(exc).__name__}"}, None


async def _tables(found: Holdings, place: Place) -> dict[str, list[dict[str, Any]]]:
    told = {}
    for table, which in holdings.rows_of(found):
        async with db.reading(place.engine) as tx:
            theirs = (await tx.execute(select(table).where(which))).all()
        told[str(table.name)] = [await _told(table, row, found, place) for row in theirs]
    return told


async def _told(table: Table, row: Row[Any], found: Holdings, place: Place) -> dict[str, Any]:
    fields = {name: _plain(name, value) for name, value in row._mapping.items()}  # noqa: SLF001 - public by its documentation
    opened = await _opened(table, row, found, place)
    return fields | ({"content": opened} if opened is not None else {})


async def _opened(table: Table, row: Row[Any], found: Holdings, place: Place) -> Any:
    """Return what is sealed in *row*, or why it does not open; None if nothing is."""
    sealed = row._mapping.get("sealed")  # noqa: SLF001 - public by its documentation
    if sealed is None:
        return None
    try:
        if table.name == "inbox":
            return _json(await place.custody.open_named(row.body_key, row.job, sealed))
        content = _json(await _small(_context(table, row), sealed, found.subjects, place))
        # It went to the person's own number; the report goes through other hands.
        return _unaddressed(content) if table.name == "replies" else content
    except (VaultError, ValueError) as exc:
        return f"{DOES_NOT_OPEN}: {type(exc).__name__}"


def _unaddressed(content: Any) -> Any:
    return {name: value for name, value in content.items() if name not in {"bsuid", "phone"}}


def _context(table: Table, row: Row[Any]) -> str:
    match table.name:
        case "sessions":
            return f"session/{row.conversation}"
        case "replies":
            return f"reply/{row.job}/{row.kind}"
        case _:
            return decisions.context(row.id)


async def _small(context: str, sealed: bytes, subjects: Sequence[str], place: Place) -> bytes:
    """Open *sealed*: for two identities that became one, it may be under either's key."""
    last: VaultError = VaultError("nobody")
    for subject in subjects:
        try:
            return await place.custody.open_small(subject, context, sealed)
        except VaultError as exc:
            last = exc
    raise last


def _json(content: bytes) -> Any:
    return json.loads(content)


def _plain(name: str, value: Any) -> Any:
    if name in SEALED or isinstance(value, bytes):
        return None if value is None else "sealed"
    if name in TIMES or name.endswith("_at"):
        return _moment(value)
    return value


def _moment(value: int | None) -> str | None:
    """Return a time of ours as text: the gateway counts microseconds, the libraries seconds."""
    if not value:
        return None
    return datetime.fromtimestamp(value / 1e6 if value > MOST_SECONDS else value, UTC).isoformat()


async def _recipients(found: Holdings, log: Quarters) -> list[dict[str, Any]]:
    """Return each touch of a processor that the log has of these recordings, oldest first."""
    told = []
    for recording in found.recordings:
        for leaf in await log.leaves(artifact=recording):
            event = leaf.event
            if event.type is EventType.TOUCH_BEGAN:
                told.append(
                    {
                        "at": event.at.isoformat(),
                        "processor": event.processor,
                        "region": event.region,
                        "action": event.action,
                        "recording": recording,
                    }
                )
    return sorted(told, key=lambda each: str(each["at"]))


def page(data: dict[str, Any]) -> str:
    """Return the report as one page that a person can read."""
    parts = [
        f"<h1>What {escape(data['controller'])} holds of you</h1>",
        f"<p>Made {escape(data['made'])} by {escape(data['made_by'])}.</p>",
        f"<p>Pseudonym {escape(data['subject'])}, stored in {escape(data['cell_region'])}.</p>",
        "<h2>Recordings and texts</h2>",
        _table(data["artifacts"], ("class", "stored", "deleted_by", "bytes", "file", "why")),
        "<h2>Who received something</h2>",
        _table(data["recipients"], ("at", "processor", "region", "action", "recording")),
    ]
    for name, told in sorted(data["tables"].items()):
        if told:
            parts += [f"<h2>{escape(name)}</h2>", _table(told, tuple(told[0]))]
    style = (
        "body{font:15px sans-serif;margin:2em}table{border-collapse:collapse}"
        "td,th{border:1px solid #999;padding:.3em .6em;text-align:left;vertical-align:top}"
    )
    body = "\n".join(parts)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Access report</title>'
        f"<style>{style}</style>\n{body}\n</html>\n"
    )


def _table(told: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    if not told:
        return "<p>Nothing.</p>"
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = [
        "".join(f"<td>{_cell(column, row.get(column))}</td>" for column in columns) for row in told
    ]
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    text = escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return f'<a href="{text}">{text}</a>' if column == "file" and value else text
