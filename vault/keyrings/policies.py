"""
What each identity may do at the server, as ACL policies that OpenBao and Vault both read.

- A policy names one mount, which is one region's: a worker asks another region's in vain.
- Nobody may export a key or back it up, and no key is made, or changed, so that one could.
- The worker may `update` at ``encrypt`` and not `create`: encrypting makes no key, even on a
  mount where ``disable_upsert`` was forgotten.
- ``vocustody-*`` are signing keys: to either identity all but its own are closed, although it
  may do more with others. The more exact path wins, and `deny` wins over everything.
- The policy stands alone: log in without the ``default`` one (``token_no_default_policy``).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

OWN = "vocustody-"
PROBE = "probe"
TELLING = (
    "config/keys",
    f"datakey/plaintext/{PROBE}",
    f"decrypt/{PROBE}",
    f"encrypt/{PROBE}",
    f"export/encryption-key/{PROBE}",
    f"backup/{PROBE}",
    f"keys/{PROBE}",
    f"keys/{PROBE}/config",
    f"keys/{PROBE}/rotate",
    f"keys/{PROBE}/trim",
    f"restore/{PROBE}",
    f"rewrap/{PROBE}",
)
Parameters = Mapping[str, tuple[object, ...]]


class Who(StrEnum):
    """The two identities of a cell; kept sorted."""

    KEEPER = "keeper"
    WORKER = "worker"


SIGNING = {Who.KEEPER: "vocustody-keeper", Who.WORKER: "vocustody-audit"}
"""What the name of an identity's signing key begins with; the cell's id follows."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What may be done at *path*; where *only* is given, with these parameters alone."""

    path: str
    may: tuple[str, ...]
    only: Parameters = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Return the rule in HCL."""
        lines = [f'path "{self.path}" {{', f"  capabilities = {json.dumps(list(self.may))}"]
        if self.only:
            told = (f'    "{name}" = {json.dumps(list(some))}' for name, some in self.only.items())
            lines += ["  allowed_parameters = {", *told, "  }"]
        return "\n".join([*lines, "}"])


def signing_key(who: Who, cell: str) -> str:
    """Return the name of the key that *who* of *cell* signs its log with."""
    return f"{SIGNING[who]}-{cell}"


def rules(who: Who, *, mount: str, cell: str) -> list[Rule]:
    """Return everything that *who* of *cell* may do."""
    own = signing_key(who, cell)
    return [
        *(_worker(mount) if who is Who.WORKER else _keeper(mount)),
        Rule(f"{mount}/keys/{OWN}*", ("deny",)),
        Rule(f"{mount}/keys/{own}", ("read", "update"), {"type": ("ed25519",)}),
        Rule(f"{mount}/sign/{own}", ("update",)),
        Rule("auth/token/lookup-self", ("read",)),
        Rule("auth/token/renew-self", ("update",)),
        Rule("sys/capabilities-self", ("update",)),
    ]


def text(who: Who, *, mount: str, cell: str) -> str:
    """Return the policy of *who*, to be written with ``bao policy write NAME -``."""
    head = f"# The {who} of cell {cell}, on {mount} alone."
    return "\n\n".join([head, *(rule.text for rule in rules(who, mount=mount, cell=cell))]) + "\n"


def limits(who: Who, *, mount: str, cell: str) -> dict[str, frozenset[str]]:
    """Return, for telling paths, all that *who* should be able to do there; `{"deny"}`: nothing."""
    given = {rule.path.replace("+", PROBE): rule.may for rule in rules(who, mount=mount, cell=cell)}
    asked = [f"{mount}/{path}" for path in TELLING] + ["sys/mounts", f"sys/policies/acl/{PROBE}"]
    return {path: frozenset(given.get(path, ("deny",))) for path in asked}


def excess(limit: Mapping[str, frozenset[str]], found: Mapping[str, object]) -> list[str]:
    """Return the paths where *found* (of ``sys/capabilities-self``) is more than the limit."""
    return [
        path
        for path, may in limit.items()
        if not isinstance(has := found.get(path), list) or not may | {"deny"} >= set(has)
    ]


def _worker(mount: str) -> list[Rule]:
    made = {
        "type": ("aes256-gcm96",),
        "exportable": (False,),
        "allow_plaintext_backup": (False,),
    }
    return [
        Rule(f"{mount}/keys/+", ("update",), made),
        Rule(f"{mount}/encrypt/+", ("update",)),
        Rule(f"{mount}/decrypt/+", ("update",)),
    ]


def _keeper(mount: str) -> list[Rule]:
    ending: Parameters = {
        "min_decryption_version": (),
        "min_encryption_version": (),
        "deletion_allowed": (),
    }
    return [
        Rule(f"{mount}/keys", ("list",)),
        Rule(f"{mount}/keys/+", ("delete", "read")),
        Rule(f"{mount}/keys/+/config", ("update",), ending),
        Rule(f"{mount}/keys/+/rotate", ("update",)),
        Rule(f"{mount}/keys/+/trim", ("update",)),
        Rule(f"{mount}/rewrap/+", ("update",)),
        Rule(f"{mount}/config/keys", ("read",)),
    ]
