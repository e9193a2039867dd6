"""Legal holds: what they keep dies for everybody else on time, and for all when they end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from support.agreeing import agreed
from support.custody import START, Clock, FaultyObjects, label

from vault import held, holds, orders
from vault.custody import Custody
from vault.errors import (
    CustodyError,
    GoneError,
    HeldError,
    HoldError,
    KeyLostError,
    KeyringError,
    TamperedError,
)
from vault.inventory import expected
from vault.keyrings.local import LocalKeeper, LocalKeyring
from vault.keys import Keys
from vault.model import Ended, Hold, HoldState, Kind, Label, Scope, WrappedKey
from vault.retention import overdue, sweep, unrecorded
from vault.tables import artifacts, ending_keks, epoch_keys, hold_scopes, retention
from vault.tables import held as copies
from vault.tables import holds as rows

NOTE = b"OggS where was this recording at 14:14"
DUE = START + timedelta(hours=6)
GROUND = "GDPR Art. 17(3)(e)"
UNTIL = START + timedelta(days=90)


def order(custody: Custody, *named: str, until: datetime = UNTIL, **scope: object) -> Hold:
    """Return a hold that ``p_1`` proposes now, on the artifacts *named* or on *scope*."""
    about = Scope(tenant="fernruf", artifacts=named, **scope)  # type: ignore[arg-type]
    at = custody.now().replace(microsecond=0)
    return Hold(
        id=orders.ident_of("case-7", GROUND, about, at, until),
        case="case-7",
        ground=GROUND,
        scope=about,
        state=HoldState.OPENING,
        placed_by="p_1",
        placed_role="dpo",
        proposed_at=at,
        expires_at=until,
    )


async def placed(custody: Custody, *named: str, **scope: object) -> Hold:
    """Return a hold that two people placed."""
    hold = order(custody, *named, **scope)  # type: ignore[arg-type]
    await holds.propose(custody, hold)
    await holds.place(custody.engine, hold.id, by="p_2", at=custody.now())
    return hold


async def let_go(custody: Custody, hold: Hold) -> None:
    """Release *hold*, by two people."""
    at = custody.now()
    await holds.ask_release(custody.engine, hold.id, by="p_1", role="dpo", at=at)
    await holds.release(custody.engine, hold.id, by="p_2", at=at)


async def clock_of(engine: AsyncEngine, artifact: str) -> tuple[str | None, int]:
    """Return the hold and the due time of *artifact*'s clock."""
    async with engine.connect() as connection:
        one = select(retention.c.hold, retention.c.due_at).where(retention.c.artifact == artifact)
        row = (await connection.execute(one)).one()
        return row.hold, row.due_at


async def count(engine: AsyncEngine, table: object) -> int:
    """Return how many rows *table* has."""
    async with engine.connect() as connection:
        return len((await connection.execute(select(table))).all())  # type: ignore[call-overload]


def cold(custody: Custody, keyring: LocalKeyring) -> Custody:
    """Return *custody* as another process has it: no key is in its memory."""
    keys = Keys(custody.engine, keyring, region=custody.keys.region, now=custody.now)
    return Custody(custody.engine, keys, custody.objects, now=custody.now)


@pytest.mark.anyio
async def test_one_deleted_key_ends_an_hour_for_all_but_the_held(
    custody: Custody, keyring: LocalKeyring, vault_clock: Clock
) -> None:
    """An hour's audio dies with one key; nothing has to be spared, or sealed anew, for a hold."""
    theirs = [await custody.put(NOTE, label(f"a{n}", subject=f"s{n}"), DUE) for n in range(3)]
    hold = await placed(custody, "a1")
    async with custody.engine.connect() as connection:
        [wrapped] = (await connection.execute(select(epoch_keys))).all()
    vault_clock.at = DUE
    custody.objects.fail_before.add("delete")  # type: ignore[attr-defined]

    assert await sweep(agreed(vault_clock()), custody, owner="w1") == []
    await LocalKeeper(keyring._keks._path).destroy("raw-2026112214")

    backup = WrappedKey(kek=wrapped.kek, version=wrapped.version, ciphertext=wrapped.ciphertext)
    [dead] = await keyring.unwrap([backup])
    assert isinstance(dead, GoneError), "a backup of the key table opens the hour"
    for artifact in theirs:
        with pytest.raises(GoneError):
            await custody.keys.artifact_key(artifact.label, artifact.epoch)
    assert await holds.read(cold(custody, keyring), hold.id, "a1") == NOTE
    assert len(await custody.objects.names()) == 3  # the bytes are there, and mean nothing


