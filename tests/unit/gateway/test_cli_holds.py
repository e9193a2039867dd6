"""The commands about legal holds: what they ask the running cell, and what they say."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.settings import Configure

from gateway import cli, db, migrations, ordered, settings
from gateway.commands import hold as group
from gateway.compose import stores
from gateway.ordered import Answer, Wanted
from gateway.schema import hold_requests

PROPOSE = (
    "hold", "propose", "--case", "case-7", "--ground", "GDPR Art. 17(3)(e)",
    "--until", "2027-01-01T00:00:00Z", "--by", "p_1",
)  # fmt: skip


@pytest.fixture
def cell(configure: Configure) -> Path:
    """Return the settings of a cell that ran once and does not run now."""
    config = configure()
    settings.load(config).cell.data.mkdir(mode=0o700)

    async def made() -> None:
        engine = db.connect(stores.database_url(settings.load(config)))
        await migrations.upgrade(engine)
        await engine.dispose()

    anyio.run(made)
    return config


def left(config: Path) -> int:
    """Return how many requests are in the table."""

    async def count() -> int:
        engine = db.connect(stores.database_url(settings.load(config)))
        async with engine.connect() as tx:
            found = len((await tx.execute(hold_requests.select())).all())
        await engine.dispose()
        return found

    return anyio.run(count)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Wanted]]:
    """Have a running cell answer; return what it was asked."""
    found: list[tuple[str, Wanted]] = []
    inner = ordered.ask

    async def ask(engine: Any, verb: str, wanted: Wanted, at: Any) -> str:
        found.append((verb, wanted))
        return await inner(engine, verb, wanted, at)

    async def answer(_engine: Any, _ident: str) -> Answer:
        verb, wanted = found[-1]
        if wanted.hold == "h_none":
            return Answer(row={}, fault="no such hold")
        late = [name for name in wanted.artifacts if name == "a_2"]
        return Answer(row={"hold": "h_1", "verb": verb, "too_late_for": late}, fault="")

    monkeypatch.setattr(ordered, "ask", ask)
    monkeypatch.setattr(ordered, "answer", answer)
    return found


def test_a_proposal_says_what_it_is_too_late_for(
    cell: Path, asked: list[tuple[str, Wanted]], capsys: pytest.CaptureFixture[str]
) -> None:
    """A script that asks for evidence must not take a loss for a success."""
    config = ("--config", str(cell), "--json")

    assert cli.main([*PROPOSE, "--artifact", "a_1", *config]) == 0
    assert cli.main([*PROPOSE, "--artifact", "a_1", "--artifact", "a_2", *config]) == 1
    span = ("--since", "2026-11-19T14:00:00Z", "--before", "2026-11-19T15:00:00Z")
    assert cli.main([*PROPOSE, *span, *config]) == 0

    assert [wanted.artifacts for _, wanted in asked] == [("a_1",), ("a_1", "a_2"), ()]
    verb, wanted = asked[-1]
    assert (verb, wanted.by, wanted.role, wanted.tenant) == ("propose", "p_1", "dpo", "clinic")
    assert (wanted.since, wanted.before, wanted.until) == (1795096800, 1795100400, 1798761600)
    assert '"a_2"' in capsys.readouterr().out
    assert left(cell) == 0


def test_another_person_approves_and_a_release_is_proposed(
    cell: Path, asked: list[tuple[str, Wanted]]
) -> None:
    """Who approves does so in another role, unless they say so."""
    for verb in ("approve", "release"):
        assert cli.main(["hold", verb, "h_1", "--by", "p_2", "--config", str(cell)]) == 0

    assert [(verb, wanted.role, wanted.hold) for verb, wanted in asked] == [
        ("approve", "approver", "h_1"),
        ("release", "dpo", "h_1"),
    ]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("hold", "approve", "h_none", "--by", "p_2"), "no such hold"),
        (("hold", "approve", "h_1", "--by", "p_2", "--tenant", "other"), "no such tenant"),
        ((*PROPOSE[:6], "--until", "2027-01-01", "--by", "p_1"), "without a zone"),
    ],
)
@pytest.mark.usefixtures("asked")
def test_what_cannot_be_done_exits_2(
    cell: Path, command: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And says what was wrong with it."""
    assert cli.main([*command, "--config", str(cell)]) == 2

    assert says in capsys.readouterr().err


def test_without_a_running_cell_nothing_is_left_behind(
    cell: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for evidence must hear that it is not safe yet."""
    monkeypatch.setattr(group, "WAIT_S", 0.3)

    assert cli.main([*PROPOSE, "--artifact", "a_1", "--config", str(cell)]) == 2

    assert "no running cell" in capsys.readouterr().err
    assert left(cell) == 0
    assert cli.main(["hold", "list", "--json", "--config", str(cell)]) == 0
    assert json.loads(capsys.readouterr().out) == []
