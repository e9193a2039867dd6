"""What a withdrawal undoes: work stops, what is kept goes, what is known is forgotten."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from support.desk import RAW_AUDIO_S, TENANT, WORDS, Desk
from support.erasing import Eraser

from audit.evidence import erasure as evidence
from audit.model import EventType
from audit.verify import parse_vkey
from gateway import erasure, phrases, turns
from gateway.erasure import Scope
from gateway.errors import ConsentNeededError, LeaseLostError
from gateway.jobs import TAKEN_BACK, WITHDRAWN, Job, State
from gateway.note import Note, artifact
from gateway.persons import link
from gateway.schema import sessions
from gateway.sections import Consents
from gateway.subjects import declare
from gateway.sweeper import LEFT_WITHIN, Sweeper
from gateway.whatsapp.payload import Identity, Revoked, Text
from residency.model import Processor, Transcript
from vault.model import Artifact, Kind, Label
from vault.tables import retention

BSUID = "DE.1234567890abcdef"


@dataclass
class Gate:
    """An engine that begins, and ends when it is told to."""

    processor: Processor
    began: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def transcribe(self, *_: Any, **__: Any) -> Transcript:
        """Wait, then answer."""
        self.began.set()
        await self.go.wait()
        return WORDS


@dataclass
class Slow:
    """A custody in which something happens between a call to `put` and its work."""

    inner: Any
    kind: Kind
    meanwhile: Callable[[], Awaitable[None]]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def put(self, content: bytes, label: Label, due: Any, **more: Any) -> Artifact:
        """Put late."""
        if label.kind is self.kind:
            await self.meanwhile()
        kept: Artifact = await self.inner.put(content, label, due, **more)
        return kept


async def act(desk: Desk, note: Note) -> None:
    """Act on *note*, and end its job."""
    await turns.act(note, desk.ports)
    await desk.ports.jobs.end(note.job, State.DONE, "answered")


async def answered(desk: Desk) -> Note:
    """Return a voice note that was answered."""
    note = await desk.spoken()
    await act(desk, note)
    return note


async def stop(desk: Desk) -> None:
    """Have ada withdraw, beside whatever is under way."""
    accepted = await desk.hear(Text(body="STOP"))
    await mark_urgent(desk, accepted)
    await act(desk, await desk.claim(accepted, "w2"))


async def mark_urgent(desk: Desk, job: str) -> None:
    """Do what the cell's inbox does with a withdrawal."""
    from gateway.schema import jobs  # noqa: PLC0415 - the name is a fixture's elsewhere

    async with desk.ports.engine.begin() as tx:
        await tx.execute(update(jobs).where(jobs.c.id == job).values(urgent=True))


async def kept(desk: Desk, note: Note) -> list[Kind]:
    """Return what is kept of *note*."""
    found = [
        (kind, await desk.ports.custody.describe(artifact(note.job.artifact, kind)))
        for kind in Kind
    ]
    return [kind for kind, described in found if described]


def say(*keys: str) -> str:
    """Return what is said."""
    return " ".join(phrases.say(key, "en") for key in keys)


@pytest.mark.anyio
async def test_a_withdrawal_stops_what_is_under_way_before_its_next_touch(desk: Desk) -> None:
    """Art. 7(3): the engine that has it already ends; nobody else gets it, nothing is kept."""
    await desk.consents()
    gate = Gate(desk.ports.processors["stt.one"])
    desk.hearing["stt.one"] = gate  # type: ignore[assignment]
    note = await desk.spoken()
    working = asyncio.create_task(turns.act(note, desk.ports))
    await gate.began.wait()
    desk.clock.move(1)

    await stop(desk)
    gate.go.set()
    with pytest.raises(LeaseLostError):
        await working

    assert await kept(desk, note) == []
    assert await desk.state(note.job.id) == ("refused", "consent.withdrawn")
    assert desk.texts() == [say("withdrawn_erased")]
    types = [(event.type, event.job, event.action) for event in desk.trail.seen]
    withdrawn = next(i for i, t in enumerate(types) if t[0] is EventType.CONSENT_WITHDRAWN)
    later = [t for t in types[withdrawn:] if t[0] is EventType.TOUCH_BEGAN]
    assert [action for _, _, action in later] == ["send-notice"]
    assert all(job != note.job.id for _, job, _ in later)


