"""
Consent in time: when one ends, and whether one is live.

The rule that decides is `rego/consent`; `live` says the same of a row for those who show or
sweep consents, and a test holds the two together. Times are epoch seconds.
"""

from collections.abc import Container, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

from policy.model import NO, YES, Consent, ConsentState, Expressed

VALID_MONTHS = 12
"""How long a consent counts unless the tenant says less; then the person is asked again."""

LONGEST_MONTHS = 24
"""Past this, nobody can say that the person still means it (EDPB Guidelines 05/2020, 110-111)."""


def expiry(at: int, *, months: int = VALID_MONTHS) -> int:
    """
    Return when a consent given at *at* ends: the same day and time, *months* later (UTC).

    A day that the month does not have becomes its 28th. Raises `ValueError` for *months*
    outside 1 to `LONGEST_MONTHS`.
    """
    if not 1 <= months <= LONGEST_MONTHS:
        raise ValueError(f"months must be 1 to {LONGEST_MONTHS}")
    given = datetime.fromtimestamp(at, UTC)
    years, month = divmod(given.month - 1 + months, 12)
    first = given.replace(year=given.year + years, month=month + 1, day=1)
    try:
        ends = first.replace(day=given.day)
    except ValueError:
        ends = first.replace(day=28)
    return int(ends.timestamp())


def live(consent: Consent | None, now: int, *, accepted: Container[str]) -> bool:
    """Tell whether *consent* counts at *now*; *accepted* are the notice versions in force."""
    return (
        consent is not None
        and consent.state in YES
        and consent.at <= now < consent.expires_at
        and consent.notice_version in accepted
    )


def counting(rows: Iterable[Consent]) -> Consent | None:
    """
    Return which of *rows*, in the order in which they came in, counts: the one written last.

    WhatsApp delivers late and out of order. Of one second a no counts, for nobody knows which was
    first; else the one that came in last.
    """

    def rank(numbered: tuple[int, Consent]) -> tuple[int, bool, int]:
        number, row = numbered
        return row.at, row.state in NO, number

    _, newest = max(enumerate(rows), key=rank, default=(0, None))
    return newest


def no_since(rows: Iterable[Consent], at: int) -> Consent | None:
    """Return the newest no among *rows* that was written at *at* or later, if there is one."""
    return counting(row for row in rows if row.state in NO and row.at >= at)


def yes_since(rows: Iterable[Consent], at: int) -> Consent | None:
    """Return the newest yes among *rows* that was written after *at*, if there is one."""
    return counting(row for row in rows if row.state in YES and row.at > at)


def agreed(before: Consent | None) -> ConsentState:
    """Return what a yes is now: a renewal if the row *before* it was a yes, or one that ran out."""
    again = before is not None and before.state in YES | {ConsentState.EXPIRED}
    return ConsentState.RENEWED if again else ConsentState.GRANTED


def expired(row: Consent) -> Consent:
    """Return the row that says that *row* ran out: the same however often it is made."""
    return replace(
        row,
        id=_derived(row.id, "expired"),
        state=ConsentState.EXPIRED,
        at=row.expires_at,
        evidence="",
        expressed=Expressed.CLOCK,
    )


def carried(rows: Iterable[Consent], subject: str) -> list[Consent]:
    """Return *rows* as those of *subject*, who turned out to be the same person."""
    return [replace(row, id=_derived(row.id, subject), subject=subject) for row in rows]


def _derived(ident: str, of: str) -> str:
    return f"c_{sha256(f'{ident}/{of}'.encode()).hexdigest()[:32]}"
