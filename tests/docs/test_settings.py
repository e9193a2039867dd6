"""The settings page lists every setting, and its example is one that loads."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import settings
from gateway.sections import Section, sections_of
from gateway.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "settings.md"


def paths(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Yield the path of every setting of *section* that holds a value."""
    for name, field in section.model_fields.items():
        inner = list(sections_of(field.annotation))
        for table in inner:
            yield from paths(table, f"{prefix}{name}.")
        if not inner or prefix == "services.":
            yield f"{prefix}{name}"


def listed() -> list[str]:
    """Return the settings that the page's tables list."""
    return re.findall(r"^\| `([a-z_.]+)` \|", PAGE.read_text(), re.MULTILINE)


def test_every_setting_is_listed_once_and_no_other() -> None:
    """A setting nobody can find is no setting; one that is gone misleads."""
    assert sorted(listed()) == sorted(set(paths(Settings)))


def files_of(text: str) -> list[str]:
    """Return the secret files that a settings text names."""
    return re.findall(r'"(/run/secrets/[a-z0-9-]+|secrets/[a-z-]+)"', text)


@pytest.mark.parametrize("page", [PAGE, ROOT / "README.md"])
def test_the_example_loads(page: Path, tmp_path: Path) -> None:
    """People copy the example; a fault in it is the first thing they would see."""
    (example,) = re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)
    text = example.replace("/run/secrets", f"{tmp_path}/secrets")
    (tmp_path / "secrets").mkdir()
    for name in files_of(example):
        secret = tmp_path / "secrets" / Path(name).name
        secret.write_text(f"secret-of-a-test-that-is-long-enough-{name}")
        secret.chmod(0o600)
    (tmp_path / "clinic.toml").write_text("")
    (tmp_path / "cell.toml").write_text(text)

    loaded = settings.load(tmp_path / "cell.toml")

    assert loaded.cell.id == tomllib.loads(example)["cell"]["id"]


def test_defaults_are_as_printed() -> None:
    """A default that changed without the page is a surprise in production."""
    page = PAGE.read_text()

    for path in listed():
        *tables, name = path.split(".")
        section: type[Section] = Settings
        for table in tables:
            section = next(sections_of(section.model_fields[table].annotation))
        field = section.model_fields[name]
        (row,) = re.findall(rf"^\| `{re.escape(path)}` \| (.*?) \|", page, re.MULTILINE)
        assert field.is_required() == (row == "required"), path
        if isinstance(field.default, str | int):
            # A truth is printed as TOML writes it.
            printed = str(field.default)
            printed = printed.lower() if isinstance(field.default, bool) else printed
            assert f"`{printed}`" == row.replace('"', ""), path
