"""The command: what it exits with, where it finds its settings, and what it never prints."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from support.settings import CANARY, Configure

from audit.model import Event, EventType
from audit.signers.local import LocalSigner
from audit.stores.folder import Folder
from audit.trail import Trail
from gateway import cli, db, migrations, settings
from gateway.commands import shared
from gateway.compose import stores
from gateway.errors import MissingPartError
from gateway.jobs import micros
from gateway.schema import handovers, jobs

AT = datetime(2026, 11, 19, 14, 14, tzinfo=UTC)
ARTIFACT = "a_" + "1" * 32
JOB = "j_" + "2" * 32
READERS = (
    ("where", ARTIFACT, "--at", AT.isoformat()),
    ("timeline", ARTIFACT),
    ("notes",),
    ("handovers",),
    ("findings", "list"),
    ("transfers",),
    ("export-log", "pack"),
)


@pytest.fixture(autouse=True)
def in_a_place_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each command in an empty directory, with no settings named."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VOCUSTODY_CONFIG", raising=False)


@pytest.fixture
def cell(configure: Configure) -> Path:
    """Return the settings of a cell that has one job, one handover and two leaves."""
    config = configure()
    loaded = settings.load(config)
    loaded.cell.data.mkdir(mode=0o700)
    anyio.run(_populate, stores.database_url(loaded), loaded.cell.data)
    return config


async def _populate(url: str, data: Path) -> None:
    engine = db.connect(url)
    await migrations.upgrade(engine)
    job = {
        "id": JOB, "tenant": "clinic", "conversation": "c", "artifact": ARTIFACT,
        "trace": "0" * 32, "state": "handed_over", "reason": "dialogue.stuck",
        "accepted_at": micros(AT), "deadline_at": micros(AT), "ended_at": micros(AT),
    }  # fmt: skip
    waiting = {
        "job": JOB, "tenant": "clinic", "conversation": "c", "subject": "s_1",
        "reason": "dialogue.stuck", "at": micros(AT),
    }  # fmt: skip
    async with engine.begin() as tx:
        await tx.execute(jobs.insert().values(job))
        await tx.execute(handovers.insert().values(waiting))
    await engine.dispose()
    signer = LocalSigner.open(data / "key.pem")
    trail = await Trail.open(Folder(data / "audit", "eu-central"), signer, lambda: AT)
    for kind in (EventType.JOB_ACCEPTED, EventType.JOB_ENDED):
        await trail.append(
            Event(
                id=f"{JOB}.{kind}",
                type=kind,
                at=AT,
                tenant="clinic",
                artifact=ARTIFACT,
                job=JOB,
                outcome="done",
            )
        )
    await trail.close()


@pytest.mark.parametrize("command", READERS, ids=lambda command: command[0])
def test_a_good_question_exits_0(cell: Path, command: tuple[str, ...]) -> None:
    """Scripts branch on the status; the file may be named by an option."""
    assert cli.main([*command, "--config", str(cell)]) == 0


@pytest.mark.parametrize("command", READERS, ids=lambda command: command[0])
def test_the_environment_may_name_the_settings(
    cell: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator sets it once."""
    monkeypatch.setenv("VOCUSTODY_CONFIG", str(cell))

    assert cli.main(command) == 0


