"""The choice of a processor, and the memory of who failed."""

import pytest

from residency.errors import NoProcessorError
from residency.route import FAILURES, REST_S, WINDOW_S, Health, choose


class Clock:
    """A clock that stands until it is told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """Return the time it stands at."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock of our own: a breaker that reads the real one cannot be tested."""
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    """Return a breaker on that clock."""
    return Health(clock)


def _break(health: Health, processor: str = "a") -> None:
    for _ in range(FAILURES):
        health.failed(processor)


def test_the_first_allowed_is_taken(health: Health) -> None:
    """The allow-list's order is the policy's; ours would be another policy."""
    assert choose(["b", "a"], admit=health.admit, have={"a", "b"}) == "b"


def test_what_the_cell_lacks_is_passed_over(health: Health) -> None:
    """The bundle may know processors that this cell was not given credentials for."""
    assert choose(["b", "a"], admit=health.admit, have={"a"}) == "a"


def test_a_broken_one_is_passed_over(health: Health) -> None:
    """A person waits: the next allowed processor answers now."""
    _break(health, "b")

    assert choose(["b", "a"], admit=health.admit, have={"a", "b"}) == "a"


def test_fallback_never_leaves_the_allow_list(health: Health) -> None:
    """Never spill: a healthy processor that policy did not name is not a fallback."""
    _break(health, "a")

    with pytest.raises(NoProcessorError):
        choose(["a"], admit=health.admit, have={"a", "b"})


def test_nothing_allowed_is_nobody() -> None:
    """An empty allow-list ends in text or a human."""
    with pytest.raises(NoProcessorError):
        choose([], admit=lambda _: True, have={"a"})


def test_few_failures_do_not_open(health: Health) -> None:
    """One bad note is not a bad processor."""
    for _ in range(FAILURES - 1):
        health.failed("a")

    assert health.admit("a")
    assert health.open() == frozenset()


def test_failures_far_apart_do_not_open(health: Health, clock: Clock) -> None:
    """Three failures in a day are not an outage."""
    for _ in range(FAILURES):
        clock.now += WINDOW_S
        health.failed("a")

    assert health.admit("a")
    assert health.open() == frozenset()


def test_a_success_between_clears_the_count(health: Health) -> None:
    """It answers again: what was before no longer counts."""
    health.failed("a")
    health.failed("a")
    health.succeeded("a")
    health.failed("a")

    assert health.admit("a")


def test_after_a_rest_one_call_tries(health: Health, clock: Clock) -> None:
    """Half-open: a crowd let in at once would knock it over again."""
    _break(health)
    assert not health.admit("a")

    clock.now += REST_S

    assert health.admit("a")
    assert not health.admit("a")


def test_a_trial_that_never_reports_is_followed_by_another(health: Health, clock: Clock) -> None:
    """The caller may be cancelled or denied after the choice: that must not shut it for ever."""
    _break(health)
    clock.now += REST_S
    assert health.admit("a")

    clock.now += REST_S

    assert health.admit("a")


def test_a_failed_trial_means_another_rest(health: Health, clock: Clock) -> None:
    """One failure is enough while it is on trial, however long ago the others were."""
    _break(health)
    clock.now += WINDOW_S + REST_S
    assert health.admit("a")
    clock.now += REST_S - 1
    health.failed("a")

    clock.now += 2

    assert not health.admit("a")


def test_a_good_trial_closes(health: Health, clock: Clock) -> None:
    """Back to normal: everybody may go."""
    _break(health)
    clock.now += REST_S
    assert health.admit("a")
    health.succeeded("a")

    assert health.admit("a")
    assert health.admit("a")
    assert health.open() == frozenset()


def test_processors_do_not_share_failures(health: Health) -> None:
    """One vendor's outage in one region says nothing about the next row."""
    _break(health, "a")

    assert health.admit("b")
    assert health.open() == {"a"}
