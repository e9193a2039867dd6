"""When a consent ends."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from support.policy_world import CONSENT, NOTICE, NOW

from policy import consent
from policy.model import Consent, ConsentState


def at(text: str) -> int:
    """Return the epoch second of an ISO time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("given", "months", "ends"),
    [
        ("2026-11-22T10:00:00", 12, "2027-11-22T10:00:00"),
        ("2026-01-31T10:00:00", 1, "2026-02-28T10:00:00"),
        ("2028-02-29T10:00:00", 12, "2029-02-28T10:00:00"),
        ("2026-12-31T23:59:59", 6, "2027-06-28T23:59:59"),
        ("2026-12-15T00:00:00", 1, "2027-01-15T00:00:00"),
    ],
)
def test_expiry(given: str, months: int, ends: str) -> None:
    """Whole calendar months, as people count them, and never a day too long."""
    assert consent.expiry(at(given), months=months) == at(ends)


def test_a_year_unless_told_otherwise() -> None:
    """An old yes is not a yes for ever."""
    assert consent.expiry(at("2026-11-22T10:00:00")) == at("2027-11-22T10:00:00")


@pytest.mark.parametrize("months", [0, -1, consent.LONGEST_MONTHS + 1])
def test_expiry_is_bounded(months: int) -> None:
    """A setting must not make a consent immortal, nor dead on arrival."""
    with pytest.raises(ValueError, match="months"):
        consent.expiry(NOW, months=months)


@pytest.mark.parametrize(
    ("row", "live"),
    [
        (CONSENT, True),
        (None, False),
        (replace(CONSENT, state=ConsentState.REFUSED), False),
        (replace(CONSENT, state=ConsentState.WITHDRAWN), False),
        (replace(CONSENT, expires_at=NOW), False),
        (replace(CONSENT, at=NOW + 1), False),
        (replace(CONSENT, notice_version="2025-01"), False),
    ],
)
def test_live(row: Consent | None, live: bool) -> None:  # noqa: FBT001 - a table's column
    """Only a present yes to accepted words counts."""
    assert consent.live(row, NOW, accepted={NOTICE}) is live
