"""An erasure as a whole: nothing of the person is left that a test could think of."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update
from support.custody import FaultyObjects
from support.desk import PHONE, TENANT, Desk
from support.erasing import Eraser, eraser_of

from audit.evidence import erasure as evidence
from audit.model import EventType
from audit.verify import parse_vkey
from gateway import erasure, holdings, turns
from gateway.erasure import STEPS, ErasureError
from gateway.errors import JournalError, LeaseLostError
from gateway.holdings import COVERAGE, KEPT_AS_PROOF
from gateway.jobs import ERASED, State
from gateway.note import Note
from gateway.persons import pseudonym
from gateway.schema import aliases, inbox, jobs, metadata, replies, sessions
from gateway.whatsapp.payload import Identity, Text
from policy.consents.tables import metadata as consent_tables
from vault.errors import GoneError
from vault.model import Kind
from vault.tables import metadata as custody_tables
from vault.tables import retention, subject_keys


async def spoke(desk: Desk) -> Note:
    """Return a voice note of ada's that was answered; everything there can be is kept."""
    await desk.consents()
    note = await desk.spoken()
    await turns.act(note, desk.ports)
    await desk.ports.jobs.end(note.job, State.DONE, "answered")
    return note


async def verdict(eraser: Eraser, ident: str) -> dict[str, object]:
    """Return the verified certificate of *ident*."""
    document = await erasure.certificate(eraser.desk.ports.engine, ident)
    assert document is not None
    key = parse_vkey(eraser.desk.trail.inner.vkey())
    checked = evidence.verify(document, key)
    assert checked.ok, checked.findings
    made: dict[str, object] = json.loads(document)["certificate"]
    return made


@pytest.mark.anyio
async def test_an_erased_person_is_found_nowhere(eraser: Eraser) -> None:
    """What the selector found before is gone after it, but what another ground keeps."""
    desk = eraser.desk
    note = await spoke(desk)
    before = await holdings.holdings(note.subject, TENANT, desk.ports)
    kinds = {copy.kind for copy in before.copies}
    assert kinds >= {"transcript", "sessions", "replies", "jobs", "aliases", "subject_keys"}

    one = await eraser.erased(note.subject)

    after = await holdings.holdings(
        note.subject, TENANT, desk.ports, known=before.subjects, jobs_of=before.jobs
    )
    assert {copy.kind for copy in after.copies} <= KEPT_AS_PROOF.keys()
    assert one.verdict == "complete-with-residuals"
    assert [step for step, _ in one.facts.steps] == list(STEPS)
    assert eraser.forgotten == list(before.jobs)


@pytest.mark.anyio
async def test_nothing_that_was_sealed_opens(eraser: Eraser) -> None:
    """Ciphertext, rows and keys that somebody copied before are of no use afterwards."""
    desk = eraser.desk
    note = await spoke(desk)
    ports = desk.ports
    kept = await ports.custody.of_subject(note.subject)
    sealed = await ports.custody.seal_small(note.subject, "x", b"secret")
    async with ports.engine.connect() as tx:
        query = select(subject_keys).where(subject_keys.c.subject == note.subject)
        copied = (await tx.execute(query)).one()
    assert kept

    await eraser.erased(note.subject)
    async with ports.engine.begin() as tx:  # yesterday's row is put back
        values = {"ciphertext": copied.ciphertext, "destroyed_at": None, "version": copied.version}
        await tx.execute(update(subject_keys).values(**values))

    ports.keys.forget(note.subject)
    with pytest.raises(Exception, match="destroyed") as caught:
        await ports.custody.open_small(note.subject, "x", sealed)
    assert type(caught.value).__name__ == "KeyLostError"
    for artifact in kept:
        with pytest.raises(GoneError):
            await ports.custody.open(artifact)
    assert not list((desk.directory / "objects").rglob("??/*"))


@pytest.mark.anyio
async def test_the_certificate_verifies_offline_and_says_what_was_done(eraser: Eraser) -> None:
    """Twelve parts, signed, in the log; a stranger needs the log's key and nothing else."""
    note = await spoke(eraser.desk)

    one = await eraser.erased(note.subject)

    made = await verdict(eraser, one.id)
    assert set(evidence.PARTS) <= made.keys()
    trials = {trial["name"]: trial["held"] for trial in made["trials"]}  # type: ignore[attr-defined]
    assert trials == dict.fromkeys(evidence.TRIALS, True)
    scope = {copy["class"] for copy in made["scope"]}  # type: ignore[attr-defined]
    assert {"transcript", "aliases", "jobs", "subject_keys"} <= scope
    assert PHONE not in json.dumps(made)
    left = {each["class"]: each for each in made["residuals"]}  # type: ignore[attr-defined]
    assert "together with a backup of the database" in left["key-service-snapshot"]["detail"]
    assert left["database-backup-intake"]["until"] > left["key-service-snapshot"]["until"]
    assert set(made["identity"]["leaves"]) == {"requested", "executed", "hardened"}  # type: ignore[index]