@dataclass
class Meanwhile:
    """A trail beside which something happens once, *before* or after an event is in it."""

    inner: Any
    when: Callable[[Any], bool]
    then: Callable[[], Awaitable[None]]
    before: bool = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def append(self, event: Any) -> Any:
        """Append, and do it."""
        now, self.when = self.when(event), (lambda _: False) if self.when(event) else self.when
        if now and self.before:
            await self.then()
        receipt = await self.inner.append(event)
        if now and not self.before:
            await self.then()
        return receipt


@pytest.mark.anyio
async def test_a_withdrawal_after_the_decision_leaves_no_touch_at_all(desk: Desk) -> None:
    """The decision was right when it was made: a permission is not a promise."""
    await desk.consents()
    note = await desk.spoken()
    decided: Any = Meanwhile(
        desk.trail,
        lambda event: event.type is EventType.POLICY_DECIDED and event.action == "capture",
        lambda: stop(desk),
    )
    desk.with_ports(trail=decided)

    with pytest.raises(LeaseLostError):
        await turns.act(note, desk.ports)

    assert [e.action for e in desk.trail.seen if e.touch and e.job == note.job.id] == []
    assert desk.fetched() == []


@pytest.mark.anyio
async def test_a_touch_that_began_in_the_same_moment_ends_without_a_byte(desk: Desk) -> None:
    """Between "may I" and "it began" a withdrawal fits: asked again before anything leaves."""
    await desk.consents()
    note = await desk.spoken()

    began: Any = Meanwhile(
        desk.trail,
        lambda event: event.type is EventType.TOUCH_BEGAN and event.action == "fetch",
        lambda: stop(desk),
        before=True,
    )
    desk.with_ports(trail=began)

    with pytest.raises(LeaseLostError):
        await turns.act(note, desk.ports)

    assert desk.fetched() == []
    [ended] = [e for e in desk.trail.seen if e.action == "fetch" and e.outcome]
    assert (ended.outcome, ended.detail["error"]) == ("raised", "LeaseLostError")


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Kind.RAW_AUDIO, Kind.TRANSCRIPT, Kind.REDACTED_TRANSCRIPT])
async def test_what_is_stored_while_an_erasure_runs_is_destroyed_by_its_writer(
    desk: Desk, kind: Kind
) -> None:
    """The erasure could not see the row yet; whoever wrote it knows better."""
    await desk.consents()
    note = await desk.spoken()
    custody: Any = Slow(desk.ports.custody, kind, lambda: stop(desk))
    desk.with_ports(custody=custody)

    with pytest.raises(LeaseLostError):
        await turns.act(note, desk.ports)

    assert await kept(desk, note) == []
    gone = [e for e in desk.trail.seen if e.type is EventType.ARTIFACT_DESTROYED]
    assert artifact(note.job.artifact, kind) in {event.artifact for event in gone}


@pytest.mark.anyio
async def test_a_lease_that_was_lost_to_another_worker_destroys_nothing(desk: Desk) -> None:
    """The other one goes on from what is kept."""
    await desk.consents()
    note = await desk.spoken()

    async def taken() -> None:
        desk.clock.move(120)
        assert isinstance(await desk.ports.jobs.claim(note.job.id, "w2"), Job)

    custody: Any = Slow(desk.ports.custody, Kind.RAW_AUDIO, taken)
    desk.with_ports(custody=custody)

    with pytest.raises(LeaseLostError):
        await turns.act(note, desk.ports)

    assert await kept(desk, note) == [Kind.RAW_AUDIO]


@pytest.mark.anyio
async def test_a_withdrawal_destroys_what_rests_on_the_consent_and_says_so(desk: Desk) -> None:
    """GDPR Art. 17(1)(b); on record, one leaf per artifact, with its reason."""
    await desk.consents()
    note = await answered(desk)
    assert len(await kept(desk, note)) == len(Kind)
    desk.clock.move(1)

    await stop(desk)

    assert await kept(desk, note) == []
    gone = [e for e in desk.trail.seen if e.type is EventType.ARTIFACT_DESTROYED]
    assert len(gone) == len(Kind)
    assert {event.detail["reason"] for event in gone} == {"consent.withdrawn"}
    assert desk.texts()[-1] == say("withdrawn_erased")


@pytest.mark.anyio
async def test_what_was_typed_rests_on_another_ground_and_stays(desk: Desk) -> None:
    """A withdrawal of the consent to open recordings is no request to erase everything."""
    typed = await desk.typed("Hello")
    await act(desk, typed)

    await stop(desk)

    assert await kept(desk, typed) == [Kind.REDACTED_TRANSCRIPT]


