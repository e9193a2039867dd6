"""A small world for the rules: processors, laws and tenants, and questions about them."""

import random
from dataclasses import replace
from typing import Any

import pytest

from policy import bundle, jurisdictions
from policy.bundle import Bundle
from policy.model import (
    GROUNDS,
    HANDED,
    TRANSFER_ABROAD,
    Consent,
    ConsentState,
    DataClass,
    Question,
    Stage,
)

NOW = 1_795_348_800
DAY = 86_400
STALE = 86_400
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
    return (
        {
            "id": name,
            "service": service,
            "stages": STAGES[service],
            "region": region,
            "jurisdiction": REGIONS[region],
            "languages": [] if service == "messaging" else ["de", "en", "pt"],
            "contract_expires": NOW + 30 * DAY,
            "hosts": [f"{region}.{name}.example:443"],
            "options": {},
            "review_expires": NOW + 300 * DAY,
            "transfers": [],
        }
        | ({"hosts": []} if changes.get("contract_expires") == 0 else {})
        | changes
    )


def rows() -> list[dict[str, Any]]:
    """Return the registry: a full set in each region, and a few rows with something special."""
    scc = {"expires": NOW + 9 * DAY, "law": "GDPR", "module": "2", "tool": "scc"}
    full = [
        row(f"{service[:4]}.{region}", service, region) for region in REGIONS for service in STAGES
    ]
    return [
        row("stt.first.eu-west", "speech-to-text", "eu-west", options={"mip_opt_out": "true"}),
        row("stt.lapsed.eu-central", "speech-to-text", "eu-central", contract_expires=NOW),
        row("stt.cell.eu-central", "speech-to-text", "eu-central", contract_expires=0),
        row("stt.french.eu-central", "speech-to-text", "eu-central", languages=["fr"]),
        row("stt.unread.eu-central", "speech-to-text", "eu-central", review_expires=NOW),
        row("stt.clauses.us-east", "speech-to-text", "us-east", transfers=[scc]),
        row(
            "stt.clauses.eu-zurich",
            "speech-to-text",
            "eu-zurich",
            transfers=[scc, scc | {"expires": NOW}, scc | {"tool": "bcr", "module": ""}],
        ),
        *full,
    ]


def tenants() -> dict[str, dict[str, Any]]:
    """Return a tenant that adds nothing, one that tightens, and one that tries to loosen."""
    return {
        "acme": {},
        "homely": {"abroad": "decline"},
        "loose": {"retention": {"transcript_seconds": 366 * DAY}, "redact": {"log": []}},
        "tight": {
            "retention": {"raw_audio_seconds": 900},
            "redact": {"understand": ["order_number"]},
            "refused": ["stt.first.eu-west"],
            "refused_grounds": ["adequacy"],
            "refused_purposes": ["training"],
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
    """Return the shipped rules over this world, with every ground for a transfer named."""
    return build(grounds=GROUNDS)


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

TRANSFER = replace(CONSENT, id="c_2", purpose=TRANSFER_ABROAD)

QUESTION = Question(
    now=NOW,
    stage=Stage.TRANSCRIBE,
    purpose=PURPOSE,
    tenant="acme",
    controller="DE",
    jurisdiction="DE",
    region="eu-central",
    languages=("de", "en"),
    consent=CONSENT,
    held=False,
    minor=False,
    data_class=DataClass.VOICE,
    bundle_age=0,
    suspended=(),
    transfer_consent=None,
)


def asking(**changes: Any) -> Question:
    """Return a question that is allowed, but for *changes*; the consents are its tenant's."""
    stage = changes.get("stage", QUESTION.stage)
    asked = replace(QUESTION, **({"data_class": HANDED[stage]} | changes))
    for name in ("consent", "transfer_consent"):
        given = getattr(asked, name)
        if given is not None and name not in changes:
            asked = replace(asked, **{name: replace(given, tenant=asked.tenant)})
    return asked


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
    "purpose": ["train_models", "training", "training", "answer_typed"],
    "tenant": ["tight", "tight", "loose", "nobody", "homely"],
    "controller": ["AT", "BR", "CH", "DE", "GB", "SG", "US", "XX"],
    "jurisdiction": ["US", "CH", "XX", "AT+DE", "DE+US", "DE+CH", "DE+XX", "GB+GG+IM+JE"],
    "region": [*REGIONS, "eu-north"],
    "languages": [("fr",), ("it",), ("it", "fr", "de"), ("pt",)],
    "consent": [None, *SPOILT],
    "held": [True],
    "minor": [True],
    "data_class": list(DataClass),
    "bundle_age": [STALE, STALE + 1],
    "suspended": [("stt.first.eu-west",), ("spee.eu-central", "stt.clauses.us-east")],
    "transfer_consent": [
        TRANSFER,
        CONSENT,
        *(replace(one, purpose=TRANSFER_ABROAD) for one in SPOILT),
    ],
}


def questions(count: int = 300) -> list[Question]:
    """Return *count* questions, always the same, each in order but for at most three things."""
    draw = random.Random(14_15)
    found = []
    for _ in range(count):
        home = draw.choice(HOMES)
        changed = draw.sample(sorted(CHANGES), draw.randrange(4))
        base = {
            "stage": draw.choice(list(Stage)),
            "controller": home[0],
            "jurisdiction": home[0],
            "region": home[1],
        }
        found.append(asking(**base | {name: draw.choice(CHANGES[name]) for name in changed}))
    return found
