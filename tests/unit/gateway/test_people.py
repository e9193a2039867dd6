"""What a DPO may ask and declare of a person, by pseudonym, while the cell runs."""

import pytest
from support.desk import TENANT, Desk

from gateway import subjects
from gateway.compose import people
from gateway.compose.people import UnknownSubjectError
from policy.model import ConsentState


@pytest.mark.anyio
async def test_history_shows_every_word_in_order(desk: Desk) -> None:
    """Art. 7(1): what was shown, when, and how it was answered."""
    await desk.consents()
    desk.clock.move(1)
    await desk.consents(ConsentState.WITHDRAWN)

    rows = await people.history(desk.ports.engine, await desk.subject())

    assert [row["state"] for row in rows] == ["granted", "withdrawn"]
    assert rows[0]["at"] == "2026-11-19T14:00:00+00:00"
    assert rows[0]["notice_sha256"] == "0" * 64


@pytest.mark.anyio
async def test_what_is_declared_is_said_back_and_kept(desk: Desk) -> None:
    """The next note is judged by it."""
    subject = await desk.subject()

    [told] = await people.declare(desk.ports.engine, subject, residence="FR", minor=True)

    assert told == {"subject": subject, "residence": "FR", "minor": True}
    found = await subjects.declared(desk.ports.engine, subject)
    assert (found.residence, found.minor) == ("FR", True)
    assert await subjects.known(desk.ports.engine, subject) == TENANT


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("residence", "minor", "says"),
    [("XX", None, "country"), ("Germany", None, "country"), (None, None, "nothing")],
)
async def test_what_cannot_be_declared_is_refused(
    desk: Desk,
    residence: str | None,
    minor: bool | None,  # noqa: FBT001 - a table's column
    says: str,
) -> None:
    """A residence that no law knows would stop every later note of the person."""
    with pytest.raises(UnknownSubjectError, match=says):
        await people.declare(
            desk.ports.engine, await desk.subject(), residence=residence, minor=minor
        )


@pytest.mark.anyio
async def test_nobody_is_declared_anything(desk: Desk) -> None:
    """A mistyped pseudonym must not look like a success."""
    with pytest.raises(UnknownSubjectError):
        await people.declare(desk.ports.engine, "s_nobody", residence="DE", minor=None)
    with pytest.raises(UnknownSubjectError):
        await people.history(desk.ports.engine, "s_nobody")
