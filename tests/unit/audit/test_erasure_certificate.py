"""A certificate of erasure says no more than its parts, and verifies with the log's key alone."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.audit import START
from support.trail import open_trail

from audit.evidence import erasure
from audit.evidence.erasure import PARTS, TRIALS
from audit.model import Event, EventType
from audit.trail import Trail
from audit.verify import Key, parse_vkey

ERASURE = "e_00000000000000000000000000000001"


def fate(result: str = "erased", until: str | None = None) -> dict[str, Any]:
    """Return what became of one class of copies."""
    return {"class": "transcript", "result": result, "until": until}


def parts(**changed: Any) -> dict[str, Any]:
    """Return the parts of a certificate that holds."""
    made: dict[str, Any] = {part: [] for part in PARTS}
    made |= {
        "format": erasure.FORMAT,
        "selector": {"scope": "person"},
        "identity": {"erasure": ERASURE, "issued": "2026-11-23T10:00:00+00:00", "leaves": {}},
        "trigger": {
            "asked": "2026-11-22T10:00:00+00:00",
            "due": "2026-12-22T10:00:00+00:00",
            "executed": "2026-11-22T10:00:01+00:00",
            "hardened": "2026-11-23T09:00:00+00:00",
            "late": False,
        },
        "copies": [fate()],
        "residuals": [fate("kept", "2026-12-22T10:00:00+00:00")],
        "trials": [{"name": name, "held": True} for name in sorted(TRIALS)],
        "verdict": {"verdict": "complete-with-residuals"},
    }
    return made | changed


@pytest.fixture
def signing() -> Ed25519PrivateKey:
    """Return the key that signs certificates."""
    return Ed25519PrivateKey.generate()


async def step(trail: Trail, name: str, ident: str = ERASURE) -> dict[str, str]:
    """Put a step on record and return its proof."""
    event = Event(
        id=f"{ident}.{name}",
        type=EventType(f"erasure.{name}"),
        at=START,
        tenant="t",
        artifact=ident,
    )
    return {"proof": await trail.prove(await trail.append(event))}


async def issued(
    trail: Trail, signing: Ed25519PrivateKey, made: dict[str, Any], **told: str
) -> dict[str, Any]:
    """Return the document of *made*: signed, logged and proved."""
    signed = erasure.sign(made, signing)
    detail = {
        "certificate_sha256": erasure.digest(made),
        "key": erasure.thumbprint(signing.public_key()),
        "verdict": made["verdict"]["verdict"],
    }
    event = Event(
        id=f"{ERASURE}.certified.1",
        type=EventType.ERASURE_CERTIFIED,
        at=START,
        tenant="t",
        artifact=ERASURE,
        detail=detail | told,
    )
    return {**signed, "proof": await trail.prove(await trail.append(event))}


def findings(document: dict[str, Any], key: Key) -> list[str]:
    """Return where the verifier finds something."""
    return [each.where for each in erasure.verify(json.dumps(document).encode(), key).findings]


@pytest.mark.anyio
async def test_one_that_holds(tmp_path: Path, signing: Ed25519PrivateKey) -> None:
    """The document and the log's key are all that a stranger needs."""
    async with open_trail(tmp_path) as trail:
        made = parts()
        made["identity"]["leaves"] = {"executed": await step(trail, "executed")}
        document = await issued(trail, signing, made)
        key = parse_vkey(trail.vkey())

    verdict = erasure.verify(json.dumps(document).encode(), key)

    assert verdict.ok, verdict.findings
    assert verdict.notes == [f"erasure {ERASURE}: complete-with-residuals (done)"]


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "verdict": lambda d: d["certificate"]["verdict"].update(verdict="complete"),
    "a residual": lambda d: d["certificate"]["residuals"].clear(),
    "a trial": lambda d: d["certificate"]["trials"][0].update(held=False),
    "a time": lambda d: d["certificate"]["trigger"].update(executed="2026-11-22T09:00:00+00:00"),
    "the signature": lambda d: d.update(jws=d["jws"][:-4] + "AAAA"),
    "the key": lambda d: d.update(jwk=erasure._jwk(Ed25519PrivateKey.generate().public_key())),
    "the proof": lambda d: d.update(proof=d["proof"].replace("index 0", "index 1")),
    "no proof": lambda d: d.pop("proof"),
    "another form": lambda d: d.update(certificate=[]),
    "another member": lambda d: d.update(more=1),
    "the format": lambda d: d["certificate"].update(format="v0"),
}


@pytest.mark.anyio
@pytest.mark.parametrize("change", CHANGES)
async def test_one_that_was_changed(
    tmp_path: Path, signing: Ed25519PrivateKey, change: str
) -> None:
    """Whoever edits a certificate afterwards is caught, whatever they edit."""
    async with open_trail(tmp_path) as trail:
        document = await issued(trail, signing, parts())
        key = parse_vkey(trail.vkey())
    assert findings(document, key) == []
    changed = copy.deepcopy(document)
    CHANGES[change](changed)
    assert changed != document

    assert findings(changed, key)