@pytest.mark.anyio
async def test_an_erased_subjects_held_artifact_opens_through_the_hold_alone(
    custody: Custody, keyring: LocalKeyring
) -> None:
    """GDPR Art. 17(3)(e) keeps what a claim needs, and nothing else of the person."""
    for name in ("a1", "a2"):
        await custody.put(NOTE, label(name), DUE)
    hold = await placed(custody, "a1")

    await custody.keys.destroy_subject("s1")

    other = cold(custody, keyring)
    assert await holds.read(other, hold.id, "a1") == NOTE
    with pytest.raises(HoldError, match="not kept"):
        await holds.read(other, hold.id, "a2")
    for artifact in await custody.of_subject("s1"):
        with pytest.raises(HeldError if artifact.label.artifact == "a1" else GoneError):
            await other.open(artifact)


@pytest.mark.anyio
async def test_a_proposal_stops_clocks_and_neither_opens_nor_closes(
    custody: Custody, vault_clock: Clock
) -> None:
    """Evidence must not be lost while the second person is asked; one person decides no more."""
    artifact = await custody.put(NOTE, label(), DUE)
    hold = order(custody, "a1")
    taken = await holds.propose(custody, hold)

    assert (taken.kept, taken.too_late) == (("a1",), ())
    assert await custody.open(artifact) == NOTE
    assert not await custody.closed(["a1"])
    with pytest.raises(HoldError, match="not placed"):
        await holds.read(custody, hold.id, "a1")
    vault_clock.at = DUE
    assert await sweep(agreed(vault_clock()), custody, owner="w1") == []
    with pytest.raises(GoneError):  # its time is over: stopped is not prolonged
        await custody.open(artifact)


@pytest.mark.anyio
async def test_a_proposal_lapses_after_a_day_and_cannot_be_made_again(
    custody: Custody, vault_clock: Clock
) -> None:
    """One person alone can delay a deletion once, by a day, and not more."""
    await custody.put(NOTE, label(), DUE)
    hold = order(custody, "a1")
    await holds.propose(custody, hold)
    vault_clock.at = START + timedelta(hours=23)
    again = order(custody, "a1")
    assert (await holds.propose(custody, again)).too_late == ("a1",)
    vault_clock.at = START + timedelta(hours=24)
    with pytest.raises(HoldError, match="not any more"):
        await holds.place(custody.engine, hold.id, by="p_2", at=vault_clock())

    ended = await holds.end_due(custody.engine, agreed(vault_clock()))

    assert ended == [hold.id]
    assert len(await sweep(agreed(vault_clock()), custody, owner="w1")) == 1
    found = await orders.find(custody.engine, hold.id)
    assert found is not None
    assert (found.state, found.ended) == (HoldState.ENDED, Ended.LAPSED)


@pytest.mark.anyio
async def test_placed_it_is_closed_to_every_ordinary_reader(custody: Custody) -> None:
    """GDPR Art. 18(2): what is kept for a claim is processed for that claim alone."""
    artifact = await custody.put(NOTE, label(), DUE)
    await custody.put(NOTE, label("a2"), DUE)
    hold = await placed(custody, "a1")

    with pytest.raises(HeldError):
        await custody.open(artifact)
    with pytest.raises(HeldError):
        await custody.put(NOTE, label(), DUE)
    with pytest.raises(CustodyError, match="hold"):
        await custody.destroy(artifact, reason="erasure")
    assert await custody.closed(["a2", "a1"])
    assert not await custody.closed(["a2"])
    assert await holds.read(custody, hold.id, "a1") == NOTE
    assert [kept.label.artifact for kept in await holds.kept_by(custody.engine, hold.id)] == ["a1"]


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["released", "expired"])
async def test_the_end_of_a_hold_restarts_the_clock_at_once(
    custody: Custody, keyring: LocalKeyring, vault_clock: Clock, how: str
) -> None:
    """D-05: what is overdue goes with the next sweep, and its time was never lengthened."""
    await custody.put(NOTE, label(), DUE)
    hold = await placed(custody, "a1", until=START + timedelta(days=2))
    vault_clock.at = START + timedelta(days=2)
    assert await sweep(agreed(vault_clock()), custody, owner="w1") == []

    if how == "released":
        await let_go(custody, hold)
    else:
        assert await holds.end_due(custody.engine, agreed(vault_clock())) == [hold.id]

    assert await clock_of(custody.engine, "a1") == (None, int(DUE.timestamp()))
    assert await overdue(vault_clock(), custody.engine) == 0  # late from its end on
    vault_clock.pass_by(seconds=5)
    [stone] = await sweep(agreed(vault_clock()), custody, owner="w1")
    assert (stone.due, stone.late_seconds) == (DUE, 5)
    assert await count(custody.engine, copies) == 0
    async with custody.engine.connect() as connection:
        ending = (await connection.execute(select(ending_keks.c.kek))).scalars().all()
    assert held.kek_of(hold.id) in ending
    with pytest.raises(HoldError):
        await holds.read(custody, hold.id, "a1")


