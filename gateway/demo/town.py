"""
The demonstration's world: four cells, two tenants, four people, and WhatsApp between them.

One machine stands in for four regions. Each cell is a process of its own with its own
registry rows, keys, database, broker and audit log.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.demo.cells import CellProcess, TenantPlan, write_settings
from gateway.demo.graph import GraphWorld, Line, serve
from gateway.demo.graph.person import Person

HERE = Path(__file__).parent
ASSISTANT = HERE / "assistant.toml"
DEMO_RAW_SECONDS = 45


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one person lives, which cell serves them, and how WhatsApp knows them."""

    cell: str
    region: str
    country: str
    tenant: str
    controller: str
    name: str
    identity: dict[str, str]
    languages: tuple[str, ...]


# Numbers from ranges reserved for fiction where a country has one; else a user id alone.
PLACES = (
    Place(
        cell="eu-1", region="eu-central", country="DE", tenant="fernruf",
        controller="Fernruf GmbH", name="Anna", identity={"phone": "493023125123"},
        languages=("en", "es"),
    ),
    Place(
        cell="sg-1", region="ap-singapore", country="SG", tenant="brightline",
        controller="Brightline Pte. Ltd.", name="Wei", identity={"bsuid": "SG.48213077"},
        languages=("en", "es"),
    ),
    Place(
        cell="br-1", region="sa-brazil", country="BR", tenant="fernruf",
        controller="Fernruf do Brasil Ltda.", name="Beatriz", identity={"bsuid": "BR.90210455"},
        languages=("es", "en"),
    ),
    Place(
        cell="us-1", region="us-east", country="US", tenant="brightline",
        controller="Brightline Inc.", name="Dana", identity={"phone": "12025550143"},
        languages=("en", "es"),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Resident:
    """One person, their cell, and the line between them."""

    place: Place
    person: Person
    line: Line
    cell: CellProcess

    @property
    def audit(self) -> Path:
        """Return where the cell keeps its logs."""
        return self.cell.config.parent / "data" / "audit"


@dataclass(frozen=True, slots=True)
class Town:
    """WhatsApp and the four residents, by name."""

    world: GraphWorld
    residents: dict[str, Resident]


@asynccontextmanager
async def built(directory: Path) -> AsyncIterator[Town]:
    """Run the four cells under *directory* until the block ends; nothing of it is left running."""
    world = GraphWorld(lambda: datetime.now(UTC))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serve(world))
        residents = {place.name: _resident(world, place, directory) for place in PLACES}
        for resident in residents.values():
            stack.push_async_callback(resident.cell.stop)
        await asyncio.gather(*(resident.cell.launch() for resident in residents.values()))
        await asyncio.gather(*(resident.cell.ready() for resident in residents.values()))
        yield Town(world, residents)


def _resident(world: GraphWorld, place: Place, directory: Path) -> Resident:
    line = world.line()
    identity: dict[str, Any] = place.identity
    person = world.person(**identity, name=place.name, line=line)
    retention = {"raw_audio_seconds": DEMO_RAW_SECONDS} if place.cell == "sg-1" else {}
    plan = TenantPlan(
        id=place.tenant,
        controller=place.controller,
        jurisdiction=place.country,
        languages=place.languages,
        line=line,
        assistant=ASSISTANT,
        retention=retention,
    )
    config = write_settings(
        directory / place.cell,
        cell=place.cell,
        region=place.region,
        graph_url=world.url,
        tenants=[plan],
    )
    return Resident(place, person, line, CellProcess(config, lines=[line]))
