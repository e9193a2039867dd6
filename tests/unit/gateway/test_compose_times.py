"""A cell whose clocks differ says so everywhere, and works on; an operator's word ends it."""

import asyncio
import json
import re
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path

import anyio
import pytest
from starlette.requests import Request
from support.openbao import OpenBao
from support.settings import Configure

from gateway import cli, db, migrations, settings, timekeeping
from gateway.compose import keepers, stores
from gateway.compose.cell import cell
from gateway.compose.egress import WORLD
from gateway.compose.surroundings import MACHINE
from gateway.console import health
from vault.errors import KeyringError
from vault.keyrings.client import connect, server_time

WRONG = timedelta(days=400)
AHEAD = replace(MACHINE, wall=lambda: MACHINE.wall() + WRONG)


def agreed_once(config: Path) -> None:
    """Have a cell on this machine agree on the time, then stop."""

    async def run() -> None:
        loaded = settings.load(config)
        loaded.cell.data.mkdir(mode=0o700, exist_ok=True)
        engine = db.connect(stores.database_url(loaded))
        await migrations.upgrade(engine)
        await timekeeping.note(engine, MACHINE, MACHINE.wall(), bound=timedelta(minutes=5))
        await engine.dispose()

    anyio.run(run)


@pytest.mark.anyio
@pytest.mark.timeout(120)
async def test_a_cell_and_its_keeper_warn_and_work_on(configure: Configure) -> None:
    """Ready all along: a wrong clock is no reason to leave anybody unanswered."""
    config = configure()
    await asyncio.to_thread(agreed_once, config)
    loaded = settings.load(config)
    async with cell(loaded, replace(WORLD, machine=AHEAD)) as built:
        scope = {"type": "http", "headers": [], "state": {"vitals": built.vitals}}
        answer = await health.readyz(Request(scope))
        shown = built.ports.metrics.render().decode()
        now, quarters = built.ports.now(), built.ports.trail.quarters()  # type: ignore[attr-defined]
        async with keepers.kept(loaded, AHEAD) as kept:
            report = await kept.watchdog.look()

    assert json.loads(bytes(answer.body)) == {
        "ready": True,
        "failed": [],
        "warned": ["clocks_disagree"],
    }
    apart = re.search(r"^vocustody_clocks_apart_seconds (\S+)$", shown, re.MULTILINE)
    assert apart is not None
    assert float(apart[1]) == pytest.approx(400 * 86_400, abs=10)
    assert abs(now - MACHINE.wall()) < timedelta(minutes=1)
    assert len(quarters) == 1
    assert any(alarm.startswith("clocks: they differ") for alarm in report.alarms)
    assert abs(report.at - now) < timedelta(minutes=1)


def test_doctor_and_clock_show_say_it_and_a_word_ends_it(
    configure: Configure, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three ways in for whoever is on call, with the seconds; one way out, with a name on it."""
    config = configure()
    agreed_once(config)
    asked = ("--config", str(config))
    assert cli.main(["clock", "show", *asked]) == 0
    loaded = settings.load(config)

    async def wrong() -> None:
        engine = db.connect(stores.database_url(loaded))
        behind = MACHINE.wall() - WRONG
        await timekeeping.note(engine, MACHINE, behind, bound=timedelta(minutes=5))
        await engine.dispose()

    anyio.run(wrong)  # as if this machine's clock had leapt since
    capsys.readouterr()

    assert cli.main(["clock", "show", "--json", *asked]) == 1
    [row] = json.loads(capsys.readouterr().out)
    assert row["clock"] == "wall"
    assert row["apart_s"] == pytest.approx(WRONG.total_seconds(), abs=10)
    assert cli.main(["doctor", *asked]) == 1
    assert "FIX  clocks: they differ" in capsys.readouterr().out
    assert cli.main(["clock", "confirm", "--by", "4915112345678", *asked]) == 2
    assert cli.main(["clock", "show", *asked]) == 1
    assert cli.main(["clock", "confirm", "--by", "dpo", *asked]) == 0
    assert cli.main(["clock", "show", *asked]) == 0
    assert cli.main(["doctor", *asked]) == 0


@pytest.mark.anyio
async def test_the_key_service_says_what_time_it_is(openbao: OpenBao) -> None:
    """Without a token: it is asked even when nobody may log in."""
    at = await asyncio.to_thread(server_time, connect(openbao.url))

    assert abs(at - MACHINE.wall()) < timedelta(seconds=10)
    assert at.tzinfo is UTC


@pytest.mark.anyio
async def test_a_server_that_is_no_key_service_says_nothing(
    openbao: OpenBao,
) -> None:
    """Whatever answers in its place is no clock."""
    client = connect(f"{openbao.url}/v1/sys/seal-status?x=")

    with pytest.raises(KeyringError):
        await asyncio.to_thread(server_time, client)
