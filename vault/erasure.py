"""
What an erasure is made of: the copies that were found, what became of each, and the verdict.

- One selector finds the copies for an access report and for an erasure; they cannot diverge.
- Nothing is "done" that nobody inspected: a copy whose store could not be asked is *unaudited*.
- Only `COMPLETE` and `RESIDUAL` may be shown as done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Method(StrEnum):
    """How a copy ends; kept sorted."""

    EXPIRY = "expiry"  # nobody can reach it: it dies on the date in *until*
    KEY_DESTRUCTION = "key-destruction"
    MESSAGE_DELETION = "message-deletion"  # of the broker, by sequence
    OBJECT_DELETION = "object-deletion"
    ROW_DELETION = "row-deletion"
    VENDOR_DELETION = "vendor-deletion"


class Result(StrEnum):
    """What became of a copy; kept sorted."""

    BY_CONTRACT = "by-contract-unverified"
    ERASED = "erased"
    FAILED = "failed"
    HELD = "held"  # a legal hold keeps it (GDPR Art. 17(3))
    KEPT = "kept"  # another ground keeps it, such as proof of consent (Art. 7(1))
    PENDING = "pending"
    UNAUDITED = "unaudited"


class Verdict(StrEnum):
    """What may be said of an erasure as a whole; kept sorted."""

    COMPLETE = "complete"
    FAILED = "failed"
    PARTIAL = "partial"
    RESIDUAL = "complete-with-residuals"
    UNAUDITED = "unaudited"


SHOWN_AS_DONE = frozenset({Verdict.COMPLETE, Verdict.RESIDUAL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """
    One class of copies in one store.

    *kind* is what it is (``raw_audio``, ``session``, ``jobs``, ``messages``, ``vendor:<id>``,
    ``database-backup``, ...), *store* where (``objects``, ``database``, ``jetstream``, ``vault``,
    a processor's id), *idents* opaque ids, *size* bytes in all or 0 where nobody knows.
    """

    kind: str
    store: str
    region: str
    idents: tuple[str, ...] = ()
    count: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """
    What became of a `Copy`: by which *method*, with which *result*, when.

    *detail* says it in a sentence without personal data; *until* is the latest time at which a
    residual copy is dead; *ground* is the legal ground of what is kept or held.
    """

    copy: Copy
    method: Method
    result: Result
    began: datetime
    ended: datetime
    executor: str
    detail: str = ""
    until: datetime | None = None
    ground: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One try to read what was erased. *held* is True if it failed to read, as it must."""

    name: str
    held: bool | None  # None: it could not be tried
    at: datetime
    said: str


def verdict(fates: Sequence[Fate], trials: Sequence[Trial]) -> Verdict:
    """Return the worst that *fates* and *trials* say; nothing inspected is unaudited."""
    results = {fate.result for fate in fates}
    if any(trial.held is False for trial in trials):
        return Verdict.FAILED
    if not fates or not trials or Result.UNAUDITED in results:
        return Verdict.UNAUDITED
    if any(trial.held is None for trial in trials):
        return Verdict.UNAUDITED
    if results & {Result.FAILED, Result.PENDING}:
        return Verdict.PARTIAL
    residual = results & {Result.BY_CONTRACT, Result.HELD, Result.KEPT}
    dated = any(fate.until is not None for fate in fates)
    return Verdict.RESIDUAL if residual or dated else Verdict.COMPLETE
