"""Tokens that nobody is asked for."""

import base64
import json
import socket
from datetime import UTC, datetime
from typing import Any

import pytest
from simulators.google_world import ACCOUNT, account_file

from residency.errors import EngineMissingError
from residency.processors.google_account import LIVES_S, ServiceAccount

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def an_account(content: bytes) -> ServiceAccount:
    """Return the account of *content* at a fixed time."""
    return ServiceAccount(content, now=lambda: NOW)


def parts(bearer: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a token's header and claims."""
    head, claims, _ = bearer.removeprefix("Bearer ").split(".")
    return _json(head), _json(claims)


def _json(part: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + "=="))


def test_a_token_is_for_the_speech_api_and_for_minutes() -> None:
    """What leaks with a token is bounded by what it is for and how long it lives."""
    head, claims = parts(an_account(account_file()).bearer())

    assert head == {"typ": "JWT", "alg": "RS256", "kid": "k1"}
    assert claims == {
        "iss": ACCOUNT,
        "sub": ACCOUNT,
        "aud": "https://speech.googleapis.com/",
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + LIVES_S,
    }


def test_a_token_opens_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual way asks oauth2.googleapis.com, which stands anywhere."""
    opened: list[object] = []
    account = an_account(account_file())
    monkeypatch.setattr(socket.socket, "connect", lambda *where: opened.append(where))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *where, **_: opened.append(where))

    account.bearer()

    assert opened == []


@pytest.mark.parametrize(
    "kind", ["authorized_user", "external_account", "impersonated_service_account"]
)
def test_credentials_that_must_ask_elsewhere_are_refused(kind: str) -> None:
    """Each of these kinds fetches a token from a host that no row names."""
    with pytest.raises(EngineMissingError, match=f"{kind}.*give a service_account key"):
        an_account(account_file(type=kind))


def test_another_universe_is_refused() -> None:
    """A key of another Google cloud is for other hosts than the row's."""
    with pytest.raises(EngineMissingError, match=r"not for googleapis\.com"):
        an_account(account_file(universe_domain="universe.example"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[1]",
        b'"service_account"',
        b'{"type": "service_account"}',
        account_file(private_key="a secret that no message may quote"),
    ],
    ids=["empty", "not utf-8", "list", "text", "no key", "bad key"],
)
def test_what_is_no_key_file_is_refused_without_quoting_it(content: bytes) -> None:
    """The file is a secret even when it is not the right one."""
    with pytest.raises(EngineMissingError, match="no service account's key file") as caught:
        an_account(content)

    assert "a secret" not in str(caught.value)
    assert caught.value.__cause__ is None
