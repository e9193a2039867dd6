"""What others still have: by contract, attested, dated; and what nobody can tell is said so."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from support.desk import Desk
from support.erasing import HORIZONS, Eraser

from gateway import remains, turns
from gateway.demo.graph import DROP
from gateway.erasure import Erasure
from gateway.jobs import State
from vault.erasure import Fate, Method, Result


async def of(eraser: Eraser) -> tuple[Erasure, Mapping[str, Fate]]:
    """Return ada's erasure after everything she can leave anywhere, and what remains, by store."""
    desk = eraser.desk
    await desk.consents()
    note = await desk.spoken()
    await turns.act(note, desk.ports)
    await desk.ports.jobs.end(note.job, State.DONE, "answered")
    ident = await eraser.ask(note.subject)
    await eraser.erasures.tick()
    one = await eraser.found(ident)
    found = await remains.remains(one, desk.ports, horizons=HORIZONS)
    return one, {f"{fate.copy.kind}:{fate.copy.store}": fate for fate in found}


def with_row(desk: Desk, name: str, **changed: Any) -> None:
    """Change the registry row *name*."""
    rows = dict(desk.ports.processors)
    rows[name] = replace(rows[name], **changed)
    desk.with_ports(processors=rows)


@pytest.mark.anyio
async def test_an_engine_of_the_cell_keeps_nothing(eraser: Eraser) -> None:
    """What ran inside the cell was memory of one call."""
    with_row(eraser.desk, "stt.one", hosts=())

    _, found = await of(eraser)

    assert found["vendor:stt.one"].result is Result.ERASED
    assert found["vendor:stt.one"].copy.count == 1


@pytest.mark.anyio
async def test_a_vendor_keeps_what_its_contract_says(eraser: Eraser) -> None:
    """Nobody looks inside a vendor: the term is named, with the paper, and called unverified."""
    with_row(
        eraser.desk,
        "stt.one",
        hosts=("stt.vendor.example:443",),
        contract="DPA 7",
        retention="for an hour",
    )

    _, found = await of(eraser)

    fate = found["vendor:stt.one"]
    assert fate.result is Result.BY_CONTRACT
    assert "by contract, unverified: for an hour (contract DPA 7" in fate.detail


@pytest.mark.anyio
async def test_a_confirmed_deletion_at_whatsapp_is_attested(eraser: Eraser) -> None:
    """Its copy of the recording was deleted when it was fetched; the messages are its own."""
    _, found = await of(eraser)

    fate = found["vendor:msg.here"]
    assert (fate.result, fate.method) == (Result.BY_CONTRACT, Method.VENDOR_DELETION)
    assert "deletion confirmed for 1 of 1 recordings" in fate.detail
    assert fate.until is None


@pytest.mark.anyio
async def test_a_deletion_that_was_not_confirmed_is_dated(eraser: Eraser) -> None:
    """WhatsApp keeps media for 30 days unless told otherwise."""
    eraser.desk.world.faults.add("media.delete", DROP)

    _, found = await of(eraser)

    fate = found["vendor:msg.here"]
    assert "deletion confirmed for 0 of 1 recordings" in fate.detail
    assert fate.until is not None
    assert fate.until > eraser.desk.clock() + timedelta(days=29)


@pytest.mark.anyio
async def test_a_processor_without_a_row_is_unaudited(eraser: Eraser) -> None:
    """A row that is gone tells nothing of what its vendor keeps: that must not look done."""
    one, _ = await of(eraser)
    rows = {name: row for name, row in eraser.desk.ports.processors.items() if name != "stt.one"}
    eraser.desk.with_ports(processors=rows)

    found = await remains.remains(one, eraser.desk.ports, horizons=HORIZONS)

    assert {fate.copy.store for fate in found if fate.result is Result.UNAUDITED} == {"stt.one"}


@pytest.mark.anyio
async def test_snapshots_and_backups_have_a_date(eraser: Eraser) -> None:
    """The copies that no roll reaches are dated by what the operator says of them."""
    one, found = await of(eraser)
    assert one.executed_at is not None

    snapshot = found["key-service-snapshot:key-service"]
    backup = found["database-backup-rows:database-backups"]

    assert snapshot.until == one.executed_at + HORIZONS.snapshots
    assert backup.until == one.executed_at + HORIZONS.database
    assert {snapshot.result, backup.result} == {Result.KEPT}
