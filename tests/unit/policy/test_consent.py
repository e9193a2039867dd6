"""When a consent ends."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.policy_world import CONSENT, NOTICE, NOW

from policy import consent
from policy.model import NO, YES, Consent, ConsentState, Expressed


def at(text: str) -> int:
    """Return the epoch second of an ISO time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("since", "months", "ends"),
    [
        ("2026-11-22T10:00:00", 12, "2027-11-22T10:00:00"),
        ("2026-01-31T10:00:00", 1, "2026-02-28T10:00:00"),
        ("2028-02-29T10:00:00", 12, "2029-02-28T10:00:00"),
        ("2026-12-31T23:59:59", 6, "2027-06-28T23:59:59"),
        ("2026-12-15T00:00:00", 1, "2027-01-15T00:00:00"),
    ],
)
def test_expiry(since: str, months: int, ends: str) -> None:
    """Whole calendar months, as people count them, and never a day too long."""
    assert consent.expiry(at(since), months=months) == at(ends)


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
        (replace(CONSENT, state=ConsentState.RENEWED), True),
        (None, False),
        (replace(CONSENT, state=ConsentState.EXPIRED), False),
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


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (None, ConsentState.GRANTED),
        (replace(CONSENT, state=ConsentState.REFUSED), ConsentState.GRANTED),
        (replace(CONSENT, state=ConsentState.WITHDRAWN), ConsentState.GRANTED),
        (CONSENT, ConsentState.RENEWED),
        (replace(CONSENT, state=ConsentState.RENEWED), ConsentState.RENEWED),
        (replace(CONSENT, state=ConsentState.EXPIRED), ConsentState.RENEWED),
    ],
)
def test_a_yes_after_a_yes_is_a_renewal(before: Consent | None, now: ConsentState) -> None:
    """ISO/IEC TS 27560 tells the two apart; after a no it is a new one."""
    assert consent.agreed(before) is now


def test_an_end_by_the_clock_is_nobodys_will() -> None:
    """It names no message, comes at the time that was told, and is one row however often made."""
    ended = consent.expired(CONSENT)

    assert ended == consent.expired(CONSENT)
    assert ended.id != CONSENT.id
    assert (ended.state, ended.at) == (ConsentState.EXPIRED, CONSENT.expires_at)
    assert (ended.evidence, ended.expressed) == ("", Expressed.CLOCK)


def test_rows_that_are_carried_over_say_the_same_of_another_subject() -> None:
    """One person under two names: what they said and when does not change."""
    [row] = consent.carried([CONSENT], "s_9")

    assert replace(row, id=CONSENT.id, subject=CONSENT.subject) == CONSENT
    assert row.subject == "s_9"
    assert row == consent.carried([CONSENT], "s_9")[0]
    assert row.id != consent.carried([CONSENT], "s_8")[0].id


WILLS = [ConsentState.GRANTED, ConsentState.RENEWED, ConsentState.REFUSED, ConsentState.WITHDRAWN]


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[Consent], list[Consent]]:
    """Return what a person said over some seconds, and the same in another order."""
    said = st.tuples(st.integers(0, 4), st.sampled_from(WILLS))
    rows = [
        replace(CONSENT, id=f"c_{number}", at=NOW + at, state=state)
        for number, (at, state) in enumerate(draw(st.lists(said, max_size=8)))
    ]
    return rows, draw(st.permutations(rows))


@given(arrivals())
@settings(max_examples=300)
def test_what_counts_does_not_depend_on_the_order_of_arrival(
    both: tuple[list[Consent], list[Consent]],
) -> None:
    """WhatsApp delivers late and out of order: only when it was written may decide."""
    first, second = (consent.counting(rows) for rows in both)

    if first is None or second is None:
        assert first is second is None
        return
    assert (first.at, first.state in YES) == (second.at, second.state in YES)
    assert first.at == max(row.at for row in both[0])


@given(arrivals())
@settings(max_examples=300)
def test_a_yes_counts_only_if_no_no_was_written_with_it_or_later(
    both: tuple[list[Consent], list[Consent]],
) -> None:
    """Of two in one second nobody knows the order: a false yes opens a recording."""
    rows, _ = both
    counts = consent.counting(rows)

    if counts is not None and counts.state in YES:
        assert all(row.at < counts.at for row in rows if row.state in NO)
    for row in rows:
        later = consent.no_since(rows, row.at)
        assert (later is not None) == any(r.state in NO and r.at >= row.at for r in rows)
        again = consent.yes_since(rows, row.at)
        assert (again is not None) == any(r.state in YES and r.at > row.at for r in rows)
