"""
The oracle: whom a question lets us touch, in which order, on what ground; read off the laws.

It shares nothing with the rules but the words of the data (`policy.model`): it was written from
the comments of ``policy/jurisdictions.toml`` and the articles, one condition after another, over
plain rows, laws and tenants. A disagreement is a fault of one of the two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policy.model import Consent, Question

DAY = 86_400
STRONGEST_FIRST = ("adequacy", "scc", "bcr", "explicit-consent")  # GDPR Art. 45, 46, 47, 49
HANDED_OVER = {
    "capture": "voice",
    "notice": "message",
    "reply": "reply_text",
    "speak": "reply_text",
    "transcribe": "voice",
    "understand": "redacted_text",
}
ASKED_ABOUT = ("analytics", "human_review", "training", "transcribe_and_answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a bundle is built from: registry rows, laws by country, tenants, grounds, notices."""

    rows: Sequence[Mapping[str, Any]]
    laws: Mapping[str, Mapping[str, Any]]
    tenants: Mapping[str, Mapping[str, Any]]
    grounds: Sequence[str]
    notices: Sequence[str]


Way = tuple[str, str]
"""A processor's id, and the ground on which data goes there."""

Law = Mapping[str, Any]
EVERY_CLOCK = ("raw_audio_seconds", "redacted_seconds", "reply_audio_seconds", "transcript_seconds")
EVERY_SINK = ("analytics", "log", "understand")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """
    Whose word counts: the controller's law (*seat*), the person's (*theirs*), the *table*'s.

    *stranger* is a person of whom at least one candidate country has no law in the table: then the
    strictest of the whole table counts too, and nothing goes further than the cell's region.
    """

    seat: Law
    theirs: Sequence[Law]
    placing: Sequence[Law]
    table: Sequence[Law]
    stranger: bool

    @property
    def heard(self) -> Sequence[Law]:
        """Return the laws of which the stricter counts."""
        return [self.seat, *self.theirs, *(self.table if self.stranger else ())]


def standing(world: World, asked: Question) -> Standing | None:
    """Return whose law holds, or None where the controller's own is not in the table."""
    if asked.controller not in world.laws:
        return None
    people = [code for code in asked.jurisdiction.split("+") if code in world.laws]
    theirs = [world.laws[code] for code in people]
    # A law that keeps data in its country says where; but a no can be told from anywhere.
    keeping = [
        world.laws[code]
        for code in people
        if world.laws[code]["localises"] and code != asked.controller and asked.stage != "notice"
    ]
    seat = world.laws[asked.controller]
    return Standing(
        seat=seat,
        theirs=theirs,
        placing=[seat, *keeping],
        table=list(world.laws.values()),
        stranger=len(people) < len(asked.jurisdiction.split("+")),
    )


def ways(world: World, asked: Question) -> tuple[Way, ...]:
    """Return who may be touched, in order; nobody is an answer."""
    held = standing(world, asked)
    if held is None or asked.tenant not in world.tenants:
        return ()
    if not _question_stands(world, asked, held):
        return ()
    if not all(_home(asked.region, law, asked, world) for law in held.placing):
        return ()  # the cell itself stands where it may not
    if asked.stage == "capture" and not _able("transcribe", world, asked, held):
        return ()  # a note that nobody can hear is not fetched
    return _able(asked.stage, world, asked, held)


def keeping(world: World, asked: Question) -> dict[str, Any]:
    """Return for how long each kind is kept, and what is taken out for each sink."""
    held = standing(world, asked)
    assert held is not None
    own = world.tenants[asked.tenant]
    return {
        clock: min(
            [law["retention"][clock] for law in held.heard]
            + [n for kind, n in own.get("retention", {}).items() if kind == clock]
        )
        for clock in EVERY_CLOCK
    } | {
        sink: frozenset(
            name
            for lists in [*(law["redact"] for law in held.heard), own.get("redact", {})]
            for name in lists.get(sink, ())
        )
        for sink in EVERY_SINK
    }


def hosts(world: World, asked: Question) -> frozenset[str]:
    """Return every ``name:port`` that may be dialled."""
    named = {way[0] for way in ways(world, asked)}
    return frozenset(host for row in world.rows if row["id"] in named for host in row["hosts"])


