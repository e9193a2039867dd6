"""
What is measured: how long each stage takes, and how often things end which way.

- A stage, a mark, a tenant, a region or a processor is one of a set known at start; whatever
  is not is counted as ``other``.
- Words of ours (states, reason codes) are open, because rules are: per label, the first few
  that look like one count. None holds a digit.

So no phone number, message id or text becomes a label, and the number of series has a bound.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

OTHER = "other"
NONE = "none"

SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 60, 120)
LATE_SECONDS = (1, 5, 15, 60, 300, 900, 3600, 14400, 86400)
NOTE_SECONDS = (0.25, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10, 20, 30, 60, 120, 300, 3600)

_WORD = re.compile(r"[a-z_]{1,24}([.:-][a-z_]{1,32}){0,2}|[A-Z][A-Za-z]{2,39}")


class Stage(StrEnum):
    """What is timed on the way of a note; kept sorted."""

    DECODE = "decode"
    DELETE = "delete"
    DIALOGUE = "dialogue"
    MEDIA_FETCH = "media_fetch"
    NLU = "nlu"
    POLICY = "policy"
    QUEUE_WAIT = "queue_wait"
    REDACT = "redact"
    SEAL = "seal"
    SEND = "send"
    STT = "stt"
    TTS = "tts"
    UPLOAD = "upload"
    WEBHOOK_ACK = "webhook_ack"


class Mark(StrEnum):
    """What a person waits for, counted from the moment the note was accepted; kept sorted."""

    AUDIO_FETCHED = "audio_fetched"
    FIRST_RESPONSE = "first_response"
    REPLY_DELIVERED = "reply_delivered"
    TRANSCRIPT_READY = "transcript_ready"


class Received(Protocol):
    """One delivery of the webhook, read: its updates, and how often what was dropped."""

    @property
    def updates(self) -> Sequence[object]:
        """Return the updates; a message's kind is its ``content``'s."""
        ...

    @property
    def dropped(self) -> Mapping[str, int]:
        """Return how many parts were dropped, by name."""
        ...


class Words:
    """The first *limit* words of ours that were met; every other one is ``other``."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._met: set[str] = set()

    def __call__(self, word: str) -> str:
        """Return *word*, ``none`` for an empty one, or ``other``."""
        if not word:
            return NONE
        if word in self._met:
            return str(word)
        if len(self._met) >= self._limit or not _WORD.fullmatch(word):
            return OTHER
        self._met.add(str(word))
        return str(word)


