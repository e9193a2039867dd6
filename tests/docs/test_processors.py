"""The registry rows and settings that the page shows are those of a cell that works."""

import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from simulators.google_world import account_file
from support.settings import Configure
from support.speech import TODAY
from support.stage import secret

from gateway import settings
from gateway.compose import engines
from residency import registry
from residency.model import Processor
from residency.processors import azure_native, azure_row, google_row, options
from residency.processors.azure_speech import AzureSpeechToText
from residency.processors.google_speech import GoogleSpeechToText

PAGE = Path(__file__).parents[2] / "docs" / "processors.md"
AZURE, GOOGLE = "azure", "google"
SECRETS = {AZURE: "an-azure-key", GOOGLE: account_file().decode()}

CARRIED: dict[str, Callable[[Processor], Mapping[str, str]]] = {
    AZURE: lambda _row: azure_native.SAFE,
    GOOGLE: lambda row: google_row.read(row).carried,
}
"""What each adapter proves of its calls."""


def blocks(vendor: str) -> tuple[str, str]:
    """Return the settings and the row that the page shows for *vendor*."""
    found = list(
        map(textwrap.dedent, re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL))
    )
    row = next(each for each in found if f'template = "{vendor}-stt"' in each)
    credential = next(each for each in found if f"stt.{vendor}" in each and each != row)
    return credential, row


def shown(vendor: str, at: Path) -> Processor:
    """Return the row of *vendor* as the registry file *at* says it."""
    at.write_text(blocks(vendor)[1])
    (row,) = registry.load(at, today=TODAY)
    return row


def test_the_azure_row_is_one_the_adapter_takes(tmp_path: Path) -> None:
    """People copy the example; a fault in it is the first thing they would see."""
    row = shown(AZURE, tmp_path / "processors.toml")

    pins = azure_row.read(row)
    assert pins.host == "germanywestcentral.stt.speech.microsoft.com"
    assert pins.locales["de"] == "de-DE"
    assert row.options == {"audio-logging": "off", "telemetry": "off"}


def test_the_google_row_is_one_the_adapter_takes(tmp_path: Path) -> None:
    """Recognizer, host and location must agree, and the template brings two of the three."""
    row = shown(GOOGLE, tmp_path / "processors.toml")

    pins = google_row.read(row)
    assert pins.host == "europe-west4-speech.googleapis.com"
    assert pins.recognizer.startswith("projects/your-project/locations/europe-west4/")
    assert pins.locales == {"de": "de-DE", "en": "en-US"}


@pytest.mark.parametrize("vendor", [AZURE, GOOGLE])
def test_what_a_shown_row_demands_every_call_carries(tmp_path: Path, vendor: str) -> None:
    """An option that the adapter cannot prove is refused: the cell would never hear anybody."""
    row = shown(vendor, tmp_path / "processors.toml")

    assert row.options
    assert row.contract_expires > date.min
    options.prove(row.options, CARRIED[vendor](row), row.id)


@pytest.mark.parametrize(
    ("vendor", "adapter"), [(AZURE, AzureSpeechToText), (GOOGLE, GoogleSpeechToText)]
)
def test_a_cell_with_the_shown_settings_has_the_processor(
    tmp_path: Path, configure: Configure, vendor: str, adapter: type
) -> None:
    """The id in the settings is the row's, or the credential is nobody's."""
    pytest.importorskip("azure.cognitiveservices.speech")
    row = shown(vendor, tmp_path / "processors.toml")
    credential = re.sub(r'"/run/secrets/[^"]+"', '"credential"', blocks(vendor)[0])
    secret(tmp_path, "credential", SECRETS[vendor])

    built = engines.adapter(row, settings.load(configure(credential)))

    assert isinstance(built, adapter)


@pytest.mark.parametrize("template", ["azure-stt", "google-stt"])
def test_the_shipped_offers_need_only_what_an_operator_alone_knows(template: str) -> None:
    """Locales, host and region come with the template, in each of the places that it offers."""
    vendor = template.partition("-")[0]
    offered = [row for row in registry.load(today=TODAY) if row.id.startswith(f"stt.{vendor}.")]

    assert len(offered) > 5
    for row in offered:
        place = row.settings["vendor_region"]
        mine = {"recognizer": f"projects/p/locations/{place}/recognizers/_"}
        whole = _with(row, mine if vendor == GOOGLE else {})
        assert (google_row if vendor == GOOGLE else azure_row).read(whole).host.startswith(place)
        options.prove(row.options, CARRIED[vendor](whole), row.id)


def _with(row: Processor, more: Mapping[str, str]) -> Processor:
    return replace(row, settings={**row.settings, **more})