def _question_stands(  # noqa: PLR0911 - one condition after another, as one reads them
    world: World, asked: Question, held: Standing
) -> bool:
    if asked.purpose in world.tenants[asked.tenant].get("refused_purposes", ()):
        return False
    if HANDED_OVER[asked.stage] != asked.data_class:
        return False
    if asked.stage == "notice":  # one cannot need consent to be asked for it
        return True
    if world.tenants[asked.tenant].get("abroad") == "decline" and _elsewhere(held):
        return False
    if asked.held:
        return False
    if asked.purpose == "answer_typed" and asked.stage in ("reply", "understand"):
        return True  # typed words are answered because the person asked
    if not _own_consent_counts(asked, held):
        return False
    return asked.purpose in ASKED_ABOUT and _live(asked.consent, asked.purpose, asked, world)


def _elsewhere(held: Standing) -> bool:
    return held.stranger or any(law["law"] != held.seat["law"] for law in held.theirs)


def _own_consent_counts(asked: Question, held: Standing) -> bool:
    return not asked.minor or all(law["minor_consent"] for law in held.heard)


def _live(given: Consent | None, purpose: str, asked: Question, world: World) -> bool:
    return (
        given is not None
        and given.state in ("granted", "renewed")
        and (given.purpose, given.tenant) == (purpose, asked.tenant)
        and given.at <= asked.now < given.expires_at
        and given.notice_version in world.notices
    )


def _able(stage: str, world: World, asked: Question, held: Standing) -> tuple[Way, ...]:
    refused = world.tenants[asked.tenant].get("refused", ())
    found = [
        (row["id"], ground)
        for row in world.rows
        if stage in row["stages"]
        and row["id"] not in {*refused, *asked.suspended}
        and _in_reach(row, asked)
        and (row["region"] == asked.region or not held.stranger)
        and (row["contract_expires"] == 0 or row["contract_expires"] > asked.now)
        and row["review_expires"] > asked.now
        and (not row["languages"] or set(row["languages"]) & set(asked.languages))
        and (ground := _ground(row, world, asked, held))
    ]
    return tuple(sorted(found, key=lambda way: way[1] != "domestic"))


def _in_reach(row: Mapping[str, Any], asked: Question) -> bool:
    inside = row["contract_expires"] == 0 or row["service"] == "messaging"
    return not inside or row["region"] == asked.region


def _home(region: str, law: Mapping[str, Any], asked: Question, world: World) -> bool:
    within = {row["region"] for row in world.rows if row["jurisdiction"] in law["within"]}
    free = law["transfers"] == "free" and region == asked.region
    return free or {region, asked.region} <= within


def _ground(row: Mapping[str, Any], world: World, asked: Question, held: Standing) -> str:
    """Return the strongest ground that holds under each law where *row* is abroad, or none."""
    abroad = [law for law in held.placing if not _home(row["region"], law, asked, world)]
    if not abroad:
        return "domestic"
    if asked.bundle_age > DAY:
        return ""
    for tool in STRONGEST_FIRST:
        labels = [_paper(tool, row, law, asked) for law in abroad]
        if all(labels) and _agreed(tool, world, asked, held):
            return labels[0]
    return ""


def _agreed(tool: str, world: World, asked: Question, held: Standing) -> bool:
    tenant = world.tenants[asked.tenant]
    if tool not in world.grounds or tool in tenant.get("refused_grounds", ()):
        return False
    if tool != "explicit-consent":
        return True
    return (
        "transfer_abroad" not in tenant.get("refused_purposes", ())
        and _own_consent_counts(asked, held)
        and _live(asked.transfer_consent, "transfer_abroad", asked, world)
    )


def _paper(tool: str, row: Mapping[str, Any], law: Mapping[str, Any], asked: Question) -> str:
    """Return what shows that *law* lets this data go to *row* by *tool*; "" where nothing does."""
    country = row["jurisdiction"]
    # Where transfers are free, the cell may stand abroad, and then nothing travels on from there.
    if law["transfers"] == "free" or country in law["barred"]:
        return ""
    if tool not in law["tools"].get(asked.data_class, ()):
        return ""
    if tool == "explicit-consent":
        return tool
    if tool == "adequacy":
        found = any(entry["country"] == country for entry in law["adequate"])
        return f"adequacy:{country}" if found else ""
    for filed in row["transfers"]:
        if (filed["tool"], filed["law"]) == (tool, law["law"]) and filed["expires"] > asked.now:
            return f"{tool}:{filed['module']}" if filed["module"] else tool
    return ""
