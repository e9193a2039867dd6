"""What the gateway puts on record: each fact once, with its basis, about no person in clear."""

import json
from datetime import timedelta

import pytest
from support.desk import PHONE, Desk

from audit.personal import WITHHELD
from audit.trail import Trail
from gateway import record
from vault.model import Kind


async def leaves(trail: Trail) -> list[dict[str, object]]:
    """Return every leaf as stored."""
    _, head = await trail.reader().head()
    return [json.loads(entry) for entry in await trail.reader().entries(0, head.size)]


@pytest.mark.anyio
async def test_an_update_is_accepted_once_however_often_it_is_tried(
    desk: Desk, trail: Trail
) -> None:
    """Each try of a job begins with it."""
    note = await desk.spoken()

    await record.accepted(note, desk.ports)
    desk.clock.move(60)
    await record.accepted(note, desk.ports)

    [leaf] = await leaves(trail)
    assert leaf["type"] == "job.accepted"
    assert leaf["detail"] == {"what": "voicenote"}
    assert (leaf["artifact"], leaf["subject"]) == (note.job.artifact, note.subject)
    assert PHONE not in json.dumps(leaf)


@pytest.mark.anyio
async def test_custody_is_recorded_with_its_commitment_and_clock(desk: Desk, trail: Trail) -> None:
    """A stranger can later hold the container against the commitment, and the clock to its word."""
    note = await desk.spoken()
    due = desk.clock() + timedelta(hours=1)
    kept = await desk.ports.custody.put(b"sound", note.label(Kind.RAW_AUDIO), due)

    for _ in range(2):
        await record.kept(note, kept, desk.ports)

    [leaf] = await leaves(trail)
    assert leaf["type"] == "artifact.stored"
    assert leaf["region"] == "eu-central"
    assert leaf["detail"] == {
        "basis": "observed",
        "bytes": 5,
        "commitment": kept.commitment,
        "due": int(due.timestamp()),
        "kind": "raw_audio",
    }


@pytest.mark.anyio
async def test_a_destruction_says_how_how_late_and_whether_it_was_checked(
    desk: Desk, trail: Trail
) -> None:
    """A deletion without a read that failed is a belief."""
    note = await desk.spoken()
    due = desk.clock() + timedelta(seconds=10)
    kept = await desk.ports.custody.put(b"sound", note.label(Kind.RAW_AUDIO), due)
    desk.clock.move(15)
    stone = await desk.ports.custody.destroy(kept, reason="retention.expired")

    for _ in range(2):
        await record.destroyed(stone, desk.ports.trail)

    [leaf] = await leaves(trail)
    assert (leaf["type"], leaf["outcome"]) == ("artifact.destroyed", "verified")
    detail = leaf["detail"]
    assert isinstance(detail, dict)
    assert (detail["late_seconds"], detail["verified"], detail["methods"]) == (
        5,
        True,
        ["object-deleted"],
    )


@pytest.mark.anyio
async def test_a_code_as_long_as_a_number_does_not_keep_a_job_from_ending(
    desk: Desk, trail: Trail
) -> None:
    """Graph has codes of seven digits: the log withholds one, and the job is over all the same."""
    note = await desk.typed()

    await record.ended(note.job, "refused", "2494100", desk.ports.trail, desk.clock())

    [leaf] = await leaves(trail)
    assert leaf["detail"] == {"reason": WITHHELD}


@pytest.mark.anyio
async def test_the_first_record_of_an_end_counts(desk: Desk, trail: Trail) -> None:
    """A job that ended twice would be evidence for two stories."""
    note = await desk.typed()

    await record.ended(note.job, "done", "answered", desk.ports.trail, desk.clock())
    await record.ended(note.job, "buried", "late", desk.ports.trail, desk.clock())

    [leaf] = await leaves(trail)
    assert (leaf["outcome"], leaf["detail"]) == ("done", {"reason": "answered"})
