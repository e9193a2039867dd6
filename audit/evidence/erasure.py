"""
The certificate of an erasure: its form, its signature, and how a stranger checks it offline.

- A document is ``certificate`` (twelve parts), a detached EdDSA JWS over its canonical JSON, the
  public key, and the proof that the log holds its digest and that key's thumbprint. Whoever has
  the log's vkey needs nothing else, and no network.
- The verdict is computed again from the parts: a certificate cannot say more than they do.
- What is checked: form, signature, digest, the proofs of the steps, their order, the verdict.
  What is not: that the world is as the parts say. That is what the log's witnesses are for.
"""

import base64
import binascii
import hashlib
import json
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit import verify as log
from audit.verify import Bad, Key, Verdict

FORMAT = "vocustody-erasure-certificate-v1"
MAX_BYTES = 64 * 1024 * 1024
PARTS = (
    "identity",
    "trigger",
    "subject",
    "selector",
    "scope",
    "copies",
    "vendors",
    "trials",
    "residuals",
    "other_people",
    "resurrection_guard",
    "verdict",
)
DONE = frozenset({"complete", "complete-with-residuals"})
RESIDUAL = frozenset({"by-contract-unverified", "held", "kept"})
TRIALS = frozenset({"bodies", "decrypt", "key", "list", "re-read", "restore"})
TRIALS_OF_ARTIFACTS = frozenset({"list", "re-read"})
"""Where the person stays, so does their key: only what was in scope can be looked for."""


