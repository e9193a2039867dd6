"""
Who may leave: tickets, and the rules by which a CONNECT request is let through.

- A ticket is issued for one grant and admits its (host, port) pairs, byte for byte but for
  case. Everything else is refused with a code; nothing is guessed or repaired.
- A target is a name. Addresses in any spelling (dotted, decimal, hexadecimal, octal, IPv6) are
  refused, but for loopback literals that a development grant names.
- A name's addresses must all be global (RFC 6890), those inside an IPv6 transition address too.
- What a TLS client asks for by name (SNI, RFC 6066) must be the host of its CONNECT request.

Grammar: RFC 9110, 9.3.6 (CONNECT) and 11.7 (Basic credentials); RFC 9112, 3 and 5.
"""

import base64
import binascii
import hmac
import io
import ipaddress
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from residency.errors import ConnectRefusedError, EgressError
from residency.model import Grant, Passage

KEPT_S = 60.0  # how long what was seen under a ticket waits for `end`, or is told again
ELSEWHERE = "address.elsewhere"  # outside the blocks of the grant
UNKNOWN = "ticket.unknown"
MAX_SECONDS = 600.0
MAX_PORT = 65_535
TLS_HANDSHAKE = 22
TLS_HEADER = 5  # type, version, length (RFC 8446, 5.1)

Host = tuple[str, int]

_START = re.compile(r"([A-Z]{1,16}) ([\x21-\x7e]{1,512}) HTTP/1\.[01]")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\t]*?)[ \t]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Request:
    """One CONNECT request as it was written: *target* is not checked yet."""

    target: str
    ticket: str
    secret: str = field(repr=False)


def parse(head: bytes) -> Request:
    """Return the request in *head* (up to its empty line); raise `ConnectRefusedError`."""
    start, *lines = _lines(head)
    found = _START.fullmatch(start)
    if not found:
        raise ConnectRefusedError(HTTPStatus.BAD_REQUEST, "head.malformed")
    method, target = found.groups()
    if method != "CONNECT":
        raise ConnectRefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "method.not_connect")
    given = ""
    for name, value in _fields(lines):
        if name == "transfer-encoding" or (name == "content-length" and value != "0"):
            raise ConnectRefusedError(HTTPStatus.BAD_REQUEST, "head.has_body")
        if name == "proxy-authorization":
            if given:
                raise ConnectRefusedError(HTTPStatus.BAD_REQUEST, "head.malformed")
            given = value
    return Request(target, *_credentials(given))


def _lines(head: bytes) -> list[str]:
    try:
        return head.decode("ascii").removesuffix("\r\n\r\n").split("\r\n")
    except UnicodeDecodeError:
        raise ConnectRefusedError(HTTPStatus.BAD_REQUEST, "head.malformed") from None


