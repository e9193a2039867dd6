"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    _gateway()
    _libraries()


def _gateway() -> None:
    """Make the tables of the gateway itself (gateway/schema.py)."""
    op.create_table(
        "accounts",
        sa.Column("number", sa.String(length=32), nullable=False),
        sa.Column("part", sa.String(length=16), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("code", sa.String(length=16), nullable=False),
        sa.Column("word", sa.String(length=64), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("next_try_at", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("by_status", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("number", "part"),
    )
    op.create_table(
        "aliases",
        sa.Column("alias", sa.String(length=64), nullable=False),
        sa.Column("since", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=34), nullable=False),
        sa.Column("seen", sa.Integer(), server_default="0", nullable=False),
        sa.Column("user_id", sa.String(length=64), server_default="", nullable=False),
        sa.Column("device", sa.String(length=64), server_default="", nullable=False),
        sa.Column("why", sa.String(length=24), server_default="first", nullable=False),
        sa.PrimaryKeyConstraint("alias", "since"),
    )
    op.create_index("aliases_by_subject", "aliases", ["subject"], unique=False)
    op.create_table(
        "identity_changes",
        sa.Column("id", sa.String(length=96), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("subject", sa.String(length=34), nullable=False),
        sa.Column("former", sa.String(length=34), nullable=False),
        sa.Column("why", sa.String(length=24), nullable=False),
        sa.Column("job", sa.String(length=34), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "decisions",
        sa.Column("id", sa.String(length=34), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("jurisdiction", sa.String(length=256), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("revision", sa.String(length=64), nullable=False),
        sa.Column("data_sha256", sa.String(length=64), nullable=False),
        sa.Column("engine", sa.String(length=64), nullable=False),
        sa.Column("input_sha256", sa.String(length=64), nullable=False),
        sa.Column("answer_sha256", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=34), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("decisions_by_time", "decisions", ["at", "id"], unique=False)
    op.create_table(
        "erasures",
        sa.Column("id", sa.String(length=34), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=34), nullable=False),
        sa.Column("because", sa.String(length=64), nullable=False),
        sa.Column("trigger", sa.String(length=32), nullable=False),
        sa.Column("asked_by", sa.String(length=64), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("urgent", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("scope", sa.String(length=16), server_default="person", nullable=False),
        sa.Column("step", sa.String(length=16), server_default="", nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=True),
        sa.Column("teller", sa.String(length=34), nullable=True),
        sa.Column("executed_at", sa.BigInteger(), nullable=True),
        sa.Column("hardened_at", sa.BigInteger(), nullable=True),
        sa.Column("certified_at", sa.BigInteger(), nullable=True),
        sa.Column("verdict", sa.String(length=32), server_default="", nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("erasures_by_subject", "erasures", ["subject"], unique=False)
    op.create_index("erasures_by_teller", "erasures", ["teller"], unique=False)
    op.create_index("erasures_open", "erasures", ["certified_at", "asked_at"], unique=False)
    op.create_table(
        "findings",
        sa.Column("id", sa.String(length=34), nullable=False),
        sa.Column("open_key", sa.String(length=64), nullable=True),
        sa.Column("processor", sa.String(length=64), nullable=False),
        sa.Column("region", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("declared", sa.String(length=512), nullable=False),
        sa.Column("observed", sa.String(length=512), nullable=False),
        sa.Column("basis", sa.String(length=32), nullable=False),
        sa.Column("suspends", sa.Boolean(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("opening_recorded_at", sa.BigInteger(), nullable=True),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("closed_by", sa.String(length=64), nullable=True),
        sa.Column("why", sa.String(length=200), nullable=True),
        sa.Column("closing_recorded_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("open_key"),
    )
    op.create_index(
        "findings_unrecorded", "findings", ["closing_recorded_at", "opened_at"], unique=False
    )
    op.create_table(
        "forwards",
        sa.Column("id", sa.String(length=34), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("cell", sa.String(length=32), nullable=False),
        sa.Column("region", sa.String(length=64), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("forwards_by_cell", "forwards", ["cell", "created_at"], unique=False)
    op.create_table(
        "handovers",
        sa.Column("job", sa.String(length=34), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("conversation", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=34), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("taken", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("closed_by", sa.String(length=64), nullable=True),
        sa.Column("closing_recorded_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("job"),
    )
    op.create_index(
        "handovers_by_conversation",
        "handovers",
        ["conversation", "closing_recorded_at"],
        unique=False,
    )
    op.create_table(
        "inbox",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("job", sa.String(length=34), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("body_key", sa.String(length=64), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        sa.UniqueConstraint("job"),
    )
    op.create_table(
        "jobs",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.String(length=34), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("conversation", sa.String(length=64), nullable=False),
        sa.Column("artifact", sa.String(length=34), nullable=False),
        sa.Column("trace", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.String(length=34), nullable=True),
        sa.Column("purpose", sa.String(length=64), server_default="", nullable=False),
        sa.Column("urgent", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=64), server_default="", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_owner", sa.String(length=64), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("next_try_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("accepted_at", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("deadline_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("artifact"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("jobs_by_conversation", "jobs", ["conversation", "state", "seq"], unique=False)
    op.create_index("jobs_by_state", "jobs", ["state", "next_try_at"], unique=False)
    op.create_index("jobs_by_subject", "jobs", ["subject", "state"], unique=False)
    op.create_table(
        "merges",
        sa.Column("subject", sa.String(length=34), nullable=False),
        sa.Column("into", sa.String(length=34), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("subject"),
    )
    op.create_index("merges_by_into", "merges", ["into"], unique=False)
    op.create_table(
        "notices",
        sa.Column("job", sa.String(length=34), nullable=False),
        sa.Column("purpose", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=34), nullable=False),
        sa.Column("version", sa.String(length=128), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("language", sa.String(length=16), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("answered_by", sa.String(length=34), nullable=True),
        sa.PrimaryKeyConstraint("job", "purpose"),
    )
    op.create_index(
        "notices_by_subject", "notices", ["subject", "purpose", "asked_at"], unique=False
    )
    op.create_table(
        "observations",
        sa.Column("processor", sa.String(length=64), nullable=False),
        sa.Column("fact", sa.String(length=16), nullable=False),
        sa.Column("value", sa.String(length=256), nullable=False),
        sa.Column("basis", sa.String(length=32), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("processor", "fact", "value"),
    )
    op.create_table(
        "pauses",
        sa.Column("job", sa.String(length=34), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=34), nullable=False),
        sa.Column("what", sa.String(length=16), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job"),
    )
    op.create_index("pauses_by_subject", "pauses", ["subject", "ends_at"], unique=False)
    op.create_table(
        "positions",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("quarter", sa.String(length=8), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "agreed_times",
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("counted", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.String(length=64), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("boot"),
    )
    op.create_table(
        "relay",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job", sa.String(length=34), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("published_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("relay_by_job", "relay", ["job"], unique=False)
    op.create_index("relay_unpublished", "relay", ["published_at", "id"], unique=False)
    op.create_table(
        "replies",
        sa.Column("id", sa.String(length=34), nullable=False),
        sa.Column("job", sa.String(length=34), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("possible_duplicate", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("attempted_at", sa.BigInteger(), nullable=True),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job", "kind"),
    )
    op.create_index("replies_by_state", "replies", ["state"], unique=False)
    op.create_table(
        "requests",
        sa.Column("id", sa.String(length=34), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=34), nullable=False),
        sa.Column("what", sa.String(length=16), server_default="receipt", nullable=False),
        sa.Column("asked_by", sa.String(length=64), server_default="", nullable=False),
        sa.Column("purpose", sa.String(length=64), nullable=True),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=True),
        sa.Column("fault", sa.String(length=64), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "sessions",
        sa.Column("conversation", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=34), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("conversation"),
    )
    op.create_table(
        "statuses",
        sa.Column("reply", sa.String(length=34), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("error_code", sa.Integer(), nullable=False),
        sa.Column("number", sa.String(length=32), server_default="", nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("settled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("reply", "state"),
    )
    op.create_index("statuses_unsettled", "statuses", ["settled"], unique=False)
    op.create_table(
        "subjects",
        sa.Column("subject", sa.String(length=34), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("residence", sa.String(length=2), nullable=True),
        sa.Column("minor", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("declared_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("subject"),
    )
    op.create_table(
        "access_requests",
        sa.Column("id", sa.String(length=34), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("object", sa.String(length=128), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "access_requests_by_digest", "access_requests", ["digest", "asked_at"], unique=False
    )
    op.create_table(
        "access_approvals",
        sa.Column("request", sa.String(length=34), nullable=False),
        sa.Column("approver", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("request", "approver"),
    )
    op.create_table(
        "unattributed",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("body_key", sa.String(length=64), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("unattributed_by_tenant", "unattributed", ["tenant"], unique=False)
    op.create_table(
        "tombstones",
        sa.Column("erasure", sa.String(length=34), nullable=False),
        sa.Column("alias", sa.String(length=64), nullable=False),
        sa.Column("since", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("user_id", sa.String(length=64), server_default="", nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("erased_at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("barred", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("erasure", "alias", "since"),
    )
    op.create_index("tombstones_by_alias", "tombstones", ["alias", "erased_at"], unique=False)


def _libraries() -> None:
    """Make the tables of custody and of consent."""
    op.create_table(
        "artifacts",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("region", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.String(length=32), nullable=False),
        sa.Column("object_name", sa.String(length=128), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("commitment", sa.String(length=64), nullable=False),
        sa.Column("salt", sa.LargeBinary(length=32), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("stored_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("object_name"),
    )
    op.create_index(op.f("ix_artifacts_epoch"), "artifacts", ["epoch"], unique=False)
    op.create_index(op.f("ix_artifacts_subject"), "artifacts", ["subject"], unique=False)
    op.create_table(
        "buckets",
        sa.Column("kek", sa.String(length=64), nullable=False),
        sa.Column("least", sa.Integer(), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=True),
        sa.Column("rolled", sa.Integer(), nullable=False),
        sa.Column("rolled_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("wanted_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("kek"),
    )
    op.create_table(
        "duties",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "ending_keks",
        sa.Column("kek", sa.String(length=64), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kek"),
    )
    op.create_table(
        "epoch_keys",
        sa.Column("epoch", sa.String(length=32), nullable=False),
        sa.Column("kek", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("ciphertext", sa.Text(), nullable=True),
        sa.Column("destroyed_at", sa.BigInteger(), nullable=True),
        sa.Column("last_due", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("epoch"),
    )
    op.create_table(
        "named_keys",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("kek", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("ciphertext", sa.Text(), nullable=True),
        sa.Column("destroyed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "subject_keys",
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("kek", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("ciphertext", sa.Text(), nullable=True),
        sa.Column("destroyed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("subject"),
    )
    op.create_index("subject_keys_by_kek", "subject_keys", ["kek", "version"], unique=False)
    op.create_index(
        "subject_keys_destroyed",
        "subject_keys",
        ["destroyed_at", "kek"],
        unique=False,
        sqlite_where=sa.text("destroyed_at IS NOT NULL"),
        postgresql_where=sa.text("destroyed_at IS NOT NULL"),
    )
    op.create_table(
        "retention",
        sa.Column("artifact", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("hold", sa.String(length=64), nullable=True),
        sa.Column("freed_at", sa.BigInteger(), nullable=False),
        sa.Column("lease_owner", sa.String(length=128), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_try_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("done_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.String(length=64), nullable=True),
        sa.Column("methods", sa.Text(), nullable=True),
        sa.Column("late_seconds", sa.BigInteger(), nullable=True),
        sa.Column("recorded_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["artifact"], ["artifacts.id"]),
        sa.PrimaryKeyConstraint("artifact"),
    )
    op.create_index("retention_due", "retention", ["state", "due_at"], unique=False)
    op.create_index(
        "retention_unrecorded", "retention", ["state", "recorded_at", "done_at"], unique=False
    )
    op.create_table(
        "hold_requests",
        sa.Column("id", sa.String(length=34), nullable=False),
        sa.Column("verb", sa.String(length=16), nullable=False),
        sa.Column("said", sa.LargeBinary(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("fault", sa.String(length=512), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "holds",
        sa.Column("id", sa.String(length=34), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("case_id", sa.String(length=64), nullable=False),
        sa.Column("ground", sa.String(length=64), nullable=False),
        sa.Column("since_at", sa.BigInteger(), nullable=True),
        sa.Column("before_at", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("placed_by", sa.String(length=64), nullable=False),
        sa.Column("placed_role", sa.String(length=32), nullable=False),
        sa.Column("proposed_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("approved_by", sa.String(length=64), nullable=True),
        sa.Column("placed_at", sa.BigInteger(), nullable=True),
        sa.Column("release_by", sa.String(length=64), nullable=True),
        sa.Column("release_role", sa.String(length=32), nullable=True),
        sa.Column("release_asked_at", sa.BigInteger(), nullable=True),
        sa.Column("released_by", sa.String(length=64), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("ended", sa.String(length=16), nullable=False),
        sa.Column("kept", sa.BigInteger(), nullable=False),
        sa.Column("too_late", sa.BigInteger(), nullable=False),
        sa.Column("proposal_recorded_at", sa.BigInteger(), nullable=True),
        sa.Column("placing_recorded_at", sa.BigInteger(), nullable=True),
        sa.Column("end_recorded_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("holds_by_state", "holds", ["state", "expires_at"], unique=False)
    op.create_table(
        "hold_scopes",
        sa.Column("hold", sa.String(length=34), nullable=False),
        sa.Column("of", sa.String(length=16), nullable=False),
        sa.Column("ident", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["hold"], ["holds.id"]),
        sa.PrimaryKeyConstraint("hold", "of", "ident"),
    )
    op.create_index("hold_scopes_by_ident", "hold_scopes", ["of", "ident"], unique=False)
    op.create_table(
        "held",
        sa.Column("artifact", sa.String(length=64), nullable=False),
        sa.Column("hold", sa.String(length=34), nullable=False),
        sa.Column("kek", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("ciphertext", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["artifact"], ["artifacts.id"]),
        sa.ForeignKeyConstraint(["hold"], ["holds.id"]),
        sa.PrimaryKeyConstraint("artifact", "hold"),
    )
    op.create_index("held_by_hold", "held", ["hold"], unique=False)
    op.create_index("held_by_kek", "held", ["kek"], unique=False)
    op.create_table(
        "consents",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("tenant", sa.String(length=128), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("notice_version", sa.String(length=128), nullable=False),
        sa.Column("notice_sha256", sa.String(length=64), nullable=False),
        sa.Column("language", sa.String(length=16), nullable=False),
        sa.Column("channel", sa.String(length=32), nullable=False),
        sa.Column("evidence", sa.String(length=128), nullable=False),
        sa.Column("shown", sa.String(length=128), nullable=False),
        sa.Column("expressed", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("consents_ending", "consents", ["expires_at"], unique=False)
    op.create_index(
        "consents_newest", "consents", ["tenant", "subject", "purpose", "at", "seq"], unique=False
    )