@pytest.mark.anyio
async def test_what_is_under_a_hold_stays_and_is_said(desk: Desk) -> None:
    """GDPR Art. 17(3)(e): a duty to keep is stronger; hiding that would be a lie."""
    await desk.consents()
    note = await answered(desk)
    async with desk.ports.engine.begin() as tx:
        held = retention.c.artifact == note.job.artifact
        await tx.execute(update(retention).where(held).values(hold="case-1"))
    desk.clock.move(1)

    await stop(desk)

    assert await kept(desk, note) == [Kind.RAW_AUDIO]
    assert desk.texts()[-1] == say("withdrawn_erased", "withdrawn_held")


@pytest.mark.anyio
async def test_a_tenant_may_leave_it_to_the_clocks_and_then_says_when(desk: Desk) -> None:
    """Where a law does not ask for it, the periods that were told go on."""
    settings = Consents.model_construct(withdrawal_erases=False)
    tenant = desk.ports.tenants[TENANT].model_copy(update={"consents": settings})
    desk.with_ports(tenants={TENANT: tenant})
    await desk.consents()
    note = await answered(desk)
    desk.clock.move(1)

    await stop(desk)

    assert len(await kept(desk, note)) == len(Kind)
    assert desk.texts()[-1] == say("withdrawn")


@pytest.mark.anyio
@pytest.mark.parametrize(("residence", "law"), [(None, "DE"), ("FR", "FR"), ("CH", "DE")])
async def test_a_tenant_can_only_tighten_what_the_law_says(
    desk: Desk, residence: str | None, law: str
) -> None:
    """GDPR Art. 17(1)(b) leaves no choice, whether it is the person's law or the controller's."""
    settings = Consents.model_construct(withdrawal_erases=False)
    tenant = desk.ports.tenants[TENANT].model_copy(update={"consents": settings})
    desk.with_ports(tenants={TENANT: tenant}, erasing=lambda codes: law in codes)
    await desk.consents()
    note = await answered(desk)
    if residence:
        at = desk.ports.now()
        await declare(desk.ports.engine, note.subject, TENANT, at=at, residence=residence)
    desk.clock.move(1)

    await stop(desk)

    assert await kept(desk, note) == []
    assert desk.texts()[-1] == say("withdrawn_erased")


async def died_late(desk: Desk, reason: str) -> Note:
    """Return a note that was taken back, and whose process died after storing it too late."""
    note = await desk.spoken()
    await desk.ports.jobs.discard(note.job.artifact, reason)
    due = desk.ports.now() + timedelta(seconds=RAW_AUDIO_S)
    for kind in (Kind.RAW_AUDIO, Kind.TRANSCRIPT):
        await desk.ports.custody.put(b"late", note.label(kind), due)
    return note


@pytest.mark.anyio
@pytest.mark.parametrize("reason", sorted(TAKEN_BACK))
@pytest.mark.parametrize("hours", [0, 30])
async def test_what_a_killed_process_stored_too_late_is_destroyed_at_the_next_tick(
    desk: Desk, reason: str, hours: int
) -> None:
    """Else it would lie there until its clock, and nobody had promised that."""
    note = await died_late(desk, reason)
    desk.clock.move(hours * 3600)

    for _ in range(2):
        await Sweeper(desk.ports, owner="eu-1/aa").destroy_leftovers()

    assert await kept(desk, note) == []
    gone = [e for e in desk.trail.seen if e.type is EventType.ARTIFACT_DESTROYED]
    assert len(gone) == 2
    assert {event.detail["reason"] for event in gone} == {reason}


@pytest.mark.anyio
async def test_a_later_tick_looks_at_what_ended_lately(desk: Desk) -> None:
    """The first one looked at everything: the table of jobs only grows."""
    sweeper = Sweeper(desk.ports, owner="eu-1/aa")
    await sweeper.destroy_leftovers()
    note = await died_late(desk, WITHDRAWN)
    desk.clock.move(LEFT_WITHIN.total_seconds() - 1)

    await sweeper.destroy_leftovers()

    assert await kept(desk, note) == []


@pytest.mark.anyio
async def test_leftovers_are_of_what_was_taken_back_and_not_held(desk: Desk) -> None:
    """Other people's work, other refusals and legal holds are none of its business."""
    await desk.consents()
    done, refused = await answered(desk), await died_late(desk, "window.closed")
    held = await died_late(desk, WITHDRAWN)
    async with desk.ports.engine.begin() as tx:
        mine = retention.c.artifact == held.job.artifact
        await tx.execute(update(retention).where(mine).values(hold="case-1"))

    await Sweeper(desk.ports, owner="eu-1/aa").destroy_leftovers()

    assert len(await kept(desk, done)) == len(Kind)
    assert await kept(desk, refused) == [Kind.RAW_AUDIO, Kind.TRANSCRIPT]
    assert await kept(desk, held) == [Kind.RAW_AUDIO]


