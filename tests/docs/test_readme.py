"""The README lists every command as it is, and the pages it leads to are there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from gateway import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def commands(group: object = None, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield every command with its full name."""
    found = group or get_command(cli.app)
    for name, command in found.commands.items():  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def listed() -> dict[str, str]:
    """Return the commands of the README's table and what it says of each."""
    return dict(
        re.findall(r"^\| `vocustody ([a-z -]+?)(?: [A-Z-].*?)?` \| (.*) \|$", README, re.MULTILINE)
    )


def test_every_command_is_listed_and_no_other() -> None:
    """A command nobody can find is none; one that is gone misleads."""
    assert sorted(listed()) == sorted(name for name, _ in commands())


@pytest.mark.parametrize("name", sorted(name for name, _ in commands()))
def test_what_a_command_needs_is_listed_with_it(name: str) -> None:
    """People copy the line: it must hold every argument and every option it cannot do without."""
    (row,) = re.findall(rf"^\| `vocustody {name}( .*)?` \|", README, re.MULTILINE)
    command = dict(commands())[name]

    for parameter in command.params:  # type: ignore[attr-defined]
        if parameter.required:
            shown = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar
            assert shown in row, f"{name}: {shown}"


def test_every_command_but_three_takes_the_settings() -> None:
    """The README says so; who verifies a log, makes a key or plays the story has no settings."""
    takes = {name for name, command in commands() if "config" in _parameters(command)}

    assert {name for name, _ in commands()} - takes == {"cell-key", "demo", "policy sign", "verify"}


def test_every_command_says_what_it_is_for() -> None:
    """Help is a document too."""
    assert all(command.help for _, command in commands())  # type: ignore[attr-defined]
    assert isinstance(cli.app, typer.Typer)


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"],
    ids=lambda page: page.name,
)  # fmt: skip
def test_links_lead_somewhere(page: Path) -> None:
    """A page that leads nowhere was not read by who wrote it."""
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), target


def test_the_life_of_a_note_names_what_there_is() -> None:
    """The traced request is only worth reading while its symbols exist."""
    page = (ROOT / "docs" / "life-of-a-voice-note.md").read_text()
    rows = re.findall(r"^\| `?([A-Za-z_. ]+?)`? \| `([a-z_/.]+)` \|$", page, re.MULTILINE)

    assert len(rows) > 5
    for name, path in rows:
        source = (ROOT / path).read_text()
        symbol = name.rpartition(".")[2]
        assert " " in name or re.search(
            rf"^ *(async )?(def|class) {symbol}\b", source, re.MULTILINE
        ), name


def _parameters(command: object) -> set[str]:
    return {parameter.name for parameter in command.params}  # type: ignore[attr-defined]
