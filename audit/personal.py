"""
What must not stand in a leaf: phone numbers, message ids and addresses, in any script's digits.

- Text is read as Unicode's compatibility form (NFKC) with every decimal digit as ASCII and
  without invisible characters: full-width and Arabic-Indic digits count as digits.
- A number is seven digits or more with at most three other signs between two of them
  (ITU-T E.164 allows 15; national numbers without a prefix have seven or eight).
- Ids, names of keys and digests that programs make, times, and the usual forms of a case number
  are none: ``2026-117``, ``12/2026``, ``DSR-20261119-07``.
- What a program writes must never be taken for a number by chance: its entry would be lost.
- This is a pattern. A name passes, and so does a number that is written out in words.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

WITHHELD = "withheld"
"""Stands in a leaf where somebody else's program said what looks like a number."""

_NUMBER = re.compile(r"(?<![0-9])\+?[0-9](?:[^a-z0-9]{0,3}[0-9]){6,}(?![0-9])")
_ADDRESS = re.compile(r"wamid\.|wacid\.|@")
_DAY = r"20[2-9][0-9]-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12][0-9]|3[01])"
_NO_NUMBER = re.compile(
    r"(?<![a-z0-9+])(?:"
    r"[a-z]{1,8}_[0-9a-f]{16,64}(?:\.[a-z0-9_]+)*"  # an id of ours
    r"|[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{128}"  # a digest
    r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # a UUID
    r"|(?<![0-9][-/. ])(?:"  # alone: not the middle of a number that is written in groups
    rf"{_DAY}(?:[t ][0-9]{{2}}:[0-9]{{2}}(?::[0-9]{{2}}(?:\.[0-9]{{1,6}})?)?"
    r"(?:z|[+-][0-9]{2}:[0-9]{2})?)?"  # a day, a time (RFC 3339)
    rf"|[a-z]{{1,8}}-{_DAY}(?:-[0-9]{{1,4}})?"  # DSR-20261119-07
    rf"|(?:raw-{_DAY}(?:[01][0-9]|2[0-3])|txt-20[2-9][0-9][01][0-9]|intake-{_DAY})"
    r"(?:-[0-9]{1,3})?"  # the key of an hour, a month, a day, or the one that replaced it
    r"|20[2-9][0-9][-/][0-9]{1,5}|[0-9]{1,5}[-/]20[2-9][0-9]"  # 2026-117, 117/2026
    r")(?![-/. ]?[0-9])"
    r")(?![a-z0-9])"
)
_IP = re.compile(
    r"(?<![a-z0-9.])(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(?:\.(?!$)|(?![0-9.]))){4}(?::[0-9]{1,5})?"
)
_IPV6 = re.compile(
    r"(?<![a-z0-9.:])[0-9a-f:]{2,39}(?:\.[0-9.]{5,11})?(?![a-z0-9.:])|\[[0-9a-f:.]+\]:?"
)
_KEK = re.compile(r"(?<![a-z0-9])subjects-(?:([a-z][a-z0-9-]*)-)?[0-9]{4}(?![a-z0-9]|-[0-9])")
"""A bucket of persons' keys (`vault.keys`): its number is not to be read with its tenant's."""

_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")  # RFC 7638, of SHA-256
_HOST = re.compile(
    r"(?<![a-z0-9.@_+-])(?:\*\.)?(?!wamid\.|wacid\.)(?:[a-z0-9][a-z0-9-]{0,62}\.)+"
    r"[a-z]{2,63}(?::[0-9]{1,5})?(?![a-z0-9.@_-])"
)
_CONNECTION = frozenset(
    {"declared", "host", "hosts", "observed", "peer", "peers", "refused", "tls"}
)


def looks_personal(text: str) -> bool:
    """Whether *text* holds what looks like a phone number, a message id or a mail address."""
    plain = _KEK.sub(r" \1 ", _plain(text))
    return bool(_ADDRESS.search(plain) or _NUMBER.search(_NO_NUMBER.sub(" a ", plain)))


def withheld(text: str) -> str:
    """Return *text*, or `WITHHELD` if it looks personal; IP addresses may stay."""
    return WITHHELD if looks_personal(_without_ips(text)) else text


def fault(fields: Mapping[str, Any]) -> str | None:
    """
    Return the path of the first string in *fields*, keys included, that looks personal, or None.

    Where a connection is described, host names, IP addresses and ports may stand.
    """
    return next((path for path, text in _strings(fields, "") if looks_personal(text)), None)


def _strings(value: Any, path: str, *, ips: bool = False) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, _HOST.sub(" host ", _without_ips(value)) if ips else value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield path, str(key)
            if key == "key" and isinstance(each, str) and _THUMBPRINT.fullmatch(each):
                continue  # random, and may hold some digits in a row
            inner = f"{path}.{key}" if path else str(key)
            yield from _strings(each, inner, ips=ips or key in _CONNECTION)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _strings(each, path, ips=ips)


def _plain(text: str) -> str:
    """Return *text* in NFKC, lower case, each decimal digit as ASCII, without format signs."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(_ascii(char) for char in folded if unicodedata.category(char) != "Cf")


def _ascii(char: str) -> str:
    digit = unicodedata.digit(char, None)
    return char if digit is None else str(digit)


def _without_ips(text: str) -> str:
    return _IP.sub(" ip ", _IPV6.sub(_named_ip, text.casefold()))


def _named_ip(found: re.Match[str]) -> str:
    """Return what stands for an IPv6 address, or what was *found* if it is none."""
    try:
        ipaddress.IPv6Address(found[0].rstrip(":]")[1:] if found[0][0] == "[" else found[0])
    except ValueError:
        return found[0]
    return " ip "
