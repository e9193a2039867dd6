"""Bad arguments and bad configuration: each is refused by a message that names the fault."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest
from support.settings import CANARY, Configure
from typer.main import get_command

from gateway import cli, settings
from gateway.errors import SettingsError

ROOT = Path(__file__).parents[3]
MEMORY = 512 * 1024 * 1024  # bytes of address space: a reader that swallows 10 GB dies of it
AT = "2026-11-19T14:14:00+00:00"
PEM = f"-----BEGIN PRIVATE KEY-----\n{CANARY}"


def told(config: Path) -> str:
    """Return what is said of a settings file that must not load."""
    with pytest.raises(SettingsError) as refused:
        settings.load(config)
    assert CANARY not in str(refused.value)
    return str(refused.value)


def run(
    *command: str, limits: tuple[tuple[int, int], ...] = (), cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one command in a process with *limits*, in a plain environment."""

    def confine() -> None:
        for what, most in limits:
            resource.setrlimit(what, (most, most))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing too much is an error

    return subprocess.run(
        [sys.executable, "-m", "gateway", *command],
        check=False, capture_output=True, text=True, timeout=60, cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        preexec_fn=confine,
    )  # fmt: skip


def parameters() -> Iterator[tuple[str, str, object]]:
    """Yield (command, parameter, annotation) of every command."""

    def walk(group: object, prefix: str) -> Iterator[tuple[str, str, object]]:
        for name, command in group.commands.items():  # type: ignore[attr-defined]
            if hasattr(command, "commands"):
                yield from walk(command, f"{prefix}{name} ")
                continue
            for parameter, hint in get_type_hints(command.callback).items():
                yield f"{prefix}{name}", parameter, hint

    yield from walk(get_command(cli.app), "")


def test_k01_no_command_takes_a_secret_as_an_argument() -> None:
    """Arguments are for everybody to see in the list of processes."""
    suspicious = [
        (command, name)
        for command, name, kind in parameters()
        if any(word in name for word in ("token", "secret", "password", "key"))
        and kind not in {Path, Path | None}
        and (command, name)
        not in {("verify", "key"), ("policy sign", "keyid"), ("policy bundle", "keyid")}
    ]

    assert suspicious == []


def test_k01_a_key_where_a_file_belongs_is_not_repeated(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Who pastes a key by mistake finds it in the shell's history, and nowhere else."""
    bundle = tmp_path / "bundle.tar.gz"
    bundle.write_bytes(b"")

    assert cli.main(["policy", "sign", str(bundle), "--key", PEM]) == 2

    out, err = capsys.readouterr()
    assert CANARY not in out + err


def test_k02_a_secret_that_others_can_read_is_refused(configure: Configure, tmp_path: Path) -> None:
    """The fix is in the message."""
    config = configure()
    (tmp_path / "app").chmod(0o644)

    assert "chmod 600" in told(config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"more": "[cell2]"}, ["cell2"]),
        ({"more": "[worker]\nconcurency = 3"}, ["worker.concurency"]),
        ({"more": "[worker]\nconcurrency = 3\nconcurrency = 4"}, ["line"]),
        ({"jurisdiction": "false"}, ["jurisdiction"]),
        ({"more": "[worker]\nconcurrency = &a [*a]"}, ["line"]),
    ],
    ids=["table", "misspelt", "twice", "norway", "anchors"],
)
def test_k03_keys_that_nobody_reads_are_refused(
    configure: Configure, changes: dict[str, str], words: list[str]
) -> None:
    """A misspelt protection protects nobody; the place is named."""
    said = told(configure(**changes))

    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    "seconds", ["-1", "0", "86400", "1e308", '"24"', "true", "2026-11-19T14:00:00"]
)
def test_k04_a_clock_that_is_none_is_refused(configure: Configure, seconds: str) -> None:
    """Raw audio goes within 24 hours; a clock is a whole number of seconds above nothing."""
    said = told(configure(tenant=f"[tenants.retention]\nraw_audio_seconds = {seconds}"))

    assert "retention.raw_audio_seconds" in said


@pytest.mark.parametrize("region", ["global", "default", "auto", "EU", ""])
def test_k05_a_region_that_is_no_place_is_refused(configure: Configure, region: str) -> None:
    """A cell stands somewhere."""
    assert "cell.region" in told(configure(region=f'"{region}"'))


