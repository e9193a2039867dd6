"""
What a bundle must stand before it is enforced.

- It is no older than the newest that was ever admitted, unless somebody rolls back.
- Its processors are those of this cell's registry, in the registry's regions and at its hosts,
  under contracts no better than those filed there: a publication may end one, not make one.
- It sends data abroad on no ground that the cell's settings do not name, and what they tighten
  for a tenant is tightened.
- Each question of the deny corpus, and each request of the access corpus, gets a well-formed no
  within a second; each one in order gets a well-formed answer. The rules run in a process of
  their own meanwhile.

That the archive is whole and signed, that its revision is its content's and that its rules keep
to the portable subset, `archive.unpack` has seen to. Every refusal names the fault.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policy import access, access_cases
from policy import cases as corpora
from policy.access import Permitted
from policy.access_cases import Asking
from policy.archive import Packed
from policy.bundle import Bundle
from policy.cases import Case
from policy.decide import decide
from policy.errors import BundleError
from policy.model import Allowed, Question, Undecided
from policy.ports import PolicyEngine
from policy.rehearsal import rehearsal

ANSWER_LIMIT_S = 1.0
NEVER = (-1, "")  # the newest publication of who has had none

_OURS = ("hosts", "jurisdiction", "region", "stages")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """
    What a cell holds a bundle against.

    *processors* are the registry's rows by id; *tightened* what the settings tighten for each
    tenant, as an overlay of the bundle's form; *grounds* those that its settings name.
    """

    processors: Mapping[str, Mapping[str, Any]]
    tightened: Mapping[str, Mapping[str, Any]]
    grounds: frozenset[str] = frozenset()


async def admit(
    packed: Packed,
    *,
    expected: Expected,
    newest: tuple[int, str],
    now: int,
    cases: Sequence[Case] | None = None,
) -> None:
    """
    Return if *packed* may be enforced from *now* (epoch seconds) on.

    *newest* are issue number and revision of the newest ever admitted.

    Raises:
        BundleError: it may not; the message says why.

    """
    if packed.issued <= newest[0] and (packed.issued, packed.bundle.revision) != newest:
        raise BundleError(f"issued {packed.issued} is not newer than {newest[0]} (roll back?)")
    if faults := list(_faults(packed.bundle, expected)):
        raise BundleError("; ".join(faults))
    await rehearse(packed.bundle, cases=corpora.load() if cases is None else cases, now=now)


async def rehearse(bundle: Bundle, *, cases: Sequence[Case], now: int) -> int:
    """
    Return how many questions *bundle* answered as every bundle must.

    Raises:
        BundleError: naming the first that it did not.

    """
    plain = [case for case in cases if case.world is None]
    if not next(corpora.faulty(bundle, plain, now=now), None):
        raise BundleError("serves nobody: no question of the deny corpus can be asked of it")
    async with rehearsal(bundle) as engine:
        asked = 0
        for code, question in corpora.faultless(bundle, now=now):
            await _answered(bundle, engine, question, f"a question in order in {code}")
            asked += 1
        asked += await _denied(bundle, engine, plain, now=now)
        asked += await _accessed(bundle, engine, now=now)
        for world, its in corpora.worlds(bundle, cases, now=now):
            await engine.load(world)
            asked += await _denied(world, engine, its, now=now)
    return asked


async def _denied(bundle: Bundle, engine: PolicyEngine, cases: Sequence[Case], *, now: int) -> int:
    wrong = list(corpora.faulty(bundle, cases, now=now))
    for name, code, question in wrong:
        told = f"deny corpus: {name} in {code} at {question.stage}"
        if await _answered(bundle, engine, question, told):
            raise BundleError(f"{told}: allowed")
    return len(wrong)


async def _answered(bundle: Bundle, engine: PolicyEngine, question: Question, told: str) -> bool:
    """Return whether it is allowed; an answer that nobody could use is a fault of the bundle."""
    found = await decide(question, engine, facts=bundle.facts, deadline_s=ANSWER_LIMIT_S)
    if isinstance(found, Undecided):
        raise BundleError(f"{told}: {', '.join(found.reasons)}")
    return isinstance(found, Allowed)


async def _accessed(bundle: Bundle, engine: PolicyEngine, *, now: int) -> int:
    right = access_cases.in_order(bundle, now=now)
    for asking in right:
        await _permitted(bundle, engine, asking, "a request in order", now=now)
    wrong = list(access_cases.faulty(bundle, access_cases.load(), now=now))
    for name, asking in wrong:
        told = f"access corpus: {name}"
        if await _permitted(bundle, engine, asking, told, now=now):
            raise BundleError(f"{told}: permitted")
    return len(right) + len(wrong)


async def _permitted(
    bundle: Bundle, engine: PolicyEngine, asking: Asking, told: str, *, now: int
) -> bool:
    found = await access.verdict(
        asking.request,
        engine,
        facts=bundle.facts,
        now=now,
        approvals=asking.approvals,
        deadline_s=ANSWER_LIMIT_S,
    )
    if isinstance(found, Undecided):
        raise BundleError(f"{told}: {', '.join(found.reasons)}")
    return isinstance(found, Permitted)


def _faults(bundle: Bundle, expected: Expected) -> Iterator[str]:
    for row in bundle.data["processors"]:
        ours = expected.processors.get(row["id"])
        if ours is None:
            yield f"processor {row['id']}: not in this cell's registry"
        else:
            yield from (
                f"processor {row['id']}: {key} is not the registry's"
                for key in _OURS
                if row[key] != ours[key]
            )
            yield from (f"processor {row['id']}: {fault}" for fault in _unfiled(row, ours))
    for ground in sorted(set(bundle.data["grounds"]) - expected.grounds):
        yield f"ground {ground}: not among this cell's [policy] grounds"
    for tenant, overlay in expected.tightened.items():
        given = bundle.data["tenants"].get(tenant, {})
        yield from (f"tenant {tenant}: {fault}" for fault in _loosened(given, overlay))


def _unfiled(given: Mapping[str, Any], ours: Mapping[str, Any]) -> Iterator[str]:
    """Yield what *given* claims and the contract of *ours* does not say."""
    if (given["contract_expires"] or math.inf) > (ours["contract_expires"] or math.inf):
        yield "contract_expires is later than the registry's (0 is never)"
    if given["review_expires"] > ours["review_expires"]:
        yield "review_expires is later than the registry's"
    if ours["options"].items() - given["options"].items():
        yield "options lack some of the registry's"
    spoken, agreed = set(given["languages"]), set(ours["languages"])  # none is every language
    if agreed and (not spoken or spoken - agreed):
        yield "languages are more than the registry's"
    if not all(_covered(tool, ours["transfers"]) for tool in given["transfers"]):
        yield "transfers are more, or for longer, than the registry's"


def _covered(tool: Mapping[str, Any], filed: Sequence[Mapping[str, Any]]) -> bool:
    return any(
        {**tool, "expires": ours["expires"]} == ours and tool["expires"] <= ours["expires"]
        for ours in filed
    )


def _loosened(given: Mapping[str, Any], overlay: Mapping[str, Any]) -> Iterator[str]:
    """Yield what *overlay* tightens and *given* does not."""
    clocks = given.get("retention", {})
    for kind, seconds in overlay.get("retention", {}).items():
        if clocks.get(kind, seconds + 1) > seconds:
            yield f"{kind} is longer than its settings allow"
    for name in ("refused", "refused_grounds", "refused_purposes"):
        if missing := set(overlay.get(name, [])) - set(given.get(name, [])):
            yield f"{name} lacks {', '.join(sorted(missing))}, which its settings refuse"
    if overlay.get("abroad") == "decline" != given.get("abroad"):
        yield "serves people abroad, whom its settings decline"
    for sink, names in overlay.get("redact", {}).items():
        if missing := set(names) - set(given.get("redact", {}).get(sink, [])):
            yield f"redact.{sink} lacks {', '.join(sorted(missing))}, which its settings redact"