@pytest.mark.anyio
async def test_the_steps_are_on_record_in_order(eraser: Eraser) -> None:
    """The log tells an auditor when each speed of the erasure was reached."""
    note = await spoke(eraser.desk)

    one = await eraser.erased(note.subject)

    mine = [e for e in eraser.desk.trail.seen if e.artifact == one.id]
    assert [event.type for event in mine if event.type.value.startswith("erasure.")][:3] == [
        EventType.ERASURE_REQUESTED,
        EventType.ERASURE_EXECUTED,
        EventType.ERASURE_HARDENED,
    ]
    assert mine[-1].type is EventType.ERASURE_CERTIFIED


@pytest.mark.anyio
async def test_without_a_roll_nothing_is_certified(eraser: Eraser) -> None:
    """Until the bucket is rolled, yesterday's backup of the key table opens what was deleted."""
    note = await spoke(eraser.desk)
    ident = await eraser.ask(note.subject, urgent=False)

    await eraser.erasures.tick()
    await eraser.harden()

    one = await eraser.found(ident)
    assert one.executed_at is not None
    assert (one.hardened_at, one.certified_at) == (None, None)
    eraser.desk.clock.move(timedelta(hours=24).total_seconds())
    await eraser.harden()
    assert (await eraser.found(ident)).certified


@pytest.mark.anyio
@pytest.mark.parametrize("step", STEPS)
async def test_a_crash_at_any_step_is_gone_on_from(eraser: Eraser, step: str) -> None:
    """A process that dies half-way leaves an erasure that the next one finishes."""
    desk = eraser.desk
    note = await spoke(desk)
    ident = await eraser.ask(note.subject)
    died = []

    def die(name: str) -> None:
        if name == f"erasure.{step}" and not died:
            died.append(name)
            raise SystemExit

    eraser.erasures.reached = die
    with pytest.raises(SystemExit):
        await eraser.erasures.advance(ident)
    assert died == [f"erasure.{step}"]

    fresh = eraser_of(desk)
    await fresh.erasures.tick()
    await fresh.harden()

    one = await fresh.found(ident)
    assert one.certified
    assert one.verdict == "complete-with-residuals"
    await verdict(fresh, ident)


@pytest.mark.anyio
@pytest.mark.parametrize("step", STEPS)
async def test_a_step_whose_note_was_lost_is_done_again(eraser: Eraser, step: str) -> None:
    """Done, but told otherwise: each step may be repeated, and what it found before stays found."""
    desk = eraser.desk
    note = await spoke(desk)
    ident = await eraser.ask(note.subject)
    await eraser.erasures.advance(ident)
    done = await eraser.found(ident)
    earlier = ("", *STEPS)[("", *STEPS).index(step) - 1]
    await erasure.note(desk.ports.engine, ident, step=earlier)

    await eraser.erasures.tick()
    await eraser.harden()

    one = await eraser.found(ident)
    assert one.certified
    assert {copy.kind for copy in one.facts.found} >= {copy.kind for copy in done.facts.found}
    assert set(one.facts.jobs) == set(done.facts.jobs)


@pytest.mark.anyio
async def test_the_number_leads_to_somebody_new(eraser: Eraser) -> None:
    """Who writes after an erasure is served like anybody, and is nobody's old acquaintance."""
    desk = eraser.desk
    note = await spoke(desk)
    await eraser.erased(note.subject)
    desk.clock.move(5)

    later = await desk.claim(await desk.hear(Text(body="hello again")))

    assert later.subject != note.subject
    assert await desk.state(later.job.id) == ("accepted", "")


@pytest.mark.anyio
async def test_what_was_written_before_is_barred(eraser: Eraser) -> None:
    """WhatsApp delivers again for days, brokers and backups longer: it comes too late."""
    desk = eraser.desk
    note = await spoke(desk)
    late = await desk.hear(Text(body="written before"))
    await eraser.erased(note.subject)

    with pytest.raises(LeaseLostError):
        await desk.claim(late)

    assert await desk.state(late) == ("refused", ERASED)
    async with desk.ports.engine.connect() as tx:
        assert (await tx.execute(select(func.count()).select_from(aliases))).scalar_one() == 0
        row = (await tx.execute(select(inbox.c.sealed).where(inbox.c.job == late))).one()
    assert row.sealed is None


