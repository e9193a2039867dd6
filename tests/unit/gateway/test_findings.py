"""Findings: seen once, suspended at once, on the trail, and lifted by a person."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from support.desk import Desk
from support.gateway import Clock
from support.speech import a_processor

from audit import leaf
from audit.model import Event, EventType
from audit.trail import Trail
from gateway import findings, schema
from gateway.findings import FindingError, Findings
from gateway.metrics import Metrics
from gateway.passage import leaving
from gateway.permit import permitted
from policy.model import Decision, Question, Stage
from residency.drift import Severity
from residency.model import Observed, Service

ROW = a_processor(
    Service.SPEECH_TO_TEXT,
    "azure-speech",
    id="stt.azure.nl-west",
    hosts=("westeurope.stt.vendor.example:443",),
    settings={"vendor_region": "westeurope"},
)
ELSEWHERE = Observed(region="eastus")


@pytest.fixture
def metrics() -> Metrics:
    """Return the cell's metrics."""
    return Metrics(processors=[ROW.id])


async def begun(engine: AsyncEngine, trail: Trail, metrics: Metrics, clock: Clock) -> Findings:
    """Return findings as a cell that starts has them."""
    started = Findings(engine, trail, metrics, cell="eu-1", now=clock)
    await started.load()
    return started


@pytest.fixture
async def found(
    cell_db: AsyncEngine, trail: Trail, metrics: Metrics, clock: Clock
) -> AsyncIterator[Findings]:
    """Yield the findings of one cell."""
    opened = await begun(cell_db, trail, metrics, clock)
    yield opened
    await opened.aclose()


async def leaves(trail: Trail) -> list[Event]:
    """Return everything on the trail."""
    reader = trail.reader()
    _, head = await reader.head()
    return [leaf.decode(i, d).event for i, d in enumerate(await reader.entries(0, head.size))]


async def rows(engine: AsyncEngine, table: Any) -> list[Any]:
    """Return the rows of *table*."""
    async with engine.connect() as tx:
        return list((await tx.execute(select(table))).all())


@pytest.mark.anyio
async def test_a_vendor_that_answers_from_elsewhere_rests_at_once(found: Findings) -> None:
    """The very next decision must not list it, whether or not a disk is slow."""
    found.consider(ROW, ELSEWHERE)

    assert found.suspended() == (ROW.id,)


@pytest.mark.anyio
async def test_what_agrees_is_no_finding(found: Findings, cell_db: AsyncEngine) -> None:
    """Every touch comes through here: silence is the rule."""
    assert found.consider(ROW, Observed(region="West Europe")) == ()

    await found.settle()
    assert found.suspended() == ()
    assert await rows(cell_db, schema.findings) == []


@pytest.mark.anyio
async def test_a_finding_is_on_the_trail_once(
    found: Findings, trail: Trail, metrics: Metrics
) -> None:
    """A thousand notes to a wrong region are one finding, with both sides of it."""
    for _ in range(3):
        found.consider(ROW, ELSEWHERE)
        await found.settle()

    (opened,) = await leaves(trail)
    assert (opened.type, opened.processor) == (EventType.FINDING_OPENED, ROW.id)
    assert (opened.tenant, opened.outcome) == ("eu-1", "suspended")
    assert opened.detail == {
        "basis": "attested by vendor",
        "declared": "westeurope",
        "kind": "region",
        "observed": "eastus",
        "severity": "critical",
    }
    told = metrics.render().decode()
    assert f'kind="region",processor="{ROW.id}",severity="critical"}} 1.0' in told
    assert "vocustody_processors_suspended 1.0" in told


@pytest.mark.anyio
async def test_a_suspension_outlives_a_restart(
    found: Findings, cell_db: AsyncEngine, trail: Trail, metrics: Metrics, clock: Clock
) -> None:
    """Else a crash loop would send a note to the wrong region on every start."""
    found.consider(ROW, ELSEWHERE)
    await found.settle()

    again = await begun(cell_db, trail, metrics, clock)

    assert again.suspended() == (ROW.id,)
    assert again.consider(ROW, ELSEWHERE) == ()


