"""Metrics: every stage is measured, and no label can grow without bound or name a person."""

import string
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Mark, Metrics, Stage
from gateway.whatsapp.payload import Identity, Message, Parsed, Status, Text

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
PHONE = "12025550101"
WAMID = "wamid.HBgLMTIwMjU1NTAxMDE"


@dataclass
class Hostile:
    """A delivery whose dropped parts are named by whoever sent it."""

    dropped: dict[str, int]
    updates: list[object] = field(default_factory=list)


def fresh() -> Metrics:
    """Return the metrics of a small cell."""
    return Metrics(tenants=["clinic"], regions=["eu-central"], processors=["local-stt"])


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return what a scrape would read: (name, labels) -> value, without times of creation."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """Return one series' value, 0 if it is not there."""
    return samples(metrics).get((name, frozenset(labels.items())), 0.0)


@pytest.mark.parametrize("stage", list(Stage))
def test_every_stage_is_timed_with_its_labels(stage: Stage) -> None:
    """Where the three seconds of a slow answer went must be visible per vendor and region."""
    metrics = fresh()

    with metrics.timed(stage, processor="local-stt", tenant="clinic", region="eu-central"):
        pass

    labels = {"stage": stage, "processor": "local-stt", "tenant": "clinic", "region": "eu-central"}
    assert value(metrics, "vocustody_stage_seconds_count", **labels) == 1


def test_a_stage_that_fails_is_timed_too() -> None:
    """A vendor that times out is the slowest of all: it must not vanish from the histogram."""
    metrics = fresh()

    def late() -> None:
        with metrics.timed("stt", tenant="clinic"):
            time.sleep(0.002)
            raise TimeoutError

    with pytest.raises(TimeoutError):
        late()

    labels = {"stage": "stt", "processor": "none", "tenant": "clinic", "region": "none"}
    assert value(metrics, "vocustody_stage_seconds_count", **labels) == 1
    assert value(metrics, "vocustody_stage_seconds_sum", **labels) >= 0.002


@pytest.mark.parametrize("mark", list(Mark))
def test_marks_count_from_acceptance(mark: Mark) -> None:
    """People wait from the moment they sent a note, not from when a worker woke up."""
    metrics = fresh()

    metrics.note_mark(mark, NOON, NOON + timedelta(seconds=2.5), tenant="clinic")

    labels = {"mark": mark, "tenant": "clinic"}
    assert value(metrics, "vocustody_note_seconds_sum", **labels) == 2.5
    assert value(metrics, "vocustody_note_seconds_bucket", le="2.0", **labels) == 0
    assert value(metrics, "vocustody_note_seconds_bucket", le="2.5", **labels) == 1


def test_a_clock_that_stepped_back_counts_as_zero() -> None:
    """A negative duration would make a histogram's sum fall, which no one can read."""
    metrics = fresh()

    metrics.note_mark("first_response", NOON, NOON - timedelta(hours=2))
    metrics.observe("queue_wait", -1.0)
    metrics.overdue(-5)

    assert value(metrics, "vocustody_note_seconds_sum", mark="first_response", tenant="none") == 0
    assert value(metrics, "vocustody_deletion_overdue_seconds") == 0
    assert min(samples(metrics).values()) == 0


def test_a_delivery_is_counted_by_kind_and_by_what_was_dropped() -> None:
    """What we do not work on is kept as a count only, so the count must be there."""
    metrics = fresh()
    text = Message(
        phone_number_id="1",
        id=WAMID,
        sender=Identity(phone=PHONE),
        sent_at=0,
        content=Text(body="hello"),
    )
    status = Status(phone_number_id="1", message_id=WAMID, state="sent", at=0, opaque="")

    metrics.received(
        "clinic", Parsed(updates=(text, text, status), dropped={"field:history": 3, PHONE: 1})
    )

    assert value(metrics, "vocustody_updates_total", kind="text", tenant="clinic") == 2
    assert value(metrics, "vocustody_updates_total", kind="status", tenant="clinic") == 1
    assert value(metrics, "vocustody_dropped_total", part="field:history") == 3
    assert value(metrics, "vocustody_dropped_total", part="other") == 1