@pytest.mark.anyio
async def test_a_job_opened_while_the_tombstone_goes_up_is_barred(eraser: Eraser) -> None:
    """The worker has looked, the erasure stops what it finds: one of the two has to notice."""
    desk = eraser.desk
    note = await spoke(desk)
    late = await desk.hear(Text(body="at the same moment"))
    ident = await eraser.ask(note.subject)
    inner, ran = desk.ports.jobs.identify, []

    async def meanwhile(job: object, subject: str | None, purpose: str = "") -> None:
        if not ran:
            ran.append(subject)
            await eraser.erasures.advance(ident)
        await inner(job, subject, purpose)  # type: ignore[arg-type]

    desk.ports.jobs.identify = meanwhile  # type: ignore[method-assign]
    with pytest.raises(LeaseLostError):
        await desk.claim(late)

    assert ran == [note.subject]
    assert await desk.state(late) == ("refused", ERASED)
    async with desk.ports.engine.connect() as tx:
        assert (await tx.execute(select(jobs.c.subject).where(jobs.c.id == late))).scalar() is None


@pytest.mark.anyio
async def test_work_under_way_is_stopped_and_writes_nothing(eraser: Eraser) -> None:
    """A worker that holds plaintext of the erased must not bring any of it back."""
    desk = eraser.desk
    await desk.consents()
    note = await desk.spoken()
    await eraser.erased(note.subject)

    with pytest.raises(LeaseLostError):
        await turns.act(note, desk.ports)

    for table in (jobs, replies, sessions):
        async with desk.ports.engine.connect() as tx:
            rows = (await tx.execute(select(func.count()).select_from(table))).scalar_one()
        assert rows == 0
    assert not list((desk.directory / "objects").rglob("??/*"))


@pytest.mark.anyio
async def test_every_alias_is_one_person(eraser: Eraser) -> None:
    """Phone, business-scoped id and an earlier number lead to one subject: all of it goes."""
    desk = eraser.desk
    note = await spoke(desk)
    both = Identity(phone=PHONE, bsuid="DE.1234567890abcdef")
    alone = await pseudonym(Identity(phone=None, bsuid="DE.1234567890abcdef"), TENANT, desk.ports)
    await desk.ports.custody.seal_small(alone, "x", b"of the other identity")
    subject = await pseudonym(both, TENANT, desk.ports)

    one = await eraser.erased(subject)

    assert set(one.facts.subjects) == {alone, note.subject}
    for each in one.facts.subjects:
        assert not await desk.ports.keys.lives(each)


@pytest.mark.anyio
async def test_what_the_journal_cannot_take_is_not_erased(eraser: Eraser) -> None:
    """An erasure that no journal knows would come undone by the next restore."""
    desk = eraser.desk
    note = await spoke(desk)
    ident = await eraser.ask(note.subject)
    eraser.erasures.journal = type(eraser.erasures.journal)(
        desk.directory / "nowhere" / "x", desk.ports.custody.objects
    )

    with pytest.raises(JournalError):
        await eraser.erasures.advance(ident)

    assert (await eraser.found(ident)).step == ""
    assert await desk.ports.keys.lives(note.subject)


@pytest.mark.anyio
async def test_a_failure_leaves_the_erasure_open(eraser: Eraser) -> None:
    """A tick that fails is a tick later, never an erasure that looks done."""
    desk = eraser.desk
    note = await spoke(desk)
    ident = await eraser.ask(note.subject)
    desk.trail.refuses = lambda event: event.type is EventType.ERASURE_EXECUTED
    await eraser.erasures.tick()
    assert (await eraser.found(ident)).executed_at is None
    desk.trail.refuses = lambda _event: False

    await eraser.erasures.tick()
    await eraser.harden()

    assert (await eraser.found(ident)).certified


@pytest.mark.anyio
async def test_what_a_hold_keeps_is_a_residual_with_its_ground(eraser: Eraser) -> None:
    """GDPR Art. 17(3)(e): held data stays, is named, and goes when the hold is over."""
    desk = eraser.desk
    note = await spoke(desk)
    [kept] = [a for a in await desk.ports.custody.of_subject(note.subject)
              if a.label.kind is Kind.TRANSCRIPT]  # fmt: skip
    async with desk.ports.engine.begin() as tx:
        held = update(retention).where(retention.c.artifact == kept.label.artifact)
        await tx.execute(held.values(hold="case-1"))

    one = await eraser.erased(note.subject)

    made = await verdict(eraser, one.id)
    residuals = {each["class"]: each for each in made["residuals"]}  # type: ignore[attr-defined]
    assert residuals["transcript"]["ground"] == "GDPR Art. 17(3)(e)"
    assert residuals["transcript"]["ids"] == [kept.label.artifact]
    assert one.verdict == "complete-with-residuals"


