"""The webhook's two proofs, with the rows W01 to W11 of the bad-input catalogue."""

import json
from pathlib import Path

import pytest

from gateway.errors import ForbiddenError, SignatureError
from gateway.whatsapp import signature

CORPUS = Path(__file__).parents[2] / "corpus" / "webhook"
SECRET = b"1222e786b144d0e85b9f365372d93676"  # pywa's; reset before it was published
BODY = (CORPUS / "signed.json").read_bytes()
SIGNED = b"sha256=54edfa1d7259e0eb13c677cc7d73d1b5c86cfa12433d19156e058ab9251bc441"
TOKEN = b"handshake token"
GOOD = [
    ("hub.mode", "subscribe"),
    ("hub.challenge", "1158201444"),
    ("hub.verify_token", TOKEN.decode()),
]


def test_a_real_delivery_of_meta_verifies() -> None:
    """Only Meta's own bytes show that we sign what Meta signs."""
    assert len(BODY) == 511

    signature.verify(BODY, SIGNED, [SECRET])


def test_w09_a_delivery_signed_with_the_former_secret_verifies_during_a_rotation() -> None:
    """Deliveries in flight when a secret changes must not be lost."""
    signature.verify(BODY, SIGNED, [b"the new secret", SECRET])


@pytest.mark.parametrize(
    ("header", "code"),
    [
        pytest.param(None, "signature.missing", id="W01-none"),
        pytest.param(b"sha1=" + SIGNED[7:47], "signature.malformed", id="W02-sha1"),
        pytest.param(b"sha1=" + SIGNED[7:], "signature.malformed", id="W02-sha1-named-only"),
        pytest.param(b"sha256=", "signature.malformed", id="W03-empty"),
        pytest.param(b"", "signature.malformed", id="W03-nothing"),
        pytest.param(SIGNED[:-1], "signature.malformed", id="W04-63-digits"),
        pytest.param(SIGNED + b"1", "signature.malformed", id="W04-65-digits"),
        pytest.param(SIGNED + b"\n", "signature.malformed", id="W04-newline"),
        pytest.param(b"sha256=" + SIGNED[7:].upper(), "signature.malformed", id="W05-upper-case"),
        pytest.param(SIGNED + b"," + SIGNED, "signature.malformed", id="W07-two-in-one"),
        pytest.param(b"sha256=\xe9" + SIGNED[8:], "signature.malformed", id="W08-non-ascii"),
        pytest.param(b"sha256=" + b"0" * 64, "signature.wrong", id="wrong"),
    ],
)
def test_any_other_header_is_refused(header: bytes | None, code: str) -> None:
    """A refusal with a code, never a crash: the header is the attacker's to write."""
    with pytest.raises(SignatureError) as caught:
        signature.verify(BODY, header, [SECRET])

    assert (caught.value.code, caught.value.status) == (code, 401)


def test_w06_the_same_json_in_other_bytes_is_refused() -> None:
    """What is signed is bytes: a proxy that re-serialises has touched the message."""
    rewritten = json.dumps(json.loads(BODY)).encode()

    with pytest.raises(SignatureError, match=r"signature\.wrong"):
        signature.verify(rewritten, SIGNED, [SECRET])


@pytest.mark.parametrize("secrets", [[], [b"another tenant's secret"]], ids=["none", "W10-other"])
def test_a_signature_under_no_secret_of_the_tenant_is_refused(secrets: list[bytes]) -> None:
    """One tenant's secret must open no other tenant's door; no secret opens none."""
    with pytest.raises(SignatureError, match=r"signature\.wrong"):
        signature.verify(BODY, SIGNED, secrets)


def test_an_empty_secret_never_signs() -> None:
    """Anybody can sign under an empty key: an empty secret file must not open the door."""
    with pytest.raises(SignatureError, match=r"signature\.wrong"):
        signature.verify(BODY, signature.sign(BODY, b""), [b""])


def test_the_handshake_echoes_the_challenge() -> None:
    """Meta subscribes only where its challenge comes back, to the character."""
    assert signature.challenge(GOOD, TOKEN) == "1158201444"


def test_a_challenge_that_is_no_number_is_echoed_too() -> None:
    """The two pages of Meta disagree on its type, so it is text to us."""
    params = [*GOOD[:1], ("hub.challenge", "aB9_-.~+/=:"), *GOOD[2:]]

    assert signature.challenge(params, TOKEN) == "aB9_-.~+/=:"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        pytest.param([*GOOD[:2], ("hub.verify_token", "no")], "handshake.token", id="W11-wrong"),
        pytest.param([*GOOD[:2], ("hub.verify_token", "\ud800é")], "handshake.token", id="odd"),
        pytest.param(GOOD[:2], "handshake.token", id="no-token"),
        pytest.param([*GOOD, ("hub.challenge", "1")], "handshake.repeated", id="W11-repeated"),
        pytest.param([*GOOD, GOOD[2]], "handshake.repeated", id="W11-token-twice"),
        pytest.param([("hub.mode", "unsubscribe"), *GOOD[1:]], "handshake.mode", id="mode"),
        pytest.param(GOOD[1:], "handshake.mode", id="no-mode"),
        pytest.param(
            [GOOD[0], ("hub.challenge", "<b>1</b>"), GOOD[2]], "handshake.challenge", id="W11-html"
        ),
        pytest.param(
            [GOOD[0], ("hub.challenge", "1\n"), GOOD[2]], "handshake.challenge", id="newline"
        ),
        pytest.param(
            [GOOD[0], ("hub.challenge", "1" * 129), GOOD[2]], "handshake.challenge", id="long"
        ),
        pytest.param([GOOD[0], GOOD[2]], "handshake.challenge", id="no-challenge"),
    ],
)
def test_any_other_handshake_is_forbidden(params: list[tuple[str, str]], code: str) -> None:
    """The endpoint is public: it must neither subscribe strangers nor reflect their markup."""
    with pytest.raises(ForbiddenError) as caught:
        signature.challenge(params, TOKEN)

    assert (caught.value.code, caught.value.status) == (code, 403)


def test_an_empty_token_forbids_every_handshake() -> None:
    """An empty token file must not match an empty parameter."""
    with pytest.raises(ForbiddenError, match=r"handshake\.token"):
        signature.challenge([*GOOD[:2], ("hub.verify_token", "")], b"")
