"""Two cells: what arrives at the front door for the other is the other's alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.cell import REGION, SCRIPTED, Town

from audit.stores.folder import Folder
from audit.trail import Trail
from gateway.demo.cells import CellProcess, TenantPlan, write_settings
from gateway.demo.graph import GraphWorld
from gateway.natsd import NatsServer

CANARY = "please keep this between us and Berlin"


def cell_key(path: Path) -> Path:
    """Make a key pair with the command that operators use; return the public file."""
    made = subprocess.run(
        [sys.executable, "-m", "gateway", "cell-key", str(path)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return Path(made.stdout.strip())


async def types(directory: Path) -> list[str]:
    """Return the types of a cell's leaves."""
    async with await Trail.read(Folder(directory, REGION)) as trail:
        _, head = await trail.reader().head()
        return [json.loads(entry)["type"] for entry in await trail.reader().entries(0, head.size)]


@pytest.mark.anyio
async def test_a_front_door_hands_on_what_it_cannot_read(
    town: Town, graph: GraphWorld, tmp_path: Path, nats_server: NatsServer
) -> None:
    """The front door's disk never holds the update; the other cell answers the person."""
    public = cell_key(tmp_path / "arrivals.pem")
    token = tmp_path / "nats-token"
    token.write_text(nats_server.token)
    token.chmod(0o600)
    home = town.cell.config
    home.write_text(
        home.read_text().replace(
            "[cell]\n", f'[cell]\narrival_key_file = "{tmp_path}/arrivals.pem"\n'
        )
        + f'\n[services]\nnats = {{ url = "{nats_server.url}", token_file = "{token}" }}\n'
    )
    plan = TenantPlan(
        id="fernruf", controller="Fernruf GmbH", jurisdiction="DE", languages=("en",),
        line=town.line,
    )  # fmt: skip
    front_home = write_settings(
        tmp_path / "front", cell="front-1", region=REGION, graph_url=graph.url, tenants=[plan],
        registry=SCRIPTED,
    )  # fmt: skip
    number = town.line.phone_number_id
    front_home.write_text(
        front_home.read_text().replace(f'["{number}"]', '["1"]')
        + f'\n[[tenants.forward]]\ncell = "eu-1"\nregion = "{REGION}"\n'
        f'phone_number_ids = ["{number}"]\nseal_key_file = "{public}"\n'
        f'nats = {{ url = "{nats_server.url}", token_file = "{token}" }}\n'
    )
    await town.cell.start()
    front = CellProcess(front_home, lines=[town.line])  # WhatsApp's callback is the front door
    await front.start()
    try:
        await town.ada.type(CANARY)
        await town.ada.expect(lambda message: message.kind == "text", within_s=30)
    finally:
        await front.stop()
    await town.cell.stop()

    at_front = await types(front_home.parent / "data" / "audit")
    at_home = await types(home.parent / "data" / "audit")
    # Besides the message: what WhatsApp said of the replies, which comes to the front door too.
    assert at_front.count("update.forwarded") == at_home.count("update.arrived") > 1
    assert set(at_front) == {"update.forwarded"}
    assert at_home.count("job.ended") == 1
    for file in (p for p in front_home.parent.rglob("*") if p.is_file()):
        assert CANARY.encode() not in file.read_bytes(), file
