"""
Questions that every bundle must answer with a no, whatever else it says.

Each case is one thing that is wrong with a question that is otherwise in order *under the
bundle at hand*: its jurisdictions, tenants, notices and processors, and a controller and a person
of one country. So a rule that forgot one
check shows, and a deny for some other reason does not hide it. ``*`` stands for the
jurisdiction that is asked about; times are seconds from now.

What no question can say is put into the data: such a case has a *world*, the bundle's own rules
over a few of its processors, with those rows and that tenant changed. There ``*`` in
``suspended`` stands for everybody who could do the work, ``home`` for those who stand at home,
``here`` for those in the cell's own region. Its ``laws`` are those of further countries: the first
of the bundle's, changed.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from policy import index as indexes
from policy.bundle import Bundle
from policy.errors import BundleError
from policy.model import HANDED, Consent, ConsentState, DataClass, Question, Stage

SHIPPED = Path(__file__).parent / "corpus" / "deny.json"
PURPOSE = "transcribe_and_answer"
DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """
    What is wrong, at which stages it matters, and what it changes in a question.

    *world* is what it changes in the data first: ``laws``, ``rows`` and ``tenant``; None = nothing.
    """

    name: str
    stages: tuple[Stage, ...]
    changes: Mapping[str, Any]
    world: Mapping[str, Mapping[str, Any]] | None = None


def load(path: Path = SHIPPED) -> tuple[Case, ...]:
    """Return the cases in *path*; raise `BundleError` if there are none."""
    found = tuple(
        Case(
            name=case["name"],
            stages=tuple(Stage(stage) for stage in case["stages"]),
            changes=case.get("changes", {}),
            world=case.get("world"),
        )
        for case in json.loads(path.read_text(encoding="utf-8"))
    )
    if not found:
        raise BundleError("the deny corpus is empty: nothing would be refused")
    return found


def in_order(bundle: Bundle, *, now: int) -> dict[str, dict[Stage, Question]]:
    """Return, per jurisdiction and stage somebody may serve, a question without a fault."""
    return {
        code: {Stage(stage): _question(bundle, code, Stage(stage), now) for stage in sorted(served)}
        for code in bundle.data["jurisdictions"]
        if (served := indexes.serving(bundle.data, code))
    }


def faultless(bundle: Bundle, *, now: int) -> Iterator[tuple[str, Question]]:
    """Yield jurisdiction and a question in order: one per jurisdiction, stages in turn."""
    for turn, (code, stages) in enumerate(in_order(bundle, now=now).items()):
        yield code, list(stages.values())[turn % len(stages)]


def faulty(
    bundle: Bundle, cases: Sequence[Case], *, now: int
) -> Iterator[tuple[str, str, Question]]:
    """
    Yield case, jurisdiction and question: each case once per jurisdiction, stages in turn.

    *bundle* is the world of *cases*: for those that have none, the bundle as it is.
    """
    for turn, (code, stages) in enumerate(in_order(bundle, now=now).items()):
        for case in cases:
            if asked := [stage for stage in case.stages if stage in stages]:
                question = stages[asked[turn % len(asked)]]
                given = _suspending(bundle, question, case.changes)
                yield case.name, code, changed(question, given)


def worlds(
    bundle: Bundle, cases: Sequence[Case], *, now: int
) -> Iterator[tuple[Bundle, list[Case]]]:
    """Yield each world that *cases* need, made of *bundle*, with the cases that are asked there."""
    rest = [case for case in cases if case.world is not None]
    while rest:
        world = rest[0].world or {}
        yield altered(bundle, world, now=now), [case for case in rest if case.world == world]
        rest = [case for case in rest if case.world != world]


def altered(bundle: Bundle, world: Mapping[str, Mapping[str, Any]], *, now: int) -> Bundle:
    """
    Return *bundle* over the first processor of each stage and region, changed by *world*.

    A few are enough to ask, and no more than a question may suspend. ``review_expires_in``
    counts from *now*.
    """
    data = bundle.data
    first: dict[tuple[str, str], str] = {}
    for row in data["processors"]:
        for stage in row["stages"]:
            first.setdefault((stage, row["region"]), row["id"])
    change = dict(world.get("rows", {}))
    if "review_expires_in" in change:
        change["review_expires"] = now + change.pop("review_expires_in")
    rows = [{**row, **change} for row in data["processors"] if row["id"] in first.values()]
    laws = dict(data["jurisdictions"])
    like = laws[min(laws)]
    laws |= {code: {**like, **change} for code, change in world.get("laws", {}).items()}
    derived = indexes.derive(rows, laws, data["grounds"])
    tenants = {
        tenant: {**overlay, **world.get("tenant", {})}
        for tenant, overlay in data["tenants"].items()
    }
    changed_data = {
        "index": derived.index,
        "jurisdictions": laws,
        "processors": rows,
        "tenants": tenants,
        "ways": derived.ways,
    }
    return Bundle(modules=bundle.modules, data={**data, **changed_data})


def _suspending(bundle: Bundle, question: Question, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return *changes* with the ids that ``suspended`` stands for."""
    given = dict(changes)
    if "suspended" not in given:
        return given
    served = indexes.serving(bundle.data, question.jurisdiction)
    regions = bundle.data["jurisdictions"][question.jurisdiction]["regions"]
    home = {question.region}
    if changes["suspended"] == "home" and question.region in regions:
        home |= set(regions)
    given["suspended"] = tuple(
        entry["id"]
        for entry in served[question.stage]
        if changes["suspended"] == "*" or entry["region"] in home
    )
    return given


