"""A small world for the rules: processors, laws and tenants, and questions about them."""

import random
from dataclasses import replace
from typing import Any

import pytest

from policy import bundle, jurisdictions
from policy.bundle import Bundle
from policy.model import Consent, ConsentState, Question, Stage

NOW = 1_795_348_800
DAY = 86_400
PURPOSE = "transcribe_and_answer"
NOTICE = "2026-11"

STAGES = {
    "messaging": ["capture", "notice", "reply"],
    "speech-to-text": ["transcribe"],
    "text-to-speech": ["speak"],
    "understanding": ["understand"],
}

REGIONS = {
    "ap-singapore": "SG",
    "eu-central": "DE",
    "eu-west": "IE",
    "eu-zurich": "CH",
    "sa-brazil": "BR",
    "us-east": "US",
}


def row(name: str, service: str, region: str, **changes: Any) -> dict[str, Any]:
    """Return a registry row under a contract that holds for 30 days, but for *changes*."""
    return {
        "id": name,
        "service": service,
        "stages": STAGES[service],
        "region": region,
        "jurisdiction": REGIONS[region],
        "languages": [] if service == "messaging" else ["de", "en", "pt"],
        "contract_expires": NOW + 30 * DAY,
        "hosts": [],
        "options": {},
        "review_expires": NOW + 300 * DAY,
        "transfers": [],
    } | changes


def rows() -> list[dict[str, Any]]:
    """Return the registry: a full set in each region, and a few rows with something special."""
    full = [
        row(f"{service[:4]}.{region}", service, region) for region in REGIONS for service in STAGES
    ]
    return [
        row("stt.first.eu-west", "speech-to-text", "eu-west", options={"mip_opt_out": "true"}),
        row("stt.lapsed.eu-central", "speech-to-text", "eu-central", contract_expires=NOW),
        row("stt.cell.eu-central", "speech-to-text", "eu-central", contract_expires=0),
        row("stt.french.eu-central", "speech-to-text", "eu-central", languages=["fr"]),
        *full,
    ]


def tenants() -> dict[str, dict[str, Any]]:
    """Return a tenant that adds nothing, one that tightens, and one that tries to loosen."""
    return {
        "acme": {},
        "loose": {"retention": {"transcript_seconds": 366 * DAY}, "redact": {"log": []}},
        "tight": {
            "retention": {"raw_audio_seconds": 900},
            "redact": {"understand": ["order_number"]},
            "refused": ["stt.first.eu-west"],
        },
    }


def build(**changes: Any) -> Bundle:
    """Return the bundle of the shipped rules and laws over this world, but for *changes*."""
    given = {
        "processors": rows(),
        "jurisdictions": jurisdictions.load(),
        "tenants": tenants(),
        "notices": ["2026-10", NOTICE],
    }
    return bundle.build(bundle.load(), **(given | changes))


@pytest.fixture(scope="session")
def policy_bundle() -> Bundle:
    """Return the shipped rules over this world."""
    return build()


CONSENT = Consent(
    id="c_1",
    tenant="acme",
    subject="s_1",
    purpose=PURPOSE,
    state=ConsentState.GRANTED,
    at=NOW - DAY,
    expires_at=NOW + DAY,
    notice_version=NOTICE,
    notice_sha256="0" * 64,
    language="de",
    channel="whatsapp",
    evidence="e" * 64,
)

QUESTION = Question(
    now=NOW,
    stage=Stage.TRANSCRIBE,
    purpose=PURPOSE,
    tenant="acme",
    jurisdiction="DE",
    region="eu-central",
    languages=("de", "en"),
    consent=CONSENT,
    held=False,
    minor=False,
)


def asking(**changes: Any) -> Question:
    """Return a question that is allowed, but for *changes*; the consent is its tenant's."""
    asked = replace(QUESTION, **changes)
    if asked.consent is None or "consent" in changes:
        return asked
    return replace(asked, consent=replace(asked.consent, tenant=asked.tenant))


HOMES = [("DE", "eu-central"), ("SG", "ap-singapore"), ("BR", "sa-brazil"), ("US", "us-east")]

SPOILT = [
    replace(CONSENT, state=ConsentState.REFUSED),
    replace(CONSENT, state=ConsentState.WITHDRAWN),
    replace(CONSENT, expires_at=NOW),
    replace(CONSENT, notice_version="2025-01"),
    replace(CONSENT, at=NOW + 1),
    replace(CONSENT, purpose="train_models"),
    replace(CONSENT, tenant="other"),
]
"""Consents with one thing wrong."""

CHANGES: dict[str, list[Any]] = {
    "now": [NOW - 2 * DAY, NOW - 1, NOW + 1, NOW + DAY, NOW + 31 * DAY],
    "purpose": ["train_models"],
    "tenant": ["tight", "loose", "nobody"],
    "jurisdiction": ["US", "CH", "XX", "AT+DE", "DE+US", "DE+CH", "DE+XX", "GB+GG+IM+JE"],
    "region": [*REGIONS, "eu-north"],
    "languages": [("fr",), ("it",), ("it", "fr", "de"), ("pt",)],
    "consent": [None, *SPOILT],
    "held": [True],
    "minor": [True],
}


def questions(count: int = 300) -> list[Question]:
    """Return *count* questions, always the same, each in order but for at most three things."""
    draw = random.Random(14_15)
    found = []
    for _ in range(count):
        home = draw.choice(HOMES)
        changed = draw.sample(sorted(CHANGES), draw.randrange(4))
        base = {"stage": draw.choice(list(Stage)), "jurisdiction": home[0], "region": home[1]}
        found.append(asking(**base | {name: draw.choice(CHANGES[name]) for name in changed}))
    return found
