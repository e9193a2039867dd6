"""
Epochs: the hour or month in which an artifact was stored, which share one key.

A key that was lost while its epoch lasted is replaced: the second has the name of the epoch with
``-2`` behind it.
"""

from datetime import UTC, datetime, timedelta

from vault.model import Kind

HOURLY = frozenset({Kind.RAW_AUDIO, Kind.REPLY_AUDIO})


def epoch_of(kind: Kind, at: datetime) -> str:
    """Return the epoch of what is stored at *at*: ``raw-2026112214`` or ``txt-202611``."""
    at = at.astimezone(UTC)
    return f"raw-{at:%Y%m%d%H}" if kind in HOURLY else f"txt-{at:%Y%m}"


def epoch_end(epoch: str) -> datetime:
    """Return when nothing more can be stored in *epoch*."""
    series, stamp = epoch.split("-")[:2]
    if series == "raw":
        return datetime.strptime(stamp, "%Y%m%d%H").replace(tzinfo=UTC) + timedelta(hours=1)
    first = datetime.strptime(stamp, "%Y%m").replace(tzinfo=UTC)
    return (first + timedelta(days=31)).replace(day=1)


def day_end(day: str) -> datetime:
    """Return when a day is over whose key is named so, as ``intake-20261129``."""
    stamp = day.split("-")[1]
    return datetime.strptime(stamp, "%Y%m%d").replace(tzinfo=UTC) + timedelta(days=1)


def replacement(name: str, number: int) -> str:
    """Return the name of the key number *number* (from 1) of the epoch or day *name*."""
    return name if number == 1 else f"{name}-{number}"