def test_the_option_wins_over_the_environment(cell: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is typed is meant."""
    monkeypatch.setenv("VOCUSTODY_CONFIG", "/nothing/here.toml")

    assert cli.main(["notes", "--config", str(cell)]) == 0


@pytest.mark.parametrize(
    "command",
    [
        *READERS,
        ("serve",),
        ("doctor",),
        ("policy", "bundle", "out.tar.gz"),
        ("policy", "replay", "--bundle", "new.tar.gz"),
        ("policy", "explain", "d_" + "0" * 32),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_without_settings_it_says_how_to_name_them(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """2 is misuse or something missing, and the message is the fix."""
    assert cli.main(command) == 2

    said = capsys.readouterr()
    assert "--config" in said.err
    assert "VOCUSTODY_CONFIG" in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("where", ARTIFACT, "--at", "2026-11-19T14:14:00"), "zone"),
        (("where", ARTIFACT, "--at", "last Thursday"), "not a time"),
        (("where", "somebody", "--at", AT.isoformat()), "not an id"),
        (("where", "a_0", "--at", AT.isoformat()), "no leaf"),
        (("timeline", "a_0"), "no leaf"),
        (("export-log", "pack", "--quarter", "1999q1"), "1999q1"),
    ],
)
def test_a_question_that_cannot_be_answered_exits_2(
    cell: Path, command: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A time without its zone would be answered for another minute."""
    assert cli.main([*command, "--config", str(cell)]) == 2

    said = capsys.readouterr()
    assert says in said.err
    assert said.out == ""


def test_json_and_text_tell_the_same(cell: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A script reads what a person reads."""
    config = ("--config", str(cell))

    for command in (("notes",), ("handovers",), ("timeline", JOB)):
        cli.main([*command, *config])
        text = capsys.readouterr().out.splitlines()
        cli.main([*command, "--json", *config])
        assert len(json.loads(capsys.readouterr().out)) == len(text) >= 1
    cli.main(["where", ARTIFACT, "--at", AT.isoformat(), *config])
    sentence = capsys.readouterr().out.strip()
    cli.main(["where", ARTIFACT, "--at", AT.isoformat(), "--json", *config])
    assert json.loads(capsys.readouterr().out)["sentence"] == sentence


@pytest.mark.parametrize("ident", [JOB])
def test_where_a_job_was_is_answered_for_its_recording(
    cell: Path, ident: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its timeline has entries: "no leaf speaks of it" would be untrue."""
    asked = ["where", ident, "--at", AT.isoformat(), "--config", str(cell)]

    assert cli.main(asked) == 0
    sentence = capsys.readouterr().out.strip()
    assert cli.main([*asked, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)

    assert found["artifact"] == ARTIFACT
    assert found["sentence"] == sentence


def test_verify_needs_no_settings(cell: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An auditor has the log and nothing else: 0 held, 1 a finding, 2 nothing to verify."""
    assert cli.main(["export-log", "pack", "--config", str(cell)]) == 0
    cell.unlink()

    assert cli.main(["verify", "pack"]) == 0
    bundle = next(path for path in Path("pack/tile/entries").rglob("*") if path.is_file())
    bundle.write_bytes(bundle.read_bytes().replace(b"clinic", b"clinik"))
    assert cli.main(["verify", "pack"]) == 1
    assert cli.main(["verify", "nothing-here"]) == 2
    assert "held" in capsys.readouterr().out


def test_an_export_does_not_overwrite(cell: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two exports mixed in one directory would verify as neither."""
    config = ("--config", str(cell))
    assert cli.main(["export-log", "pack", *config]) == 0

    assert cli.main(["export-log", "pack", *config]) == 2

    assert "pack" in capsys.readouterr().err


def test_a_bundle_is_written_once(cell: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An OPA server that reads it must not find another one half-way."""
    config = ("--config", str(cell))
    assert cli.main(["policy", "bundle", "bundle.tar.gz", *config]) == 0
    assert len(capsys.readouterr().out.split()) == 1

    assert cli.main(["policy", "bundle", "bundle.tar.gz", *config]) == 2

    assert "exists" in capsys.readouterr().err


def test_every_fault_of_the_settings_is_told_at_once(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """One visit is enough; each fault names its path."""
    config = configure("[cell.typo]\nx = 1\n[nonsense]\ny = 2", jurisdiction='"Germany"')
    (config.parent / "access").chmod(0o644)

    assert cli.main(["notes", "--config", str(config)]) == 2

    lines = capsys.readouterr().err.splitlines()
    for path in ("cell.typo", "nonsense", "jurisdiction", "access_token_file"):
        assert [line for line in lines if path in line], path
    assert all(line.startswith("vocustody: ") for line in lines)
    assert CANARY not in "".join(lines)


@pytest.mark.parametrize("command", [("notes",), ("handovers",), READERS[0], READERS[1]])
def test_a_cell_that_never_ran_has_nothing_to_tell(
    configure: Configure, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Reading must not leave an empty database behind that looks like a cell's."""
    config = configure()

    assert cli.main([*command, "--config", str(config)]) == 2

    assert "vocustody: " in capsys.readouterr().err
    assert not (config.parent / "data").exists()


def test_a_data_directory_without_a_database_stays_without(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """SQLite makes a file for whoever asks; the next reader would take it for a cell's."""
    config = configure()
    data = config.parent / "data"
    data.mkdir()

    assert cli.main(["notes", "--config", str(config)]) == 2

    assert "start the gateway once" in capsys.readouterr().err
    assert list(data.iterdir()) == []


def test_a_database_of_another_kind_is_told_not_thrown(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """A driver's traceback may quote a URL with its password."""
    config = configure()
    (config.parent / "data").mkdir()
    (config.parent / "data" / "cell.db").write_text("not a database, not at all, by no means")

    assert cli.main(["notes", "--config", str(config)]) == 2

    said = capsys.readouterr().err
    assert "database" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "command",
    [
        ("frob",),
        ("where",),
        ("verify",),
        ("notes", "--limit", "0"),
        ("policy", "explain"),
        ("policy", "replay"),
    ],
)
def test_misuse_exits_2(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """A typing error is no finding."""
    assert cli.main(command) == 2

    assert "vocustody: " in capsys.readouterr().err


def test_an_error_nobody_foresaw_is_placed_and_not_quoted(
    cell: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its text may hold a person or a password; its class and place are enough for a report."""

    def broken(_settings: object) -> None:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(stores, "shelf", broken)

    assert cli.main(["timeline", ARTIFACT, "--config", str(cell)]) == 2

    said = capsys.readouterr().err
    assert "RuntimeError at tests.unit.gateway.test_cli:" in said
    assert CANARY not in said


def test_help_alone_says_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    """No command is a question, and its answer is the help."""
    assert cli.main([]) == 2

    said = capsys.readouterr()
    assert "serve" in said.out + said.err
    assert said.err.strip() != "vocustody:"


def test_the_module_is_the_command(tmp_path: Path) -> None:
    """What the wheel installs and what the demonstration starts are one thing."""
    ran = subprocess.run(
        [sys.executable, "-m", "gateway", "notes"],
        env={"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": ""},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ran.returncode == 2
    assert "VOCUSTODY_CONFIG" in ran.stderr


def test_the_settings_file_is_missing_by_name() -> None:
    """The one error every newcomer meets first."""
    with pytest.raises(MissingPartError, match="VOCUSTODY_CONFIG"):
        shared.load(None)
