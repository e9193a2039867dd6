"""What a replay and an explanation found, as text: ids, codes, counts and digests only."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from policy.explain import Explained, Held, Part
from policy.replay import Change, Report, Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """
    One decision, reproduced, whose law held, and what its rules say of each processor.

    *at* is ISO 8601; *fault* says why it did not come back as it was made, empty if it did.
    """

    stored: Stored
    at: str
    engine: str
    fault: str
    law: Held | None
    processors: tuple[Explained, ...]

    @property
    def status(self) -> int:
        """Return 3 if the decision did not reproduce, else 0."""
        return 3 if self.fault else 0

    @property
    def summary(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        stored = self.stored
        answer = stored.answer or {}
        return {
            "decision": stored.id,
            "at": self.at,
            "stage": stored.asked["stage"],
            "purpose": stored.asked["purpose"],
            "tenant": stored.asked["tenant"],
            "controller": stored.asked.get("controller", ""),
            "jurisdiction": stored.asked["jurisdiction"],
            "outcome": stored.outcome,
            "reasons": list(stored.reasons),
            "reproduced": not self.fault and stored.outcome != "undecided",
            "fault": self.fault,
            "engine": self.engine,
            "revision": stored.revision,
            "data_sha256": stored.data_sha256,
            "input_sha256": stored.input_sha256,
            "answer_sha256": stored.answer_sha256,
            "law": asdict(self.law) if self.law else None,
            "obligations": answer.get("obligations", {}),
            "processors": [asdict(row) for row in self.processors],
        }


def report(found: Report) -> Iterator[str]:
    """Yield *found* as lines."""
    yield f"candidate {found.candidate}"
    changed = len(found.changes)
    yield f"decisions {found.seen}: reproduced {found.reproduced}, would change {changed}"
    for title, counts in (("undecided", found.undecided), ("gone", found.gone)):
        if counts:
            yield f"{title}, not replayed: {_counted(counts)}"
    for fault in found.faults:
        yield f"not reproduced: {fault.id}  {fault.why}"
    for code, counts in found.jurisdictions.items():
        yield f"jurisdiction {code}: {_counted(counts)}"
    for name, each in found.processors.items():
        yield f"processor {name}: +{each['added']} -{each['removed']}"
    for kind, changes in found.examples.items():
        yield from (f"{kind}: {_example(change)}" for change in changes)


def explanation(found: Explanation) -> Iterator[str]:
    """Yield *found* as lines."""
    said = found.summary
    for name in (
        "decision",
        "at",
        "stage",
        "purpose",
        "tenant",
        "controller",
        "jurisdiction",
        "outcome",
    ):
        yield f"{name} {said[name]}"
    yield f"reasons {', '.join(said['reasons']) or 'none'}"
    yield f"reproduced {_reproduced(found)}"
    yield from _law(found.law) if found.law else ()
    for name in ("engine", "revision", "data_sha256", "input_sha256", "answer_sha256"):
        yield f"{name} {said[name] or 'none'}"
    for name, value in sorted(said["obligations"].items()):
        if name.endswith("_seconds"):
            yield f"obligation {name} {value}"
        else:
            yield from (f"obligation {name} {each}: {_flat(value[each])}" for each in sorted(value))
    yield from (f"processor {row.processor}: {_verdict(row)}" for row in found.processors)


def _law(held: Held) -> Iterator[str]:
    for who, laws in (("controller", held.controller), ("person", held.person)):
        for code, name in sorted(laws.items()):
            yield f"law of the {who} {code}: {name or 'none in the table: the strictest of all'}"
    for code, article in sorted(held.localising.items()):
        yield f"law {code} keeps data in the country: {article}"
    yield from (f"law {name} {_part(part)}" for name, part in held.parts.items())


def _part(part: Part) -> str:
    value = part.value
    told = ", ".join(sorted(value)) or "none" if isinstance(value, list) else json.dumps(value)
    return f"{told} (by {', '.join(part.by) or 'nobody'})"


def _reproduced(found: Explanation) -> str:
    if found.stored.outcome == "undecided":
        return "no: nobody answered"
    return f"no: {found.fault}" if found.fault else "yes, byte for byte"


def _verdict(row: Explained) -> str:
    if row.rank:
        return f"chosen {row.rank}, {row.ground}"
    return f"not chosen, {', '.join(row.reasons)}"


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={each}" for name, each in sorted(value.items())) or "none"
    return (", ".join(value) or "none") if isinstance(value, list) else str(value)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _example(change: Change) -> str:
    signs = [f"+{name}" for name in change.added] + [f"-{name}" for name in change.removed]
    said = [change.id, change.jurisdiction, change.stage, f"{change.was} -> {change.would}"]
    return "  ".join([*said, *signs, *change.reasons])
