"""Declared and observed: what is a difference, and what is none."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.speech import a_processor

from residency import drift
from residency.drift import Certificate, Kind, Severity
from residency.model import Observed, Service

AT = datetime(2026, 11, 22, 14, 15, tzinfo=UTC)
HOST = "westeurope.stt.vendor.example"
ROW = a_processor(
    Service.SPEECH_TO_TEXT,
    "azure-speech",
    region="nl-west",
    hosts=(f"{HOST}:443",),
    settings={"vendor_region": "westeurope", "region_says": "weu|NL"},
)
GOOD = Certificate(
    host=HOST,
    version="TLSv1.3",
    subject="CN=vendor",
    issuer="CN=authority",
    names=(HOST,),
    not_after=AT + timedelta(days=30),
    trusted=True,
)


def found(observed: Observed | None = None, **more: Any) -> list[tuple[Kind, str, str]]:
    """Return the differences as plain tuples."""
    seen = drift.compare(ROW, observed or Observed(), at=AT, **more)
    return [(each.kind, each.declared, each.observed) for each in seen]


def test_nothing_seen_is_no_difference() -> None:
    """A native client shows no certificate: silence must not suspend it."""
    assert found() == []


@pytest.mark.parametrize("said", ["westeurope", "West Europe", "nl-west", "WEU", "nl"])
def test_a_region_may_be_spelt_as_the_vendor_likes(said: str) -> None:
    """Headers are written for people; the row lists the names that are meant."""
    assert found(Observed(region=said)) == []


@pytest.mark.parametrize("said", ["eastus", "westeurope2", "europe", "us"])
def test_another_region_is_a_difference(said: str) -> None:
    """This is how a vendor that answers from elsewhere is caught at all."""
    assert found(Observed(region=said)) == [(Kind.REGION, "westeurope", said)]


def test_an_empty_alias_is_no_alias() -> None:
    """Else a header of punctuation alone would be every region's."""
    row = replace(ROW, settings={"vendor_region": "westeurope"})

    seen = drift.compare(row, Observed(region="-"), at=AT)

    assert [each.kind for each in seen] == [Kind.REGION]


def test_the_vendors_word_is_no_observation_of_ours() -> None:
    """A header is a claim: its basis says so."""
    region, host = drift.compare(ROW, Observed(region="eastus", host="other.example"), at=AT)

    assert (region.basis, host.basis) == ("attested by vendor", "observed")


@pytest.mark.parametrize("host", [HOST, f"{HOST}:443", HOST.upper()])
def test_the_rows_host_is_its_host(host: str) -> None:
    """Clients report it with and without the port."""
    assert found(Observed(host=host)) == []


def test_another_host_is_a_difference() -> None:
    """A redirect that was followed shows here, if nowhere else."""
    assert found(Observed(host="eastus.stt.vendor.example:443")) == [
        (Kind.HOST, HOST, "eastus.stt.vendor.example")
    ]


def test_inside_the_cell_there_is_no_host() -> None:
    """A local engine may say what it likes about where it runs."""
    row = replace(ROW, hosts=())

    assert drift.compare(row, Observed(host="localhost"), at=AT) == []


@pytest.mark.parametrize("names", [(HOST,), ("*.stt.vendor.example",), ("x.example", HOST.upper())])
def test_a_certificate_that_covers_the_host_is_good(names: tuple[str, ...]) -> None:
    """Vendors use wildcards across regions: that proves no region, and contradicts none."""
    assert found(certificate=replace(GOOD, names=names)) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"names": ("eastus.stt.vendor.example",)}, "for eastus.stt.vendor.example"),
        ({"names": ("*.vendor.example",)}, "for *.vendor.example"),
        ({"names": ("*.example",)}, "for *.example"),
        ({"names": ()}, "for no name"),
        ({"trusted": False}, "of an unknown authority: CN=authority"),
        ({"not_after": AT}, "expired on 2026-11-22"),
    ],
)
def test_a_certificate_that_does_not_hold_is_a_difference(
    changed: dict[str, Any], said: str
) -> None:
    """Another region's name, another authority, another time: each is another party."""
    assert found(certificate=replace(GOOD, **changed)) == [(Kind.CERTIFICATE, HOST, said)]