@pytest.mark.anyio
async def test_a_sweep_that_met_a_hold_does_not_put_off_what_comes_after_it(
    custody: Custody, vault_clock: Clock
) -> None:
    """A row whose sweep failed waits up to 15 minutes; a released one must not."""
    await custody.put(NOTE, label(), DUE)
    hold = await placed(custody, "a1")
    vault_clock.at = DUE
    async with custody.engine.begin() as tx:
        later = {"next_try_at": int(DUE.timestamp()) + 900}
        await tx.execute(update(retention).values(later))

    await let_go(custody, hold)

    assert len(await sweep(agreed(vault_clock()), custody, owner="w1")) == 1


@pytest.mark.anyio
async def test_an_expired_hold_opens_nothing_though_no_tick_has_ended_it(
    custody: Custody, vault_clock: Clock
) -> None:
    """A stopped sweeper must not prolong anybody's access."""
    await custody.put(NOTE, label(kind=Kind.TRANSCRIPT), UNTIL + timedelta(days=1))
    hold = await placed(custody, "a1")
    vault_clock.at = UNTIL

    with pytest.raises(HoldError, match="expired"):
        await holds.read(custody, hold.id, "a1")


@pytest.mark.anyio
async def test_a_hold_on_a_person_keeps_what_is_stored_later(custody: Custody) -> None:
    """A case goes on; what the person says next week may be the evidence."""
    await custody.put(NOTE, label("a1"), DUE)
    hold = await placed(custody, subjects=("s1",))

    await custody.put(NOTE, label("a2"), DUE)
    await custody.put(NOTE, label("b1", subject="s2"), DUE)

    assert [await clock_of(custody.engine, a) for a in ("a1", "a2", "b1")] == [
        (hold.id, int(DUE.timestamp())),
        (hold.id, int(DUE.timestamp())),
        (None, int(DUE.timestamp())),
    ]
    assert await holds.read(custody, hold.id, "a2") == NOTE
    await let_go(custody, hold)
    await custody.put(NOTE, label("a3"), DUE)
    assert await clock_of(custody.engine, "a3") == (None, int(DUE.timestamp()))


@pytest.mark.anyio
async def test_a_hold_on_a_span_keeps_what_one_tenant_stored_in_it(
    custody: Custody, vault_clock: Clock
) -> None:
    """An authority names an hour, not ids; other tenants and other hours are none of its."""
    await custody.put(NOTE, label("a1"), DUE)
    vault_clock.pass_by(minutes=1)
    span = {"since": vault_clock(), "before": vault_clock() + timedelta(minutes=10)}
    hold = await placed(custody, **span)
    await custody.put(NOTE, label("a2"), DUE)
    other = Label(
        tenant="other", subject="s3", artifact="o1", kind=Kind.RAW_AUDIO, region="eu-central-1"
    )
    await custody.put(NOTE, other, DUE)
    vault_clock.pass_by(minutes=10)
    await custody.put(NOTE, label("a3"), DUE)

    again = await holds.propose(custody, order(custody, **span))

    kept = {name: (await clock_of(custody.engine, name))[0] for name in ("a1", "a2", "o1", "a3")}
    assert kept == {"a1": None, "a2": hold.id, "o1": None, "a3": None}
    assert again.kept == ("a2",)


