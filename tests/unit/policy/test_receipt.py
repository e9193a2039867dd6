"""Consent records and receipts: every mandatory field, known terms only, and a signature."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.policy_world import CONSENT, NOW

from policy import canonical, consent, receipt
from policy.errors import ReceiptError
from policy.model import ConsentState
from policy.receipt import Circumstances, Evidence, Party, Recipient

TERMS = Path(__file__).parents[2] / "corpus" / "dpv-terms.txt"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KID = receipt.thumbprint(KEY.public_key())
AROUND = Circumstances(
    subject=CONSENT.subject,
    controller=Party(id="acme", name="Acme", role="dpv:DataController", contact="dpo@acme.example"),
    jurisdiction="DE+AT",
    language="en",
    storage=["eu-central"],
    kept={"raw_audio": 3_600, "transcript": 86_400},
    recipients=[
        Recipient(
            id="stt.one",
            vendor="Example",
            service="speech-to-text",
            region="eu-central",
            jurisdiction="DE",
        )
    ],
    withdrawal="Write STOP.",
)
EVIDENCE = Evidence(origin="log.example/eu/2026q4", index=7, leaf_sha256="ab" * 32)
ROWS = [
    CONSENT,
    replace(CONSENT, id="c_t", purpose="training", state=ConsentState.REFUSED),
    replace(CONSENT, id="c_x", purpose="transfer_abroad"),
    consent.expired(CONSENT),
    replace(CONSENT, id="c_r", state=ConsentState.RENEWED, at=CONSENT.expires_at + 1),
    replace(CONSENT, id="c_w", state=ConsentState.WITHDRAWN, at=CONSENT.expires_at + 2),
]


def made(rows: list[Any] = ROWS) -> dict[str, Any]:
    """Return a receipt."""
    at = datetime.fromtimestamp(NOW, UTC)
    return receipt.receipt(receipt.record(rows, AROUND), EVIDENCE, receipt_id="rc_1", at=at)


def words(value: Any) -> Iterator[str]:
    """Yield every key and every string in *value*."""
    match value:
        case dict():
            for name, inner in value.items():
                yield name
                yield from words(inner)
        case list():
            for inner in value:
                yield from words(inner)
        case str():
            yield value


def test_every_term_is_one_of_the_pinned_vocabulary() -> None:
    """A term that nobody defined means nothing to whoever reads the receipt."""
    lines = TERMS.read_text().splitlines()
    known = {line for line in lines if not line.startswith("#")}
    found = made()
    del found["@context"]
    prefixes = {"dpv", "eu-gdpr", "pd"}

    used = {word for word in words(found) if word.partition(":")[0] in prefixes}

    assert len(used) > 40
    for word in used:
        prefix, _, name = word.partition(":")
        assert receipt.CONTEXT[prefix] + name in known, word


def test_every_mandatory_field_of_the_standard_is_there() -> None:
    """ISO/IEC TS 27560, as DPV maps it: record, parties, per purpose, per event."""
    found = made()
    record = found["vc:record"]
    main = record["dpv:hasProcess"][0]
    event = main["vc:events"][0]

    assert {"dct:conformsTo", "dpv:hasIdentifier", "dct:issued"} <= set(found)
    assert {
        "dct:conformsTo",
        "dpv:hasIdentifier",
        "dpv:hasDataSubject",
        "dpv:hasDataController",
        "dpv:hasJurisdiction",
    } <= set(record)
    assert record["dpv:hasJurisdiction"] == ["DE", "AT"]
    assert {
        "dpv:hasPurpose",
        "dpv:hasNotice",
        "dpv:hasPersonalData",
        "dpv:hasRecipient",
        "dpv:hasConsentControl",
        "dpv:hasConsentStatus",
        "dpv:hasLegalBasis",
    } <= set(main)
    assert main["dpv:hasNotice"]["dct:language"] == CONSENT.language
    assert all(
        {"dpv:hasIdentifier", "dpv:hasName", "dpv:hasAddress", "dpv:hasContact", "@type"}
        <= set(party)
        for party in (record["dpv:hasDataController"], *main["dpv:hasRecipient"])
    )
    assert {
        "dpv:isIndicatedAtTime",
        "dpv:isIndicatedBy",
        "dpv:hasConsentStatus",
        "vc:validUntil",
        "vc:eventType",
    } <= set(event)
    stored = main["dpv:hasPersonalData"][0]["dpv:hasStorageCondition"]
    assert stored[0]["dpv:hasDuration"] == "PT3600S"
    assert stored[1]["dpv:hasLocation"] == ["eu-central"]


def test_each_purpose_stands_by_itself_at_the_state_it_has_now() -> None:
    """A no to training must not look like a no to everything, nor a past yes like a present one."""
    record = receipt.record(ROWS, AROUND)

    states = {
        each["dpv:hasPurpose"]["dct:identifier"]: each["dpv:hasConsentStatus"]
        for each in record["dpv:hasProcess"]
    }

    assert states == {
        "transcribe_and_answer": "dpv:ConsentWithdrawn",
        "training": "dpv:ConsentRefused",
        "transfer_abroad": "dpv:ConsentGiven",
    }
    history = [event["dpv:hasConsentStatus"] for event in record["dpv:hasProcess"][0]["vc:events"]]
    assert history == [
        "dpv:ConsentGiven",
        "dpv:ConsentExpired",
        "dpv:RenewedConsentGiven",
        "dpv:ConsentWithdrawn",
    ]


def test_every_state_and_purpose_has_its_term() -> None:
    """A row that cannot be shown would keep the whole receipt from its person."""
    assert set(receipt.STATES) == set(ConsentState)


def test_a_signed_receipt_verifies_and_says_where_the_log_has_it() -> None:
    """Who doubts it finds the leaf whose digest is that of the record in the receipt."""
    document = receipt.sign(made(), KEY)

    found = receipt.verify(document, KID)

    evidence = found["vc:evidence"]
    assert found == made()
    assert evidence["vc:recordSha256"] == canonical.digest(found["vc:record"])
    assert (evidence["vc:logOrigin"], evidence["vc:logIndex"]) == (EVIDENCE.origin, 7)


def test_the_signature_is_a_detached_jws_that_others_can_check() -> None:
    """RFC 7515: header.payload, base64url without padding; RFC 8037: EdDSA over them."""
    document = json.loads(receipt.sign(made(), KEY))
    protected, detached, signature = document["jws"].split(".")
    payload = receipt._b64(canonical.encode(document["receipt"]))

    KEY.public_key().verify(receipt._unb64(signature), f"{protected}.{payload}".encode())

    assert detached == ""
    header = json.loads(receipt._unb64(protected))
    assert (header["alg"], header["kid"]) == ("EdDSA", KID)


def test_the_thumbprint_is_that_of_the_rfc() -> None:
    """RFC 8037, appendix A.3: the same key has the same name everywhere."""
    public = receipt._public(
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    )

    assert receipt.thumbprint(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def _changed(document: bytes, change: Any) -> bytes:
    found = json.loads(document)
    change(found)
    return json.dumps(found).encode()


def _other_key(found: dict[str, Any]) -> None:
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    forged = json.loads(receipt.sign(found["receipt"], other))
    found |= forged


def _unsigned(found: dict[str, Any]) -> None:
    header = receipt._b64(canonical.encode({"alg": "none", "kid": KID}))
    found["jws"] = f"{header}.." + found["jws"].rpartition(".")[2]


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["receipt"]["vc:record"].update({"dpv:hasIdentifier": "urn:other"}),
        lambda found: found.update(jws=found["jws"][:-8] + "AAAAAAAA"),
        lambda found: found.update(jws=found["jws"].replace("..", ".e30.")),
        lambda found: found.update(jws="x"),
        lambda found: found.pop("jwk"),
        lambda found: found["jwk"].update(crv="X25519"),
        _other_key,
        _unsigned,
    ],
)
def test_a_receipt_that_was_changed_is_refused(change: Any) -> None:
    """A receipt is worth what its signature is worth."""
    document = receipt.sign(made(), KEY)

    with pytest.raises(ReceiptError):
        receipt.verify(_changed(document, change), KID)


def test_what_is_no_json_is_refused_without_being_quoted() -> None:
    """Whoever hands in a file hands in anything."""
    with pytest.raises(ReceiptError) as caught:
        receipt.verify(b"{canary", KID)

    assert "canary" not in str(caught.value)
