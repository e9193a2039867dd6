"""Vendors, regions, names or the source of rules fail: nothing spills, and somebody answers."""

from typing import Any

import pytest
from borders.partitions import ADEQUATE, HOME, OTHER
from support.namespaces import Lab

ANSWER_S = 5.0
ANSWERS = {"clarify", "hand_over", "recover"}
DAY = 86_400


def _answered_without_spilling(found: Any) -> None:
    assert set(found["sent"]) <= {HOME}
    assert found["act"] in ANSWERS
    assert found["text"]
    assert found["touches"] == found["ended"] > 0


MOODS = ("refused", "busy", "silent")


@pytest.fixture(scope="module")
def degraded(lab: Lab) -> Any:
    """Return what became of a note while every lawful vendor had one of `MOODS`."""
    return lab("degrade", *MOODS)


@pytest.fixture(scope="module")
def resolved(lab: Lab) -> Any:
    """Return what became of a note while its vendor's name was resolved in some wrong way."""
    return lab("names")


@pytest.mark.parametrize("mood", MOODS)
def test_with_every_lawful_vendor_down_a_person_is_answered_in_time(
    degraded: Any, mood: str
) -> None:
    """Never spill: the answer becomes a text, a question or a human, here, within five seconds."""
    found = degraded[mood]

    _answered_without_spilling(found)
    assert set(found["sent"]) == {HOME}
    assert found["took"] <= ANSWER_S


def test_a_region_off_the_net_is_replaced_by_no_other(lab: Lab) -> None:
    """N-01: a partition is no reason to go abroad, and it ends by itself."""
    found = lab("region_cut")

    _answered_without_spilling(found["cut"])
    assert found["cut"]["sent"] == {}
    assert found["cut"]["took"] <= ANSWER_S
    assert found["back"]["act"] == "heard"
    assert set(found["back"]["sent"]) == {HOME}


def test_a_cell_without_its_source_of_rules_goes_abroad_for_a_day(lab: Lab) -> None:
    """N-02: the last signed bundle holds; what is abroad, only while somebody stood by the list."""
    found = lab("control_plane_cut")["at"]

    reached = {each["asked"]: set(each["sent"]) for each in found}
    assert all(each["failed"] and each["age"] == each["asked"] for each in found)
    assert reached == {
        0: {HOME, ADEQUATE},
        3_600: {HOME, ADEQUATE},
        DAY: {HOME, ADEQUATE},
        DAY + 1: {HOME},
        30 * DAY: {HOME},
    }


def test_bad_lines_break_no_rule(lab: Lab) -> None:
    """N-03: resets, one-way and deaf lines, cuts: each try is on record, and nothing spills."""
    runs = lab("flapping", "1")["runs"]

    assert {place for run in runs for place in run["sent"]} == {HOME}
    assert all(run["touches"] == run["ended"] > 0 for run in runs)
    assert all(len(run["heard"]) <= run["touches"] for run in runs)
    assert {"heard", "recover"} <= {run["act"] for run in runs}


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("dead", "name.unresolved"),
        ("private", "address.not_global"),
        ("metadata", "address.not_global"),
        ("loopback", "address.not_global"),
        ("one of two", "address.not_global"),
    ],
)
def test_without_a_good_address_no_packet_leaves(resolved: Any, how: str, why: str) -> None:
    """N-04: a resolver that fails, or points inwards, stops the call and is on record."""
    found = resolved[how]

    _answered_without_spilling(found)
    assert found["sent"] == {}
    assert found["refused"] == [f"{HOME}.v0.example:443 {why}"]


def test_a_slow_resolver_costs_a_try_and_no_packet(resolved: Any) -> None:
    """N-04: nobody waits for names for ever."""
    found = resolved["slow"]

    _answered_without_spilling(found)
    assert found["sent"] == {}


def test_a_name_that_changes_its_address_moves_no_ticket(resolved: Any) -> None:
    """N-04: what was resolved first stays for the ticket's life (DNS rebinding)."""
    found = resolved["changing"]

    assert len(set(found["again"])) == 1
    assert len(found["again"]) == 2
    assert set(found["sent"]) == {HOME}


def test_a_name_that_leads_abroad_hands_over_no_content(resolved: Any) -> None:
    """
    N-04: an answer that names another region's address cannot be told from a good one.

    The handshake shows it: that machine cannot prove the name. Its packets leave, no byte of a
    note does, and the record has the address. A vendor that moves its own name abroad, with its
    own certificate, is only seen afterwards (`residency.drift`).
    """
    found = resolved["another region"]

    assert found["act"] in ANSWERS
    assert found["heard"] == []
    assert set(found["sent"]) == {OTHER}
    assert len(found["peers"]) == 1
