"""Rows of Google Speech: three statements of one place, held against each other."""

import pytest
from simulators.google_world import google_row, recognizer

from residency.errors import ProcessorRefusedError, RegistryError
from residency.processors import google_row as rows

SETTINGS = dict(google_row().settings)


def settings(**changed: str) -> dict[str, str]:
    """Return a good row's settings with some changed; an empty one is left out."""
    return {name: value for name, value in (SETTINGS | changed).items() if value}


def test_a_row_that_agrees_with_itself_is_read() -> None:
    """Location, host and recognizer are what the call is made of."""
    pins = rows.read(google_row())

    assert pins.host == "europe-west4-speech.googleapis.com"
    assert pins.recognizer == "projects/a-project/locations/europe-west4/recognizers/_"
    assert pins.location == "europe-west4"


@pytest.mark.parametrize("location", ["eu", "us", "northamerica-northeast1"])
def test_multi_regions_and_long_names_are_locations(location: str) -> None:
    """Google's continents are locations like any other; policy decides whether one will do."""
    assert rows.read(google_row(location)).location == location


@pytest.mark.parametrize(
    "hosts",
    [
        ("us-central1-speech.googleapis.com:443",),
        ("speech.googleapis.com:443",),
        ("global-speech.googleapis.com:443",),
        ("europe-west4-speech.googleapis.com:8443",),
        ("europe-west4-speech.googleapis.com.example:443",),
        ("europe-west4-texttospeech.googleapis.com:443",),
        ("europe-west4-speech.googleapis.com:443", "us-central1-speech.googleapis.com:443"),
        (),
    ],
)
def test_another_host_than_the_location_s_is_refused(hosts: tuple[str, ...]) -> None:
    """Google's client would send the note to whatever host it is given."""
    with pytest.raises(RegistryError, match="hosts must be exactly europe-west4-speech"):
        rows.read(google_row(hosts=hosts))


@pytest.mark.parametrize(
    "named",
    [
        recognizer("us-central1"),
        recognizer("global"),
        recognizer("europe-west"),
        recognizer("europe-west4") + "/../../../locations/global/recognizers/_",
        "projects/a-project/recognizers/_",
        "",
    ],
)
def test_a_recognizer_elsewhere_is_refused(named: str) -> None:
    """The recognizer's name says where Google works on the note; nobody else compares it."""
    with pytest.raises(RegistryError, match=r"settings\.recognizer"):
        rows.read(google_row(settings=settings(recognizer=named)))


@pytest.mark.parametrize("place", ["global", "EU", "europe west4", ""])
def test_a_vendor_region_that_is_no_location_is_refused(place: str) -> None:
    """Without a location Google's host is the one that serves the world."""
    with pytest.raises(RegistryError, match="one location of Google's"):
        rows.read(google_row(settings=settings(vendor_region=place)))


def test_a_vendor_region_that_is_not_the_row_s_place_is_refused() -> None:
    """The third of the three: a row cannot say one region and dial another."""
    with pytest.raises(RegistryError, match="hosts must be exactly us-central1-speech"):
        rows.read(google_row(settings=settings(vendor_region="us-central1")))


def test_global_is_refused_though_all_three_say_it() -> None:
    """A row may agree with itself and still name no place."""
    row = google_row(
        hosts=("global-speech.googleapis.com:443",),
        settings=settings(vendor_region="global", recognizer=recognizer("global")),
    )

    with pytest.raises(RegistryError, match="one location of Google's"):
        rows.read(row)


@pytest.mark.parametrize("code", ["", "de_DE", "auto detect"])
def test_every_language_needs_its_code_at_the_vendor(code: str) -> None:
    """A language that only fails when somebody speaks it fails too late."""
    with pytest.raises(RegistryError, match=r"locale\.de"):
        rows.read(google_row(settings=settings(**{"locale.de": code})))


def test_languages_become_the_vendor_s_codes_in_order() -> None:
    """The first language is the one that Google falls back to; more than three it refuses."""
    pins = rows.read(google_row())

    assert pins.served(("it", "pt", "de")) == ["it-IT", "de-DE"]
    assert pins.served(("de", "en", "es", "fr")) == ["de-DE", "en-US", "es-ES"]


def test_no_served_language_is_refused() -> None:
    """A note in a language it does not know comes back as nonsense."""
    with pytest.raises(ProcessorRefusedError, match="serves none"):
        rows.read(google_row()).served(("hi",))
