"""The floor of every durable write here: one SQLite INSERT and one commit for each, no batching."""

import sqlite3
from pathlib import Path


def connect(path: Path) -> sqlite3.Connection:
    """Return a database with one table, in WAL mode, each commit synchronised to disk."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE IF NOT EXISTS entry (id INTEGER PRIMARY KEY, content BLOB NOT NULL)")
    return db


def insert(db: sqlite3.Connection, content: bytes) -> None:
    """Write *content*; it is durable on return."""
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO entry (content) VALUES (?)", (content,))
    db.execute("COMMIT")


def count(path: Path, table: str, where: str = "1") -> int:
    """Return how many rows of *table* fit *where*, read while somebody else writes."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return int(db.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0])
    finally:
        db.close()
