"""Epochs: the hour or month in which an artifact was stored, which share one key."""

from datetime import UTC, datetime, timedelta

from vault.model import Kind

HOURLY = frozenset({Kind.RAW_AUDIO, Kind.REPLY_AUDIO})


def epoch_of(kind: Kind, at: datetime) -> str:
    """Return the epoch of what is stored at *at*: ``raw-2026112214`` or ``txt-202611``."""
    at = at.astimezone(UTC)
    return f"raw-{at:%Y%m%d%H}" if kind in HOURLY else f"txt-{at:%Y%m}"


def epoch_end(epoch: str) -> datetime:
    """Return when nothing more can be stored in *epoch*."""
    series, _, stamp = epoch.partition("-")
    if series == "raw":
        return datetime.strptime(stamp, "%Y%m%d%H").replace(tzinfo=UTC) + timedelta(hours=1)
    first = datetime.strptime(stamp, "%Y%m").replace(tzinfo=UTC)
    return (first + timedelta(days=31)).replace(day=1)