@pytest.mark.anyio
async def test_what_cannot_be_stored_is_suspended_all_the_same(
    found: Findings, cell_db: AsyncEngine, trail: Trail
) -> None:
    """The database is away: nobody may be sent there meanwhile, and it is told later."""
    async with cell_db.begin() as tx:
        await tx.execute(text("ALTER TABLE findings RENAME TO away"))
    found.consider(ROW, ELSEWHERE)
    found.start()
    await found.aclose()
    assert found.suspended() == (ROW.id,)
    assert await leaves(trail) == []

    async with cell_db.begin() as tx:
        await tx.execute(text("ALTER TABLE away RENAME TO findings"))
    await found.settle()

    assert [event.type for event in await leaves(trail)] == [EventType.FINDING_OPENED]
    assert found.suspended() == (ROW.id,)


@pytest.mark.anyio
async def test_reading_the_tables_again_lifts_nothing_that_is_not_in_them_yet(
    found: Findings,
) -> None:
    """What was found a moment ago stands in memory alone; a reload must not forget it."""
    found.consider(ROW, ELSEWHERE)

    await found.load()

    assert found.suspended() == (ROW.id,)


@pytest.mark.anyio
async def test_an_opening_that_a_crash_kept_off_the_trail_is_told_at_start(
    found: Findings, cell_db: AsyncEngine, trail: Trail, metrics: Metrics, clock: Clock
) -> None:
    """Row and leaf are two stores: whatever stands in one alone is made good."""
    found.consider(ROW, ELSEWHERE)
    await found.settle()
    async with cell_db.begin() as tx:
        await tx.execute(schema.findings.update().values(opening_recorded_at=None))

    again = await begun(cell_db, trail, metrics, clock)
    await again.settle()

    assert len(await leaves(trail)) == 1
    (row,) = await rows(cell_db, schema.findings)
    assert row.opening_recorded_at is not None


@pytest.mark.anyio
async def test_closing_lifts_the_suspension_and_says_who_and_why(
    found: Findings, cell_db: AsyncEngine, trail: Trail, clock: Clock
) -> None:
    """Somebody answers for letting audio go there again."""
    found.consider(ROW, ELSEWHERE)
    await found.settle()
    (row,) = await rows(cell_db, schema.findings)

    await findings.close(cell_db, row.id, by="dpo", why="header was renamed", at=clock())
    await found.settle()

    assert found.suspended() == ()
    _, closed = await leaves(trail)
    assert closed.type is EventType.FINDING_CLOSED
    assert (closed.detail["by"], closed.detail["why"]) == ("dpo", "header was renamed")


@pytest.mark.anyio
async def test_a_suspension_holds_until_its_closing_is_on_the_trail(
    found: Findings, cell_db: AsyncEngine, trail: Trail, metrics: Metrics, clock: Clock
) -> None:
    """No evidence, no lift: a cell that starts meanwhile still suspends."""
    found.consider(ROW, ELSEWHERE)
    await found.settle()
    (row,) = await rows(cell_db, schema.findings)
    await findings.close(cell_db, row.id, by="dpo", why="looked at", at=clock())

    again = await begun(cell_db, trail, metrics, clock)

    assert again.suspended() == (ROW.id,)


@pytest.mark.anyio
async def test_what_is_seen_again_after_closing_opens_anew(
    found: Findings, cell_db: AsyncEngine, clock: Clock
) -> None:
    """Closing says that somebody looked, not that it may go on."""
    found.consider(ROW, ELSEWHERE)
    await found.settle()
    (row,) = await rows(cell_db, schema.findings)
    await findings.close(cell_db, row.id, by="dpo", why="vendor says fixed", at=clock())
    await found.settle()

    found.consider(ROW, ELSEWHERE)
    await found.settle()

    assert len(await rows(cell_db, schema.findings)) == 2
    assert found.suspended() == (ROW.id,)