@pytest.mark.anyio
async def test_two_cases_keep_one_artifact_each_by_its_own_copy(
    custody: Custody, vault_clock: Clock
) -> None:
    """The end of one case must not lose the evidence of another."""
    await custody.put(NOTE, label(), DUE)
    one, two = await placed(custody, "a1"), order(custody, "a1", until=UNTIL + timedelta(days=1))
    await holds.propose(custody, two)
    vault_clock.at = DUE

    await let_go(custody, one)

    assert await clock_of(custody.engine, "a1") == (two.id, int(DUE.timestamp()))
    assert not await custody.closed(["a1"])  # two is one person's word still
    await holds.place(custody.engine, two.id, by="p_3", at=vault_clock())
    assert await custody.closed(["a1"])
    assert await holds.read(custody, two.id, "a1") == NOTE
    assert await sweep(agreed(vault_clock()), custody, owner="w1") == []


@pytest.mark.anyio
async def test_a_placed_hold_is_what_the_clock_names(custody: Custody) -> None:
    """A proposal of another case must not open what two people have closed."""
    await custody.put(NOTE, label(), DUE)
    proposed = order(custody, "a1", until=UNTIL + timedelta(days=1))
    await holds.propose(custody, proposed)

    hold = await placed(custody, "a1")

    assert (await clock_of(custody.engine, "a1"))[0] == hold.id
    assert await custody.closed(["a1"])


@pytest.mark.anyio
async def test_the_end_of_a_hold_leaves_a_placed_one_on_the_clock(custody: Custody) -> None:
    """Or what two people closed would be open while a third person's proposal waits."""
    await custody.put(NOTE, label(), DUE)
    last = await placed(custody, "a1", until=UNTIL + timedelta(days=1))
    first = await placed(custody, "a1")
    for day in range(2, 6):
        await holds.propose(custody, order(custody, "a1", until=UNTIL + timedelta(days=day)))

    await let_go(custody, first)

    assert (await clock_of(custody.engine, "a1"))[0] == last.id
    assert await custody.closed(["a1"])


@pytest.mark.anyio
async def test_a_hold_follows_another_after_the_erasure(
    custody: Custody, keyring: LocalKeyring, vault_clock: Clock
) -> None:
    """A case that lasts gets a second hold: the first one's copy is all that is left to copy."""
    await custody.put(NOTE, label(), DUE)
    first = await placed(custody, "a1")
    await custody.keys.destroy_subject("s1")
    vault_clock.at = DUE + timedelta(days=30)
    await sweep(agreed(vault_clock()), custody, owner="w1")

    second = await placed(custody, "a1", until=UNTIL + timedelta(days=90))
    await let_go(custody, first)

    assert await holds.read(cold(custody, keyring), second.id, "a1") == NOTE


@pytest.mark.anyio
@pytest.mark.parametrize("why", ["destroyed", "destroying", "erased", "overdue"])
async def test_a_hold_that_comes_too_late_says_so(
    custody: Custody, objects: FaultyObjects, vault_clock: Clock, why: str
) -> None:
    """Counsel must know what is not there; nothing that had to die is brought back by an order."""
    artifact = await custody.put(NOTE, label("a1"), DUE)
    await custody.put(NOTE, label("a2", subject="s2"), DUE + timedelta(hours=1))
    if why == "destroyed":
        await custody.destroy(artifact, reason="erasure")
    if why == "destroying":
        objects.fail_before.add("delete")
        with pytest.raises(Exception, match="told"):
            await custody.destroy(artifact, reason="erasure")
    if why == "erased":
        await custody.keys.destroy_subject("s1")
    if why == "overdue":
        vault_clock.at = DUE

    hold = order(custody, "a1", "a2")
    taken = await holds.propose(custody, hold)

    assert (taken.kept, taken.too_late) == (("a2",), ("a1",))
    assert (await clock_of(custody.engine, "a1"))[0] is None
    found = await orders.find(custody.engine, hold.id)
    assert found is not None
    assert (found.kept, found.too_late) == (1, 1)


