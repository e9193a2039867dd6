"""The register: declared beside observed, who is eligible, and what was moved."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from support.gateway import Clock
from support.speech import TODAY, a_processor

from audit.model import Event, EventType
from audit.stores.folder import Folder
from audit.trail import Trail
from gateway import findings, register
from gateway.findings import Findings
from gateway.metrics import Metrics
from residency.model import Observed, Processor, Service
from residency.registry import Registry

BUILT = {(Service.SPEECH_TO_TEXT, "azure-speech")}
ROW = a_processor(
    Service.SPEECH_TO_TEXT,
    "azure-speech",
    id="stt.vendor.nl-west",
    region="nl-west",
    jurisdiction="NL",
    hosts=("westeurope.vendor.example:443",),
    settings={"vendor_region": "westeurope"},
    contract="DPA 7",
    contract_expires=date(2027, 1, 31),
)


async def line(engine: AsyncEngine | None, row: Processor = ROW) -> dict[str, Any]:
    """Return the only line of a registry of one row."""
    (found,) = await register.processors(
        Registry([row]), engine, built=BUILT, region="nl-west", today=TODAY
    )
    return found


@pytest.mark.anyio
async def test_a_cell_that_never_ran_has_seen_nothing() -> None:
    """Declared is not observed: before the first touch it is unknown."""
    found = await line(None)

    assert found["eligible"]
    assert found["observed"] == {"basis": "unknown"}
    assert found["declared"]["hosts"] == ["westeurope.vendor.example:443"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"contract": "", "contract_expires": date.min}, "no agreement filed"),
        ({"contract_expires": TODAY - timedelta(days=1)}, "agreement expired on"),
        ({"review_expires": TODAY - timedelta(days=1)}, "review expired on"),
        ({"adapter": "none"}, "listed, not built (no adapter)"),
        ({"adapter": "other"}, "listed, not built (no adapter)"),
        ({"service": Service.OBJECTS}, "takes part in no stage of a note"),
    ],
)
async def test_who_is_not_eligible_is_listed_with_the_reason(
    changed: dict[str, Any], why: str
) -> None:
    """The list answers "why is it not used" without a look into rules."""
    found = await line(None, replace(ROW, **changed))

    assert not found["eligible"]
    assert [said.startswith(why) for said in found["why_not"]] == [True]


@pytest.mark.anyio
@pytest.mark.parametrize("changed", [{"contract_expires": TODAY}, {"review_expires": TODAY}])
async def test_the_last_day_counts(changed: dict[str, Any]) -> None:
    """As in the rules: what expires today holds today."""
    assert (await line(None, replace(ROW, **changed)))["eligible"]


@pytest.mark.anyio
async def test_what_was_seen_stands_beside_and_the_difference_is_named(
    cell_db: AsyncEngine, trail: Trail, clock: Clock
) -> None:
    """A processor whose vendor answers from another region shows here, suspended."""
    found = Findings(cell_db, trail, Metrics(), cell="eu-1", now=clock)
    found.consider(ROW, Observed(host="westeurope.vendor.example:443", peer="192.0.2.1"))
    await found.settle()
    clock.move(120)
    found.consider(ROW, Observed(region="eastus"))
    await found.settle()

    told = await line(cell_db)

    assert told["observed"]["peer"]["value"] == "192.0.2.1"
    assert told["observed"]["region"]["basis"] == "attested by vendor"
    assert told["observed"]["first_seen"] == "2026-11-19T14:00:00+00:00"
    assert told["observed"]["last_seen"] == "2026-11-19T14:02:00+00:00"
    assert told["differences"] == ["region: declared westeurope, observed eastus"]
    (finding,) = await register.listed(cell_db)
    assert told["why_not"] == [f"suspended by finding {finding['finding']} (region)"]

    await findings.close(cell_db, finding["finding"], by="dpo", why="looked at", at=clock())
    assert not (await line(cell_db))["eligible"]
    await found.settle()
    assert (await line(cell_db))["eligible"]


@pytest.mark.anyio
async def test_transfers_come_from_the_trail(
    cell_db: AsyncEngine, trail: Trail, clock: Clock, tmp_path: Path
) -> None:
    """The law of the person stands in the decision, the ground and the host in the touch."""
    common: dict[str, Any] = {"tenant": "acme", "artifact": "a_1", "decision": "d_1"}
    decided = {"jurisdiction": "GB"}
    touched = {"touch": "t_1", "processor": ROW.id, "region": "nl-west", "action": "transcribe"}
    seen = {
        "host": "westeurope.vendor.example:443", "transfer": "adequacy", "basis": "observed",
        "attested": {"region": "West Europe"},
    }  # fmt: skip
    for kind, more in (
        (EventType.POLICY_DECIDED, {"detail": decided}),
        (EventType.TOUCH_BEGAN, touched),
        (EventType.TOUCH_ENDED, touched | {"detail": seen, "outcome": "done"}),
    ):
        await trail.append(Event(id=f"e.{kind}", type=kind, at=clock(), **(common | more)))

    (record,) = await register.moved(
        Registry([ROW]), Folder(tmp_path / "audit", "eu-central"), cell_db,
        cell="eu-1", region="nl-west",
    )  # fmt: skip

    assert (record.origin, record.destination, record.grounds) == ("GB", "NL", ("adequacy",))
    assert record.observation.hosts == ("westeurope.vendor.example:443",)
    assert record.observation.regions == ("West Europe",)
    assert record.touches == 1