@pytest.mark.anyio
async def test_an_object_that_cannot_be_deleted_does_not_hold_up_the_others(desk: Desk) -> None:
    """Its row stays, and so does the next try."""
    first = await died_late(desk, WITHDRAWN)
    for path in [p for p in (desk.directory / "objects").rglob("*") if p.is_file()]:
        path.unlink()
        path.mkdir()  # a directory is no object, and cannot be unlinked as one
    second = await died_late(desk, WITHDRAWN)

    await Sweeper(desk.ports, owner="eu-1/aa").destroy_leftovers()

    assert await kept(desk, second) == []
    ids = [artifact(first.job.artifact, kind) for kind in Kind]
    assert len(await desk.ports.custody.among(ids)) == 2


@pytest.mark.anyio
async def test_what_was_said_is_forgotten_with_the_consent(desk: Desk) -> None:
    """The memory of the conversation holds words that the consent had opened."""
    await desk.consents()
    await answered(desk)
    assert await desk.rows(sessions) != []
    desk.clock.move(1)

    await stop(desk)

    assert await desk.rows(sessions) == []


@pytest.mark.anyio
async def test_a_typed_turn_under_way_does_not_bring_the_memory_back(desk: Desk) -> None:
    """It had recalled what was said: it begins again, without."""
    await desk.consents()
    await answered(desk)
    typed = await desk.typed("Hello")
    custody: Any = Slow(desk.ports.custody, Kind.REDACTED_TRANSCRIPT, lambda: stop(desk))
    desk.with_ports(custody=custody)
    desk.clock.move(1)

    with pytest.raises(LeaseLostError):
        await turns.act(typed, desk.ports)

    assert await desk.rows(sessions) == []
    assert desk.woken[-1] == typed.job.id
    desk.with_ports(custody=custody.inner)
    await act(desk, await desk.claim(typed.job.id))
    assert len(desk.texts()) == 3


@pytest.mark.anyio
async def test_a_person_under_two_names_is_erased_under_both(desk: Desk) -> None:
    """What was sealed for the one they were before is theirs, too."""
    await desk.consents()
    note = await answered(desk)
    await desk.ports.custody.describe(note.job.artifact)
    other = desk.world.person(None, bsuid=BSUID, line=desk.line)
    assert await desk.subject(other) != note.subject
    await link(Identity(bsuid=BSUID), Identity(phone=desk.ada.phone), TENANT, desk.ports)
    assert await desk.subject() != note.subject
    desk.clock.move(1)

    await stop(desk)

    assert await kept(desk, note) == []


@pytest.mark.anyio
async def test_a_message_taken_back_while_it_is_stored_is_destroyed(desk: Desk) -> None:
    """The same holds for one message as for all."""
    await desk.consents()
    note = await desk.spoken()

    async def revoke() -> None:
        accepted = await desk.hear(Revoked(original_id=note.message.id))
        await mark_urgent(desk, accepted)
        await act(desk, await desk.claim(accepted, "w2"))

    custody: Any = Slow(desk.ports.custody, Kind.RAW_AUDIO, revoke)
    desk.with_ports(custody=custody)

    with pytest.raises(LeaseLostError):
        await turns.act(note, desk.ports)

    assert await kept(desk, note) == []


@pytest.mark.anyio
async def test_a_note_that_stop_overtook_ends_without_a_question(desk: Desk) -> None:
    """It was said before the withdrawal: asking again at once would be nagging (Art. 7(3))."""
    await desk.consents()
    queued = await desk.hear(desk.recording())
    await stop(desk)

    with pytest.raises(LeaseLostError):
        await turns.act(await desk.claim(queued), desk.ports)

    assert await desk.state(queued) == ("refused", "consent.withdrawn")
    assert [message.kind for message in desk.ada.inbox] == ["text"]
    assert desk.fetched() == []
    ended = [e for e in desk.trail.seen if e.type is EventType.JOB_ENDED and e.job == queued]
    assert [(e.outcome, e.detail["reason"]) for e in ended] == [("refused", "consent.withdrawn")]


@pytest.mark.anyio
async def test_a_note_said_after_the_withdrawal_asks_again_even_at_once(desk: Desk) -> None:
    """Who speaks again wants an answer, and that needs a consent."""
    await desk.consents()
    await stop(desk)
    note = await desk.spoken()

    with pytest.raises(ConsentNeededError):
        await turns.act(note, desk.ports)

    assert [message.kind for message in desk.ada.inbox] == ["text", "buttons"]


