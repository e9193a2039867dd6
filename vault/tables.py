"""
The custody tables. Every time is an integer: whole epoch seconds, UTC.

No column holds content, a number or a name: ids are random pseudonyms, keys are wrapped, and
``destroyed_at`` leaves a row as the tombstone of its key, so that nobody makes the key again.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

metadata = MetaData()

MOST_NAMED = 500  # ids in one statement

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("subject", String(64), nullable=False, index=True),
    Column("kind", String(32), nullable=False),
    Column("region", String(64), nullable=False),
    Column("epoch", String(32), nullable=False, index=True),
    Column("object_name", String(128), nullable=False, unique=True),
    Column("size", BigInteger, nullable=False),
    Column("commitment", String(64), nullable=False),
    Column("salt", LargeBinary(32)),  # None once destroyed: the commitment then opens to nobody
    Column("state", String(16), nullable=False),  # storing, kept, destroying, destroyed
    Column("stored_at", BigInteger, nullable=False),
)

retention = Table(
    "retention",
    metadata,
    Column("artifact", String(64), ForeignKey("artifacts.id"), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("hold", String(64)),  # id of the legal hold that stops the clock, or None
    Column("freed_at", BigInteger, nullable=False, default=0),  # when the last hold let it go
    Column("lease_owner", String(128), nullable=False, default=""),
    Column("lease_until", BigInteger, nullable=False, default=0),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_try_at", BigInteger, nullable=False, default=0),
    Column("state", String(16), nullable=False, default="due"),  # due, done
    Column("done_at", BigInteger),
    Column("reason", String(64)),
    Column("methods", Text),  # comma-separated, in order
    Column("late_seconds", BigInteger),
    Column("recorded_at", BigInteger),  # when the audit trail had taken it, or None
)
Index("retention_due", retention.c.state, retention.c.due_at)
Index("retention_unrecorded", retention.c.state, retention.c.recorded_at, retention.c.done_at)


def _wrapped() -> list[Column[Any]]:
    return [
        Column("kek", String(64), nullable=False),
        Column("version", Integer, nullable=False),
        Column("ciphertext", Text),  # None once destroyed
        Column("destroyed_at", BigInteger),
    ]


subject_keys = Table(
    "subject_keys", metadata, Column("subject", String(64), primary_key=True), *_wrapped()
)
epoch_keys = Table(
    "epoch_keys",
    metadata,
    Column("epoch", String(32), primary_key=True),
    *_wrapped(),
    Column("last_due", BigInteger, nullable=False, default=0),
)
named_keys = Table(
    "named_keys", metadata, Column("name", String(64), primary_key=True), *_wrapped()
)
# A roll takes what is left to do off the front of the first, whatever the size of the bucket.
Index("subject_keys_by_kek", subject_keys.c.kek, subject_keys.c.version)
Index(
    "subject_keys_destroyed",
    subject_keys.c.destroyed_at,
    subject_keys.c.kek,
    sqlite_where=subject_keys.c.destroyed_at.is_not(None),
    postgresql_where=subject_keys.c.destroyed_at.is_not(None),
)
# Which table's rows are wrapped by the KEKs whose name begins so.
HANGING = {
    "named-": named_keys,
    "raw-": epoch_keys,
    "subjects-": subject_keys,
    "txt-": epoch_keys,
}

# A KEK that was rolled, or that wraps a bucket of subject keys, and how far it was rolled.
buckets = Table(
    "buckets",
    metadata,
    Column("kek", String(64), primary_key=True),
    Column("least", Integer, nullable=False, default=0),  # new keys are wrapped by no older version
    Column("began_at", BigInteger),  # of the roll under way, or None
    Column("rolled", Integer, nullable=False, default=0),  # no older version opens anything
    Column("rolled_at", BigInteger, nullable=False, default=0),  # when that roll began
    Column("ended_at", BigInteger),
    Column("wanted_at", BigInteger, nullable=False, default=0),  # when somebody asked for one now
    Column("recorded", Integer, nullable=False, default=0),  # the version that the log knows of
)

# Legal holds, whole as long as the log: a row is evidence of who kept what from whom, and why.
holds = Table(
    "holds",
    metadata,
    Column("id", String(34), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("case_id", String(64), nullable=False),
    Column("ground", String(64), nullable=False),
    Column("since_at", BigInteger),  # of a span of time: what was stored from here on
    Column("before_at", BigInteger),  # and before this
    Column("state", String(16), nullable=False),  # opening, proposed, placed, ended
    Column("placed_by", String(64), nullable=False),  # who proposed it
    Column("placed_role", String(32), nullable=False),
    Column("proposed_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("approved_by", String(64)),
    Column("placed_at", BigInteger),
    Column("release_by", String(64)),  # who proposed its end
    Column("release_role", String(32)),
    Column("release_asked_at", BigInteger),
    Column("released_by", String(64)),  # who approved that
    Column("ended_at", BigInteger),
    Column("ended", String(16), nullable=False, default=""),  # expired, lapsed, released
    Column("kept", BigInteger, nullable=False, default=0),  # artifacts when it was proposed
    Column("too_late", BigInteger, nullable=False, default=0),
    Column("proposal_recorded_at", BigInteger),
    Column("placing_recorded_at", BigInteger),
    Column("end_recorded_at", BigInteger),
    Index("holds_by_state", "state", "expires_at"),
)

# What a hold is about, where it is no span of time: artifacts, or all of some subjects.
hold_scopes = Table(
    "hold_scopes",
    metadata,
    Column("hold", String(34), ForeignKey("holds.id"), primary_key=True),
    Column("of", String(16), primary_key=True),  # artifact, subject
    Column("ident", String(64), primary_key=True),
    Index("hold_scopes_by_ident", "of", "ident"),
)

# A held artifact's own key, wrapped under the hold's KEK: one row per artifact and hold.
held = Table(
    "held",
    metadata,
    Column("artifact", String(64), ForeignKey("artifacts.id"), primary_key=True),
    Column("hold", String(34), ForeignKey("holds.id"), primary_key=True),
    Column("kek", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("ciphertext", Text, nullable=False),
    Index("held_by_hold", "hold"),
    Index("held_by_kek", "kek"),
)

# KEKs that no living row needs: the keeper destroys them, then the row goes.
ending_keks = Table(
    "ending_keks",
    metadata,
    Column("kek", String(64), primary_key=True),
    Column("since", BigInteger, nullable=False),
)

# Who does what only one process may do at a time, until when.
duties = Table(
    "duties",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("owner", String(128), nullable=False),
    Column("until", BigInteger, nullable=False),
)


def hanging(kek: str) -> Table:
    """Return the table whose rows are wrapped by *kek*; `KeyError` for a name that is not ours."""
    for prefix, table in HANGING.items():
        if kek.startswith(prefix):
            return table
    raise KeyError(kek)


def ident(table: Table) -> Column[Any]:
    """Return the column that names a key in *table*."""
    return next(iter(table.primary_key.columns))


def reading(engine: AsyncEngine) -> AsyncConnection:
    """Return a connection for reads only: on SQLite it waits for no writer."""
    return engine.execution_options(reading=True).connect()


async def alive(tx: AsyncConnection, subjects: Sequence[str]) -> set[str]:
    """
    Within *tx*, return those of *subjects* whose key nobody destroyed.

    Nobody destroys it before *tx* ends. A process may have a key in memory for a while after
    another one destroyed it: what is written about a person asks here.
    """
    c, found = subject_keys.c, set[str]()
    for first in range(0, len(subjects), MOST_NAMED):
        some = c.subject.in_(sorted(subjects)[first : first + MOST_NAMED])
        query = select(c.subject).where(some, c.destroyed_at.is_(None))
        locked = query.order_by(c.subject).with_for_update(read=True)
        found |= set((await tx.execute(locked)).scalars())
    return found


async def insert_new(tx: AsyncConnection, table: Table, row: dict[str, Any]) -> bool:
    """Insert *row* unless its key is taken; return whether it was inserted."""
    insert = sqlite.insert if tx.dialect.name == "sqlite" else postgresql.insert
    result = await tx.execute(insert(table).values(**row).on_conflict_do_nothing())
    return bool(result.rowcount)
