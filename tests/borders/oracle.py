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


def ways(world: World, asked: Question) -> tuple[Way, ...]:
    """Return who may be touched, in order; nobody is an answer."""
    codes = asked.jurisdiction.split("+")
    if asked.tenant not in world.tenants or not all(code in world.laws for code in codes):
        return ()
    laws = [world.laws[code] for code in codes]
    if not _question_stands(world, asked, laws):
        return ()
    if not all(_home(asked.region, law, asked, world) for law in laws):
        return ()  # the cell itself stands abroad
    if asked.stage == "capture" and not _able("transcribe", world, asked, laws):
        return ()  # a note that nobody can hear is not fetched
    return _able(asked.stage, world, asked, laws)


def hosts(world: World, asked: Question) -> frozenset[str]:
    """Return every ``name:port`` that may be dialled."""
    named = {way[0] for way in ways(world, asked)}
    return frozenset(host for row in world.rows if row["id"] in named for host in row["hosts"])


def _question_stands(  # noqa: PLR0911 - one condition after another, as one reads them
    world: World, asked: Question, laws: Sequence[Mapping[str, Any]]
) -> bool:
    if asked.purpose in world.tenants[asked.tenant].get("refused_purposes", ()):
        return False
    if HANDED_OVER[asked.stage] != asked.data_class:
        return False
    if asked.stage == "notice":  # one cannot need consent to be asked for it
        return True
    if asked.held:
        return False
    if asked.purpose == "answer_typed" and asked.stage in ("reply", "understand"):
        return True  # typed words are answered because the person asked
    if not _own_consent_counts(asked, laws):
        return False
    return asked.purpose in ASKED_ABOUT and _live(asked.consent, asked.purpose, asked, world)


def _own_consent_counts(asked: Question, laws: Sequence[Mapping[str, Any]]) -> bool:
    return not asked.minor or all(law["minor_consent"] for law in laws)


def _live(given: Consent | None, purpose: str, asked: Question, world: World) -> bool:
    return (
        given is not None
        and given.state in ("granted", "renewed")
        and (given.purpose, given.tenant) == (purpose, asked.tenant)
        and given.at <= asked.now < given.expires_at
        and given.notice_version in world.notices
    )


def _able(
    stage: str, world: World, asked: Question, laws: Sequence[Mapping[str, Any]]
) -> tuple[Way, ...]:
    refused = world.tenants[asked.tenant].get("refused", ())
    found = [
        (row["id"], ground)
        for row in world.rows
        if stage in row["stages"]
        and row["id"] not in {*refused, *asked.suspended}
        and _in_reach(row, asked)
        and (row["contract_expires"] == 0 or row["contract_expires"] > asked.now)
        and row["review_expires"] > asked.now
        and (not row["languages"] or set(row["languages"]) & set(asked.languages))
        and (ground := _ground(row, world, asked, laws))
    ]
    return tuple(sorted(found, key=lambda way: way[1] != "domestic"))


def _in_reach(row: Mapping[str, Any], asked: Question) -> bool:
    inside = row["contract_expires"] == 0 or row["service"] == "messaging"
    return not inside or row["region"] == asked.region


def _home(region: str, law: Mapping[str, Any], asked: Question, world: World) -> bool:
    within = {row["region"] for row in world.rows if row["jurisdiction"] in law["within"]}
    free = law["transfers"] == "free" and region == asked.region
    return free or {region, asked.region} <= within


def _ground(
    row: Mapping[str, Any], world: World, asked: Question, laws: Sequence[Mapping[str, Any]]
) -> str:
    """Return the strongest ground that holds under each law where *row* is abroad, or none."""
    abroad = [law for law in laws if not _home(row["region"], law, asked, world)]
    if not abroad:
        return "domestic"
    if asked.bundle_age > DAY:
        return ""
    for tool in STRONGEST_FIRST:
        labels = [_paper(tool, row, law, asked) for law in abroad]
        if all(labels) and _agreed(tool, world, asked, laws):
            return labels[0]
    return ""


def _agreed(tool: str, world: World, asked: Question, laws: Sequence[Mapping[str, Any]]) -> bool:
    tenant = world.tenants[asked.tenant]
    if tool not in world.grounds or tool in tenant.get("refused_grounds", ()):
        return False
    if tool != "explicit-consent":
        return True
    return (
        "transfer_abroad" not in tenant.get("refused_purposes", ())
        and _own_consent_counts(asked, laws)
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
