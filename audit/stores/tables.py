"""
The tables of a log file, and the statements that read and write them.

- Entries are kept as runs of consecutive ones in C2SP bundle form; when the 256th entry of a
  bundle arrives its runs become one, so a commit writes what is new and not the whole bundle.
- ``leaf`` and ``open_touch`` are derived from the entries and can be rebuilt from them.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson

from audit.errors import StoreError
from audit.model import Event, EventType
from audit.ports import Batch, Known, Query
from audit.tiles import WIDTH

LOCK_WAIT_S = 10.0
SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE tile (level INTEGER, n INTEGER, hashes BLOB NOT NULL, PRIMARY KEY (level, n));
CREATE TABLE run (first INTEGER PRIMARY KEY, entries BLOB NOT NULL);
CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL, note TEXT);
CREATE TABLE leaf (
  idx INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, size INTEGER NOT NULL,
  artifact TEXT, aseq INTEGER, job TEXT, touch TEXT, began INTEGER NOT NULL);
CREATE INDEX leaf_artifact ON leaf (artifact, idx) WHERE artifact IS NOT NULL;
CREATE INDEX leaf_job ON leaf (job, idx) WHERE job IS NOT NULL;
CREATE INDEX leaf_touch ON leaf (touch, idx) WHERE touch IS NOT NULL;
CREATE TABLE open_touch (touch TEXT PRIMARY KEY, idx INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO head VALUES (1, 0, NULL);
"""
_CHAINS = """
SELECT leaf.artifact, leaf.aseq, substr(tile.hashes, (leaf.idx & 255) * 32 + 1, 32)
FROM json_each(?) AS wanted
JOIN leaf ON leaf.idx = (SELECT max(idx) FROM leaf WHERE artifact = wanted.value)
JOIN tile ON tile.level = 0 AND tile.n = leaf.idx >> 8
"""


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Return a connection in *mode* (``ro``, ``rw`` or ``rwc``) that syncs on every commit."""
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=LOCK_WAIT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    db.execute("PRAGMA synchronous = FULL")
    return db


def create(path: Path) -> None:
    """Make *path* a log file if it is none yet; `StoreError` if it is of another version."""
    db = connect(path, "rwc")
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("BEGIN IMMEDIATE")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in filter(str.strip, _SCHEMA.split(";")):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise StoreError(f"{path.name}: written by another version ({version})")
        db.execute("COMMIT")
    finally:
        db.close()


def known(db: sqlite3.Connection, events: Sequence[Event]) -> Known:
    """Return what the tables hold of *events*."""
    ids = db.execute(
        "SELECT id, idx, size FROM leaf WHERE id IN (SELECT value FROM json_each(?))",
        [orjson.dumps([event.id for event in events]).decode()],
    )
    artifacts = {event.artifact for event in events if event.artifact}
    chains = db.execute(_CHAINS, [orjson.dumps(list(artifacts)).decode()]) if artifacts else ()
    begun = [event.touch for event in events if event.type is EventType.TOUCH_BEGAN]
    touches = db.execute(
        "SELECT touch FROM leaf WHERE began AND touch IN (SELECT value FROM json_each(?))",
        [orjson.dumps(begun).decode()],
    )
    return Known(
        ids={event: (index, size) for event, index, size in ids},
        chains={artifact: (aseq, leaf) for artifact, aseq, leaf in chains},
        touches=frozenset(touch for (touch,) in touches),
    )


def commit(db: sqlite3.Connection, batch: Batch) -> None:
    """Write *batch* in one transaction; `StoreError` if somebody else wrote in between."""
    size = batch.first + len(batch.rows)
    db.execute("BEGIN IMMEDIATE")
    try:
        _claim(db, batch, size)
        db.executemany(
            "INSERT OR REPLACE INTO tile VALUES (?, ?, ?)",
            [(tile.level, tile.n, hashes) for tile, hashes in batch.tiles.items()],
        )
        _append(db, batch.first, [row.data for row in batch.rows])
        _index(db, batch, size)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def entries(db: sqlite3.Connection, query: Query) -> list[tuple[int, bytes]]:
    """Return the entries that *query* means."""
    if query.span:
        return list(_span(db, *query.span))
    if query.open_touches:
        rows = db.execute("SELECT idx FROM open_touch ORDER BY idx")
    elif query.artifact is not None:
        rows = db.execute("SELECT idx FROM leaf WHERE artifact = ? ORDER BY idx", [query.artifact])
    elif query.job is not None:
        rows = db.execute("SELECT idx FROM leaf WHERE job = ? ORDER BY idx", [query.job])
    else:
        rows = db.execute("SELECT idx FROM leaf WHERE touch = ? ORDER BY idx", [query.touch])
    return list(_pick(db, [index for (index,) in rows]))


def _claim(db: sqlite3.Connection, batch: Batch, size: int) -> None:
    head = db.execute(
        "UPDATE head SET size = ?, note = ? WHERE size = ?", (size, batch.note, batch.first)
    )
    if head.rowcount != 1:
        raise StoreError("another writer has written to this log")


def _append(db: sqlite3.Connection, first: int, new: Sequence[bytes]) -> None:
    end = first + len(new)
    while first < end:
        bundle_end = (first // WIDTH + 1) * WIDTH
        part, new = new[: bundle_end - first], new[bundle_end - first :]
        packed = b"".join(len(data).to_bytes(2) + data for data in part)
        if bundle_end <= end:
            start = bundle_end - WIDTH
            sql = "SELECT entries FROM run WHERE first >= ? AND first < ? ORDER BY first"
            packed = b"".join(run for (run,) in db.execute(sql, (start, first))) + packed
            db.execute("DELETE FROM run WHERE first >= ? AND first < ?", (start, first))
            db.execute("INSERT INTO run VALUES (?, ?)", (start, packed))
        else:
            db.execute("INSERT INTO run VALUES (?, ?)", (first, packed))
        first += len(part)


def _index(db: sqlite3.Connection, batch: Batch, size: int) -> None:
    leaves, began, ended = [], [], []
    for index, row in enumerate(batch.rows, batch.first):
        event = row.event
        begins = event.type is EventType.TOUCH_BEGAN
        leaves.append(
            (index, event.id, size, event.artifact, row.aseq, event.job, event.touch, begins)
        )
        if begins:
            began.append((event.touch, index))
        elif event.type is EventType.TOUCH_ENDED:
            ended.append((event.touch,))
    db.executemany("INSERT INTO leaf VALUES (?, ?, ?, ?, ?, ?, ?, ?)", leaves)
    db.executemany("INSERT INTO open_touch VALUES (?, ?)", began)
    db.executemany("DELETE FROM open_touch WHERE touch = ?", ended)


def _span(db: sqlite3.Connection, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
    sql = """SELECT first, entries FROM run WHERE first < ?
             AND first >= (SELECT max(first) FROM run WHERE first <= ?) ORDER BY first"""
    for first, packed in db.execute(sql, (end, begin)):
        for index, data in enumerate(_unpack(packed), first):
            if begin <= index < end:
                yield index, data


def _pick(db: sqlite3.Connection, indexes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    sql = "SELECT first, entries FROM run WHERE first <= ? ORDER BY first DESC LIMIT 1"
    first, run = 0, list[bytes]()
    for index in indexes:
        if not first <= index < first + len(run):
            first, packed = db.execute(sql, [index]).fetchone() or (0, b"")
            run = list(_unpack(packed))
        if not first <= index < first + len(run):
            raise StoreError(f"entry {index} is missing")
        yield index, run[index - first]


def _unpack(packed: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(packed):
        end = at + 2 + int.from_bytes(packed[at : at + 2])
        yield packed[at + 2 : end]
        at = end
