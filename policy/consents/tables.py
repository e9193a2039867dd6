"""
The consent ledger's table: rows are added, never changed. Times are epoch seconds.

No column identifies a person in clear: *subject* is a random pseudonym, *evidence* and *shown*
are keyed hashes of the message that expressed the will and of the one that showed the words.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table

metadata = MetaData()

consents = Table(
    "consents",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("id", String(128), nullable=False, unique=True),
    Column("tenant", String(128), nullable=False),
    Column("subject", String(64), nullable=False),
    Column("purpose", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("notice_version", String(128), nullable=False),
    Column("notice_sha256", String(64), nullable=False),
    Column("language", String(16), nullable=False),
    Column("channel", String(32), nullable=False),
    Column("evidence", String(128), nullable=False),
    Column("shown", String(128), nullable=False),
    Column("expressed", String(16), nullable=False),
    Index("consents_newest", "tenant", "subject", "purpose", "at", "seq"),
    Index("consents_ending", "expires_at"),
)