def test_a_wildcard_of_a_top_level_domain_covers_nothing() -> None:
    """``*.example`` for ``vendor.example`` would be everybody's certificate."""
    assert not drift.covers(["*.example"], "vendor.example")


def test_a_new_address_is_a_note() -> None:
    """Vendors move; a person may want to know, nobody has to stop."""
    observed = Observed(peers=("192.0.2.1", "192.0.2.9"), peer="192.0.2.9")

    (seen,) = drift.compare(ROW, observed, at=AT, known_peers={"192.0.2.1"})

    assert (seen.kind, seen.observed, seen.severity) == (Kind.PEER, "192.0.2.9", Severity.INFO)
    assert not seen.suspends(ROW)


def test_the_first_address_is_no_difference() -> None:
    """Every processor would begin its life with a finding."""
    assert found(Observed(peer="192.0.2.1")) == []


BLOCKS = replace(ROW, settings={"addresses": "192.0.2.0/25|2001:db8:1::/48"})


@pytest.mark.parametrize("peer", ["192.0.2.1", "192.0.2.127", "2001:db8:1::5"])
def test_an_address_of_the_regions_blocks_is_no_difference(peer: str) -> None:
    """Where the blocks are declared, a machine not met before is still the region's."""
    seen = drift.compare(BLOCKS, Observed(peer=peer), at=AT, known_peers={"192.0.2.9"})

    assert seen == []


@pytest.mark.parametrize("peer", ["192.0.2.128", "198.51.100.1", "2001:db8:2::1"])
def test_an_address_outside_the_regions_blocks_is_elsewhere(peer: str) -> None:
    """A vendor without a region header is caught by where its machines stand, the first time."""
    (seen,) = drift.compare(BLOCKS, Observed(peers=("192.0.2.1", peer)), at=AT)

    assert (seen.kind, seen.observed, seen.severity) == (Kind.PEER, peer, Severity.CRITICAL)
    assert seen.suspends(BLOCKS)


@pytest.mark.parametrize(
    "code",
    [
        "address.not_global", "bytes.early", "host.literal", "host.not_granted", "limit.grant",
        "target.malformed", "tls.malformed", "tls.missing", "tls.other_name",
    ],
)  # fmt: skip
def test_what_the_broker_kept_from_leaving_is_a_warning(code: str) -> None:
    """Nothing left, so nobody is suspended; but a client that tries is one to look at."""
    tried = f"oauth2.vendor.example:443 {code}"

    (seen,) = drift.compare(ROW, Observed(refused=(tried, tried)), at=AT)

    assert (seen.kind, seen.observed, seen.severity) == (Kind.REFUSED, tried, Severity.WARN)
    assert seen.declared == f"{HOST}:443"
    assert not seen.suspends(ROW)


@pytest.mark.parametrize(
    "code",
    ["connect.failed", "connect.late", "grant.expired", "name.unresolved", "tunnel.idle"],
)
def test_a_vendor_that_was_not_reached_tried_nothing(code: str) -> None:
    """A bad day of the network is no finding about where data goes."""
    refused = (f"{HOST}:443 {code}", "egress.lost")

    assert found(Observed(refused=refused)) == []


def test_a_row_may_warn_instead() -> None:
    """Where a header is known to be wrong, the operator says so and keeps the service."""
    (seen,) = drift.compare(ROW, Observed(region="eastus"), at=AT)

    assert seen.suspends(ROW)
    assert not seen.suspends(replace(ROW, settings={"on_drift": "warn"}))


def test_a_name_that_led_outside_its_blocks_does_not_hold() -> None:
    """Nothing left, but the row's own name is not where the row says: nothing more goes there."""
    (seen,) = drift.compare(BLOCKS, Observed(refused=(f"{HOST}:443 address.elsewhere",)), at=AT)

    assert (seen.kind, seen.severity) == (Kind.REFUSED, Severity.CRITICAL)
    assert seen.suspends(BLOCKS)
