"""Hand-written settings of a small cell, with its secrets, for tests of commands."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.cell import SCRIPTED
from support.stage import secret

CANARY = "canary-5d1c-never-print-me"

SETTINGS = """
[cell]
id = "eu-1"
region = "eu-central"
data = "data"
listen = "127.0.0.1:0"
mode = "development"

[operators]
names = ["dpo", "p_1", "p_2"]

[registry]
file = "{registry}"

{more}

[[tenants]]
id = "clinic"
controller = "Beispiel Klinik GmbH"
jurisdiction = "DE"
languages = ["en"]
{tenant}
[tenants.whatsapp]
phone_number_ids = ["106540352242922"]
app_secret_files = ["app"]
verify_token_file = "verify"
access_token_file = "access"
"""

Configure = Callable[..., Path]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Return a function that writes a settings file: *more* sections, replacements by keyword."""
    for name in ("app", "verify", "access", "token"):
        secret(tmp_path, name, f"{name}-{CANARY}")

    def write(more: str = "", tenant: str = "", **changes: str) -> Path:
        text = SETTINGS.format(registry=SCRIPTED, more=more, tenant=tenant)
        for old, new in changes.items():
            text = text.replace(f"\n{old} = ", f"\n{old} = {new} #")
        path = tmp_path / "vocustody.toml"
        path.write_text(text)
        return path

    return write
