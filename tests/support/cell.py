"""A real cell as a process, WhatsApp beside it, and what its trail says afterwards."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from audit.stores.folder import Folder
from audit.trail import Trail
from gateway.demo.cells import CellProcess, TenantPlan, write_settings
from gateway.demo.graph import GraphWorld, Line
from gateway.demo.graph.person import Person

REGION = "eu-central"
SCRIPTED = Path(__file__).parent.parent / "corpus" / "registry" / "scripted.toml"
NOTE = Path(__file__).parent.parent / "corpus" / "speech" / "psphinx_misc_en_goforward.ogg"
GRACE_S = 3  # longer than a start of the cell takes on a busy machine


@dataclass(slots=True)
class Town:
    """One scripted cell, one business line, one person."""

    world: GraphWorld
    line: Line
    cell: CellProcess
    ada: Person

    async def settle(self, seconds: float = 1.0) -> None:
        """Let WhatsApp bring again what the cell did not take."""
        await self.world.advance(600)
        await asyncio.sleep(seconds)

    async def leaves(self) -> list[dict[str, Any]]:
        """Return every leaf of the cell's trail, as stored."""
        directory = self.cell.config.parent / "data" / "audit"
        async with await Trail.read(Folder(directory, REGION)) as trail:
            _, head = await trail.reader().head()
            return [json.loads(entry) for entry in await trail.reader().entries(0, head.size)]

    def of_kind(self, kind: str) -> list[str]:
        """Return the texts of what the person received of *kind*."""
        return [message.text for message in self.ada.inbox if message.kind == kind]


@pytest.fixture
async def town(tmp_path: Path, graph: GraphWorld) -> AsyncIterator[Town]:
    """Yield a town whose cell is not yet started."""
    line = next(iter(graph.lines.values()))
    plan = TenantPlan(
        id="fernruf",
        controller="Fernruf GmbH",
        jurisdiction="DE",
        languages=("en",),
        line=line,
    )
    config = write_settings(
        tmp_path / "cell",
        cell="eu-1",
        region=REGION,
        graph_url=graph.url,
        tenants=[plan],
        registry=SCRIPTED,
        more=f"[outbox]\nunknown_grace_seconds = {GRACE_S}",
    )
    cell = CellProcess(config, lines=[line])
    yield Town(graph, line, cell, graph.person("4915112345678", line=line))
    await cell.kill()
