"""
Declared and observed: where what was seen of a processor is not what its row says; pure.

- Region: what the vendor's answer says of itself is the row's region, under one of its names.
- Host: the connection went to a host of the row.
- Certificate: it covers the host (RFC 9525, 6.3), comes from an authority we trust, and holds
  now. It speaks for a region only as far as its names do: a wildcard speaks for none.
- Peer: one outside ``settings.addresses`` (CIDR blocks joined by "|", where the vendor publishes
  its region's) is elsewhere; the broker reaches none, and that it was asked to is as bad.
  Without blocks an address not seen before is a note: vendors move.
- Refused: what the broker did not let out because it would have gone elsewhere. Nothing left, so
  it is a warning: the client tried to. Only where the row's own name led outside its blocks the
  declaration does not hold.
- What was not seen contradicts nothing, and proves nothing.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from residency import egress, pins
from residency.model import Observed, Processor


class Kind(StrEnum):
    """What differs; kept sorted."""

    ACCOUNT = "account"  # the vendor does not accept the operator's account: no difference of place
    CERTIFICATE = "certificate"
    HOST = "host"
    LAW = "law"  # people write from a country that the table has no law of: none of a vendor's
    PEER = "peer"
    REFUSED = "refused"
    REGION = "region"


class Severity(StrEnum):
    """What it means; kept sorted."""

    CRITICAL = "critical"  # the declaration does not hold: nothing more should go there
    INFO = "info"
    WARN = "warn"  # somebody should look; nothing went where it should not


STRAYED = ("address.", "bytes.", "host.", "limit.", "target.", "tls.")
"""How the broker's codes begin for what tried to go elsewhere; the others mean: not reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """
    The certificate that *host* presented to our own client.

    *names* are its DNS names; *trusted* tells whether its chain leads to an authority we trust.
    """

    host: str
    version: str
    subject: str
    issuer: str
    names: tuple[str, ...]
    not_after: datetime
    trusted: bool

    @property
    def told(self) -> str:
        """Return version and names, as `Observed.tls` holds them."""
        return f"{self.version} {', '.join(self.names) or self.subject}"[:200]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One difference, with the *basis* of what was seen, and *at* when."""

    processor: str
    kind: Kind
    declared: str
    observed: str
    basis: str
    at: datetime
    severity: Severity

    def suspends(self, row: Processor) -> bool:
        """Tell whether *row* is to rest until a person has looked."""
        return (
            self.severity is Severity.CRITICAL
            and row.settings.get("on_drift", "suspend") == "suspend"
        )


def compare(
    row: Processor,
    observed: Observed,
    *,
    at: datetime,
    certificate: Certificate | None = None,
    known_peers: Collection[str] = (),
) -> list[Finding]:
    """Return how *observed* and *certificate* differ from *row*; *known_peers* were seen before."""
    found = [
        *_region(row, observed.region),
        *_host(row, observed.host),
        *_certificate(certificate, at),
        *_peers(row, observed, known_peers),
        *_refused(row, observed.refused),
    ]
    return [
        Finding(
            processor=row.id,
            kind=kind,
            declared=declared,
            observed=seen,
            basis="attested by vendor" if kind is Kind.REGION else "observed",
            at=at,
            severity=severity,
        )
        for kind, declared, seen, severity in found
    ]


def covers(names: Collection[str], host: str) -> bool:
    """Tell whether one of *names* is *host*, or its left-most label's wildcard (RFC 9525, 6.3)."""
    host = host.lower().rstrip(".")
    above = host.partition(".")[2]
    return any(name.lower() in (host, f"*.{above}" if "." in above else host) for name in names)


_Difference = tuple[Kind, str, str, Severity]


def _region(row: Processor, said: str) -> Iterator[_Difference]:
    names = {row.region, pins.place(row), *row.settings.get("region_says", "").split("|")}
    if said and _plain(said) not in {_plain(name) for name in names if name}:
        yield Kind.REGION, pins.place(row), said[:64], Severity.CRITICAL


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())  # "West Europe" is westeurope


def _host(row: Processor, seen: str) -> Iterator[_Difference]:
    declared = {host.rpartition(":")[0] for host in row.hosts}
    if seen and row.hosts and _name(seen) not in declared:
        yield Kind.HOST, ", ".join(sorted(declared)), _name(seen)[:128], Severity.CRITICAL


def _name(host: str) -> str:
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdigit() else host.lower()


def _certificate(seen: Certificate | None, at: datetime) -> Iterator[_Difference]:
    if seen is None:
        return
    told = []
    if not covers(seen.names, seen.host):
        told.append(f"for {', '.join(seen.names)[:160] or 'no name'}")
    if not seen.trusted:
        told.append(f"of an unknown authority: {seen.issuer[:128]}")
    if seen.not_after <= at:
        told.append(f"expired on {seen.not_after.date()}")
    yield from ((Kind.CERTIFICATE, seen.host, what, Severity.CRITICAL) for what in told)


def _peers(row: Processor, observed: Observed, known: Collection[str]) -> Iterator[_Difference]:
    declared = pins.blocks(row)
    for peer in filter(None, dict.fromkeys((*observed.peers, observed.peer))):
        if declared and not egress.within(peer, declared):
            yield Kind.PEER, "|".join(declared), peer, Severity.CRITICAL
        elif not declared and known and peer not in known:  # the first ever differs from nothing
            yield Kind.PEER, f"{len(known)} addresses seen before", peer, Severity.INFO


def _refused(row: Processor, refused: Collection[str]) -> Iterator[_Difference]:
    for each in dict.fromkeys(refused):
        if each.rpartition(" ")[2].startswith(STRAYED):
            elsewhere = each.endswith(egress.ELSEWHERE)
            severity = Severity.CRITICAL if elsewhere else Severity.WARN
            yield Kind.REFUSED, ", ".join(row.hosts), each[:128], severity
