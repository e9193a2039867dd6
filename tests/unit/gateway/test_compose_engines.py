"""An adapter is built from its registry row and its credential, or the fix is named."""

import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from simulators.azure_world import azure_row
from simulators.google_world import account_file, google_row

from gateway import settings
from gateway.compose import engines
from gateway.errors import SettingsError
from residency.errors import EngineMissingError
from residency.processors.azure_speech import AzureSpeechToText
from residency.processors.google_speech import GoogleSpeechToText
from residency.registry import Registry

KEY = "an-azure-key"

CELL = """
[cell]
id = "eu-1"
region = "eu-central"
data = "data"
mode = "development"

[[tenants]]
id = "clinic"
controller = "Beispiel Klinik GmbH"
jurisdiction = "DE"
languages = ["de"]

[tenants.whatsapp]
phone_number_ids = ["106540352242922"]
app_secret_files = ["secret"]
verify_token_file = "secret"
access_token_file = "secret"
"""


def told(tmp_path: Path, *lines: str) -> settings.Settings:
    """Return a cell's settings with *lines* at the end; *secret* is a secret file."""
    secret = tmp_path / "secret"
    secret.write_text(f"{KEY}\n")
    secret.chmod(0o600)
    (tmp_path / "cell.toml").write_text("\n".join([CELL, *lines]))
    return settings.load(tmp_path / "cell.toml")


def test_a_row_without_a_key_names_the_setting(tmp_path: Path) -> None:
    """Many rows ship; a cell uses those that it has an account for."""
    with pytest.raises(
        EngineMissingError, match=r'key_file in \[processors."stt.azure.westeurope"'
    ):
        engines.adapter(azure_row(), told(tmp_path))


def test_a_row_with_a_key_is_an_adapter(tmp_path: Path) -> None:
    """The key is the file's content, without the line end that editors add."""
    given = told(tmp_path, '[processors."stt.azure.westeurope"]', 'key_file = "secret"')

    built = engines.adapter(azure_row(), given)

    assert isinstance(built, AzureSpeechToText)
    assert built._key == KEY
    assert KEY not in repr(given)


def test_a_key_in_the_settings_file_is_refused(tmp_path: Path) -> None:
    """Settings files are shown around; secret files are not."""
    with pytest.raises(SettingsError, match="use key_file") as caught:
        told(tmp_path, '[processors."stt.azure.westeurope"]', f'key = "{KEY}"')

    assert KEY not in str(caught.value)


GOOGLE = ('[processors."stt.google.europe-west4"]', 'credentials_file = "account"')


def with_account(tmp_path: Path, **changed: str) -> settings.Settings:
    """Return settings with a service account's file for Google."""
    account = tmp_path / "account"
    account.write_bytes(account_file(**changed))
    account.chmod(0o600)
    return told(tmp_path, *GOOGLE)


def test_a_google_row_without_an_account_names_the_setting(tmp_path: Path) -> None:
    """A key that is a text is no account: the two vendors' settings differ."""
    with pytest.raises(EngineMissingError, match=r"set credentials_file in \[processors"):
        engines.adapter(google_row(), told(tmp_path, GOOGLE[0], 'key_file = "secret"'))


def test_a_google_row_with_an_account_is_an_adapter(tmp_path: Path) -> None:
    """A row and a file are all that it takes."""
    built = engines.adapter(google_row(), with_account(tmp_path))

    assert isinstance(built, GoogleSpeechToText)


def test_another_kind_of_google_credentials_is_said(tmp_path: Path) -> None:
    """The usual file of a developer's machine fetches tokens from a global host."""
    with pytest.raises(EngineMissingError, match="give a service_account key"):
        engines.adapter(google_row(), with_account(tmp_path, type="authorized_user"))


def test_without_google_s_sdk_the_fix_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK is an extra; a cell without it must say so and go on without the row."""
    given = with_account(tmp_path)
    monkeypatch.setitem(sys.modules, "google.auth", None)
    for name in ("google_account", "google_speech"):
        monkeypatch.delitem(sys.modules, f"residency.processors.{name}", raising=False)
        monkeypatch.delattr(f"residency.processors.{name}", raising=False)

    with pytest.raises(EngineMissingError, match=r"pip install vocustody\[google\]"):
        engines.adapter(google_row(), given)


@pytest.mark.anyio
@pytest.mark.parametrize("credentials", [True, False])
async def test_a_vendor_elsewhere_is_built_where_its_key_is_given(
    tmp_path: Path,
    credentials: bool,  # noqa: FBT001 - a column
) -> None:
    """Whether anything may go abroad is each decision's to say, of those who are there."""
    lines = ['[processors."stt.azure.westeurope"]', 'key_file = "secret"'] if credentials else []
    row = azure_row()
    assert row.region != "eu-central"

    async with AsyncExitStack() as stack:
        found = await engines.engines(told(tmp_path, *lines), Registry([row]), stack)

    assert (row.id in found.hearing) is credentials
    assert found.missing == []
