"""Timelines and whereabouts."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.audit import START, an_event

from audit.errors import NotInLogError
from audit.model import EventType, Leaf
from audit.timeline import compared, timeline, whereabouts

_T = EventType


def _leaves(*events: tuple[EventType, float, dict[str, Any]]) -> list[Leaf]:
    return [
        Leaf(
            index=index,
            data=b"",
            event=an_event(kind, at=START + timedelta(seconds=at), **({"artifact": "a_1"} | more)),
            aseq=index,
            aprev=None,
        )
        for index, (kind, at, more) in enumerate(events)
    ]


_STORY = _leaves(
    (_T.JOB_ACCEPTED, 0, {"job": "j_1"}),
    (_T.ARTIFACT_STORED, 10, {"region": "eu-central", "detail": {"kind": "raw_audio"}}),
    (_T.TOUCH_BEGAN, 62, {"touch": "t_1"}),
    (_T.TOUCH_ENDED, 63, {"touch": "t_1", "detail": {"host": "stt.example"}}),
    (_T.TOUCH_BEGAN, 80, {"touch": "t_2", "decision": None}),
    (
        _T.ARTIFACT_DESTROYED, 86_400,
        {"detail": {"methods": ["object-deleted", "key-destroyed"], "verified": True}},
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "state", "region", "basis", "sentence"),
    [
        (
            -1, "unknown to us", None, "unknown",
            (
            "At 2026-11-19 13:59:59 UTC the recording a_1 was unknown to us; nobody was handling"
            " it. Next, from 14:01:02 to 14:01:03 UTC, stt.example.eu-central (eu-central) handled"
            " it: transcribe, done, under decision d_1 (declared nothing; observed host"
            " stt.example, peer unknown, TLS not seen (tunnel), bytes out unknown)."
            ),
        ),
        (
            5, "announced", None, "declared",
            (
            "At 2026-11-19 14:00:05 UTC the recording a_1 was announced: WhatsApp held it, we did"
            " not, and we do not know where (Meta may use it elsewhere for up to 60 minutes);"
            " nobody was handling it. Next, from 14:01:02 to 14:01:03 UTC, stt.example.eu-central"
            " (eu-central) handled it: transcribe, done, under decision d_1 (declared nothing;"
            " observed host stt.example, peer unknown, TLS not seen (tunnel), bytes out unknown)."
            ),
        ),
        (
            62, "kept", "eu-central", "observed",
            (
            "At 2026-11-19 14:01:02 UTC the recording a_1 was kept sealed in eu-central (cell of"
            " fernruf); stt.example.eu-central (eu-central) was handling it: transcribe, since"
            " 14:01:02 UTC, under decision d_1 (declared nothing; observed host stt.example, peer"
            " unknown, TLS not seen (tunnel), bytes out unknown). Next, stt.example.eu-central"
            " (eu-central): transcribe, began 14:01:20 UTC, no end on record, under no decision."
            ),
        ),
        (
            86_400, "destroyed", None, "observed",
            (
            "At 2026-11-20 14:00:00 UTC the recording a_1 was no more: destroyed at 14:00:00 UTC"
            " by object-deleted and key-destroyed (verified); whether stt.example.eu-central"
            " (eu-central) was handling it is unknown: transcribe, began 2026-11-19 14:01:20 UTC,"
            " no end on record, under no decision."
            ),
        ),
    ],
)  # fmt: skip
def test_the_answer_is_one_plain_sentence(
    seconds: float, state: str, region: str | None, basis: str, sentence: str
) -> None:
    """A DPO reads this aloud; unknown must never round up to yes."""
    answer = whereabouts("a_1", START + timedelta(seconds=seconds), _STORY)

    assert (answer.state, answer.region, answer.basis) == (state, region, basis)
    assert answer.sentence == sentence


_DECLARED = {
    "declared": {"hosts": ["stt.example:443"], "region": "westeurope", "country": "NL"},
    "basis": "declared",
}


@pytest.mark.parametrize(
    ("observed", "said"),
    [
        (
            {
                "host": "stt.example:443",
                "peers": ["192.0.2.1", "192.0.2.2"],
                "tls": "TLSv1.3 stt.example",
                "bytes": 41_233,
            },
            (
                "host stt.example:443, peer 192.0.2.1 and 192.0.2.2, TLSv1.3 stt.example,"
                " 41,233 bytes out)"
            ),
        ),
        (
            {"peer": "192.0.2.1", "attested": {"region": "eastus"}},
            (
                "host unknown, peer 192.0.2.1, TLS not seen (tunnel), bytes out unknown;"
                " attested by vendor: eastus)"
            ),
        ),
        ({"attested": {"region": "eastus"}}, "nothing (unknown); attested by vendor: eastus)"),
        (
            {"refused": ["oauth2.example:443 host.not_granted"]},
            "no connection, refused oauth2.example:443 host.not_granted)",
        ),
        ({}, "nothing (unknown))"),
    ],
)
def test_what_was_observed_stands_beside_what_was_declared(
    observed: dict[str, Any], said: str
) -> None:
    """A reader compares the two in one breath; a blank would be read as agreement."""
    leaves = _leaves(
        (_T.TOUCH_BEGAN, 0, {"touch": "t_1", "detail": _DECLARED}),
        (_T.TOUCH_ENDED, 2, {"touch": "t_1", "detail": observed}),
    )

    sentence = whereabouts("a_1", START + timedelta(seconds=1), leaves).sentence

    assert f"(declared westeurope (NL), host stt.example:443; observed {said}" in sentence


def test_a_connection_nobody_declared_says_so() -> None:
    """Leaves of before the declaration was written beside are still read."""
    seen = {"host": "stt.example", "peer": "192.0.2.1"}
    leaves = _leaves(
        (_T.TOUCH_BEGAN, 0, {"touch": "t_1"}),
        (_T.TOUCH_ENDED, 2, {"touch": "t_1", "detail": seen}),
    )

    (entry,) = timeline(leaves)

    assert compared(entry) == (
        "declared nothing; observed host stt.example, peer 192.0.2.1, TLS not seen (tunnel),"
        " bytes out unknown"
    )


def test_destroyed_but_not_verified_is_not_observed() -> None:
    """A deletion that nobody re-read is a claim, and the sentence says so."""
    leaves = _leaves((_T.ARTIFACT_DESTROYED, 0, {"detail": {"verified": "yes"}}))

    answer = whereabouts("a_1", START, leaves)

    assert answer.basis == "declared"
    assert "by an unnamed method (not verified)" in answer.sentence


def test_an_artifact_nobody_mentions_is_not_answered() -> None:
    """Silence of the log must not read as "unknown to us" for a mistyped id."""
    with pytest.raises(NotInLogError, match="a_9"):
        whereabouts("a_9", START, _STORY)


def test_a_timeline_pairs_touches_and_keeps_open_ones() -> None:
    """Each touch is one line with both of its leaves; a missing end must stay visible."""
    lines = timeline(_STORY)

    assert [(line.what, line.indexes) for line in lines] == [
        ("job.accepted", (0,)),
        ("artifact.stored", (1,)),
        ("transcribe", (2, 3)),
        ("transcribe", (4,)),
        ("artifact.destroyed", (5,)),
    ]
    assert (lines[2].outcome, lines[2].detail) == ("done", {"host": "stt.example"})
    assert (lines[3].ended, lines[3].outcome) == (None, None)


_KILLED = _leaves(
    (_T.ARTIFACT_STORED, 10, {"region": "eu-central", "detail": {"kind": "raw_audio"}}),
    (_T.TOUCH_BEGAN, 62, {"touch": "t_1"}),
    (_T.TOUCH_ENDED, 123, {"touch": "t_1", "outcome": "killed"}),
    (_T.TOUCH_BEGAN, 124, {"touch": "t_2"}),
    (_T.TOUCH_ENDED, 125, {"touch": "t_2"}),
)


def test_nobody_is_said_to_handle_what_a_dead_process_left_open() -> None:
    """Its successor noticed a minute later; that minute was nobody's, as far as anybody knows."""
    answer = whereabouts("a_1", START + timedelta(seconds=90), _KILLED)

    assert (answer.handling, len(answer.unended)) == ((), 1)
    assert answer.sentence == (
        "At 2026-11-19 14:01:30 UTC the recording a_1 was kept sealed in eu-central (cell of"
        " fernruf); whether stt.example.eu-central (eu-central) was handling it is unknown:"
        " transcribe, began 14:01:02 UTC, no end on record, the process died before 14:02:03 UTC,"
        " under decision d_1. Next, from 14:02:04 to 14:02:05 UTC, stt.example.eu-central"
        " (eu-central) handled it: transcribe, done, under decision d_1."
    )


