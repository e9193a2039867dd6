"""
A service account that signs its own tokens: nobody is asked for one.

An access token would come from ``oauth2.googleapis.com``, and google-auth's credentials classes
may look up a "regional access boundary" at ``iamcredentials.googleapis.com``: global hosts, both.
A self-signed JWT is accepted in place of either (AIP-4111). Ours is for the Speech API
alone (``aud``) and lives for minutes; each call has its own.
"""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from google.auth import crypt, jwt
from google.auth.exceptions import GoogleAuthError

from residency.errors import EngineMissingError

AUDIENCE = "https://speech.googleapis.com/"
LIVES_S = 300  # Google admits an hour; a call needs minutes

_RSASigner: Any = crypt.RSASigner  # google-auth says it is typed, and these two are not
_encode: Any = jwt.encode
_KIND = "service_account"
_UNIVERSE = "googleapis.com"


class ServiceAccount:
    """
    The key of one service account, from its JSON file's *content*.

    Raises `EngineMissingError` for every other kind of credential: the others ask another host.
    """

    def __init__(self, content: bytes, *, now: Callable[[], datetime]) -> None:
        self._now = now
        try:
            info = dict(json.loads(content))
            _check(info)
            self._email = str(info["client_email"])
            self._signer: Any = _RSASigner.from_service_account_info(info)
        except (GoogleAuthError, KeyError, TypeError, UnicodeDecodeError, ValueError):
            # From None: the parser's message may quote the key.
            raise EngineMissingError("the credentials are no service account's key file") from None

    def bearer(self) -> str:
        """Return the value of an ``authorization`` header for one call."""
        issued = int(self._now().timestamp())
        claims = {
            "iss": self._email,
            "sub": self._email,
            "aud": AUDIENCE,
            "iat": issued,
            "exp": issued + LIVES_S,
        }
        return f"Bearer {_encode(self._signer, claims).decode()}"


def _check(info: dict[str, object]) -> None:
    kind = info.get("type")
    if kind != _KIND:
        raise EngineMissingError(
            f"the credentials are of type {str(kind)[:40]!r} (give a {_KIND} key: "
            "other kinds fetch tokens from a host outside the region)"
        )
    if info.get("universe_domain", _UNIVERSE) != _UNIVERSE:
        raise EngineMissingError(f"the credentials are not for {_UNIVERSE}")
