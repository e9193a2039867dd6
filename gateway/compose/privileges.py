"""
What an identity is allowed at the key service, compared with what it should be.

It is asked with the identity's own token, about itself, and nothing is tried out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.compose.identities import Identity
from vault.errors import KeyringError
from vault.keyrings import answers, policies
from vault.keyrings.client import ask
from vault.keyrings.login import LOOKUP
from vault.keyrings.policies import Who

ROOT = "root"
LONGEST_S = 15 * 60
CAPABILITIES = "sys/capabilities-self"


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about an identity: *grave* if production must not go on with it."""

    says: str
    grave: bool


def remarks(who: Identity, cell: str) -> Iterator[Remark]:
    """Yield what is wrong with the token and the rights of *who*; may wait for the server."""
    token = who.token()
    found = _asked(who, "get", LOOKUP, None, token)
    if found is None:
        yield Remark(f"its token may not look itself up (grant {LOOKUP})", grave=False)
    else:
        yield from _token(found, who.who)
    if found is None or ROOT not in (found.get("policies") or ()):
        yield from _rights(who, cell, token)
    if who.who is Who.KEEPER:
        yield from _mount(who, token)


def _token(found: dict[str, Any], who: Who) -> Iterator[Remark]:
    if ROOT in (found.get("policies") or ()):
        yield Remark(f"its token has the root policy ({_fix(who)})", grave=True)
    ttl_s = int(found.get("creation_ttl") or 0)
    if not 0 < ttl_s <= LONGEST_S:
        lasts = f"{ttl_s // 60} minutes" if ttl_s else "for ever"
        yield Remark(f"its token lasts {lasts} (15 minutes are enough: token_ttl=15m)", grave=False)


def _rights(who: Identity, cell: str, token: str) -> Iterator[Remark]:
    limit = policies.limits(who.who, mount=who.vault.mount, cell=cell)
    found = _asked(who, "post", CAPABILITIES, {"paths": sorted(limit)}, token)
    if found is None:
        yield Remark(f"its rights are not known (grant {CAPABILITIES})", grave=False)
    elif more := policies.excess(limit, found):
        places = f"{more[0]} and {len(more) - 1} more" if more[1:] else more[0]
        yield Remark(f"it may do more than it should: {places} ({_fix(who.who)})", grave=True)


def _mount(who: Identity, token: str) -> Iterator[Remark]:
    path = f"{who.vault.mount}/config/keys"
    found = _asked(who, "get", path, None, token)
    if found is None or found.get("disable_upsert") is not True:
        yield Remark(
            f"the mount makes keys by encrypting (bao write {path} disable_upsert=true)", grave=True
        )


def _asked(
    who: Identity, method: str, path: str, body: dict[str, Any] | None, token: str
) -> dict[str, Any] | None:
    """Return the data of the answer, or None where it was refused."""
    try:
        return answers.data(path, ask(who.client(), method, path, body, token=token))
    except KeyringError:
        return None


def _fix(who: Who) -> str:
    return f"give it the policy of `vocustody vault-policy {who}` and no other"
