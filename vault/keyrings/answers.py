"""
What the answers of a transit engine mean (checked against OpenBao 2.7).

- Only a key that is missing, or a version that is too old, is *gone*. The server has no codes
  for these, only words; whatever is not understood is a failure and never passes for gone.
- When every item of a batch fails the status is 400, and the results are in the body all the
  same.
- No message quotes the server: its answers hold keys.
"""

import base64
from http import HTTPStatus
from typing import Any

import requests

from vault.errors import GoneError, KeyringError, TamperedError

GONE = (
    "could not delete key; not found",
    "disallowed by policy (too old)",
    "key not found",
    "no existing key named",
)


def whole(path: str, answer: dict[str, Any] | requests.Response) -> dict[str, Any]:
    """Return the whole body of an answer that is good; `KeyringError` names the status."""
    if isinstance(answer, dict):
        return answer
    if answer.status_code >= HTTPStatus.MULTIPLE_CHOICES:
        raise KeyringError(f"{path}: HTTP {answer.status_code}")
    return _json(answer)


def data(path: str, answer: dict[str, Any] | requests.Response) -> dict[str, Any]:
    """Return the answer's data, also that of a batch in which every item failed."""
    if isinstance(answer, dict):
        return dict(answer.get("data") or {})
    body = _json(answer)
    if answer.ok or "batch_results" in (body.get("data") or {}):
        return dict(body.get("data") or {})
    if answer.status_code == HTTPStatus.BAD_REQUEST and is_gone(str(body.get("errors"))):
        raise GoneError(f"{path}: no such KEK")
    # Reading what is not there is a 404 without a word; a wrong mount has words.
    if answer.status_code == HTTPStatus.NOT_FOUND and body.get("errors") == []:
        raise GoneError(f"{path}: no such KEK")
    raise KeyringError(f"{path}: HTTP {answer.status_code}")


def _json(answer: requests.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def is_gone(text: str) -> bool:
    """Return whether the server's *text* says that a key or a version is not there."""
    return any(words in text for words in GONE)


def key(kek: str, result: dict[str, str]) -> bytes | Exception:
    """Return the key in one result of a batch, or the error that stands for it."""
    error = result.get("error")
    if not error:
        return base64.b64decode(result["plaintext"], validate=True)
    if is_gone(error):
        return GoneError(f"{kek}: the version of this key is destroyed")
    return TamperedError(f"{kek}: a wrapped key does not authenticate")


def version(ciphertext: str) -> int:
    """Return 3 for ``vault:v3:...``."""
    try:
        return int(ciphertext.split(":")[1].removeprefix("v"))
    except (IndexError, ValueError):
        raise KeyringError("the ciphertext has no version") from None
