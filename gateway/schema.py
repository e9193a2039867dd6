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
    true,
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
    # Known then too: what rests on a consent stops when that is withdrawn.
    Column("purpose", String(64), nullable=False, server_default=""),
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
    # When the person wrote it, to WhatsApp's second: a no acts on what was written before it.
    Column("sent_at", BigInteger, nullable=False, server_default="0"),
    Column("deadline_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Index("jobs_by_conversation", "conversation", "state", "seq"),
    Index("jobs_by_state", "state", "next_try_at"),
    Index("jobs_by_subject", "subject", "state"),
)

# Parts of deliveries that name nobody, sealed for a day; the id is a keyed hash of the part.
unattributed = Table(
    "unattributed",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("body_key", String(64), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("size", Integer, nullable=False),
    Column("reason", String(16), nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Index("unattributed_by_tenant", "tenant"),
)

# Updates for numbers of other cells, sealed to those cells' keys; a row goes once it is there.
forwards = Table(
    "forwards",
    metadata,
    Column("id", String(34), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("cell", String(32), nullable=False),
    Column("region", String(64), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index("forwards_by_cell", "cell", "created_at"),
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
    Column("number", String(32), nullable=False, server_default=""),  # the operator's
    Column("at", BigInteger, nullable=False),
    Column("settled", Boolean, nullable=False, server_default=false()),
    Index("statuses_unsettled", "settled"),
)

# Pseudonyms: a keyed hash of (tenant, number or user id) leads to a random subject, since a time.
# Times are those at which messages were written, in epoch seconds; `gateway.identity` reads them.
aliases = Table(
    "aliases",
    metadata,
    Column("alias", String(64), primary_key=True),
    Column("since", BigInteger, primary_key=True, server_default="0", autoincrement=False),
    Column("until", BigInteger),
    Column("tenant", String(64), nullable=False),
    Column("subject", String(34), nullable=False),
    # Day of the last message, since the epoch: a number that was silent may be somebody else's.
    Column("seen", Integer, nullable=False, server_default="0"),
    Column("user_id", String(64), nullable=False, server_default=""),  # an alias, too
    Column("device", String(64), nullable=False, server_default=""),
    Column("why", String(24), nullable=False, server_default="first"),
    Index("aliases_by_subject", "subject"),
)

# That two are one, or that a name became another's, until the log has it; then the row goes.
identity_changes = Table(
    "identity_changes",
    metadata,
    Column("id", String(96), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("kind", String(24), nullable=False),
    Column("subject", String(34), nullable=False),
    Column("former", String(34), nullable=False),
    Column("why", String(24), nullable=False),
    Column("job", String(34)),
    Column("at", BigInteger, nullable=False),
)

# Two subjects that turned out to be one person: the first is known as the second ever since.
merges = Table(
    "merges",
    metadata,
    Column("subject", String(34), primary_key=True),
    Column("into", String(34), nullable=False),
    Column("tenant", String(64), nullable=False),
    Index("merges_by_into", "into"),
)

# What somebody who may (a DPO, a parent) told us of a person; no row: nobody told us anything.
subjects = Table(
    "subjects",
    metadata,
    Column("subject", String(34), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("residence", String(2)),
    Column("minor", Boolean, nullable=False, server_default=false()),
    Column("declared_at", BigInteger, nullable=False),
    Column("recorded_at", BigInteger),
)

# Which words a person was shown for which purpose, and by which job they were answered.
notices = Table(
    "notices",
    metadata,
    Column("job", String(34), primary_key=True),
    Column("purpose", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("subject", String(34), nullable=False),
    Column("version", String(128), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("language", String(16), nullable=False),
    Column("asked_at", BigInteger, nullable=False),
    Column("answered_by", String(34)),
    Index("notices_by_subject", "subject", "purpose", "asked_at"),
)

# It is unclear whether somebody withdraws, and they were asked: nothing of theirs is opened until
# they answer, or until it ends.
pauses = Table(
    "pauses",
    metadata,
    Column("job", String(34), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("subject", String(34), nullable=False),
    Column("what", String(16), nullable=False),  # withdraw, or erase
    Column("asked_at", BigInteger, nullable=False),
    Column("ends_at", BigInteger, nullable=False),
    Index("pauses_by_subject", "subject", "ends_at"),
)

# Receipts, and leave to open a report, that a command asked for; the row goes once its answer was
# read, or nobody read it.
requests = Table(
    "requests",
    metadata,
    Column("id", String(34), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("subject", String(34), nullable=False),
    Column("what", String(16), nullable=False, server_default="receipt"),  # or report
    Column("asked_by", String(64), nullable=False, server_default=""),
    Column("purpose", String(64)),
    Column("asked_at", BigInteger, nullable=False),
    Column("document", LargeBinary),
    Column("fault", String(64), nullable=False, server_default=""),
)

# What a command says of legal holds; the row goes once its answer was read, or nobody read it.
hold_requests = Table(
    "hold_requests",
    metadata,
    Column("id", String(34), primary_key=True),
    Column("verb", String(16), nullable=False),
    Column("said", LargeBinary, nullable=False),
    Column("asked_at", BigInteger, nullable=False),
    Column("answer", LargeBinary),
    Column("fault", String(512), nullable=False, server_default=""),
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
    # Whether the dialogue answers nothing here until it is closed; a refusal only tells somebody.
    Column("taken", Boolean, nullable=False, server_default=true()),
    Column("at", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
    Column("closed_by", String(64)),
    Column("closing_recorded_at", BigInteger),
    Index("handovers_by_conversation", "conversation", "closing_recorded_at"),
)

# What a decision was made of, for a replay: sealed under the subject's key. The log is the record.
decisions = Table(
    "decisions",
    metadata,
    Column("id", String(34), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("jurisdiction", String(256), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("revision", String(64), nullable=False),
    Column("data_sha256", String(64), nullable=False),
    Column("engine", String(64), nullable=False),
    Column("input_sha256", String(64), nullable=False),
    Column("answer_sha256", String(64), nullable=False),
    Column("subject", String(34), nullable=False),
    Column("sealed", LargeBinary),
    Index("decisions_by_time", "at", "id"),
)

# Where what was seen of a processor is not what its row declares; open until a person closes it.
findings = Table(
    "findings",
    metadata,
    Column("id", String(34), primary_key=True),
    Column("open_key", String(64), unique=True),  # empty once closed: it may open again
    Column("processor", String(64), nullable=False),
    Column("region", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("declared", String(512), nullable=False),
    Column("observed", String(512), nullable=False),
    Column("basis", String(32), nullable=False),
    Column("suspends", Boolean, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("opening_recorded_at", BigInteger),
    Column("closed_at", BigInteger),
    Column("closed_by", String(64)),
    Column("why", String(200)),
    Column("closing_recorded_at", BigInteger),
    Index("findings_unrecorded", "closing_recorded_at", "opened_at"),
)

# Which part of which of the operator's numbers WhatsApp does not accept; no row: it does.
accounts = Table(
    "accounts",
    metadata,
    Column("number", String(32), primary_key=True),
    Column("part", String(16), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("code", String(16), nullable=False),
    Column("word", String(64), nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("next_try_at", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("by_status", Boolean, nullable=False, server_default=false()),
)

# What was ever seen of a processor: one row per fact and value.
observations = Table(
    "observations",
    metadata,
    Column("processor", String(64), primary_key=True),
    Column("fact", String(16), primary_key=True),
    Column("value", String(256), primary_key=True),
    Column("basis", String(32), nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
)

# What a person asked to be erased, or had erased by what they did; the certificate in the end.
erasures = Table(
    "erasures",
    metadata,
    Column("id", String(34), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("subject", String(34), nullable=False),
    Column("because", String(64), nullable=False),
    Column("trigger", String(32), nullable=False),
    Column("asked_by", String(64), nullable=False),
    Column("asked_at", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("urgent", Boolean, nullable=False, server_default=false()),
    Column("scope", String(16), nullable=False, server_default="person"),
    Column("step", String(16), nullable=False, server_default=""),  # the last one done
    Column("facts", LargeBinary),  # what was found and what became of it; ids and counts
    Column("teller", String(34)),  # the job that tells the person, who asked in the chat
    Column("executed_at", BigInteger),
    Column("hardened_at", BigInteger),
    Column("certified_at", BigInteger),
    Column("verdict", String(32), nullable=False, server_default=""),
    Column("certificate", LargeBinary),
    Index("erasures_open", "certified_at", "asked_at"),
    Index("erasures_by_subject", "subject"),
    Index("erasures_by_teller", "teller"),
)

# How far something outside is that the tables know of: after a restore they know less.
positions = Table(
    "positions",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("quarter", String(8), nullable=False),
    Column("size", BigInteger, nullable=False),
)

# The last time that independent clocks agreed on, and what the machine's counting clock showed
# then: one row per start of a machine. *by* names an operator who gave their word for it.
agreed_times = Table(
    "agreed_times",
    metadata,
    Column("boot", String(64), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("counted", BigInteger, nullable=False),  # microseconds since the machine started
    Column("by", String(64), nullable=False, server_default=""),
)

# What one person wants to do and others must approve; used once, or never.
access_requests = Table(
    "access_requests",
    metadata,
    Column("id", String(34), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("actor", String(64), nullable=False),
    Column("role", String(32), nullable=False),
    Column("action", String(32), nullable=False),
    Column("object", String(128), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("asked_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
    Index("access_requests_by_digest", "digest", "asked_at"),
)

# Who approved one: each person once.
access_approvals = Table(
    "access_approvals",
    metadata,
    Column("request", String(34), primary_key=True),
    Column("approver", String(64), primary_key=True),
    Column("role", String(32), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("at", BigInteger, nullable=False),
)

# Whom nothing old may come back of: keyed hashes of the numbers and user ids of the erased.
tombstones = Table(
    "tombstones",
    metadata,
    Column("erasure", String(34), primary_key=True),
    Column("alias", String(64), primary_key=True),
    # From when to when (erased_at) the name was theirs, and the user id a number came with.
    Column("since", BigInteger, primary_key=True, server_default="0", autoincrement=False),
    Column("user_id", String(64), nullable=False, server_default=""),
    Column("tenant", String(64), nullable=False),
    Column("erased_at", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("barred", Integer, nullable=False, server_default="0"),
    Index("tombstones_by_alias", "alias", "erased_at"),
)