def sign(certificate: Mapping[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """Return *certificate* beside its detached JWS (RFC 7515, appendix F) and the public key."""
    header = {"alg": "EdDSA", "kid": thumbprint(key.public_key()), "typ": "vc-erasure"}
    protected = _b64(_canonical(header))
    signature = key.sign(f"{protected}.{_b64(_canonical(certificate))}".encode())
    return {
        "certificate": dict(certificate),
        "jws": f"{protected}..{_b64(signature)}",
        "jwk": _jwk(key.public_key()),
    }


def digest(certificate: Mapping[str, Any]) -> str:
    """Return the hex SHA-256 of the certificate's canonical JSON."""
    return hashlib.sha256(_canonical(certificate)).hexdigest()


def thumbprint(key: Ed25519PublicKey) -> str:
    """Return the RFC 7638 thumbprint of *key*."""
    return _b64(hashlib.sha256(_canonical(_jwk(key))).digest())


def verify(document: bytes, key: Key) -> Verdict:
    """
    Return what is wrong with the certificate in *document*; *key* verifies the log it names.

    A certificate whose verdict is not "done" can hold all the same: `Verdict.notes` says it.
    """
    verdict = Verdict()
    try:
        found = _parsed(document)
        made = found["certificate"]
        _check_signature(found)
        _check_parts(made)
        leaf = _proved(found["proof"], key, verdict)
        _check_logged(found, leaf)
        _check_steps(made, key, verdict)
        _check_verdict(made)
    except Bad as bad:
        verdict.add(bad.where, bad.what)
    except (KeyError, TypeError, ValueError, AttributeError):
        verdict.add("certificate", "is not one of ours")
    else:
        said = made["verdict"]["verdict"]
        done = "done" if said in DONE else "NOT done"
        verdict.notes.append(f"erasure {made['identity']['erasure']}: {said} ({done})")
    return verdict


def main(path: Path, key: str | None, *, as_json: bool) -> int:
    """Verify the certificate in the file *path*; return 0 (held), 1 (a finding) or 2 (misuse)."""
    if key is None:
        sys.stderr.write("verify: a certificate brings no log key of its own: give --key\n")
        return 2
    try:
        given = log.read_key(key)
        verdict = verify(log.read_file(path, MAX_BYTES), given)
    except (OSError, log.Misuse) as misuse:
        sys.stderr.write(f"verify: {misuse}\n")
        return 2
    sys.stdout.write(f"{log.as_json(verdict) if as_json else log.as_text(verdict)}\n")
    return 0 if verdict.ok else 1


def _parsed(document: bytes) -> dict[str, Any]:
    found = json.loads(document)
    if set(found) != {"certificate", "jws", "jwk", "proof"}:
        raise Bad("certificate", "is not one of ours")
    return dict(found)


def _check_signature(found: Mapping[str, Any]) -> None:
    key = Ed25519PublicKey.from_public_bytes(_unb64(found["jwk"]["x"]))
    protected, detached, signature = found["jws"].split(".")
    header = json.loads(_unb64(protected))
    if detached or header.get("alg") != "EdDSA" or "crit" in header:
        raise Bad("jws", "is not a detached EdDSA signature")
    if header.get("kid") != thumbprint(key) or found["jwk"] != _jwk(key):
        raise Bad("jwk", "is not the key that the signature names")
    signed = f"{protected}.{_b64(_canonical(found['certificate']))}".encode()
    try:
        key.verify(_unb64(signature), signed)
    except InvalidSignature:
        raise Bad("jws", "does not verify") from None


def _check_parts(made: Mapping[str, Any]) -> None:
    if made.get("format") != FORMAT:
        raise Bad("format", "is of another version")
    if missing := [part for part in PARTS if part not in made]:
        raise Bad(missing[0], "is missing")


def _proved(proof: str, key: Key, verdict: Verdict) -> dict[str, Any]:
    """Return the leaf that *proof* proves, and note in *verdict* the log it is in."""
    if not proof.startswith(f"{log.PROOF_HEADER}\n"):
        raise Bad("proof", "is not a tlog-proof")
    index, path, data, note = log.parse_proof(proof)
    head = log.parse_note(note, key)
    log.check_included(log.leaf_hash(data), index, head, path)
    verdict.origin, verdict.leaves = head.origin, head.size
    verdict.root = base64.b64encode(head.root).decode()
    return log.parse_leaf(data, f"leaf {index}")


def _check_logged(found: Mapping[str, Any], leaf: Mapping[str, Any]) -> None:
    """Check that the log holds this certificate, and vouches for the key that signed it."""
    made = found["certificate"]
    identity, told = made["identity"], leaf["detail"]
    key = Ed25519PublicKey.from_public_bytes(_unb64(found["jwk"]["x"]))
    expected = {
        "certificate_sha256": digest(made),
        "key": thumbprint(key),
        "verdict": made["verdict"]["verdict"],
    }
    if leaf["type"] != "erasure.certified" or leaf["artifact"] != identity["erasure"]:
        raise Bad("proof", "is of another event")
    if any(told[name] != value for name, value in expected.items()):
        raise Bad("proof", "is of another certificate")


def _check_steps(made: Mapping[str, Any], key: Key, verdict: Verdict) -> None:
    """Check the proofs of the steps, as far as they are in the log of *key*, and their order."""
    for step, told in sorted(made["identity"]["leaves"].items()):
        origin = told["proof"].partition("\n\n")[2].partition("\n")[0]
        if origin != key.name:
            verdict.notes.append(f"{step}: in {origin}, whose key was not given: not checked")
            continue
        leaf = _proved(told["proof"], key, Verdict())
        if leaf["type"] != f"erasure.{step}" or leaf["artifact"] != made["identity"]["erasure"]:
            raise Bad(step, "is proved by another event")
    times = [made["trigger"][name] for name in ("asked", "executed", "hardened")]
    moments = [datetime.fromisoformat(each) for each in (*times, made["identity"]["issued"])]
    if moments != sorted(moments):
        raise Bad("trigger", "is not in order: asked, executed, hardened, issued")
    if made["trigger"]["late"] != (moments[1] > datetime.fromisoformat(made["trigger"]["due"])):
        raise Bad("trigger", "does not say whether it was late")


def _check_verdict(made: Mapping[str, Any]) -> None:
    """Compute the verdict again: the worst that the parts say."""
    results = [fate["result"] for part in ("copies", "vendors", "residuals") for fate in made[part]]
    trials = {trial["name"]: trial["held"] for trial in made["trials"]}
    required = TRIALS if made["selector"]["scope"] == "person" else TRIALS_OF_ARTIFACTS
    dated = any(fate["until"] for part in ("copies", "vendors") for fate in made[part])
    if any(held is False for held in trials.values()):
        computed = "failed"
    elif (
        not made["copies"]
        or "unaudited" in results
        or not trials.keys() >= required
        or any(held is not True for held in trials.values())
    ):
        computed = "unaudited"
    elif {"failed", "pending"} & set(results):
        computed = "partial"
    else:
        computed = "complete-with-residuals" if dated or RESIDUAL & set(results) else "complete"
    if made["verdict"]["verdict"] != computed:
        raise Bad("verdict", f"says {made['verdict']['verdict']!a}, its parts say {computed}")


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _jwk(key: Ed25519PublicKey) -> dict[str, str]:
    return {"crv": "Ed25519", "kty": "OKP", "x": _b64(key.public_bytes_raw())}


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError("not base64url") from None
