"""
The record of a person's consents, and the receipt they get of it: ISO/IEC TS 27560:2023.

- Written as JSON-LD in the terms of DPV 2.3 (W3C), as its guide for TS 27560 maps them; what has
  no term there stands in a namespace of ours. A test holds every term against the vocabulary.
- `record` is what TS 27560 makes mandatory, and what the GDPR needs beside it. `receipt` adds
  where the log holds its digest. Nothing in either is a number, a name of a person or content.
- A receipt is signed as a detached JWS (RFC 7515, appendix F) with EdDSA over Ed25519 (RFC 8037).
  The payload is the receipt's canonical JSON (RFC 8785); the key id is its RFC 7638 thumbprint.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from policy import canonical
from policy.errors import ReceiptError
from policy.model import YES, Consent, ConsentState, Expressed

SCHEMA = "ISO/IEC TS 27560:2023"
FORMAT = 1
CONTEXT: Mapping[str, str] = {
    "dct": "http://purl.org/dc/terms/",
    "dpv": "https://w3id.org/dpv#",
    "eu-gdpr": "https://w3id.org/dpv/legal/eu/gdpr#",
    "pd": "https://w3id.org/dpv/pd#",
    "vc": "urn:vocustody:terms:",
}
STATES: Mapping[ConsentState, str] = {
    ConsentState.EXPIRED: "dpv:ConsentExpired",
    ConsentState.GRANTED: "dpv:ConsentGiven",
    ConsentState.REFUSED: "dpv:ConsentRefused",
    ConsentState.RENEWED: "dpv:RenewedConsentGiven",
    ConsentState.WITHDRAWN: "dpv:ConsentWithdrawn",
}
PURPOSES: Mapping[str, str] = {
    "analytics": "dpv:ServiceUsageAnalytics",
    "human_review": "dpv:ServiceOptimisation",
    "training": "dpv:ResearchAndDevelopment",
    "transcribe_and_answer": "dpv:CommunicationForCustomerCare",
    "transfer_abroad": "dpv:ServiceProvision",
}
DATA: Mapping[str, str] = {"raw_audio": "pd:VoiceCommunicationRecording"}
BASES: Mapping[str, str] = {"transfer_abroad": "eu-gdpr:A49-1-a"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """One party: *address* and *contact* are empty where nobody gave them."""

    id: str
    name: str
    role: str
    address: str = ""
    contact: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """A processor that may serve this person, in its region, under its jurisdiction."""

    id: str
    vendor: str
    service: str
    region: str
    jurisdiction: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """
    Everything a record says beside the ledger's rows.

    *kept* maps each class of what is kept to its lifetime in seconds; *withdrawal* are the words
    that withdraw, in the person's *language*.
    """

    subject: str
    controller: Party
    jurisdiction: str
    language: str
    storage: Sequence[str]
    kept: Mapping[str, int]
    recipients: Sequence[Recipient]
    withdrawal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Where the log holds the digest of a record."""

    origin: str
    index: int
    leaf_sha256: str


def record(rows: Sequence[Consent], around: Circumstances) -> dict[str, Any]:
    """Return the consent record of one person: *rows* are all of the ledger's, oldest first."""
    purposes = dict.fromkeys(row.purpose for row in rows)
    return {
        "@type": "dpv:ConsentRecord",
        "dct:conformsTo": SCHEMA,
        "dpv:hasIdentifier": f"urn:vocustody:record:{around.subject}",
        "dpv:hasDataSubject": _pseudonym(around.subject),
        "dpv:hasDataController": _party(around.controller),
        "dpv:hasJurisdiction": around.jurisdiction.split("+"),
        "dpv:hasProcess": [
            _process(purpose, [row for row in rows if row.purpose == purpose], around)
            for purpose in purposes
        ],
    }


def receipt(
    made: Mapping[str, Any], evidence: Evidence, *, receipt_id: str, at: datetime
) -> dict[str, Any]:
    """Return the receipt of the record *made*, issued *at* (aware)."""
    return {
        "@context": dict(CONTEXT),
        "@type": "dpv:ConsentReceipt",
        "dct:conformsTo": SCHEMA,
        "dpv:hasIdentifier": f"urn:vocustody:receipt:{receipt_id}",
        "dct:issued": _time(int(at.timestamp())),
        "vc:format": FORMAT,
        "vc:record": dict(made),
        "vc:evidence": {
            "vc:logOrigin": evidence.origin,
            "vc:logIndex": evidence.index,
            "vc:leafSha256": evidence.leaf_sha256,
            "vc:recordSha256": canonical.digest(made),
        },
    }


def sign(made: Mapping[str, Any], key: Ed25519PrivateKey) -> bytes:
    """Return the document: the receipt in clear, beside its detached JWS and the public key."""
    jwk = _jwk(key.public_key())
    header = {"alg": "EdDSA", "kid": thumbprint(key.public_key()), "typ": "vc-receipt"}
    protected = _b64(canonical.encode(header))
    signature = key.sign(f"{protected}.{_b64(canonical.encode(made))}".encode())
    document = {
        "receipt": dict(made),
        "jws": f"{protected}..{_b64(signature)}",
        "jwk": jwk,
    }
    return json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True).encode()


