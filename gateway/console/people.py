"""
Who asks: the person whose bearer token it is.

Digests are compared, each in constant time and always all of them: how long the answer takes
tells neither how much of a token is right nor whose it nearly is.
"""

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from gateway import sections
from policy.access import Role

SCHEME = b"bearer "


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody whom the settings name; *seal* is the key of what only they may hand back."""

    name: str
    role: Role
    tenant: str
    seal: bytes = field(repr=False)


class People:
    """Everybody who may ask."""

    def __init__(self, listed: Iterable[sections.Person]) -> None:
        self._known = [(sha256(one.token_file.value).digest(), _person(one)) for one in listed]

    def who(self, given: Sequence[bytes]) -> Person | None:
        """Return whose token the one ``Authorization`` header of *given* holds, or None."""
        header = given[0] if len(given) == 1 else b""
        scheme, token = header[: len(SCHEME)], header[len(SCHEME) :]
        digest = sha256(token if scheme.lower() == SCHEME else b"").digest()
        found = None
        for known, person in self._known:
            if hmac.compare_digest(known, digest):
                found = person
        return found


def _person(one: sections.Person) -> Person:
    seal = hmac.digest(one.token_file.value, b"vocustody admin cursor v1", "sha256")
    return Person(name=one.name, role=one.role, tenant=one.tenant, seal=seal)
