"""Each planted leak is seen by the counters that find nothing elsewhere; see `borders.leaks`."""

from typing import Any

import pytest
from borders.leaks import ABROAD, LEAKS
from borders.namespace import ELSEWHERE
from support.namespaces import Lab

SEEN = {
    "fallback_list": {ABROAD},
    "lookup_at_import": {ELSEWHERE},
    "no_endpoint": {ELSEWHERE},
    "pool_across_regions": {ABROAD},
    "probe_abroad": {ABROAD},
    "proxy_of_the_environment": {ABROAD},
    "redirect_followed": {ABROAD},
    "retry_abroad": {ABROAD},
}
"""Where each leak must show."""


@pytest.fixture(scope="module")
def planted(lab: Lab) -> Any:
    """Plant all leaks, one after another, and return where packets strayed to."""
    return lab("leaks")["strays"]


@pytest.mark.parametrize("leak", SEEN)
def test_a_planted_leak_is_seen(planted: Any, leak: str) -> None:
    """A counter that never rises proves nothing by standing still."""
    assert SEEN[leak] <= planted[leak].keys()


def test_an_honest_call_is_not_taken_for_a_leak(planted: Any) -> None:
    """Nor does a counter that always rises."""
    assert planted["nothing"] == {}
    assert set(LEAKS) == {*SEEN, "nothing"}
