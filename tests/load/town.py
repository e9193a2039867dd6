"""One real cell as a process, and WhatsApp beside it in ours."""

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
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
    """A running cell on *directory*, a line of each tenant, and the world they belong to."""

    world: GraphWorld
    lines: Mapping[str, Line]
    cell: CellProcess
    directory: Path

    @property
    def line(self) -> Line:
        """Return the line of the tenant that every town has."""
        return self.lines[TENANT]

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
    neighbours: Mapping[str, str] | None = None,
) -> AsyncIterator[Town]:
    """
    Run a cell under *directory* until the block ends.

    A *registry* of None is the shipped one; *neighbours* are further tenants by id, each with
    the rest of its settings (TOML).
    """
    world = GraphWorld(now)
    more = neighbours or {}
    lines = {name: world.line(f"120255502{at:02d}") for at, name in enumerate((TENANT, *more))}
    async with serve(world):
        plans = [_plan(name, line, languages) for name, line in lines.items()]
        config = _settings(directory, world, plans, registry)
        config.write_text(extended(config.read_text(), more))
        cell = CellProcess(config, lines=list(lines.values()))
        try:
            await cell.start()
            yield Town(world, lines, cell, directory)
        finally:
            await cell.stop()


def extended(settings: str, more: Mapping[str, str]) -> str:
    """Return *settings* (TOML) with *more* in the tables of the tenants after the first."""
    head, *tenants = settings.split("[[tenants]]")
    tables = zip(tenants, ["", *more.values()], strict=True)
    return "[[tenants]]".join([head, *(f"{table}\n{rest}\n" for table, rest in tables)])


def _plan(name: str, line: Line, languages: tuple[str, ...]) -> TenantPlan:
    return TenantPlan(
        id=name,
        controller=f"{name.title()} GmbH",
        jurisdiction="DE",
        languages=languages,
        line=line,
        assistant=ASSISTANT,
    )


def _settings(
    directory: Path, world: GraphWorld, plans: Sequence[TenantPlan], registry: Path | None
) -> Path:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = directory / "admin"
    with os.fdopen(os.open(token, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(ADMIN)
    return write_settings(
        directory,
        cell="eu-1",
        region=REGION,
        graph_url=world.url,
        tenants=plans,
        registry=registry,
        more='[admin]\ntoken_file = "admin"',
    )
