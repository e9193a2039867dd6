"""
What holds a row to its region, and whether the row says enough for it to be checked; pure.

``settings.pin`` names the means, joined by "+" where there are several:

- ``host``: the vendor's name of the region shows in every host.
- ``path``: ``settings.path`` is part of every request's path, and shows the region.
- ``query``: each ``settings."query.NAME"`` is in every request; one of them is the region.
- ``credential``: ``settings.credential`` says what the key is bound to.
- ``resource``: ``settings.resource`` says which resource was made in the region.
- ``none``: the vendor's word alone. It stands by itself.

The model is pinned too: outside the cell it may not float (``default``, ``latest``, ``auto``).
"""

import ipaddress
import re
from collections.abc import Collection, Iterator, Mapping

from residency.model import Processor

PINS = ("credential", "host", "none", "path", "query", "resource")
PLACELESS = frozenset({"any", "auto", "default", "global", "nearest", "world"})
FLOATING = frozenset({"auto", "default", "latest"})
ON_DRIFT = ("suspend", "warn")

_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,63}:[1-9][0-9]{0,4}")
_LOOPBACK = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\]):[1-9][0-9]{0,4}")
_CLOCK = re.compile(r".*_(?:ms|seconds|minutes|hours|days)")
_WHOLE = re.compile(r"0|[1-9][0-9]{0,8}")
_MAX_PORT = 65_535  # RFC 6335, 6
_COUNTS = ("max_concurrent", "per_minute")
_QUERY = "query."


def place(row: Processor) -> str:
    """Return the vendor's own name of the row's region."""
    return row.settings.get("vendor_region", row.region)


def pins(row: Processor) -> tuple[str, ...]:
    """Return by what the row is held to its region."""
    return tuple(row.settings.get("pin", "host").split("+"))


def faults(
    row: Processor,
    *,
    nearest: Collection[str] = (),
    required: Mapping[str, str] | None = None,
    development: bool = False,
) -> Iterator[str]:
    """
    Yield what is wrong with the row's pins, hosts, options and settings.

    *nearest* are hosts that answer from anywhere, *required* the options its vendor's rows
    carry; *development* admits loopback hosts.
    """
    yield from _settings(row)
    held = pins(row)
    if set(held) - set(PINS) or len(set(held)) < len(held) or ("none" in held and len(held) > 1):
        yield f"settings.pin: {'+'.join(held)!r} is none of {', '.join(PINS)} (join them by +)"
        return
    if not row.hosts:
        return
    yield from _floating(row)
    for name, value in (required or {}).items():
        if row.options.get(name) != value:
            yield f'options.{name}: {row.vendor} needs it (write {name} = "{value}")'
    if held != ("none",) and place(row) in PLACELESS:
        yield f"settings.vendor_region: {place(row)!r} is not a place"
    for host in row.hosts:
        if not (development and _LOOPBACK.fullmatch(host)):
            yield from _host(host, place(row) if "host" in held else None, nearest)
    for pin in held:
        yield from _PROOFS.get(pin, _nothing)(row)


def shows(text: str, where: str) -> bool:
    """Tell whether *where* stands in *text* as a whole word."""
    return re.search(rf"(?:^|[^a-z0-9]){re.escape(where)}(?:[^a-z0-9]|$)", text) is not None


def blocks(row: Processor) -> tuple[str, ...]:
    """Return the CIDR blocks that *row*'s addresses lie in, or none where it names none."""
    return tuple(filter(None, row.settings.get("addresses", "").split("|")))


def _settings(row: Processor) -> Iterator[str]:
    if row.settings.get("on_drift", "suspend") not in ON_DRIFT:
        yield f"settings.on_drift: must be {' or '.join(ON_DRIFT)}"
    for block in row.settings["addresses"].split("|") if "addresses" in row.settings else ():
        if not _is_block(block):
            yield f"settings.addresses: {block!r} is no CIDR block (write it like 192.0.2.0/24)"
    for name, value in row.settings.items():
        if _CLOCK.fullmatch(name) and not _WHOLE.fullmatch(value):
            yield f"settings.{name}: {value!r} is no whole number (a clock is 0 or more)"
        if name in _COUNTS and (value == "0" or not _WHOLE.fullmatch(value)):
            yield f"settings.{name}: {value!r} is no whole number of 1 or more"


def _is_block(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _floating(row: Processor) -> Iterator[str]:
    if FLOATING.intersection(re.split(r"[^a-z0-9]+", row.model.lower())):
        yield f"model: {row.model!r} floats (name the model that is under review)"


def _host(host: str, where: str | None, nearest: Collection[str]) -> Iterator[str]:
    name, _, port = host.rpartition(":")
    if "://" in host or "/" in host:
        yield f"hosts: {host!r} is not name:port (leave scheme and path out)"
    elif "*" in host:
        yield f"hosts: {host!r} is not name:port (no wildcards: name each host)"
    elif not re.search(r":[0-9]+$", host):
        yield f"hosts: {host!r} is not name:port (add the port, such as :443)"
    elif not _HOST.fullmatch(host) or int(port) > _MAX_PORT or "xn--" in host:
        yield f"hosts: {host!r} is not name:port (lower case, ASCII, no address)"
    elif name in nearest:
        yield f"hosts: {host!r} is the vendor's default and answers from anywhere (name a region's)"
    elif where and not re.search(rf"(?:^|[.-]){re.escape(where)}[.-]", host):
        yield f"hosts: {host!r} does not show {where!r} (set settings.vendor_region or .pin)"


def _path(row: Processor) -> Iterator[str]:
    if not shows(row.settings.get("path", ""), place(row)):
        yield f"settings.path: must show {place(row)!r} (the pin is the path)"


def _query(row: Processor) -> Iterator[str]:
    named = {k: v for k, v in row.settings.items() if k.startswith(_QUERY) and len(k) > len(_QUERY)}
    if place(row) not in named.values():
        yield f'settings."query.NAME": none is {place(row)!r} (the pin is the query)'


def _credential(row: Processor) -> Iterator[str]:
    if not row.settings.get("credential"):
        yield "settings.credential: must say what the key is bound to (the pin is the credential)"


def _resource(row: Processor) -> Iterator[str]:
    if not row.settings.get("resource"):
        yield "settings.resource: must say what was made in the region (the pin is the resource)"


def _nothing(_row: Processor) -> Iterator[str]:
    yield from ()


_PROOFS = {"credential": _credential, "path": _path, "query": _query, "resource": _resource}
