"""
Whether a bucket is fit to keep raw audio: what its server says of it, judged.

- What a server does not say, or not to us, is unknown, and unknown is never a yes: a strict
  judge refuses it unless the operator has accepted that one fact by its name.
- Versions and replicas outlive a delete, a locked object cannot be deleted, a rule that expires
  objects deletes what a legal hold keeps, and who reads the bucket learns sizes and times.
- Encryption at rest is told and never judged: what lies there is sealed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

FACTS = (
    "encryption",
    "lifecycle",
    "object_lock",
    "public_access",
    "region",
    "replication",
    "versioning",
)
TOLD_ONLY = frozenset({"encryption"})
VERSIONED = frozenset({"enabled", "suspended"})

UNFIT = {
    ("lifecycle", "expires"): "a lifecycle rule expires objects (remove it: our clocks delete)",
    ("object_lock", "compliance"): "objects are locked in compliance mode (use another bucket)",
    ("object_lock", "governance"): "objects are locked by default (remove the default retention)",
    ("public_access", "open"): "public access is not blocked (switch on all four blocks)",
    ("replication", "configured"): "objects are replicated (remove the replication rules)",
    ("versioning", "mfa-delete"): "deleting a version needs a second factor (switch that off)",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """What the server says of a bucket by *name*; where it says nothing, *why*."""

    name: str
    value: str | None
    why: str = ""

    @property
    def basis(self) -> str:
        """Return how this is known."""
        return "unknown" if self.value is None else "observed"

    @property
    def says(self) -> str:
        """Return the fact in words, with its basis."""
        return f"{self.value} (observed)" if self.value is not None else f"unknown ({self.why})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """
    What a bucket must be: in *region*, and without a fact in doubt if *strict*.

    *purge_versions* says that every version is deleted with its object; *accepted* names the
    facts that may stay unknown.
    """

    region: str
    purge_versions: bool = False
    accepted: frozenset[str] = frozenset()
    strict: bool = True


def faults(facts: Iterable[Fact], terms: Terms) -> list[str]:
    """Return everything that makes a bucket of *facts* unfit under *terms*, each with its fix."""
    return [fault for fact in facts for fault in _faults(fact, terms)]


def _faults(fact: Fact, terms: Terms) -> Iterator[str]:
    if fact.value is None:
        if terms.strict and fact.name not in terms.accepted | TOLD_ONLY:
            yield (
                f"{fact.name}: unknown, {fact.why} (let the key ask for it, or list "
                f'"{fact.name}" in accept_unknown)'
            )
    elif (fact.name, fact.value) in UNFIT:
        yield f"{fact.name}: {UNFIT[fact.name, fact.value]}"
    elif fact.name == "versioning" and fact.value in VERSIONED and not terms.purge_versions:
        yield (
            f"versioning: the bucket keeps versions ({fact.value}), so a delete leaves the "
            "recording there (use one that never did, or set purge_versions = true)"
        )
    elif fact.name == "region" and fact.value != terms.region:
        yield f"region: it is in {fact.value}, not in {terms.region} (correct region, or move it)"