def changed(question: Question, changes: Mapping[str, Any]) -> Question:
    """Return *question* with *changes*; those of ``consent`` are made to its consent."""
    given: dict[str, Any] = dict(changes)
    if "data_class" in given:
        given["data_class"] = DataClass(given["data_class"])
    if "languages" in given:
        given["languages"] = tuple(given["languages"])
    if "jurisdiction" in given:
        given["jurisdiction"] = given["jurisdiction"].replace("*", question.jurisdiction)
    if isinstance(given.get("consent"), dict) and question.consent is not None:
        given["consent"] = consent_with(question.consent, given["consent"], question.now)
    return replace(question, **given)


def consent_with(consent: Consent, changes: Mapping[str, Any], now: int) -> Consent:
    """Return *consent* with *changes*; ``given_in`` and ``expires_in`` count from *now*."""
    given = dict(changes)
    if "given_in" in given:
        given["at"] = now + given.pop("given_in")
    if "expires_in" in given:
        given["expires_at"] = now + given.pop("expires_in")
    if "state" in given:
        given["state"] = ConsentState(given["state"])
    return replace(consent, **given)


def _question(bundle: Bundle, code: str, stage: Stage, now: int) -> Question:
    data = bundle.data
    row = indexes.serving(data, code)[stage][0]
    tenant = min(data["tenants"], default="none")
    regions = data["jurisdictions"][code]["regions"]
    return Question(
        now=now,
        stage=stage,
        purpose=PURPOSE,
        tenant=tenant,
        controller=code,
        jurisdiction=code,
        region=row["region"] if row["region"] in regions or not regions else regions[0],
        languages=tuple(row["languages"][:1]) or ("en",),
        consent=Consent(
            id="c_corpus",
            tenant=tenant,
            subject="s_corpus",
            purpose=PURPOSE,
            state=ConsentState.GRANTED,
            at=now - DAY_S,
            expires_at=now + DAY_S,
            notice_version=next(iter(data["notices"]), "none"),
            notice_sha256="0" * 64,
            language="en",
            channel="whatsapp",
            evidence="0" * 64,
        ),
        held=False,
        minor=False,
        data_class=HANDED[stage],
        bundle_age=0,
        suspended=(),
        transfer_consent=None,
    )
