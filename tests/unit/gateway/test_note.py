"""A job opened: pseudonyms lead to one person, and to nobody else."""

import asyncio
from dataclasses import replace

import msgspec
import pytest
from support.desk import PHONE, TENANT, Desk

from gateway.errors import LeaseLostError
from gateway.jobs import State
from gateway.note import SPOKEN, TYPED, artifact, opened
from gateway.persons import link, pseudonym
from gateway.schema import aliases
from gateway.whatsapp.payload import Choice, Edited, Identity, Reaction, Text
from vault.model import Kind

BSUID = "DE.1234567890abcdef"
NEW_PHONE = "4915112345679"


@pytest.mark.anyio
async def test_a_phone_a_user_id_and_both_lead_to_one_subject(desk: Desk) -> None:
    """WhatsApp names the same person in three ways; a withdrawal must reach all of them."""
    first = await pseudonym(Identity(phone=PHONE), TENANT, desk.ports)
    both = await pseudonym(Identity(phone=PHONE, bsuid=BSUID), TENANT, desk.ports)
    later = await pseudonym(Identity(bsuid=BSUID), TENANT, desk.ports)

    assert first == both == later
    assert len(bytes.fromhex(first.removeprefix("s_"))) == 16


@pytest.mark.anyio
async def test_another_person_and_another_tenant_are_another_subject(desk: Desk) -> None:
    """Two controllers must not be able to tell that they know the same person."""
    found = {
        await pseudonym(Identity(phone=PHONE), TENANT, desk.ports),
        await pseudonym(Identity(phone=NEW_PHONE), TENANT, desk.ports),
        await pseudonym(Identity(phone=PHONE), "other", desk.ports),
    }

    assert len(found) == 3


@pytest.mark.anyio
async def test_a_user_id_that_reads_like_a_phone_is_not_that_phone(desk: Desk) -> None:
    """Kinds of names are kept apart in the key."""
    phone = await pseudonym(Identity(phone=PHONE), TENANT, desk.ports)

    assert await pseudonym(Identity(bsuid=PHONE), TENANT, desk.ports) != phone


@pytest.mark.anyio
async def test_two_first_messages_at_once_are_one_person(desk: Desk) -> None:
    """Two workers may meet somebody new in the same moment."""
    found = await asyncio.gather(
        *(pseudonym(Identity(phone=PHONE, bsuid=BSUID), TENANT, desk.ports) for _ in range(8))
    )

    assert len(set(found)) == 1


@pytest.mark.anyio
async def test_a_new_number_leads_to_the_same_subject(desk: Desk) -> None:
    """Consent and its withdrawal belong to the person, not to the number."""
    old = await pseudonym(Identity(phone=PHONE), TENANT, desk.ports)

    await link(Identity(phone=PHONE), Identity(phone=NEW_PHONE, bsuid=BSUID), TENANT, desk.ports)

    assert await pseudonym(Identity(phone=NEW_PHONE), TENANT, desk.ports) == old
    assert await pseudonym(Identity(bsuid=BSUID), TENANT, desk.ports) == old


@pytest.mark.anyio
async def test_nothing_personal_is_in_clear_on_the_disk(desk: Desk) -> None:
    """Who steals the disk learns no number, no words and no message id."""
    note = await desk.typed("the canary sings at noon")
    await link(note.message.sender, Identity(phone=NEW_PHONE), TENANT, desk.ports)
    wamid = note.message.id.removeprefix("wamid.")
    await desk.ports.jobs.later(note.job, 0)
    await desk.ports.engine.dispose()

    written = b"".join(path.read_bytes() for path in desk.directory.rglob("*") if path.is_file())

    assert len(written) > 10_000
    for canary in (PHONE, NEW_PHONE, wamid, "canary sings"):
        assert canary.encode() not in written
    assert note.subject.encode() in written, "the search finds what is there"


@pytest.mark.anyio
async def test_an_opened_note_says_whose_it_is_and_whose_law_holds(desk: Desk) -> None:
    """Everything decided later rests on these."""
    note = await desk.spoken()

    assert note.subject == await desk.subject()
    assert (note.jurisdiction.code, note.jurisdiction.evidence) == ("DE", "number")
    assert (note.tenant.id, note.region) == (TENANT, "eu-central")
    assert {row.subject for row in await desk.rows(aliases)} == {note.subject}


@pytest.mark.anyio
async def test_a_body_that_is_gone_is_not_worked_on(desk: Desk) -> None:
    """The job ended while we were about to open it: somebody else held it."""
    note = await desk.typed()
    await desk.ports.jobs.end(note.job, State.DONE, "answered")

    with pytest.raises(LeaseLostError):
        await opened(note.job, desk.ports)


@pytest.mark.anyio
async def test_whom_nothing_locates_is_worked_for_as_of_no_country(desk: Desk) -> None:
    """A user id that names no country is no reason for silence: the rules hold to the strictest."""
    nobody = await desk.hear(Text(body="Hello"), desk.world.person(None, bsuid="x", line=desk.line))

    note = await desk.claim(nobody)

    assert (note.jurisdiction.code, note.jurisdiction.evidence) == ("ZZ", "none")


@pytest.mark.anyio
async def test_only_a_recording_needs_the_consent_for_recordings(desk: Desk) -> None:
    """Typed words are answered on another legal basis than a voice is opened on."""
    note = await desk.spoken()
    typed = replace(note, message=msgspec.structs.replace(note.message, content=Text(body="Hi")))

    assert (note.spoken, note.purpose, note.typed) == (True, SPOKEN, "")
    assert (typed.spoken, typed.purpose, typed.typed) == (False, TYPED, "Hi")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (Text(body="one"), "one"),
        (Edited(original_id="wamid.1", body="two"), "two"),
        (Edited(original_id="wamid.1", body=None), ""),
        (Choice(id="x", title="three"), "three"),
        (Reaction(message_id="wamid.1", emoji="x"), ""),
    ],
    ids=lambda given: type(given).__name__,
)
@pytest.mark.anyio
async def test_typed_words_are_found_wherever_they_are_typed(
    desk: Desk, content: Text, words: str
) -> None:
    """An edit and a pressed button are typing too."""
    assert (await desk.note(content)).typed == words


def test_ids_of_derived_artifacts_are_repeatable_and_distinct() -> None:
    """A second run after a crash must find what the first one kept."""
    found = {kind: artifact("a_1", kind) for kind in Kind}

    assert found[Kind.RAW_AUDIO] == "a_1"
    assert len(set(found.values())) == len(Kind)
    assert found == {kind: artifact("a_1", kind) for kind in Kind}
    assert all(len(each) <= 34 for each in found.values())
