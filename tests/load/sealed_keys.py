"""Wrapped keys by the thousand, and the two halves of a transit engine, for what is measured."""

import base64
import secrets
from collections.abc import Sequence

from support.openbao_raft import RaftBao

from vault.keyrings.client import MOST_ITEMS, Transit
from vault.keyrings.transit import TransitKeyring
from vault.keyrings.transit_keeper import TransitKeeper
from vault.keys import ID_DIGEST_BYTES, KEY_BYTES, _digest
from vault.model import WrappedKey


def wrapped(
    server: RaftBao, kek: str, count: int, subjects: Sequence[str] | None = None
) -> list[WrappedKey]:
    """Return *count* keys under *kek*, as `vault.keys` would have had them wrapped."""
    server.call("POST", f"transit/keys/{kek}", {"type": "aes256-gcm96"})
    owners = subjects or [""] * count
    plain = [
        (_digest(("subject_keys", owner)) if owner else bytes(ID_DIGEST_BYTES))
        + secrets.token_bytes(KEY_BYTES)
        for owner in owners
    ]
    found = []
    for start in range(0, count, MOST_ITEMS):
        items = [
            {"plaintext": base64.b64encode(one).decode()}
            for one in plain[start : start + MOST_ITEMS]
        ]
        _, answer = server.call("POST", f"transit/encrypt/{kek}", {"batch_input": items})
        found += [
            WrappedKey(kek=kek, version=1, ciphertext=one["ciphertext"])
            for one in answer["data"]["batch_results"]
        ]
    return found


def keyring(server: RaftBao) -> TransitKeyring:
    """Return the worker's half, as root."""
    return TransitKeyring(_transit(server))


def keeper(server: RaftBao) -> TransitKeeper:
    """Return the keeper's half, as root."""
    return TransitKeeper(_transit(server))


def _transit(server: RaftBao) -> Transit:
    return Transit(server.url, lambda: server.token)