class Metrics:
    """One cell's measurements, in a registry of their own."""

    def __init__(
        self,
        *,
        tenants: Iterable[str] = (),
        regions: Iterable[str] = (),
        processors: Iterable[str] = (),
    ) -> None:
        self._tenants = frozenset(tenants)
        self._regions = frozenset(regions)
        self._processors = frozenset(processors)
        self._kinds, self._states = Words(32), Words(48)
        self._reasons, self._parts = Words(64), Words(64)
        self._registry = CollectorRegistry()
        self._stages = Histogram(
            "vocustody_stage_seconds",
            "How long a stage took, whatever came of it",
            ["stage", "processor", "region", "tenant"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._notes = Histogram(
            "vocustody_note_seconds",
            "How long after it was accepted a note reached a mark",
            ["mark", "tenant"],
            buckets=NOTE_SECONDS,
            registry=self._registry,
        )
        self._overdue = Gauge(
            "vocustody_deletion_overdue_seconds",
            "How late the most overdue deletion is; 0 when none is",
            registry=self._registry,
        )
        self._unmatched = Gauge(
            "vocustody_reconciliation_differences",
            "What the last comparison of object store and ledger found",
            ["what"],
            registry=self._registry,
        )
        self._unattributed = Gauge(
            "vocustody_unattributed_updates",
            "Parts of deliveries that name no sender and are kept for a day",
            registry=self._registry,
        )
        self._late = Histogram(
            "vocustody_deletion_late_seconds",
            "How late artifacts were destroyed",
            ["kind"],
            buckets=LATE_SECONDS,
            registry=self._registry,
        )
        self._updates = self._counter("updates", "Updates accepted", "kind", "tenant")
        self._dropped = self._counter("dropped", "Parts of payloads counted and dropped", "part")
        self._groups = self._counter("group_messages", "Messages in groups", "tenant", "outcome")
        self._decisions = self._counter("decisions", "Decisions", "stage", "outcome", "reason")
        self._unkept = self._counter(
            "decisions_unkept", "Decisions without a replay input", "reason"
        )
        self._jobs = self._counter("jobs_ended", "Jobs that came to an end", "state")
        self._errors = self._counter("jobs_interrupted", "Errors of jobs", "outcome", "reason")
        self._replies = self._counter("replies", "What became of replies", "kind", "state")
        self._undelivered = self._counter(
            "replies_undelivered",
            "Replies that WhatsApp took and did not deliver, and what was done",
            *("kind", "reason", "act"),
        )
        self._dead = self._counter("dead_letters", "Jobs put among the dead letters", "reason")
        self._handovers = self._counter("handovers", "Handed over to a human", "reason")
        self._unconfirmed = self._counter(
            "acts_unconfirmed", "A person's no that was done and could not be confirmed", "reason"
        )

        self._strangers = self._counter(
            "admin_unauthorized", "Requests to the admin API without a token that it knows"
        )
        self._findings = self._counter(
            "findings", "Differences between declared and observed", "processor", "kind", "severity"
        )
        self._suspended = Gauge(
            "vocustody_processors_suspended",
            "How many processors rest because of a finding",
            registry=self._registry,
        )

        self._accounts = Gauge(
            "vocustody_accounts_closed",
            "Which parts of the operator's numbers WhatsApp does not accept, and why",
            ["tenant", "part", "reason"],
            registry=self._registry,
        )
        self._waiting = Gauge(
            "vocustody_jobs_waiting",
            "Jobs that wait for the operator: for an account, or for a finding to be closed",
            ["tenant", "reason"],
            registry=self._registry,
        )

    def watch_policy(self, age: Callable[[], float]) -> None:
        """Ask *age* at each scrape for how long nobody has stood by the bundle in force."""
        Gauge(
            "vocustody_policy_age_seconds",
            "Since when the source of the policy bundle has not confirmed the one in force",
            registry=self._registry,
        ).set_function(age)

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(f"vocustody_{name}", says, labels, registry=self._registry)

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)

    @contextmanager
    def timed(
        self, stage: str, *, processor: str = "", tenant: str = "", region: str = ""
    ) -> Iterator[None]:
        """Time the body as *stage*, also when it raises."""
        began = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - began
            self.observe(stage, took, processor=processor, tenant=tenant, region=region)

    def observe(
        self, stage: str, seconds: float, *, processor: str = "", tenant: str = "", region: str = ""
    ) -> None:
        """Count *seconds* as the length of *stage*; a clock that stepped back counts as 0."""
        self._stages.labels(
            stage=_one_of(frozenset(Stage), stage),
            processor=_one_of(self._processors, processor),
            region=_one_of(self._regions, region),
            tenant=_one_of(self._tenants, tenant),
        ).observe(max(0.0, seconds))

    def note_mark(
        self, mark: str, accepted_at: datetime, at: datetime, *, tenant: str = ""
    ) -> None:
        """Count that a note accepted at *accepted_at* reached *mark* at *at*."""
        self._notes.labels(
            mark=_one_of(frozenset(Mark), mark), tenant=_one_of(self._tenants, tenant)
        ).observe(max(0.0, (at - accepted_at).total_seconds()))

    def received(self, tenant: str, received: Received) -> None:
        """Count one delivery that was made durable for *tenant*."""
        whose = _one_of(self._tenants, tenant)
        for update in received.updates:
            kind = type(getattr(update, "content", update)).__name__.lower()
            self._updates.labels(self._kinds(kind), whose).inc()
        for part, count in received.dropped.items():
            self._dropped.labels(self._parts(part)).inc(count)

    def decided(self, stage: str, outcome: str, reasons: Iterable[str] = ()) -> None:
        """Count one decision under its first reason."""
        first = next(iter(reasons), "")
        self._decisions.labels(
            self._kinds(stage), self._states(outcome), self._reasons(first)
        ).inc()

    def unkept(self, reason: str, count: int) -> None:
        """Count *count* decisions whose input was not kept; the log still has the decisions."""
        self._unkept.labels(self._reasons(reason)).inc(count)

    def ended(self, state: str) -> None:
        """Count a job that ended in *state*."""
        self._jobs.labels(self._states(state)).inc()

    def interrupted(self, outcome: str, reason: str) -> None:
        """Count an error of a job: what it meant, and why."""
        self._errors.labels(self._states(outcome), self._reasons(reason)).inc()

    def settled(self, kind: str, state: str) -> None:
        """Count what became of a reply of *kind*."""
        self._replies.labels(self._kinds(kind), self._states(state)).inc()

    def undelivered(self, kind: str, reason: str, act: str) -> None:
        """Count a reply of *kind* that did not arrive, for what *reason*, and what was done."""
        self._undelivered.labels(self._kinds(kind), self._reasons(reason), self._states(act)).inc()

    def buried(self, reason: str) -> None:
        """Count a dead letter."""
        self._dead.labels(self._reasons(reason)).inc()

    def handed_over(self, reason: str) -> None:
        """Count a handover to a human."""
        self._handovers.labels(self._reasons(reason)).inc()

    def unconfirmed(self, reason: str) -> None:
        """Count an act of a person's rights that was done and not confirmed to them."""
        self._unconfirmed.labels(self._reasons(reason)).inc()

    def group_message(self, tenant: str, outcome: str) -> None:
        """Count a message in a group, and what became of it."""
        self._groups.labels(_one_of(self._tenants, tenant), self._states(outcome)).inc()

    def unauthorized(self) -> None:
        """Count a request to the admin API without a token that it knows."""
        self._strangers.inc()

    def found(self, processor: str, kind: str, severity: str) -> None:
        """Count a difference between what a processor declares and what was seen of it."""
        whose = _one_of(self._processors, processor)
        self._findings.labels(whose, self._kinds(kind), self._states(severity)).inc()

    def suspended(self, count: int) -> None:
        """Set how many processors rest because of a finding."""
        self._suspended.set(count)

    def account(self, tenant: str, part: str, reason: str, *, closed: bool) -> None:
        """Set whether *part* of one of the tenant's numbers is closed, and for which *reason*."""
        whose = _one_of(self._tenants, tenant)
        self._accounts.labels(whose, self._kinds(part), self._reasons(reason)).set(int(closed))

    def waiting(self, tenant: str, reason: str, count: int) -> None:
        """Set how many of the tenant's jobs wait for *reason*."""
        self._waiting.labels(_one_of(self._tenants, tenant), self._reasons(reason)).set(count)

    def destroyed(self, kind: str, late_seconds: float) -> None:
        """Count one destruction, and how late it was."""
        self._late.labels(self._kinds(kind)).observe(max(0.0, late_seconds))

    def reconciled(self, *, strays: int, missing: int) -> None:
        """Set how many objects had no row, and how many rows had no object."""
        self._unmatched.labels("stray").set(strays)
        self._unmatched.labels("missing").set(missing)

    def watch_clocks(self, apart_s: Callable[[], float]) -> None:
        """Show by how much clocks differ whenever somebody looks."""
        Gauge(
            "vocustody_clocks_apart_seconds",
            "By how much independent clocks differ so that nothing is destroyed; 0 if they agree",
            registry=self._registry,
        ).set_function(apart_s)

    def unattributed(self, count: int) -> None:
        """Set how many parts of deliveries are kept that name no sender."""
        self._unattributed.set(count)

    def overdue(self, seconds: float) -> None:
        """Set how late the most overdue deletion is."""
        self._overdue.set(max(0.0, seconds))


def _one_of(known: frozenset[str], value: str) -> str:
    if not value:
        return NONE
    return str(value) if value in known else OTHER
