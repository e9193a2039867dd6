"""Random worlds and questions about them, the same for the same seed."""

import os
import random
from dataclasses import dataclass, replace
from typing import Any

from borders.oracle import STRONGEST_FIRST, World
from support.policy_world import CONSENT, NOTICE, NOW, QUESTION, STAGES

from policy import bundle, jurisdictions
from policy.bundle import Bundle
from policy.model import HANDED, TRANSFER_ABROAD, Consent, ConsentState, DataClass, Question, Stage

SEED = int(os.environ.get("VOCUSTODY_SEED", "20261122"))
"""Printed by every run; set the variable to replay one or to walk elsewhere."""

DAY = 86_400
PLACES = {
    "ap-singapore": "SG",
    "eu-central": "DE",
    "eu-west": "IE",
    "eu-zurich": "CH",
    "sa-brazil": "BR",
    "uk-south": "GB",
    "us-east": "US",
    "us-west": "US",
}
SERVICES = ("messaging", "speech-to-text", "speech-to-text", "text-to-speech", "understanding")
LANGUAGES = ("de", "en", "fr", "pt")
EXPIRIES = (NOW - 1, NOW, NOW + 1, NOW + DAY)
REDACTED = ("address", "card", "health", "national_id", "phone")
SELDOM = 0.05
OFTEN = {
    "consent": 0.12,
    "controller": 0.1,
    "jurisdiction": 0.35,
    "tenant": 0.25,
    "transfer_consent": 0.4,
}
"""How likely each fact of a question is changed: what transfers hang on, more often."""

