"""The access report: everything, opened, in a form that a person can read, and nobody else's."""

import json
from typing import Any

import pytest
from sqlalchemy import update
from support.desk import PHONE, TENANT, WORDS, Desk

from gateway import disclosure, holdings, turns
from gateway.demo.graph.person import Person
from gateway.holdings import COVERAGE
from gateway.jobs import State
from gateway.note import Note
from gateway.schema import sessions
from gateway.whatsapp.payload import Text


async def spoke(desk: Desk, sender: Person | None = None) -> Note:
    """Return a voice note that was answered."""
    note = await desk.note(desk.recording(), sender)
    await turns.act(note, desk.ports)
    await desk.ports.jobs.end(note.job, State.DONE, "answered")
    return note


async def report(desk: Desk, subject: str) -> dict[str, bytes]:
    """Return the files of the report on *subject*."""
    found = await holdings.holdings(subject, TENANT, desk.ports)
    made = disclosure.report(found, desk.ports, desk.trail.inner, at=desk.clock(), by="dpo <b>")
    return {name: content async for name, content in made}


def data(files: dict[str, bytes]) -> dict[str, Any]:
    """Return the machine-readable half."""
    found: dict[str, Any] = json.loads(files["data.json"])
    return found


@pytest.mark.anyio
async def test_it_holds_what_they_said_and_what_was_made_of_it(desk: Desk) -> None:
    """Art. 15: a copy of the data, not a list of file names."""
    await desk.consents()
    note = await spoke(desk)

    files = await report(desk, note.subject)

    told = data(files)
    texts = [content for name, content in files.items() if name.startswith("artifacts/")]
    assert any(WORDS.text.encode() in text for text in texts)
    assert {entry["class"] for entry in told["artifacts"]} >= {"transcript"}
    assert told["tables"]["sessions"][0]["content"]["memory"]["turns"]
    assert {row["processor"] for row in told["recipients"]} >= {"msg.here", "stt.one"}
    found = await holdings.holdings(note.subject, TENANT, desk.ports)
    assert told["selector_sha256"] == found.selector_sha256


@pytest.mark.anyio
async def test_every_table_of_the_selector_is_in_it(desk: Desk) -> None:
    """Access and erasure cannot diverge: what one finds the other shows."""
    await desk.consents()
    note = await spoke(desk)

    told = data(await report(desk, note.subject))

    found = await holdings.holdings(note.subject, TENANT, desk.ports)
    tables = {str(table.name) for table, _ in holdings.rows_of(found)}
    assert told["tables"].keys() == tables
    by_person = {name for name, how in COVERAGE.items() if how.startswith("by ")}
    elsewhere = {"artifacts", "retention"}
    assert by_person - elsewhere <= tables


@pytest.mark.anyio
async def test_it_is_one_persons_alone(desk: Desk) -> None:
    """Nothing of somebody else of the same tenant slips in."""
    await desk.consents()
    mine = await spoke(desk)
    bob = desk.world.person("4915112345679", line=desk.line)
    other = await desk.note(Text(body="hello"), bob)

    files = await report(desk, mine.subject)

    whole = b"".join(files.values())
    assert other.subject.encode() not in whole
    assert other.job.id.encode() not in whole
    assert PHONE.encode() not in whole, "a number is not kept, so it is not shown"


@pytest.mark.anyio
async def test_what_does_not_open_is_listed_with_the_reason(desk: Desk) -> None:
    """Left out would look like not held."""
    await desk.consents()
    note = await spoke(desk)
    async with desk.ports.engine.begin() as tx:
        await tx.execute(update(sessions).values(sealed=b"damaged"))
    for path in (desk.directory / "objects").rglob("??/*"):
        path.write_bytes(b"damaged")

    told = data(await report(desk, note.subject))

    assert told["tables"]["sessions"][0]["content"] == "cannot be opened: TamperedError"
    whys = [entry["why"] for entry in told["artifacts"] if not entry["file"]]
    assert "cannot be opened: TamperedError" in whys


@pytest.mark.anyio
async def test_the_page_escapes_what_people_wrote(desk: Desk) -> None:
    """Words of a stranger must not run in the browser of whoever reads the report."""
    await desk.consents()
    note = await spoke(desk)

    page = (await report(desk, note.subject))["index.html"].decode()

    assert "dpo &lt;b&gt;" in page
    assert "<b>" not in page
