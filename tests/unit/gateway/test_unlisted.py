"""A country that people write from and the table does not have is named once, and served."""

import pytest
from support.desk import Desk

from gateway import findings
from gateway.findings import Findings
from gateway.permit import permitted
from gateway.schema import findings as table
from gateway.whatsapp.payload import Text
from policy.bundle import Bundle
from policy.model import Stage

pytestmark = pytest.mark.anyio


@pytest.fixture
def laws(desk: Desk, desk_bundle: Bundle) -> None:
    """Have the desk know which countries its bundle has a law of."""
    known = desk_bundle.facts.countries
    desk.with_ports(unlisted=lambda codes: sorted({*codes} - known))


async def wrote(desk: Desk, phone: str, *stages: Stage) -> None:
    """Have somebody write from *phone*, and the rules asked about *stages*."""
    note = await desk.note(Text(body="Hello"), desk.world.person(phone, line=desk.line))
    for stage in stages:
        await permitted(note, stage, desk.ports)


async def named(desk: Desk) -> list[tuple[str, str]]:
    """Return kind and country of each finding."""
    await desk.ports.findings.settle()
    return sorted((row.kind, row.observed) for row in await desk.rows(table))


@pytest.mark.usefixtures("laws")
async def test_a_country_is_named_once_however_many_write(desk: Desk) -> None:
    """Who runs the cell learns where to ask counsel; a count of few people would point at them."""
    for phone in ("905012345678", "905012345679", "41791234567", "882161234567"):
        await wrote(desk, phone, Stage.UNDERSTAND, Stage.REPLY, Stage.REPLY)

    assert await named(desk) == [("law", "TR"), ("law", "ZZ")]
    assert desk.ports.findings.suspended() == ()


@pytest.mark.usefixtures("laws")
async def test_what_was_looked_at_is_not_named_again(desk: Desk) -> None:
    """Neither at the next message nor after a restart: it would be noise by then."""
    await wrote(desk, "905012345678", Stage.REPLY)
    await desk.ports.findings.settle()
    [row] = await desk.rows(table)
    await findings.close(
        desk.ports.engine, row.id, by="counsel", why="the strictest will do", at=desk.ports.now()
    )
    await desk.ports.findings.settle()

    await wrote(desk, "905012345679", Stage.REPLY)
    again = Findings(
        desk.ports.engine, desk.trail, desk.ports.metrics, cell="eu-1", now=desk.ports.now
    )
    await again.load()
    desk.with_ports(findings=again)
    await wrote(desk, "905012345670", Stage.REPLY)

    assert await named(desk) == [("law", "TR")]


async def test_where_every_law_is_known_nothing_is_found(desk: Desk) -> None:
    """A finding that says nothing hides those that do."""
    await wrote(desk, "4915112345678", Stage.REPLY)

    assert await named(desk) == []