def _fields(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        found = _FIELD.fullmatch(line)
        if not found:
            raise ConnectRefusedError(HTTPStatus.BAD_REQUEST, "head.malformed")
        yield found[1].lower(), found[2]


def _credentials(value: str) -> tuple[str, str]:
    scheme, _, encoded = value.partition(" ")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    ticket, _, secret = text.partition(":")
    return (ticket, secret) if scheme.lower() == "basic" else ("", "")


def split(target: str) -> Host:
    """Return *target* (``host:port``) in lower case; raise `ConnectRefusedError`."""
    host, _, port = target.lower().rpartition(":")
    if not _PORT.fullmatch(port) or int(port) > MAX_PORT:
        raise ConnectRefusedError(HTTPStatus.BAD_REQUEST, "target.malformed")
    if is_literal(host):
        return host.strip("[]"), int(port)
    if not _NAME.fullmatch(host):
        raise ConnectRefusedError(HTTPStatus.BAD_REQUEST, "target.malformed")
    return host, int(port)


def is_literal(host: str) -> bool:
    """Whether *host* is an address, as this or any resolver might read it (``0x7f.1``)."""
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if re.fullmatch(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+))*", host):
        return True
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """
    Leave for one grant until *until* (monotonic seconds).

    *development* also admits loopback literals that the grant names exactly.
    """

    id: str
    secret: str = field(repr=False)
    grant: Grant
    hosts: frozenset[Host]
    until: float
    development: bool

    @classmethod
    def issue(cls, grant: Grant, *, now: float, development: bool = False) -> "Ticket":
        """Return a new ticket; raise `EgressError` for a grant that no ticket can be had for."""
        if not grant.hosts or not 0 < grant.seconds <= MAX_SECONDS:
            raise EgressError(f"{grant.processor}: grant without hosts or lifetime")
        try:
            hosts = frozenset(map(split, grant.hosts))
        except ConnectRefusedError as exc:
            raise EgressError(f"{grant.processor}: {exc.code}") from None
        if any(is_literal(host) and not (development and _loopback(host)) for host, _ in hosts):
            raise EgressError(f"{grant.processor}: host.literal")
        return cls(
            id=secrets.token_hex(12),
            secret=secrets.token_urlsafe(24),
            grant=grant,
            hosts=hosts,
            until=now + grant.seconds,
            development=development,
        )

    def opened_by(self, secret: str) -> bool:
        """Whether *secret* is this ticket's, compared in constant time."""
        return hmac.compare_digest(self.secret.encode(), secret.encode())

    def admit(self, host: Host, *, now: float) -> None:
        """Raise `ConnectRefusedError` unless *host* may be reached now."""
        if now >= self.until:
            raise ConnectRefusedError(HTTPStatus.FORBIDDEN, "grant.expired")
        if host not in self.hosts:
            code = "host.literal" if is_literal(host[0]) else "host.not_granted"
            raise ConnectRefusedError(HTTPStatus.FORBIDDEN, code)

    def passage(self, proxy: str) -> Passage:
        """Return what an adapter needs to leave through *proxy*."""
        return Passage(proxy=proxy, ticket=self.id, secret=self.secret)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_peers(
    addresses: Sequence[str],
    *,
    blocks: Sequence[str] = (),
    loopback: bool = False,
    private: bool = False,
) -> tuple[str, ...]:
    """
    Return *addresses* without repetition; raise `ConnectRefusedError` unless all may be reached.

    They must lie in *blocks*, if there are any: a name that leads elsewhere leads nowhere.
    *loopback* also admits this machine, *private* also private networks: never link-local ones,
    where clouds serve their instances' credentials.
    """
    if not addresses:
        raise ConnectRefusedError(HTTPStatus.BAD_GATEWAY, "name.unresolved")
    for address in addresses:
        if not _reachable(address, loopback=loopback, private=private):
            raise ConnectRefusedError(HTTPStatus.FORBIDDEN, "address.not_global")
        if blocks and not within(address, blocks):
            raise ConnectRefusedError(HTTPStatus.FORBIDDEN, ELSEWHERE)
    return tuple(dict.fromkeys(addresses))


def within(address: str, blocks: Sequence[str]) -> bool:
    """Tell whether *address* lies in one of *blocks* (CIDR)."""
    found = ipaddress.ip_address(address)
    return any(found in ipaddress.ip_network(block) for block in blocks)


def _reachable(address: str, *, loopback: bool, private: bool) -> bool:
    found = ipaddress.ip_address(address)
    if loopback and found.is_loopback:
        return True
    if any(each.is_multicast or each.is_link_local for each in _all(found)):
        return False
    if all(each.is_global for each in _all(found)):
        return True
    return private and found.is_private and not (found.is_loopback or found.is_unspecified)


def _all(found: IpAddress) -> Iterator[IpAddress]:
    """Yield *found* and the IPv4 address that a translator would make of it."""
    yield found
    if isinstance(found, ipaddress.IPv6Address):
        if found in _NAT64:
            yield ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        for inner in (found.ipv4_mapped, found.sixtofour, *(found.teredo or ())):
            if inner is not None:
                yield inner


def record_length(start: bytes) -> int | None:
    """Return how long the TLS record that *start* begins is; None while that is not known."""
    return TLS_HEADER + int.from_bytes(start[3:5]) if len(start) >= TLS_HEADER else None


def server_name(record: bytes) -> str | None:
    """
    Return the name that a ClientHello asks for, None if it asks for none (RFC 6066, 3).

    Raises `ConnectRefusedError` for a record that is not one whole ClientHello.
    """
    hello = io.BytesIO(record[TLS_HEADER:])
    try:
        if _take(hello, 1) != b"\x01":
            raise EOFError  # noqa: TRY301 - every fault of the form has one answer
        hello = io.BytesIO(_vector(hello, 3))
        _take(hello, 34)  # version, random
        for size in (1, 2, 1):  # session id, cipher suites, compression methods
            _vector(hello, size)
        extensions = io.BytesIO(_vector(hello, 2))
        while kind := extensions.read(2):
            body = io.BytesIO(_vector(extensions, 2))
            if kind == b"\0\0":
                names = io.BytesIO(_vector(body, 2))
                _take(names, 1)  # host_name is the only type there is
                return _vector(names, 2).decode("ascii").lower()
    except (EOFError, UnicodeDecodeError):
        raise ConnectRefusedError(HTTPStatus.FORBIDDEN, "tls.malformed") from None
    return None


def _take(source: io.BytesIO, count: int) -> bytes:
    found = source.read(count)
    if len(found) < count:
        raise EOFError
    return found


def _vector(source: io.BytesIO, size: int) -> bytes:
    return _take(source, int.from_bytes(_take(source, size)))
