"""One real cell as a process, and WhatsApp beside it in ours."""

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gateway.demo.cells import CellProcess, TenantPlan, write_settings
from gateway.demo.graph import GraphWorld, Line, serve
from gateway.demo.town import ASSISTANT

REGION = "eu-central"
TENANT = "fernruf"
ADMIN = "a benchmark's token"
SCRIPTED = Path(__file__).parents[1] / "corpus" / "registry" / "scripted.toml"


@dataclass(frozen=True, slots=True)
class Town:
    """A running cell on *directory*, its one line, and the world that line belongs to."""

    world: GraphWorld
    line: Line
    cell: CellProcess
    directory: Path

    @property
    def database(self) -> Path:
        """Return the cell's database."""
        return self.directory / "data" / "cell.db"

    @property
    def audit(self) -> Path:
        """Return where the cell keeps its logs."""
        return self.directory / "data" / "audit"


def scripted(directory: Path, *, delay_ms: int = 0) -> Path:
    """Write a registry to the new *directory*: its scripted speech-to-text takes *delay_ms*."""
    text = SCRIPTED.read_text()
    text = text.replace('delay_ms = "0"', f'delay_ms = "{delay_ms}"')
    text = text.replace('intent = "greeting"', 'intent = "conference_extend"')
    directory.mkdir(parents=True)
    path = directory / "registry.toml"
    path.write_text(text)
    return path


@contextlib.asynccontextmanager
async def town(
    directory: Path,
    *,
    now: Callable[[], datetime],
    registry: Path | None,
    languages: tuple[str, ...] = ("en",),
) -> AsyncIterator[Town]:
    """Run a cell under *directory* until the block ends; None is the shipped registry."""
    world = GraphWorld(now)
    line = world.line()
    async with serve(world):
        cell = CellProcess(_settings(directory, world, line, registry, languages), lines=[line])
        try:
            await cell.start()
            yield Town(world, line, cell, directory)
        finally:
            await cell.stop()


def _settings(
    directory: Path,
    world: GraphWorld,
    line: Line,
    registry: Path | None,
    languages: tuple[str, ...],
) -> Path:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = directory / "admin"
    with os.fdopen(os.open(token, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(ADMIN)
    plan = TenantPlan(
        id=TENANT,
        controller="Fernruf GmbH",
        jurisdiction="DE",
        languages=languages,
        line=line,
        assistant=ASSISTANT,
    )
    return write_settings(
        directory,
        cell="eu-1",
        region=REGION,
        graph_url=world.url,
        tenants=[plan],
        registry=registry,
        more='[admin]\ntoken_file = "admin"',
    )
