"""No single clock destroys anything: what is agreed, and what is worked by meanwhile."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.agreed_time import AgreedTime, Disagreed, Readings, Rules, agree, believed

NOW = datetime(2026, 11, 29, 8, 0, tzinfo=UTC)
RULES = Rules()
BOUND = RULES.bound
JUMPS = {
    "+2 h": timedelta(hours=2),
    "+45 d": timedelta(days=45),
    "+400 d": timedelta(days=400),
    "-2 h": timedelta(hours=-2),
    "-45 d": timedelta(days=-45),
}
ever = st.timedeltas(min_value=timedelta(days=-20_000), max_value=timedelta(days=20_000))
far = ever.filter(lambda jump: abs(jump) > 2 * BOUND)
near = st.timedeltas(min_value=-BOUND / 2, max_value=BOUND / 2)
unsettled = st.timedeltas(
    min_value=timedelta(0), max_value=RULES.settles - timedelta(microseconds=1)
)


def test_a_time_cannot_be_made_of_a_clock() -> None:
    """Else an irreversible act would be one call away from a plain reading again."""
    with pytest.raises(TypeError, match="agree"):
        AgreedTime(NOW)
    with pytest.raises(TypeError, match="agree"):
        AgreedTime(NOW, object())


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
@pytest.mark.parametrize("liar", ["wall", "database", "key_service"])
def test_one_wrong_clock_of_three_stops_destruction(liar: str, jump: timedelta) -> None:
    """A majority is no agreement: which one lies is for a person to find out."""
    shown = dict.fromkeys(["wall", "database", "key_service"], NOW) | {liar: NOW + jump}

    found = agree(Readings(wall=shown.pop("wall"), others=shown, counted=NOW))

    assert isinstance(found, Disagreed)
    assert found.apart[liar] == jump
    assert found.worst_s == abs(jump.total_seconds())


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
def test_a_jump_of_the_only_clock_is_seen_by_what_was_counted(jump: timedelta) -> None:
    """The wall clock was 400 days ahead for 14 seconds: 14 seconds is what had been counted."""
    found = Readings(wall=NOW + jump, counted=NOW)

    assert agree(found) == Disagreed({"wall": jump})
    assert believed(found) == NOW


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
def test_a_machine_that_jumps_with_all_its_clocks_is_seen_too(jump: timedelta) -> None:
    """Database and key service on the same machine are no witnesses of its clock."""
    wrong = NOW + jump
    found = Readings(wall=wrong, others={"database": wrong, "key_service": wrong}, counted=NOW)

    assert isinstance(agree(found), Disagreed)
    assert believed(found) == NOW


def test_a_clock_that_stands_still_is_seen() -> None:
    """A frozen clock would keep what is due for ever, and nobody would hear of it."""
    for minutes in (1, 4):
        assert isinstance(
            agree(Readings(wall=NOW, counted=NOW + timedelta(minutes=minutes))), AgreedTime
        )
    assert isinstance(agree(Readings(wall=NOW, counted=NOW + timedelta(minutes=6))), Disagreed)


def test_the_earliest_counts() -> None:
    """Nothing ends before every clock says that it is over; nor does an epoch."""
    fast, slow = NOW + timedelta(minutes=2), NOW - timedelta(minutes=2)

    found = agree(Readings(wall=fast, others={"database": NOW}, counted=slow))

    assert isinstance(found, AgreedTime)
    assert found.at == slow
    assert found.seconds == int(slow.timestamp())
    assert found.before(timedelta(days=1)) == slow - timedelta(days=1)


@pytest.mark.parametrize(("days", "others", "type_"), [
    (2, {}, AgreedTime),
    (40, {}, Disagreed),
    (40, {"key_service": NOW}, AgreedTime),
    (400, {"database": NOW}, AgreedTime),
])  # fmt: skip
def test_after_a_long_downtime_a_second_clock_is_needed(
    days: int, others: dict[str, datetime], type_: type
) -> None:
    """A cell that was down for 40 days deletes again; one whose clock ran wild does not."""
    found = agree(Readings(wall=NOW, others=others, known=NOW - timedelta(days=days)))

    assert isinstance(found, type_)


@pytest.mark.parametrize("jump", [JUMPS["-2 h"], JUMPS["-45 d"]], ids=str)
@pytest.mark.parametrize("others", [(), ("database",)], ids=["alone", "two"])
def test_no_clock_goes_back_behind_what_was_written(jump: timedelta, others: list[str]) -> None:
    """What is kept by such a clock would be due too early once it is put right."""
    found = Readings(wall=NOW + jump, others=dict.fromkeys(others, NOW + jump), known=NOW)

    assert isinstance(agree(found), Disagreed)
    assert believed(found) == NOW


def test_a_cell_that_starts_for_the_first_time_believes_its_clock() -> None:
    """Nothing is known and nothing is kept: there is nothing that it could destroy."""
    assert isinstance(agree(Readings(wall=NOW)), AgreedTime)


@pytest.mark.parametrize(
    ("others", "span"), [({}, RULES.settles_alone), ({"database": NOW}, RULES.settles)]
)
def test_clocks_that_ran_evenly_for_long_are_believed_again(
    others: dict[str, datetime], span: timedelta
) -> None:
    """Else a virtual machine that was paused would never delete anything again."""
    behind = NOW - timedelta(hours=3)

    for even_for, type_ in ((span - timedelta(seconds=1), Disagreed), (span, AgreedTime)):
        found = Readings(wall=NOW, others=others, counted=behind, even_for=even_for)
        assert isinstance(agree(found), type_)


def test_clocks_that_contradict_each_other_are_never_believed() -> None:
    """However long they do: time makes a wrong clock no better."""
    others = {"database": NOW + timedelta(days=45)}

    assert isinstance(
        agree(Readings(wall=NOW, others=others, even_for=timedelta(days=900))), Disagreed
    )


@pytest.mark.parametrize(
    ("wall", "database"), [(NOW + JUMPS["+400 d"], NOW), (NOW, NOW + JUMPS["+400 d"]),
                           (NOW + JUMPS["-45 d"], NOW), (NOW, NOW + JUMPS["-45 d"])]
)  # fmt: skip
def test_work_goes_on_by_the_clock_that_can_be_right(wall: datetime, database: datetime) -> None:
    """At a start with two that differ: not behind what was written, and not ahead of need."""
    found = Readings(wall=wall, others={"database": database}, known=NOW - timedelta(minutes=10))

    assert isinstance(agree(found), Disagreed)
    assert believed(found) == NOW


@given(jump=far, true=near, other=near, even_for=unsettled)
def test_property_a_lie_beyond_the_bound_is_never_agreed(
    jump: timedelta, true: timedelta, other: timedelta, even_for: timedelta
) -> None:
    """Whichever of the witnesses lies, by however much, the honest ones stop destruction."""
    honest = {"wall": NOW + true, "database": NOW + other, "counted": NOW}
    for liar in honest:
        shown = honest | {liar: NOW + jump}
        counted = shown.pop("counted")
        found = Readings(wall=shown.pop("wall"), others=shown, counted=counted, even_for=even_for)
        assert isinstance(agree(found), Disagreed), liar


@given(wall=ever, others=st.lists(ever, max_size=3), counted=ever, even_for=unsettled)
def test_property_what_is_agreed_is_later_than_no_clock(
    wall: timedelta, others: list[timedelta], counted: timedelta, even_for: timedelta
) -> None:
    """So nothing is destroyed early as long as one of them is honest."""
    found = Readings(
        wall=NOW + wall,
        others={str(n): NOW + each for n, each in enumerate(others)},
        counted=NOW + counted,
        even_for=even_for,
    )
    said = agree(found)

    if isinstance(said, AgreedTime):
        every = [*found.shown.values(), NOW + counted]
        assert said.at == min(every)
        assert max(every) - said.at <= BOUND
    assert believed(found) in {found.wall, found.counted}


@given(wall=ever, known=ever, even_for=unsettled)
def test_property_one_clock_alone_never_leaps(
    wall: timedelta, known: timedelta, even_for: timedelta
) -> None:
    """After a restart of the machine: at most a downtime ahead, never behind."""
    said = agree(Readings(wall=NOW + wall, known=NOW + known, even_for=even_for))

    assert isinstance(said, AgreedTime) == (-BOUND <= wall - known <= RULES.downtime)