ROW = """
[[processor]]
id = "{id}"
vendor = "Example"
service = "speech-to-text"
product = "p"
model = "m"
adapter = "google-speech"
region = "eu-central"
jurisdiction = "DE"
hosts = ["{host}"]
languages = ["en"]
options = {{}}
settings = {{ vendor_region = "europe-west3" }}
contract = "DPA 1"
contract_expires = 2027-01-01
retention = "none"
source = "a page"
as_of = 2026-11-01
reviewed_by = "dpo"
review_expires = 2027-06-01
"""
HERE = "europe-west3-speech.googleapis.com:443"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("a.b", "speech.googleapis.com:443")], ["a.b", "hosts"]),
        ([("a.b", "global-speech.googleapis.com:443")], ["a.b", "hosts"]),
        ([("a.b", HERE), ("a.b", HERE)], ["a.b", "already used"]),
    ],
    ids=["K05-default", "K05-global", "K06-twice"],
)
def test_k05_k06_a_registry_row_that_is_no_place_or_no_name_is_refused(
    configure: Configure,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    rows: list[tuple[str, str]],
    words: list[str],
) -> None:
    """The operator's own rows are read as strictly as ours, before anything starts."""
    own = tmp_path / "own.toml"
    own.write_text("".join(ROW.format(id=name, host=host) for name, host in rows))
    config = configure()
    config.write_text(
        config.read_text().replace("[registry]\nfile = ", f'[registry]\nfile = "{own}" #')
    )

    assert cli.main(["policy", "bundle", str(tmp_path / "b.tar.gz"), "--config", str(config)]) == 2

    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert not (tmp_path / "b.tar.gz").exists()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 10 * 2**30)


@pytest.mark.parametrize(
    "make",
    [
        Path.mkdir,
        Path.touch,
        lambda p: p.write_bytes(b"\xff\xfe\x00"),
        _sparse,
        _fifo,
        lambda p: None,
    ],
    ids=["empty directory", "empty file", "no text", "10 GB", "pipe", "nothing"],
)
def test_k07_verify_says_what_is_no_log(tmp_path: Path, make: object) -> None:
    """In constant memory, without waiting for a writer, with the exit code of misuse."""
    path = tmp_path / "given"
    make(path)  # type: ignore[operator]

    done = run("verify", str(path), limits=((resource.RLIMIT_AS, MEMORY),))

    assert done.returncode == 2
    assert done.stderr.startswith("verify: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("taken", [Path.mkdir, Path.touch, lambda p: p.symlink_to("elsewhere")])
@pytest.mark.parametrize("command", [("policy", "bundle"), ("cell-key",)], ids=" ".join)
def test_k08_nothing_that_is_there_is_overwritten(
    configure: Configure, tmp_path: Path, command: tuple[str, ...], taken: object
) -> None:
    """A link is something that is there, wherever it leads."""
    out = tmp_path / "out"
    taken(out)  # type: ignore[operator]
    config = () if command == ("cell-key",) else ("--config", str(configure()))

    assert cli.main([*command, str(out), *config]) == 2
    assert not (tmp_path / "elsewhere").exists()


def test_k08_a_full_disk_leaves_nothing_half_written(configure: Configure, tmp_path: Path) -> None:
    """A bundle that ends in the middle is none; the limit on file size stands for a full disk."""
    config = configure()

    done = run(
        "policy", "bundle", "out.tar.gz", "--config", str(config),
        limits=((resource.RLIMIT_FSIZE, 1024),), cwd=tmp_path,
    )  # fmt: skip

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.tar.gz").exists()


def test_k09_a_reader_that_goes_away_is_no_crash(tmp_path: Path) -> None:
    """``vocustody ... | head`` is ordinary."""
    read, write = os.pipe()
    os.close(read)

    done = subprocess.run(
        [sys.executable, "-m", "gateway", "--help"], check=False, stdout=write,
        stderr=subprocess.PIPE, text=True, timeout=60,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    os.close(write)

    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_k10_a_time_without_its_zone_is_refused(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """14:14 is another moment in each country we serve."""
    found = cli.main(
        ["where", "a_" + "1" * 32, "--at", "2026-11-19T14:14:00", "--config", str(configure())]
    )

    assert found == 2
    assert "zone" in capsys.readouterr().err
