"""Ask before acting: every decision is on record before anything happens, and only yes is yes."""

from dataclasses import replace
from typing import Any

import pytest
from support.desk import TENANT, Desk

from audit.errors import AppendError
from audit.model import EventType
from gateway import hearing, permit
from gateway.errors import ConsentNeededError, DeniedError, MisplacedError, UndecidedError
from gateway.note import SPOKEN
from gateway.permit import permitted
from gateway.session import Memory
from policy.model import TRANSFER_ABROAD, ConsentState, Decision, Question, Stage, Undecided


@pytest.mark.anyio
async def test_a_decision_is_on_record_with_what_makes_it_replayable(desk: Desk) -> None:
    """Years later somebody asks why this recording was opened."""
    await desk.consents()
    note = await desk.spoken()

    allowed = await permitted(note, Stage.TRANSCRIBE, desk.ports)

    [event] = [e for e in desk.trail.seen if e.type is EventType.POLICY_DECIDED]
    proof = allowed.provenance
    assert (event.id, event.decision, event.outcome) == (proof.id, proof.id, "allowed")
    assert (event.action, event.job, event.subject) == ("transcribe", note.job.id, note.subject)
    assert event.detail == {
        "answer_sha256": proof.answer_sha256,
        "controller_jurisdiction": "DE",
        "data_sha256": proof.data_sha256,
        "engine": proof.engine,
        "input_sha256": proof.input_sha256,
        "jurisdiction": "DE",
        "jurisdiction_evidence": "number",
        "reasons": [],
        "revision": proof.revision,
    }
    assert {len(d) for d in (proof.answer_sha256, proof.input_sha256, proof.data_sha256)} == {64}


@pytest.mark.anyio
async def test_no_consent_means_ask_and_the_media_host_hears_nothing(desk: Desk) -> None:
    """The first promise to a person: unopened means not even fetched."""
    note = await desk.spoken()

    with pytest.raises(ConsentNeededError, match=r"consent\.missing"):
        await hearing.words(note, Memory(), desk.ports)

    assert desk.fetched() == []
    assert desk.types() == ["policy.decided capture"]
    assert desk.trail.seen[0].outcome == "denied"


@pytest.mark.anyio
@pytest.mark.parametrize("state", [ConsentState.REFUSED, ConsentState.WITHDRAWN])
async def test_a_no_can_be_lifted_by_the_person_alone(desk: Desk, state: ConsentState) -> None:
    """It is a reason to ask, never a reason to go on."""
    await desk.consents(state)
    note = await desk.spoken()

    with pytest.raises(ConsentNeededError, match=rf"consent\.{state}"):
        await permitted(note, Stage.CAPTURE, desk.ports)


@pytest.mark.anyio
async def test_a_no_of_the_law_is_final(desk: Desk) -> None:
    """Asking for consent cannot make a processor lawful, so nobody is asked."""
    await desk.consents()
    note = await desk.spoken()
    minor = replace(note, minor=True)

    with pytest.raises(DeniedError):
        await permitted(minor, Stage.TRANSCRIBE, desk.ports)


@pytest.mark.anyio
async def test_a_missing_consent_beside_another_no_asks_nobody(desk: Desk) -> None:
    """A consent that would not help is not asked for."""
    note = await desk.spoken()
    minor = replace(note, minor=True)

    with pytest.raises(DeniedError) as denied:
        await permitted(minor, Stage.TRANSCRIBE, desk.ports)

    assert "consent.missing" in denied.value.reasons


@pytest.mark.anyio
async def test_a_cell_in_the_wrong_place_is_nobodys_refusal(desk: Desk) -> None:
    """The operator's fault is told from a person's, so that what they wrote can wait."""
    note = await desk.spoken()

    with pytest.raises(MisplacedError) as misplaced:
        await permitted(replace(note, region="us-east"), Stage.CAPTURE, desk.ports)

    assert "region.foreign" in misplaced.value.reasons


@pytest.mark.anyio
async def test_undecided_is_no_yes_and_is_on_record(desk: Desk) -> None:
    """An engine that does not answer must not be read as one that agrees."""
    await desk.consents()
    note = await desk.spoken()
    decide = desk.ports.decide

    async def silent(question: Question, *kept: Any) -> Decision:
        decided = await decide(question, *kept)
        return Undecided(reasons=("engine.late",), provenance=decided.provenance)

    desk.with_ports(decide=silent)
    with pytest.raises(UndecidedError, match=r"engine\.late"):
        await hearing.words(note, Memory(), desk.ports)

    assert desk.fetched() == []
    assert [event.outcome for event in desk.trail.seen] == ["undecided"]


@pytest.mark.anyio
async def test_a_decision_that_cannot_be_recorded_allows_nothing(desk: Desk) -> None:
    """No evidence, no touch, from the first step on."""
    await desk.consents()
    note = await desk.spoken()
    desk.trail.refuses = lambda event: event.type is EventType.POLICY_DECIDED

    with pytest.raises(AppendError):
        await hearing.words(note, Memory(), desk.ports)

    assert desk.fetched() == []


@pytest.mark.anyio
async def test_a_withdrawal_acts_on_the_next_decision(desk: Desk) -> None:
    """Fast facts are read when they are needed, not when the job began."""
    await desk.consents()
    note = await desk.spoken()
    await permitted(note, Stage.CAPTURE, desk.ports)
    desk.clock.move(1)
    await desk.consents(ConsentState.WITHDRAWN)

    with pytest.raises(ConsentNeededError):
        await permitted(note, Stage.TRANSCRIBE, desk.ports)


@pytest.mark.anyio
async def test_typed_words_need_no_consent_for_recordings(desk: Desk) -> None:
    """Who refused the microphone can still write."""
    note = await desk.typed()

    assert (await permitted(note, Stage.REPLY, desk.ports)).processors == ("msg.here",)
    assert await desk.ports.consents.newest(TENANT, note.subject, SPOKEN) is None


def test_only_reasons_of_consent_are_askable() -> None:
    """A reason that no answer can lift would ask a person for nothing."""
    families = {reason.partition(".")[0] for reason in permit.ASKABLE}

    assert families == {"consent", "notice"}


@pytest.mark.anyio
@pytest.mark.parametrize("matters", [True, False])
async def test_a_transfer_consent_is_read_where_it_could_matter(
    desk: Desk,
    matters: bool,  # noqa: FBT001
) -> None:
    """What no rule of this deployment may use is not looked up about a person."""
    await desk.consents()
    note = await desk.spoken()
    given = replace(
        await desk.ports.consents.newest(TENANT, note.subject, SPOKEN),
        id="c_transfer",
        purpose=TRANSFER_ABROAD,
    )
    await desk.ports.consents.record(given)
    decide, asked = desk.ports.decide, []

    async def seen(question: Question, *kept: Any) -> Decision:
        asked.append(question.transfer_consent)
        return await decide(question, *kept)

    desk.with_ports(decide=seen, asks_transfer_consent=matters)
    await permitted(note, Stage.TRANSCRIBE, desk.ports)

    assert asked == [given if matters else None]