@pytest.mark.anyio
async def test_a_withdrawal_is_certified(eraser: Eraser) -> None:
    """Art. 17(1)(b) is a ground like any: it ends in a certificate, and the person stays known."""
    desk = eraser.desk
    await desk.consents()
    note = await answered(desk)
    kept = {a.label.artifact for a in await desk.ports.custody.of_subject(note.subject)}
    await stop(desk)

    await eraser.erasures.tick()

    [one] = await of_scope(desk, Scope.CONSENT)
    assert (one.trigger, one.verdict) == ("withdrawal", "complete-with-residuals")
    assert {ident for ident, _ in one.facts.objects} == kept
    assert await desk.ports.keys.lives(note.subject)
    document = await erasure.certificate(desk.ports.engine, one.id)
    assert document is not None
    checked = evidence.verify(document, parse_vkey(desk.trail.inner.vkey()))
    assert checked.ok, checked.findings
    residuals = json.loads(document)["certificate"]["residuals"]
    assert [each["class"] for each in residuals] == ["object-backup"]
    assert residuals[0]["until"]


@pytest.mark.anyio
async def test_a_message_that_was_taken_back_is_certified(eraser: Eraser) -> None:
    """Deleting a message at WhatsApp is an erasure of that message, and of no other."""
    desk = eraser.desk
    await desk.consents()
    note = await answered(desk)
    other = await answered(desk)
    gone = {artifact(note.job.artifact, kind) for kind in Kind}
    taken = await desk.note(Revoked(original_id=note.message.id))
    await act(desk, taken)

    await eraser.erasures.tick()

    [one] = await of_scope(desk, Scope.RECORDING)
    assert (one.trigger, one.verdict) == ("revoke", "complete-with-residuals")
    assert {ident for ident, _ in one.facts.objects} <= gone
    left = {a.label.artifact for a in await desk.ports.custody.of_subject(other.subject)}
    assert left
    assert not left & gone


@pytest.mark.anyio
async def test_what_a_crash_left_of_a_withdrawal_is_finished(eraser: Eraser) -> None:
    """The worker dies after it began: the erasure is open, and nobody has to ask again."""
    desk = eraser.desk
    await desk.consents()
    note = await answered(desk)
    died = []

    class Dying(Slow):
        async def destroy(self, *_: Any, **__: Any) -> None:
            died.append(1)
            raise SystemExit

    whole = desk.ports.custody
    desk.with_ports(custody=Dying(whole, Kind.RAW_AUDIO, nothing))
    with pytest.raises(SystemExit):
        await stop(desk)
    assert died
    assert await whole.of_subject(note.subject)

    await eraser.erasures.tick()

    assert await whole.of_subject(note.subject) == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("scope", "reason"),
    [(Scope.CONSENT, "consent.withdrawn"), (Scope.RECORDING, "person.revoked")],
)
async def test_whoever_destroys_it_says_why_it_goes(
    eraser: Eraser, scope: Scope, reason: str
) -> None:
    """The erasures' tick may be quicker than the worker; a withdrawal does not erase a person."""
    desk = eraser.desk
    await desk.consents()
    note = await answered(desk)
    kept = {a.label.artifact for a in await desk.ports.custody.of_subject(note.subject)}
    ticked = []

    class Overtaken(Slow):
        async def destroy(self, *given: Any, **more: Any) -> Any:
            if not ticked:
                ticked.append(1)
                await eraser.erasures.tick()
            return await self.inner.destroy(*given, **more)

    desk.with_ports(custody=Overtaken(desk.ports.custody, Kind.RAW_AUDIO, nothing))
    if scope is Scope.CONSENT:
        await stop(desk)
    else:
        await act(desk, await desk.note(Revoked(original_id=note.message.id)))

    assert ticked
    gone = [e for e in desk.trail.seen if e.type is EventType.ARTIFACT_DESTROYED]
    assert {event.artifact for event in gone} == kept
    assert {event.detail["reason"] for event in gone} == {reason}


async def nothing() -> None:
    """Do nothing."""


async def of_scope(desk: Desk, scope: Scope) -> list[erasure.Erasure]:
    """Return the erasures of *scope*."""
    rows = await erasure.summaries(desk.ports.engine)
    found = [await erasure.find(desk.ports.engine, row["erasure"]) for row in rows]
    return [one for one in found if one is not None and one.scope is scope]