def test_a_dead_processs_touch_has_no_end_in_a_timeline_either() -> None:
    """When the successor came is not when the processor was done."""
    (_, killed, _) = timeline(_KILLED)

    assert (killed.ended, killed.outcome) == (None, "killed")
    assert killed.died_before == START + timedelta(seconds=123)


def test_before_and_after_a_dead_processs_touch_it_is_told_as_such() -> None:
    """A glance at the next one must not turn the killed one into work that was done."""
    before = whereabouts("a_1", START + timedelta(seconds=20), _KILLED)
    after = whereabouts("a_1", START + timedelta(seconds=123.5), _KILLED)

    assert before.sentence.endswith(
        "nobody was handling it. Next, stt.example.eu-central (eu-central): transcribe, began"
        " 14:01:02 UTC, no end on record, the process died before 14:02:03 UTC, under decision d_1."
    )
    assert (after.handling, after.unended) == ((), ())
    assert after.previous is not None
    assert after.previous.outcome == "killed"


_spans = st.lists(
    st.tuples(st.integers(0, 60), st.one_of(st.none(), st.integers(0, 20)), st.booleans()),
    max_size=8,
)


@given(_spans, st.integers(-5, 90), st.lists(st.integers(0, 80), max_size=3, min_size=0))
def test_every_instant_gets_the_answer_of_a_slow_reader(
    spans: list[tuple[int, int | None, bool]], instant: int, turns: list[int]
) -> None:
    """The answer must equal going through the leaves with a finger, for any instant."""
    told: list[tuple[EventType, float, dict[str, Any]]] = []
    kinds = [_T.JOB_ACCEPTED, _T.ARTIFACT_STORED, _T.ARTIFACT_DESTROYED]
    moments = dict(zip(kinds, sorted(turns), strict=False))
    told += [(kind, at, {"job": "j_1", "region": "eu-central"}) for kind, at in moments.items()]
    for n, (began, length, killed) in enumerate(spans):
        told.append((_T.TOUCH_BEGAN, began, {"touch": f"t_{n}"}))
        if length is not None:
            how = {"touch": f"t_{n}", "outcome": "killed" if killed else "done"}
            told.append((_T.TOUCH_ENDED, began + length, how))
    told.append((_T.TOUCH_BEGAN, instant, {"touch": "t_other", "artifact": "a_2"}))
    leaves = _leaves(*sorted(told, key=lambda each: (each[1], each[0] is _T.TOUCH_ENDED)))
    if not (turns or spans):
        return

    answer = whereabouts("a_1", START + timedelta(seconds=instant), leaves)

    covering = [(b, n, k) for b, n, k in spans if b <= instant and (n is None or instant <= b + n)]
    under_way = sorted(b for b, n, killed in covering if n is not None and not killed)
    unsure = sorted(b for b, n, killed in covering if n is None or killed)
    over = [b + n for b, n, _ in spans if n is not None and b + n < instant]
    ahead = [b for b, _, _ in spans if b > instant]
    reached = [kind for kind, at in moments.items() if at <= instant]
    states = {None: "unknown to us", kinds[0]: "announced", kinds[1]: "kept", kinds[2]: "destroyed"}

    def seconds(at: Any) -> float:
        return float((at - START).total_seconds())

    assert [seconds(each.began) for each in answer.handling] == under_way
    assert [seconds(each.began) for each in answer.unended] == unsure
    before = answer.previous and (answer.previous.ended or answer.previous.died_before)
    assert (before and seconds(before)) == (max(over) if over else None)
    assert (answer.following and seconds(answer.following.began)) == (min(ahead) if ahead else None)
    assert answer.state == states[reached[-1] if reached else None]