TOOLED = tuple(sorted({*HANDED.values()}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question to a world; *down* are processors that do not answer, or are not installed."""

    question: Question
    down: frozenset[str]


def world(draw: random.Random) -> World:
    """Return 3 to 12 processors under 2 to 6 laws, as law-givers and operators could write them."""
    places = draw.sample(sorted(PLACES), draw.randint(2, 6))
    shipped = jurisdictions.load()
    countries = sorted({PLACES[place] for place in places})
    while len(countries) < 2:
        countries = sorted({*countries, draw.choice(sorted(PLACES.values()))})
    true = draw.random() < 0.3
    laws = {code: shipped[code] if true else _law(draw, shipped[code]) for code in countries}
    named = [law["law"] for law in laws.values()]
    rows = [_row(draw, number, places, named) for number in range(draw.randint(3, 12))]
    return World(
        rows=rows,
        laws=laws,
        tenants=_tenants(draw, [row["id"] for row in rows]),
        grounds=_some(draw, STRONGEST_FIRST),
        notices=["2026-10", NOTICE],
    )


def built(given: World, modules: dict[str, str] | None = None) -> Bundle:
    """Return the bundle of the shipped rules (or *modules*) over *given*."""
    return bundle.build(
        bundle.load() if modules is None else modules,
        processors=given.rows,
        jurisdictions=given.laws,
        tenants=given.tenants,
        notices=given.notices,
        grounds=given.grounds,
    )


def case(draw: random.Random, given: World) -> Case:
    """Return a question that would be allowed at home, with up to four things changed."""
    home = draw.choice(given.rows)
    stage = Stage(draw.choice(home["stages"])) if draw.random() < 0.8 else draw.choice(list(Stage))
    codes = sorted(given.laws)
    own = [code for code in codes if home["jurisdiction"] in given.laws[code]["within"]] or codes
    base: dict[str, Any] = {
        "stage": stage,
        "data_class": HANDED[stage],
        "controller": draw.choice(own),
        "jurisdiction": "+".join(sorted(draw.sample(own, min(len(own), draw.choice([1, 2]))))),
        "region": home["region"],
        "languages": ("de", "en"),
    }
    changes = {
        name: make(draw, given)
        for name, make in CHANGES.items()
        if draw.random() < OFTEN.get(name, SELDOM)
    }
    # Half of the people agreed to a transfer too: else that ground would hardly ever be met.
    if draw.random() < 0.5:
        base["transfer_consent"] = replace(CONSENT, purpose=TRANSFER_ABROAD)
    asked = replace(QUESTION, **(base | changes))
    for name in {"consent", "transfer_consent"} - set(changes):
        if (agreed := getattr(asked, name)) is not None:  # people agree with whom they talk to
            asked = replace(asked, **{name: replace(agreed, tenant=asked.tenant)})
    return Case(
        question=asked,
        down=frozenset(row["id"] for row in given.rows if draw.random() < 0.3),
    )


def _some(draw: random.Random, choices: Any) -> list[Any]:
    return [each for each in choices if draw.random() < 0.75]


def _law(draw: random.Random, base: dict[str, Any]) -> dict[str, Any]:
    """Return a law of nobody's making: *base* with the parts that transfers hang on redrawn."""
    countries = sorted(set(PLACES.values()))
    tools = {name: _some(draw, STRONGEST_FIRST) for name in TOOLED if draw.random() < 0.9}
    adequate = [
        {"country": code, "reference": "a test", "as_of": "2026-11-22"}
        for code in countries
        if draw.random() < 0.4
    ]
    return base | {
        "within": sorted({*base["within"], *draw.sample(countries, draw.choice([0, 0, 1, 3]))}),
        "transfers": draw.choice(["restricted", "restricted", "restricted", "free"]),
        "adequate": adequate,
        "tools": tools,
        "barred": [code for code in countries if draw.random() < 0.08],
        "minor_consent": draw.random() < 0.4,
        "localises": "Art. 1" if draw.random() < 0.4 else "",
        "retention": {kind: draw.randint(1, 80_000) for kind in base["retention"]},
        "redact": {sink: sorted(draw.sample(REDACTED, 2)) for sink in base["redact"]},
    }


def _row(draw: random.Random, number: int, places: list[str], laws: list[str]) -> dict[str, Any]:
    service, region = draw.choice(SERVICES), draw.choice(places)
    inside = draw.random() < 0.15
    lasting = NOW + 30 * DAY
    return {
        "id": f"p{number}.{service[:4]}.{region}",
        "service": service,
        "stages": STAGES[service],
        "region": region,
        "jurisdiction": PLACES[region],
        "languages": [] if service == "messaging" else (_some(draw, LANGUAGES) or ["de"]),
        "contract_expires": 0 if inside else draw.choice([*EXPIRIES, *[lasting] * 12]),
        "review_expires": draw.choice([*EXPIRIES, *[lasting] * 20]),
        "hosts": [] if inside else [f"{region}.v{number}.example:443"],
        "options": {},
        "transfers": [_filed(draw, laws) for _ in range(draw.choice([0, 0, 1, 1, 2, 3]))],
    }


def _filed(draw: random.Random, laws: list[str]) -> dict[str, Any]:
    tool = draw.choice(["scc", "scc", "bcr"])
    return {
        "expires": draw.choice([*EXPIRIES, NOW + DAY, NOW + DAY]),
        "law": draw.choice(laws),
        "module": draw.choice("1234") if tool == "scc" else "",
        "tool": tool,
    }


def _tenants(draw: random.Random, ids: list[str]) -> dict[str, dict[str, Any]]:
    return {
        "acme": {},
        "tight": {
            "refused": [name for name in ids if draw.random() < 0.2],
            "refused_grounds": [g for g in STRONGEST_FIRST if draw.random() < 0.5],
            "refused_purposes": [
                p for p in ("training", TRANSFER_ABROAD, "answer_typed") if draw.random() < 0.3
            ],
            "abroad": draw.choice(["serve", "serve", "decline"]),
            "redact": {"log": draw.sample(REDACTED, 1)},
            "retention": {"raw_audio_seconds": draw.randint(1, 80_000)},
        },
    }


def _consent(draw: random.Random, purpose: str) -> Consent | None:
    if draw.random() < 0.15:
        return None
    spoilt: dict[str, list[Any]] = {
        "state": list(ConsentState),
        "expires_at": [NOW - 1, NOW, NOW + 1],
        "at": [NOW, NOW + 1],
        "notice_version": ["2026-10", "2025-01"],
        "purpose": ["training", TRANSFER_ABROAD, "transcribe_and_answer"],
        "tenant": ["tight", "other"],
    }
    wills = draw.random() < 0.4
    names = ["state"] if wills else draw.sample(sorted(spoilt), draw.choice([0, 1, 2]))
    changes = {name: draw.choice(spoilt[name]) for name in names}
    return replace(CONSENT, **({"purpose": purpose} | changes))


def _jurisdiction(draw: random.Random, given: World) -> str:
    codes = [*sorted(given.laws), *(["ZZ"] if draw.random() < 0.3 else [])]
    return "+".join(sorted(draw.sample(codes, min(len(codes), draw.choice([1, 2, 2, 3])))))


def _tenant(draw: random.Random, _given: World) -> str:
    return draw.choice(["tight", "tight", "tight", "nobody"])


def _controller(draw: random.Random, given: World) -> str:
    return draw.choice([*sorted(given.laws), "ZZ"])


CHANGES: dict[str, Any] = {
    "now": lambda draw, given: draw.choice([NOW - 2, NOW - 1, NOW + 1, NOW + DAY - 1, NOW + DAY]),
    "purpose": lambda draw, given: draw.choice(["training", "answer_typed", "sell"]),
    "tenant": _tenant,
    "controller": _controller,
    "jurisdiction": _jurisdiction,
    "region": lambda draw, given: draw.choice([*sorted(PLACES), "eu-north"]),
    "languages": lambda draw, given: draw.choice([("fr",), ("it",), ("it", "pt"), ("pt", "de")]),
    "consent": lambda draw, given: _consent(draw, QUESTION.purpose),
    "transfer_consent": lambda draw, given: _consent(draw, TRANSFER_ABROAD),
    "held": lambda draw, given: True,
    "minor": lambda draw, given: True,
    "data_class": lambda draw, given: draw.choice(list(DataClass)),
    "bundle_age": lambda draw, given: draw.choice([DAY - 1, DAY, DAY + 1, 9 * DAY]),
    "suspended": lambda draw, given: tuple(
        sorted(row["id"] for row in given.rows if draw.random() < 0.3)
    ),
}