@pytest.mark.anyio
async def test_another_open_finding_keeps_it_suspended(
    found: Findings, cell_db: AsyncEngine, clock: Clock
) -> None:
    """Two alarms need two answers."""
    found.consider(ROW, replace(ELSEWHERE, host="other.example"))
    await found.settle()
    first, _ = await rows(cell_db, schema.findings)

    await findings.close(cell_db, first.id, by="dpo", why="looked at", at=clock())
    await found.settle()

    assert found.suspended() == (ROW.id,)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("ident", "by", "why"),
    [
        ("f_none", "dpo", "why"),
        (None, " ", "why"),
        (None, "dpo", ""),
        (None, "dpo", "x" * 201),
        (None, "x" * 65, "why"),
    ],
)
async def test_closing_needs_a_finding_a_name_and_a_reason(
    found: Findings, cell_db: AsyncEngine, clock: Clock, ident: str | None, by: str, why: str
) -> None:
    """An empty reason in the log is worse than an open finding, and half of one may be a number."""
    found.consider(ROW, ELSEWHERE)
    await found.settle()
    (row,) = await rows(cell_db, schema.findings)

    with pytest.raises(FindingError):
        await findings.close(cell_db, ident or row.id, by=by, why=why, at=clock())

    (row,) = await rows(cell_db, schema.findings)
    assert row.closed_at is None


@pytest.mark.anyio
async def test_a_row_that_warns_is_not_suspended(found: Findings, cell_db: AsyncEngine) -> None:
    """It is found, counted and told all the same."""
    found.consider(replace(ROW, settings=dict(ROW.settings, on_drift="warn")), ELSEWHERE)
    await found.settle()

    assert found.suspended() == ()
    assert len(await rows(cell_db, schema.findings)) == 1


@pytest.mark.anyio
async def test_addresses_are_remembered_and_a_new_one_is_noted(
    found: Findings, cell_db: AsyncEngine, clock: Clock
) -> None:
    """First and last time of each: who asks later wants a span, not a moment."""
    found.consider(ROW, Observed(peers=("192.0.2.1",)))
    await found.settle()
    clock.move(3600)

    (note,) = found.consider(ROW, Observed(peers=("192.0.2.1", "192.0.2.2")))
    await found.settle()

    assert note.observed == "192.0.2.2"
    assert found.suspended() == ()
    seen = {
        row.value: row.last_at - row.first_at for row in await rows(cell_db, schema.observations)
    }
    assert seen == {"192.0.2.1": 3_600_000_000, "192.0.2.2": 0}


@pytest.mark.anyio
async def test_a_vendor_with_many_addresses_does_not_fill_the_desk(found: Findings) -> None:
    """A balancer hands out hundreds: after some notes nobody reads on."""
    found.consider(ROW, Observed(peers=("192.0.2.1",)))

    noted = found.consider(ROW, Observed(peers=tuple(f"192.0.2.{n}" for n in range(2, 60))))

    assert len(noted) == findings.MOST_NOTES
    assert found.consider(ROW, ELSEWHERE) != ()


@pytest.mark.anyio
async def test_what_was_found_is_settled_without_being_asked(found: Findings, trail: Trail) -> None:
    """Nobody calls `settle` in a cell: it runs by itself, and at once."""
    found.start()
    assert found.alive

    found.consider(ROW, ELSEWHERE)

    deadline = time.monotonic() + 10
    while not await leaves(trail) and time.monotonic() < deadline:  # noqa: ASYNC110 - nothing tells us
        await asyncio.sleep(0.01)
    assert [event.type for event in await leaves(trail)] == [EventType.FINDING_OPENED]


def test_a_touch_says_what_was_seen() -> None:
    """What the touch recorded is what is compared: no second account of it."""
    detail = {"host": "h", "peer": "p", "peers": ["p"], "tls": "t", "bytes": 7}
    detail |= {"refused": ["h:1 host.not_granted"], "attested": {"region": "r"}}

    assert findings.seen(detail) == Observed(
        host="h",
        peer="p",
        peers=("p",),
        tls="t",
        region="r",
        refused=("h:1 host.not_granted",),
    )


def refused(host: str) -> Observed:
    """Return what is seen when the broker does not let a client out to *host*."""
    return Observed(refused=(f"{host}:443 host.not_granted",))