@pytest.mark.anyio
async def test_an_erasure_between_the_copy_and_the_commit_comes_first(
    custody: Custody, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key was read when it still lived: the hold must not bring back what was erased since."""
    await custody.put(NOTE, label(), DUE)
    copy = custody.keys.copy

    async def late(key: bytes, artifact: str, kek: str) -> WrappedKey:
        await custody.keys.destroy_subject("s1")
        return await copy(key, artifact, kek)

    monkeypatch.setattr(custody.keys, "copy", late)

    taken = await holds.propose(custody, order(custody, "a1"))

    assert (taken.kept, taken.too_late) == ((), ("a1",))
    assert await count(custody.engine, copies) == 0


@pytest.mark.anyio
async def test_copies_clocks_and_hold_are_one_commit(custody: Custody) -> None:
    """A crash in between would leave a stopped clock that no copy opens, or a copy nobody ends."""
    for name in ("a1", "a2"):
        await custody.put(NOTE, label(name), DUE)
    hold = order(custody, "a1", "a2")
    async with custody.engine.begin() as tx:
        await tx.execute(
            text(
                "CREATE TRIGGER crash BEFORE UPDATE OF state ON holds "
                "BEGIN SELECT RAISE(ABORT, 'crash'); END"
            )
        )

    with pytest.raises(DBAPIError, match="crash"):
        await holds.propose(custody, hold)

    assert await count(custody.engine, copies) == 0
    assert (await clock_of(custody.engine, "a1"))[0] is None
    async with custody.engine.begin() as tx:
        await tx.execute(text("DROP TRIGGER crash"))
    assert (await holds.propose(custody, hold)).kept == ("a1", "a2")
    assert (await holds.propose(custody, hold)).kept == ("a1", "a2")
    assert (await count(custody.engine, rows), await count(custody.engine, hold_scopes)) == (1, 2)


@pytest.mark.anyio
async def test_a_proposal_that_died_while_opening_is_ended_with_what_it_took(
    custody: Custody, keyring: LocalKeyring, vault_clock: Clock
) -> None:
    """What was stored meanwhile is kept for it, and must not be kept for ever."""
    hold = order(custody, subjects=("s1",))
    with away(keyring), pytest.raises(KeyringError):
        await custody.put(NOTE, label("a1"), DUE)
    await orders.write(custody.engine, hold)
    await custody.put(NOTE, label("a1"), DUE)
    assert (await clock_of(custody.engine, "a1"))[0] == hold.id
    vault_clock.pass_by(hours=24)

    assert await holds.end_due(custody.engine, agreed(vault_clock())) == [hold.id]

    assert len(await sweep(agreed(vault_clock()), custody, owner="w1")) == 1
    with pytest.raises(HoldError, match="over"):
        await holds.propose(custody, hold)


@contextmanager
def away(keyring: LocalKeyring) -> Iterator[None]:
    """Have the keyring not answer."""
    home = keyring._keks._path
    home.rename(home.with_name("away"))
    yield
    home.with_name("away").rename(home)


@pytest.mark.anyio
async def test_without_the_keyring_nothing_is_half_held(
    custody: Custody, keyring: LocalKeyring
) -> None:
    """The copy comes before the transaction: an outage leaves clocks as they are, to try again."""
    await custody.put(NOTE, label(), DUE)
    hold = order(custody, "a1")

    with away(keyring), pytest.raises(KeyringError):
        await holds.propose(cold(custody, keyring), hold)

    assert await clock_of(custody.engine, "a1") == (None, int(DUE.timestamp()))
    assert (await holds.propose(custody, hold)).kept == ("a1",)


@pytest.mark.anyio
async def test_two_people_place_a_hold_and_two_release_it(custody: Custody) -> None:
    """The rules count them; the tables do not take one for two either."""
    await custody.put(NOTE, label(), DUE)
    hold, at = order(custody, "a1"), custody.now()
    await holds.propose(custody, hold)

    with pytest.raises(HoldError, match="does not approve"):
        await holds.place(custody.engine, hold.id, by="p_1", at=at)
    with pytest.raises(HoldError, match="not placed"):
        await holds.ask_release(custody.engine, hold.id, by="p_1", role="dpo", at=at)
    await holds.place(custody.engine, hold.id, by="p_2", at=at)
    with pytest.raises(HoldError, match="not proposed"):
        await holds.place(custody.engine, hold.id, by="p_3", at=at)
    with pytest.raises(HoldError, match="nobody proposed"):
        await holds.release(custody.engine, hold.id, by="p_2", at=at)
    await holds.ask_release(custody.engine, hold.id, by="p_2", role="dpo", at=at)
    with pytest.raises(HoldError, match="does not approve"):
        await holds.release(custody.engine, hold.id, by="p_2", at=at)
    with pytest.raises(HoldError, match="too long ago"):
        await holds.release(custody.engine, hold.id, by="p_1", at=at + timedelta(hours=24))
    await holds.release(custody.engine, hold.id, by="p_1", at=at)
    with pytest.raises(HoldError, match="nobody proposed"):
        await holds.release(custody.engine, hold.id, by="p_1", at=at)

    found = await orders.find(custody.engine, hold.id)
    assert found is not None
    assert (found.placed_by, found.approved_by) == ("p_1", "p_2")
    assert (found.release_by, found.released_by, found.ended) == ("p_2", "p_1", Ended.RELEASED)
    assert found.scope == hold.scope
    assert not await holds.end(custody.engine, hold.id, Ended.EXPIRED, agreed(at))
    with pytest.raises(HoldError, match="no such"):
        await holds.end(custody.engine, "h_none", Ended.EXPIRED, agreed(at))


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"case": "Frau M."}, "codes"),
        ({"ground": ""}, "codes"),
        ({"expires_at": START}, "until"),
        ({"expires_at": START + orders.LONGEST + timedelta(seconds=1)}, "until"),
        ({"scope": Scope(tenant="fernruf")}, "is about"),
        ({"scope": Scope(tenant="fernruf", artifacts=("a1",), subjects=("s1",))}, "is about"),
        ({"scope": Scope(tenant="fernruf", since=START)}, "beginning and an end"),
        ({"scope": Scope(tenant="fernruf", since=START, before=START)}, "after its beginning"),
    ],
)
@pytest.mark.anyio
async def test_a_hold_has_a_ground_a_scope_and_an_end(
    custody: Custody, changed: dict[str, object], fault: str
) -> None:
    """Keeping everything of everybody for ever is no legal hold."""
    hold = replace(order(custody, "a1"), **changed)  # type: ignore[arg-type]

    with pytest.raises(HoldError, match=fault):
        await holds.propose(custody, hold)

    assert await count(custody.engine, rows) == 0


@pytest.mark.anyio
async def test_a_holds_id_is_its_terms(custody: Custody) -> None:
    """Who approves the id approves these artifacts for this case, and no others."""
    for name in ("a1", "a2"):
        await custody.put(NOTE, label(name), DUE)
    hold = order(custody, "a1")

    with pytest.raises(HoldError, match="terms"):
        await holds.propose(custody, replace(hold, scope=order(custody, "a2").scope))
    with pytest.raises(HoldError, match="terms"):
        await holds.propose(custody, replace(hold, expires_at=UNTIL + timedelta(days=1)))


@pytest.mark.anyio
async def test_what_nobody_knows_or_another_tenant_has_cannot_be_held(custody: Custody) -> None:
    """A mistyped id must not look like evidence that is safe."""
    await custody.put(NOTE, label(), DUE)

    for named in (("a1", "a9"),):
        with pytest.raises(HoldError, match="no such artifact"):
            await holds.propose(custody, order(custody, *named))
    foreign = order(custody, "a1")
    scope = replace(foreign.scope, tenant="other")
    ident = orders.ident_of("case-7", GROUND, scope, foreign.proposed_at, UNTIL)
    with pytest.raises(HoldError, match="no such artifact"):
        await holds.propose(custody, replace(foreign, scope=scope, id=ident))

    assert await count(custody.engine, rows) == 0


@pytest.mark.anyio
async def test_more_than_one_transaction_should_write_is_refused(
    custody: Custody, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else writes meanwhile; whoever needs more splits the span."""
    monkeypatch.setattr(holds, "MOST_ARTIFACTS", 1)
    for name in ("a1", "a2"):
        await custody.put(NOTE, label(name), DUE)

    with pytest.raises(HoldError, match="narrow"):
        await holds.propose(custody, order(custody, "a1", "a2"))


@pytest.mark.anyio
async def test_a_copy_opens_for_its_artifact_only(custody: Custody) -> None:
    """Whoever writes to the table must not turn one person's evidence into another's."""
    for name in ("a1", "a2"):
        await custody.put(name.encode(), label(name), DUE)
    hold = await placed(custody, "a1", "a2")
    async with custody.engine.begin() as tx:
        first = select(copies.c.ciphertext).where(copies.c.artifact == "a1").scalar_subquery()
        await tx.execute(update(copies).where(copies.c.artifact == "a2").values(ciphertext=first))

    with pytest.raises(TamperedError):
        await holds.read(custody, hold.id, "a2")


@pytest.mark.anyio
async def test_a_backup_of_the_copies_dies_with_the_holds_kek(
    custody: Custody, keyring: LocalKeyring, vault_clock: Clock
) -> None:
    """Yesterday's database still has the copies; the keeper has destroyed what opens them."""
    await custody.put(NOTE, label(kind=Kind.TRANSCRIPT), UNTIL)
    hold = await placed(custody, "a1")
    known = await expected(custody.engine)
    assert (known[held.kek_of(hold.id)].keys, known[held.kek_of(hold.id)].objects) == (1, 1)
    async with custody.engine.connect() as connection:
        backup = (await connection.execute(select(copies))).one()
    await let_go(custody, hold)

    assert (await expected(custody.engine))[held.kek_of(hold.id)].ending
    await LocalKeeper(keyring._keks._path).destroy(held.kek_of(hold.id))

    wrapped = WrappedKey(kek=backup.kek, version=backup.version, ciphertext=backup.ciphertext)
    with pytest.raises(KeyLostError):
        await custody.keys.copied(wrapped, "a1")


STEPS = ("propose", "place", "erase", "due", "release")


@pytest.mark.anyio
async def test_no_order_of_events_loses_or_keeps_what_it_should_not(
    custody: Custody, keyring: LocalKeyring, vault_clock: Clock
) -> None:
    """All 120 orders of a hold, its end, an erasure and the clock; a fresh process at each step."""
    for number, steps in enumerate(permutations(STEPS)):
        await _replay(custody, keyring, vault_clock, f"n{number}", steps)


async def _replay(
    custody: Custody, keyring: LocalKeyring, clock: Clock, name: str, steps: tuple[str, ...]
) -> None:
    due = (clock.at + timedelta(minutes=30)).replace(microsecond=0)
    artifact = await custody.put(NOTE, label(name, kind=Kind.TRANSCRIPT, subject=name), due)
    hold = order(custody, name, until=due + timedelta(days=1))
    kept = erased = over = is_placed = proposed = ended = kept_then = False
    for step in steps:
        if step == "propose":
            proposed = True
            hold = order(custody, name, until=due + timedelta(days=1))
            taken = await holds.propose(custody, hold)
            kept = name in taken.kept
            assert kept == (not erased and not over), (steps, step)
            assert (name in taken.too_late) == (not kept)
        if step == "place" and proposed:
            await holds.place(custody.engine, hold.id, by="p_2", at=clock())
            is_placed = True
        if step == "release" and is_placed:
            await let_go(custody, hold)
            kept, ended = False, True
        if step == "erase":
            erased, kept_then = True, kept
            await custody.keys.destroy_subject(name)
            await custody.hasten([name], reason="person.erased")
        if step == "due":
            over, clock.at = True, due
        custody = cold(custody, keyring)
        await sweep(agreed(clock()), custody, owner="w1")
        gone = (erased or over) and not kept
        assert (await custody.describe(name) is None) == gone, (steps, step)
        if kept and is_placed:
            assert await holds.read(custody, hold.id, name) == NOTE, (steps, step)
            assert (await clock_of(custody.engine, name))[1] <= int(due.timestamp())
        if gone or (kept and is_placed):
            with pytest.raises((GoneError, HeldError)):
                await custody.open(artifact)
    clock.at = due + timedelta(days=1)
    await holds.end_due(custody.engine, agreed(clock()))
    await sweep(agreed(clock()), custody, owner="w1")
    assert await custody.describe(name) is None, (steps, ended)
    async with custody.engine.connect() as connection:
        one = select(artifacts.c.state).where(artifacts.c.id == name)
        assert (await connection.execute(one)).scalar() == "destroyed"
        assert (await connection.execute(select(copies))).first() is None
    # Whoever sweeps it, the record says that a person's erasure ended it, and not the clock.
    [stone] = [
        s for s in await unrecorded(custody.engine, limit=10_000) if s.label.artifact == name
    ]
    asked_in_time = "erase" in steps and (kept_then or steps.index("erase") < due_at(steps))
    assert (stone.reason == "person.erased") == asked_in_time, (steps, stone.reason)


def due_at(steps: tuple[str, ...]) -> int:
    """Return where in *steps* the clock runs out, or behind all of them."""
    return steps.index("due") if "due" in steps else len(steps)


def test_times_are_whole_seconds() -> None:
    """The id is made of what the row keeps: a fraction would make it another hold's."""
    at = datetime(2026, 11, 22, 14, 15, 0, 999_999, tzinfo=UTC)
    about = Scope(tenant="fernruf", artifacts=("a1",))

    first = orders.ident_of("case-7", GROUND, about, at, UNTIL)

    assert first == orders.ident_of("case-7", GROUND, about, at.replace(microsecond=0), UNTIL)