@pytest.mark.anyio
async def test_signed_again_by_somebody_else(tmp_path: Path, signing: Ed25519PrivateKey) -> None:
    """The log vouches for one key: another one's signature is worth nothing."""
    async with open_trail(tmp_path) as trail:
        document = await issued(trail, signing, parts())
        key = parse_vkey(trail.vkey())
    other = erasure.sign(document["certificate"], Ed25519PrivateKey.generate())

    assert findings({**other, "proof": document["proof"]}, key) == ["proof"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("changed", "computed"),
    [
        ({"trials": [{"name": name, "held": None} for name in TRIALS]}, "unaudited"),
        ({"trials": [{"name": name, "held": True} for name in list(TRIALS)[1:]]}, "unaudited"),
        ({"trials": [{"name": name, "held": False} for name in TRIALS]}, "failed"),
        ({"copies": []}, "unaudited"),
        ({"vendors": [fate("unaudited")]}, "unaudited"),
        ({"copies": [fate("pending")]}, "partial"),
        ({"copies": [fate("failed")]}, "partial"),
        ({"residuals": []}, "complete"),
        ({"residuals": [], "vendors": [fate("by-contract-unverified")]}, "complete-with-residuals"),
    ],
)
async def test_the_verdict_is_what_the_parts_say(
    tmp_path: Path, signing: Ed25519PrivateKey, changed: dict[str, Any], computed: str
) -> None:
    """Only what was inspected may look done, and the verifier does not take our word for it."""
    async with open_trail(tmp_path) as trail:
        wrong = "complete" if computed != "complete" else "complete-with-residuals"
        lying = await issued(trail, signing, parts(**changed, verdict={"verdict": wrong}))
        key = parse_vkey(trail.vkey())
    async with open_trail(tmp_path / "other") as trail:
        honest = await issued(trail, signing, parts(**changed, verdict={"verdict": computed}))
        other = parse_vkey(trail.vkey())

    assert findings(lying, key) == ["verdict"]
    assert findings(honest, other) == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    "trigger",
    [
        {"hardened": "2026-11-22T10:00:00+00:00"},
        {"asked": "2026-11-24T10:00:00+00:00"},
        {"due": "2026-11-22T10:00:00+00:00"},
        {"late": True},
    ],
)
async def test_times_that_cannot_be(
    tmp_path: Path, signing: Ed25519PrivateKey, trigger: dict[str, Any]
) -> None:
    """Executed before it was asked, hardened before it was executed, late and not said so."""
    async with open_trail(tmp_path) as trail:
        made = parts()
        made["trigger"] |= trigger
        document = await issued(trail, signing, made)
        key = parse_vkey(trail.vkey())

    assert findings(document, key) == ["trigger"]


@pytest.mark.anyio
async def test_a_step_proved_by_another_erasure(tmp_path: Path, signing: Ed25519PrivateKey) -> None:
    """A proof is of one event: somebody else's execution proves nothing here."""
    async with open_trail(tmp_path) as trail:
        made = parts()
        made["identity"]["leaves"] = {"executed": await step(trail, "executed", "e_2")}
        document = await issued(trail, signing, made)
        key = parse_vkey(trail.vkey())

    assert findings(document, key) == ["executed"]


@pytest.mark.anyio
async def test_a_leaf_about_another_certificate(tmp_path: Path, signing: Ed25519PrivateKey) -> None:
    """The log has to hold this digest, not any."""
    async with open_trail(tmp_path) as trail:
        document = await issued(trail, signing, parts(), certificate_sha256="0" * 64)
        key = parse_vkey(trail.vkey())

    assert findings(document, key) == ["proof"]


@pytest.mark.anyio
async def test_a_step_in_a_log_whose_key_is_not_given(
    tmp_path: Path, signing: Ed25519PrivateKey
) -> None:
    """An erasure may end in another quarter than it began in: that is said, not passed over."""
    async with open_trail(tmp_path / "old", org="other.example") as before:
        executed = await step(before, "executed")
    async with open_trail(tmp_path / "new") as trail:
        made = parts()
        made["identity"]["leaves"] = {"executed": executed}
        document = await issued(trail, signing, made)
        key = parse_vkey(trail.vkey())

    verdict = erasure.verify(json.dumps(document).encode(), key)

    assert verdict.ok
    assert any("not checked" in note for note in verdict.notes)


def test_a_pending_verdict_is_no_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command needs the log's key and a file, and says what is missing."""
    path = tmp_path / "c.json"
    path.write_text("{}")

    assert erasure.main(path, None, as_json=False) == 2
    assert "--key" in capsys.readouterr().err
    assert erasure.main(tmp_path / "none.json", "x+1+y", as_json=False) == 2