@pytest.mark.anyio
async def test_what_the_broker_refused_is_told_once_and_suspends_nobody(
    found: Findings, trail: Trail
) -> None:
    """A client that tries another host is a bug or worse; with each note it is the same one."""
    for _ in range(100):
        found.consider(ROW, refused("one.vendor.example"))
        found.consider(ROW, refused("two.vendor.example"))
    await found.settle()

    opened = await leaves(trail)
    assert [e.detail["observed"].partition(":")[0] for e in opened] == [
        "one.vendor.example",
        "two.vendor.example",
    ]
    assert {(e.outcome, e.detail["kind"], e.detail["severity"]) for e in opened} == {
        ("noted", "refused", "warn")
    }
    assert found.suspended() == ()


@pytest.mark.anyio
@pytest.mark.parametrize("reloaded", [False, True], ids=["memory", "stored"])
async def test_notes_do_not_crowd_out_what_somebody_should_look_at(
    found: Findings,
    reloaded: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    """A vendor with many addresses is daily life; a client that tries another host is not."""
    found.consider(ROW, Observed(peers=("192.0.2.1",)))
    found.consider(ROW, Observed(peers=tuple(f"192.0.2.{n}" for n in range(2, 60))))
    if reloaded:
        await found.settle()

    [told] = found.consider(ROW, refused("other.vendor.example"))

    assert told.severity is Severity.WARN


@pytest.mark.anyio
async def test_warnings_do_not_crowd_out_the_notes(found: Findings) -> None:
    """Each severity has its own room."""
    found.consider(ROW, Observed(peers=("192.0.2.1",)))
    for number in range(findings.MOST_NOTES):
        found.consider(ROW, refused(f"h{number}.vendor.example"))
    await found.settle()

    assert len(found.consider(ROW, Observed(peers=("192.0.2.2",)))) == 1


@pytest.mark.anyio
async def test_hosts_without_end_do_not_fill_the_memory(found: Findings) -> None:
    """Who redirects a client chooses the names: what is kept of them has an end."""
    many = findings.MOST_VALUES + 50

    told = [
        each
        for number in range(many)
        for each in found.consider(ROW, refused(f"h{number}.vendor.example"))
    ]

    assert len(told) == findings.MOST_VALUES
    assert found.consider(ROW, ELSEWHERE) != ()


@pytest.mark.anyio
async def test_the_next_decision_knows_who_is_suspended(desk: Desk) -> None:
    """Memory is read when the question is asked: no note in between is sent there."""
    await desk.consents()
    note = await desk.spoken()
    asked: list[tuple[str, ...]] = []
    decide = desk.ports.decide

    async def watched(question: Question, kept: Any = None, /) -> Decision:
        asked.append(question.suspended)
        return await decide(question, kept)

    desk.with_ports(decide=watched)
    await permitted(note, Stage.TRANSCRIBE, desk.ports)
    desk.ports.findings.consider(ROW, ELSEWHERE)
    await permitted(note, Stage.TRANSCRIBE, desk.ports)

    assert asked == [(), (ROW.id,)]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("extra", "suspended"),
    [((), ("stt.one",)), (("127.0.0.1:9",), ())],
    ids=["vendor", "simulator"],
)
async def test_a_touch_that_answers_from_elsewhere_suspends(
    desk: Desk, extra: tuple[str, ...], suspended: tuple[str, ...]
) -> None:
    """Every way out is looked at; a simulator that the settings name is none."""
    await desk.consents()
    note = await desk.spoken()
    row = replace(desk.ports.processors["stt.one"], hosts=ROW.hosts)
    if extra:
        row = replace(row, service=Service.MESSAGING)
    allowed = await permitted(note, Stage.TRANSCRIBE, desk.ports)
    duties = replace(
        allowed.obligations, egress={row.id: row.hosts}, transfers={row.id: "adequacy"}
    )
    desk.with_ports(simulators=extra)
    leave = leaving(
        note, row, "transcribe", "a_1", replace(allowed, obligations=duties), desk.ports,
        deadline_s=5.0,
    )  # fmt: skip

    async with leave as (touch, _):
        touch.observe(ELSEWHERE)

    began, ended = desk.trail.seen[-2:]
    assert began.detail["declared"] == {
        "country": row.jurisdiction,
        "hosts": list(row.hosts),
        "region": row.region,
    }
    assert ended.detail["transfer"] == "adequacy"
    assert desk.ports.findings.suspended() == suspended
