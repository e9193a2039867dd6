"""The registry rows that the page shows are rows that load and work."""

import re
import textwrap
from pathlib import Path

from support.speech import TODAY

from residency import registry
from residency.processors import azure_row

PAGE = Path(__file__).parents[2] / "docs" / "processors.md"


def test_the_azure_row_is_one_the_adapter_takes(tmp_path: Path) -> None:
    """People copy the example; a fault in it is the first thing they would see."""
    blocks = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (example,) = [block for block in blocks if "azure-stt" in block]
    (tmp_path / "processors.toml").write_text(textwrap.dedent(f"   {example.lstrip()}"))

    (row,) = registry.load(tmp_path / "processors.toml", today=TODAY)

    pins = azure_row.read(row)
    assert pins.host == "germanywestcentral.stt.speech.microsoft.com"
    assert pins.locales["de"] == "de-DE"
    assert row.options == {"audio-logging": "off", "telemetry": "off"}