@pytest.mark.anyio
async def test_a_copy_that_can_still_be_read_is_a_failure(eraser: Eraser) -> None:
    """The negative tests decide, not the steps: what is found is told, and looks undone."""
    desk = eraser.desk
    note = await spoke(desk)
    kept = await desk.ports.custody.of_subject(note.subject)
    ident = await eraser.ask(note.subject)
    await eraser.erasures.tick()
    names = [name for _, name in (await eraser.found(ident)).facts.objects]
    await desk.ports.custody.objects.put(names[0], b"a copy that somebody put back")
    assert kept

    await eraser.harden()

    one = await eraser.found(ident)
    assert (one.verdict, one.certified) == ("failed", False)
    assert erasure.summary(one)["done"] is False
    await verdict(eraser, ident)

    await desk.ports.custody.objects.delete(names[0])
    desk.clock.move(timedelta(hours=2).total_seconds())
    await eraser.erasures.tick()
    assert (await eraser.found(ident)).verdict == "complete-with-residuals"
    made = await verdict(eraser, ident)
    assert made["identity"]["version"] == 2  # type: ignore[index]


@pytest.mark.anyio
async def test_a_crash_between_the_draft_and_the_log_certifies_the_same(eraser: Eraser) -> None:
    """Two certificates of one erasure that say different times would both be doubted."""
    desk = eraser.desk
    note = await spoke(desk)
    ident = await eraser.ask(note.subject)
    await eraser.erasures.tick()
    desk.trail.refuses = lambda event: event.type is EventType.ERASURE_CERTIFIED
    await eraser.harden()
    assert (await eraser.found(ident)).certified_at is None
    desk.trail.refuses = lambda _event: False
    desk.clock.move(60)

    await eraser.erasures.tick()

    made = await verdict(eraser, ident)
    assert made["identity"]["version"] == 1  # type: ignore[index]
    assert made["identity"]["issued"] < desk.clock().isoformat()  # type: ignore[index]


@pytest.mark.anyio
async def test_asking_twice_is_one_erasure(eraser: Eraser) -> None:
    """A DPO who presses the button again has not asked for another thing."""
    note = await spoke(eraser.desk)

    assert await eraser.ask(note.subject) == await eraser.ask(note.subject)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "wrong",
    [
        {"trigger": "whim"},
        {"because": " "},
        {"by": ""},
        {"because": "x" * 65},
        {"because": "of +49 30 23125777"},
    ],
)
async def test_a_request_without_ground_is_refused(eraser: Eraser, wrong: dict[str, str]) -> None:
    """Who asked and why is part of the certificate; nothing is invented later."""
    with pytest.raises(ErasureError, match=next(iter(wrong))):
        await eraser.ask("s_1", **wrong)


def test_the_selector_knows_every_table() -> None:
    """A table that nobody listed is one that no access report shows and no erasure empties."""
    there = {*metadata.tables, *custody_tables.tables, *consent_tables.tables}

    assert there == COVERAGE.keys()


@pytest.mark.anyio
async def test_a_store_that_says_deleted_and_still_has_it_keeps_the_erasure_open(
    eraser: Eraser,
) -> None:
    """D-07. A 200 proves nothing: only a read that fails does."""
    desk = eraser.desk
    note = await spoke(desk)
    store = FaultyObjects(desk.directory / "objects")
    desk.ports.custody.objects = store
    ident = await eraser.ask(note.subject)
    store.keep_deleted = True

    await eraser.erasures.tick()
    await eraser.harden()

    one = await eraser.found(ident)
    assert set(store.deletions) >= {name for _, name in one.facts.objects}
    assert (one.executed_at is not None, one.step, one.certified_at) == (True, "messages", None)
    assert erasure.summary(one)["done"] is False
    store.keep_deleted = False
    await eraser.erasures.tick()
    assert (await eraser.found(ident)).certified


@pytest.mark.anyio
async def test_what_a_vendor_says_it_deleted_is_what_it_says(eraser: Eraser) -> None:
    """D-07. Nobody can read WhatsApp's media again: its "deleted" never becomes our "erased"."""
    desk = eraser.desk
    note = await spoke(desk)
    row = replace(desk.ports.processors["msg.here"], hosts=("graph.facebook.com",))
    rows = {**desk.ports.processors, "msg.here": row}
    eraser.erasures.ports = replace(desk.ports, processors=rows)

    one = await eraser.erased(note.subject)

    made = await verdict(eraser, one.id)
    [channel] = [each for each in made["vendors"] if each["store"] == "msg.here"]  # type: ignore[attr-defined]
    assert "attested by vendor: deletion confirmed for 1 of 1" in channel["detail"]
    assert channel["result"] == "by-contract-unverified"
    assert "the inside of vendors and of WhatsApp" in made["verdict"]["not_inspected"]  # type: ignore[index]
