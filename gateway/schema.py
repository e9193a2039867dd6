"""
The gateway's own tables. Times are integer microseconds since the epoch, UTC.

- Nothing here identifies a person in clear: ids are random, keys are HMACs under keys that
  the keyring wraps, and every ``sealed`` column is ciphertext.
- *accepted* and *done* are different states: only an ended job suppresses work.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    false,
)

metadata = MetaData()

# One row per update ever accepted; the key is kept for 30 days, the body until the job ends.
inbox = Table(
    "inbox",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("job", String(34), nullable=False, unique=True),
    Column("digest", String(64), nullable=False),
    Column("body_key", String(64), nullable=False),
    Column("sealed", LargeBinary),
    Column("received_at", BigInteger, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("id", String(34), nullable=False, unique=True),
    Column("tenant", String(64), nullable=False),
    Column("conversation", String(64), nullable=False),
    Column("artifact", String(34), nullable=False, unique=True),
    Column("trace", String(32), nullable=False),
    # Known once the job was opened; what waits for a person's consent is found by it.
    Column("subject", String(34)),
    # A withdrawal, a refusal, a deletion: it does not wait for earlier turns.
    Column("urgent", Boolean, nullable=False, server_default=false()),
    Column("state", String(16), nullable=False),
    Column("reason", String(64), nullable=False, server_default=""),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("lease_owner", String(64)),
    Column("lease_until", BigInteger, nullable=False, server_default="0"),
    Column("next_try_at", BigInteger, nullable=False, server_default="0"),
    Column("accepted_at", BigInteger, nullable=False),
    Column("deadline_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Index("jobs_by_conversation", "conversation", "state", "seq"),
    Index("jobs_by_state", "state", "next_try_at"),
    Index("jobs_by_subject", "subject", "state"),
)

# What still has to be told to the broker; the broker's disk may vanish, this may not.
relay = Table(
    "relay",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("job", String(34), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("published_at", BigInteger),
    Index("relay_unpublished", "published_at", "id"),
    Index("relay_by_job", "job"),
)

# One row per message we owe a person: intended, then attempted, then sent; never two of a kind.
replies = Table(
    "replies",
    metadata,
    Column("id", String(34), primary_key=True),
    Column("job", String(34), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("sealed", LargeBinary),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("possible_duplicate", Boolean, nullable=False, server_default=false()),
    Column("created_at", BigInteger, nullable=False),
    Column("attempted_at", BigInteger),
    Column("sent_at", BigInteger),
    UniqueConstraint("job", "kind"),
    Index("replies_by_state", "state"),
)

# What WhatsApp said became of a reply; no message id, no recipient.
statuses = Table(
    "statuses",
    metadata,
    Column("reply", String(34), primary_key=True),
    Column("state", String(16), primary_key=True),
    Column("error_code", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("settled", Boolean, nullable=False, server_default=false()),
    Index("statuses_unsettled", "settled"),
)

# Pseudonyms: a keyed hash of (tenant, number or user id) leads to a random subject.
aliases = Table(
    "aliases",
    metadata,
    Column("alias", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("subject", String(34), nullable=False),
    Index("aliases_by_subject", "subject"),
)

# Memory of one subject on one of the tenant's numbers, sealed under the subject's key.
sessions = Table(
    "sessions",
    metadata,
    Column("conversation", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("subject", String(34), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

handovers = Table(
    "handovers",
    metadata,
    Column("job", String(34), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("conversation", String(64), nullable=False),
    Column("subject", String(34), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
)
