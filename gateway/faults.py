"""
Faults in words: what a person wrote wrongly, where, and how to put it right.

Never what was written: it may be a secret, or a sentence about somebody.
"""

import difflib

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.sections import Section, sections_of

# What people write in place of a file path, and the key that was meant.
_INLINE = {
    "access_key": "access_key_file",
    "access_token": "access_token_file",
    "app_secret": "app_secret_files",
    "app_secrets": "app_secret_files",
    "credentials": "credentials_file",
    "jwt": "jwt_file",
    "key": "key_file",
    "password": "password_file",
    "role_id": "role_id_file",
    "secret_id": "secret_id_file",
    "secret_key": "secret_key_file",
    "token": "token_file",
    "verify_token": "verify_token_file",
    "wrapped_secret_id": "wrapped_secret_id_file",
}


def faults_of(exc: ValidationError, root: type[Section]) -> list[str]:
    """Return every fault of *exc*, found while reading a *root*, as ``path: fault (fix)``."""
    return [_fault(detail, root) for detail in _causes(exc)]


def _causes(exc: ValidationError) -> list[ErrorDetails]:
    """Return the faults of *exc*, without "too short" for a list whose items are at fault."""
    details = exc.errors(include_url=False, include_input=False, include_context=False)
    inner = {d["loc"][:size] for d in details for size in range(len(d["loc"]))}
    return [d for d in details if d["type"] != "too_short" or d["loc"] not in inner]


def _fault(detail: ErrorDetails, root: type[Section]) -> str:
    where = _where(detail["loc"])
    name = str(detail["loc"][-1]) if detail["loc"] else ""
    if detail["type"] == "extra_forbidden":
        return f"{where}: {_unknown(name, detail['loc'], root)}"
    if detail["type"] == "missing":
        return f"{where}: is missing (add it)"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{where}: {message.replace('Input should be', 'must be', 1)}"


def _where(loc: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return path.removeprefix(".") or "settings"


def _unknown(name: str, loc: tuple[int | str, ...], root: type[Section]) -> str:
    service, _, rest = name.partition("_")
    meant = _INLINE.get(name) or (_INLINE.get(rest) and f"{service}_{_INLINE[rest]}")
    if meant:
        return f"a secret is given as a file, never inline (use {meant})"
    near = difflib.get_close_matches(name, _table(loc[:-1], root).model_fields, 1)
    return f"is not a setting (did you mean {near[0]}?)" if near else "is not a setting (remove it)"


def _table(loc: tuple[int | str, ...], root: type[Section]) -> type[Section]:
    """Return the table of *root* that *loc* leads to; keys chosen by the writer lead nowhere."""
    found = root
    for part in loc:
        if isinstance(part, str) and part in found.model_fields:
            found = next(sections_of(found.model_fields[part].annotation), found)
    return found
