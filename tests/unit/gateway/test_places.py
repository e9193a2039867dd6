"""A place that no registry has refuses everybody: whoever wrote it is told, and what was meant."""

import pytest

from gateway import places

REGIONS = {
    "ap-singapore": "SG",
    "eu-central": "DE",
    "eu-ireland": "IE",
    "gb-england": "GB",
    "sa-brazil": "BR",
    "us-east": "US",
}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("UK", "GB"),
        ("uk", "GB"),
        ("EL", "GR"),
        ("de", "DE"),
        ("De", "DE"),
        (" ch ", "CH"),
        ("Germany", "DE"),
        ("germany", "DE"),
        ("Deutschland", "DE"),
        ("United Kingdom", "GB"),
        ("Schweiz", "CH"),
        ("Brésil", "BR"),
    ],
)
def test_what_was_meant_by_a_country_is_told(written: str, meant: str) -> None:
    """``UK`` is what a British operator writes; the law's row is under ``GB``."""
    assert places.country_fault(written).startswith(f"must be {meant} ")


@pytest.mark.parametrize("written", ["EU", "eu", "EEA", "Europe"])
def test_a_union_is_no_country(written: str) -> None:
    """The GDPR holds where a controller is established, and that is in one member state."""
    assert "one country" in places.country_fault(written)


@pytest.mark.parametrize("written", ["", "X", "XX", "ZZ", "QQQ", "Atlantis", "D3", "Ελ"])
def test_what_is_no_country_is_not_guessed_at(written: str) -> None:
    """A wrong guess would be somebody else's law."""
    assert places.country_fault(written) == "must be an ISO 3166-1 alpha-2 code such as DE"


@pytest.mark.parametrize("code", ["DE", "GB", "GR", "CH", "TR", "IN", "US", "XK"])
def test_a_country_is_a_country(code: str) -> None:
    """Whatever the table of laws has: the rules say what follows."""
    assert places.country_fault(code) == ""


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("eu-central-1", "eu-central"),
        ("eu-central1", "eu-central"),
        ("eu", "eu-central"),
        ("de-fra", "eu-central"),
        ("de-frankfurt-1", "eu-central"),
        ("ap-tokyo", "ap-singapore"),
        ("asia-southeast1", "ap-singapore"),
        ("europe-west3", "eu-central"),
        ("uk-south", "gb-england"),
        ("eu-irland", "eu-ireland"),
        ("eucentral", "eu-central"),
        ("us-west-2", "us-east"),
        ("southamerica-east1", "sa-brazil"),
        ("zz", ""),
        ("frankfurt", ""),
    ],
)
def test_the_nearest_region_is_suggested(written: str, meant: str) -> None:
    """Clouds have names of their own for the same towns."""
    said = places.region_fault(written, REGIONS)

    assert places.nearest(written, REGIONS) == meant
    assert all(region in said for region in REGIONS)
    assert ("; nearest: " in said) == bool(meant)


def test_a_region_of_the_registry_is_one() -> None:
    """What exists needs no hint."""
    assert places.region_fault("eu-central", REGIONS) == ""