def test_everything_else_is_counted() -> None:
    """Each counter is an alert somebody relies on; one that stays at 0 is worse than none."""
    metrics = fresh()

    metrics.decided("capture", "denied", ("consent.missing", "zones.none"))
    metrics.decided("reply", "allowed")
    metrics.ended("handed_over")
    metrics.interrupted("retry", "ProcessorBusyError")
    metrics.settled("speech", "delivered")
    metrics.buried("audio.malformed")
    metrics.handed_over("stt.failed")
    metrics.overdue(61.5)

    denied = {"stage": "capture", "outcome": "denied", "reason": "consent.missing"}
    allowed = {"stage": "reply", "outcome": "allowed", "reason": "none"}
    busy = {"outcome": "retry", "reason": "ProcessorBusyError"}
    assert value(metrics, "vocustody_decisions_total", **denied) == 1
    assert value(metrics, "vocustody_decisions_total", **allowed) == 1
    assert value(metrics, "vocustody_jobs_ended_total", state="handed_over") == 1
    assert value(metrics, "vocustody_jobs_interrupted_total", **busy) == 1
    assert value(metrics, "vocustody_replies_total", kind="speech", state="delivered") == 1
    assert value(metrics, "vocustody_dead_letters_total", reason="audio.malformed") == 1
    assert value(metrics, "vocustody_handovers_total", reason="stt.failed") == 1
    assert value(metrics, "vocustody_deletion_overdue_seconds") == 61.5


def poke(metrics: Metrics, label: str) -> None:
    """Put *label* wherever a caller can put one."""
    with metrics.timed(label, processor=label, tenant=label, region=label):
        pass
    metrics.note_mark(label, NOON, NOON, tenant=label)
    metrics.received(label, Hostile(dropped={label: 1}))
    metrics.decided(label, label, (label,))
    metrics.ended(label)
    metrics.interrupted(label, label)
    metrics.settled(label, label)
    metrics.buried(label)
    metrics.handed_over(label)


@pytest.mark.parametrize(
    "label", [PHONE, f"+{PHONE}", WAMID, "US.1349", "I am ill", "naïve", "a\nb"]
)
def test_nothing_about_a_person_becomes_a_label(label: str) -> None:
    """Metrics are kept for months, copied to other regions and shown on walls."""
    metrics = fresh()

    poke(metrics, label)

    assert label not in metrics.render().decode()
    assert value(metrics, "vocustody_handovers_total", reason="other") == 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(string.ascii_lowercase + "_.", min_size=1, max_size=20), max_size=300))
def test_the_number_of_series_has_a_bound(labels: list[str]) -> None:
    """A label that grows with traffic takes the monitoring down, then the cell."""
    metrics = fresh()

    for label in labels:
        metrics.handed_over(label)
        metrics.ended(label)
        metrics.received(label, Hostile(dropped={label: 1}))
        metrics.observe(label, 0, tenant=label, processor=label, region=label)

    names = [name for name, _labels in samples(metrics)]
    assert names.count("vocustody_handovers_total") <= 65
    assert names.count("vocustody_jobs_ended_total") <= 49
    assert names.count("vocustody_dropped_total") <= 65
    assert names.count("vocustody_stage_seconds_count") <= len(Stage) + 1


def test_a_thousand_reasons_are_sixty_four_and_other() -> None:
    """The bound must hold for words that look right, too."""
    metrics = fresh()

    for first in string.ascii_lowercase:
        for second in string.ascii_lowercase:
            metrics.handed_over(f"{first}.{second}")

    counted = {
        key: n for key, n in samples(metrics).items() if key[0] == "vocustody_handovers_total"
    }
    assert len(counted) == 65
    assert value(metrics, "vocustody_handovers_total", reason="other") == 26 * 26 - 64


def test_two_cells_do_not_share_series() -> None:
    """One process may stand in for several regions; each must see its own."""
    one, two = fresh(), fresh()

    one.ended("done")

    assert value(two, "vocustody_jobs_ended_total", state="done") == 0
