"""The commands about processors: what they print, and what they exit with."""

import json
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from support.settings import Configure

from audit.signers.local import LocalSigner
from audit.stores.folder import Folder
from audit.trail import Trail
from gateway import cli, db, migrations, settings
from gateway.compose import rules, stores
from gateway.findings import Findings
from gateway.metrics import Metrics
from residency import registry
from residency.model import Observed

AT = datetime(2026, 11, 22, 14, 15, tzinfo=UTC)
ROW = "stt.azure.eu-central"


@pytest.fixture
def cell(configure: Configure) -> Path:
    """Return the settings of a cell that never ran."""
    return configure(file=json.dumps(str(registry.SHIPPED)))


def elsewhere(config: Path) -> None:
    """Let the cell see a processor answer from another region."""
    loaded = settings.load(config)
    loaded.cell.data.mkdir(mode=0o700)
    row = rules.registry(loaded).get(ROW)

    async def see() -> None:
        engine = db.connect(stores.database_url(loaded))
        await migrations.upgrade(engine)
        signer = LocalSigner.open(loaded.cell.data / "key.pem")
        shelf = Folder(loaded.cell.data / "audit", loaded.cell.region)
        trail = await Trail.open(shelf, signer, lambda: AT)
        found = Findings(engine, trail, Metrics(), cell=loaded.cell.id, now=lambda: AT)
        found.consider(row, Observed(region="eastus"))
        await found.settle()
        await trail.close()
        await engine.dispose()

    anyio.run(see)


def test_the_registry_is_listed_before_the_first_start(
    cell: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An operator reads who may be used before anything runs."""
    assert cli.main(["processors", "--config", str(cell)]) == 0

    told = capsys.readouterr().out
    assert f"{ROW}  Microsoft  not eligible: no agreement filed" in told
    assert "stt.whisper-base.eu-central  self-hosted  eligible" in told
    assert "observed: nothing yet (unknown)" in told


def test_a_difference_is_printed_and_is_a_finding(
    cell: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 is a finding: a script that watches needs no words."""
    elsewhere(cell)

    assert cli.main(["processors", "--config", str(cell)]) == 1
    told = capsys.readouterr().out
    assert "  DIFFERS: region: declared germanywestcentral, observed eastus" in told
    assert "  observed: region eastus (attested by vendor)" in told
    assert cli.main(["processors", "--json", "--config", str(cell)]) == 1
    rows = {row["processor"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows[ROW]["declared"]["basis"] == "declared"


def test_findings_are_listed_and_closed(cell: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the list nobody knows the id that closing asks for."""
    elsewhere(cell)
    capsys.readouterr()  # the suspension itself is logged
    config = ["--config", str(cell)]

    assert cli.main(["findings", "--json", *config]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    close = ["findings", "close", found["finding"], "--by", "dpo", "--why", "looked at", *config]

    assert cli.main(close) == 0
    assert cli.main(close) == 2
    assert "no open finding" in capsys.readouterr().err
    assert cli.main(["findings", "list", "--json", *config]) == 1
    (closed,) = json.loads(capsys.readouterr().out)
    assert (closed["closed_by"], closed["why"], closed["in_force"]) == ("dpo", "looked at", True)