def verify(document: bytes, kid: str) -> dict[str, Any]:
    """
    Return the receipt in *document* if the key of thumbprint *kid* signed it.

    Raises:
        ReceiptError: it did not, or the document is not a receipt of ours.

    """
    try:
        found = json.loads(document)
        made, key = found["receipt"], _public(found["jwk"])
        protected, detached, signature = found["jws"].split(".")
        header = json.loads(_unb64(protected))
        signing = f"{protected}.{_b64(canonical.encode(made))}".encode()
        if thumbprint(key) != kid or header.get("kid") != kid:
            raise ReceiptError("receipt: signed by another key")
        if detached or header.get("alg") != "EdDSA" or "crit" in header:
            raise ReceiptError("receipt: not a detached EdDSA signature")
        key.verify(_unb64(signature), signing)
    except InvalidSignature:
        raise ReceiptError("receipt: the signature does not verify") from None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ReceiptError("receipt: not a receipt") from None  # its text may quote the document
    return dict(made)


def thumbprint(key: Ed25519PublicKey) -> str:
    """Return the RFC 7638 thumbprint of *key*."""
    return _b64(hashlib.sha256(canonical.encode(_jwk(key))).digest())


def _process(purpose: str, rows: Sequence[Consent], around: Circumstances) -> dict[str, Any]:
    newest = rows[-1]
    return {
        "@type": "dpv:Process",
        "dpv:hasPurpose": {"@type": PURPOSES[purpose], "dct:identifier": purpose},
        "dpv:hasLegalBasis": BASES.get(purpose, "eu-gdpr:A6-1-a"),
        "dpv:hasPersonalData": [
            {
                "@type": DATA.get(kind, "pd:Communication"),
                "dct:identifier": kind,
                "dpv:hasStorageCondition": [
                    {"@type": "dpv:StorageDuration", "dpv:hasDuration": f"PT{seconds}S"},
                    {"@type": "dpv:StorageLocation", "dpv:hasLocation": list(around.storage)},
                    {"@type": "dpv:StorageDeletion"},
                ],
            }
            for kind, seconds in sorted(around.kept.items())
        ],
        "dpv:hasProcessing": ["dpv:Collect", "dpv:Store", "dpv:Transform", "dpv:Use"],
        "dpv:hasRecipient": [_recipient(each) for each in around.recipients],
        "dpv:hasNotice": {
            "@type": ["dpv:ConsentNotice", "dpv:JITNotice"],
            "dct:hasVersion": newest.notice_version,
            "dct:language": newest.language,
            "vc:sha256": newest.notice_sha256,
        },
        "dpv:hasConsentControl": {
            "@type": "dpv:WithdrawConsent",
            "dct:description": around.withdrawal,
            "dct:language": around.language,
        },
        "dpv:hasRight": ["eu-gdpr:A7-3", "eu-gdpr:A13", "eu-gdpr:A15", "eu-gdpr:A17"],
        "dpv:hasConsentStatus": STATES[newest.state],
        "vc:events": [_event(row, around.subject) for row in rows],
    }


def _event(row: Consent, subject: str) -> dict[str, Any]:
    by_clock = row.expressed is Expressed.CLOCK
    return {
        "dct:identifier": row.id,
        "dpv:isIndicatedAtTime": _time(row.at),
        "dpv:isIndicatedBy": "vc:clock" if by_clock else _pseudonym(subject),
        "dpv:hasIndicationMethod": f"vc:{row.expressed}",
        "dpv:hasConsentStatus": STATES[row.state],
        "vc:eventType": "dpv:ExplicitlyExpressedConsent" if row.state in YES else "vc:end",
        "vc:channel": row.channel,
        "vc:validUntil": _time(row.expires_at),
        "vc:noticeVersion": row.notice_version,
        "vc:noticeSha256": row.notice_sha256,
        "vc:noticeMessage": row.shown,
        "vc:answerMessage": row.evidence,
    }


def _party(party: Party) -> dict[str, Any]:
    unknown = "vc:notDeclared"
    return {
        "@type": party.role,
        "dpv:hasIdentifier": party.id,
        "dpv:hasName": party.name,
        "dpv:hasAddress": party.address or unknown,
        "dpv:hasContact": party.contact or unknown,
    }


def _recipient(each: Recipient) -> dict[str, Any]:
    return {
        **_party(Party(id=each.id, name=each.vendor, role="dpv:DataProcessor")),
        "dct:description": each.service,
        "dpv:hasLocation": each.region,
        "dpv:hasJurisdiction": each.jurisdiction,
    }


def _pseudonym(subject: str) -> str:
    return f"urn:vocustody:subject:{subject}"


def _time(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _jwk(key: Ed25519PublicKey) -> dict[str, str]:
    return {"crv": "Ed25519", "kty": "OKP", "x": _b64(key.public_bytes_raw())}


def _public(jwk: Mapping[str, str]) -> Ed25519PublicKey:
    if jwk["kty"] != "OKP" or jwk["crv"] != "Ed25519":
        raise ReceiptError("receipt: not an Ed25519 key")
    return Ed25519PublicKey.from_public_bytes(_unb64(jwk["x"]))


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
