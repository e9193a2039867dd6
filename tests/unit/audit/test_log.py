"""The log."""

import asyncio
import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from support.audit import ORIGIN, START, FaultyStore, Place, an_event

from audit import canonical, leaf, merkle, note
from audit.errors import AppendError, EventError, ForkError, LockedError, StoreError
from audit.log import Log
from audit.model import Event, EventType, Receipt
from audit.ports import Known, Query
from audit.signers.local import LocalSigner
from audit.stores.mark import FileMark
from audit.stores.sqlite import SqliteStore

pytestmark = pytest.mark.anyio


async def test_a_receipt_names_a_leaf_under_a_signed_checkpoint(log: Log) -> None:
    """A receipt is a promise that a stranger can check: index, hash and signed size."""
    receipt = await log.append(an_event(artifact="a_1"))

    head = note.verify(await log.checkpoint(), log.key)
    [entry] = await log.entries(0, 1)
    assert receipt == Receipt(
        origin=ORIGIN, index=0, leaf_hash=merkle.leaf_hash(entry).hex(), size=1
    )
    assert (head.size, head.root) == (1, merkle.leaf_hash(entry))


async def test_a_leaf_holds_the_event_and_no_absent_field(log: Log) -> None:
    """The form of a leaf is read by verifiers of other people: it is fixed, v1."""
    await log.append(an_event(id="e_1", artifact="a_1", region="eu-west", detail={"n": 1}))

    [data] = await log.entries(0, 1)

    assert canonical.decode(data) == {
        "v": 1, "id": "e_1", "ts": 1795096800000000, "type": "policy.decided", "region": "eu-west",
        "log_region": "eu-central", "tenant": "fernruf", "artifact": "a_1", "aseq": 0,
        "actor": "gateway", "detail": {"n": 1},
    }  # fmt: skip
    assert leaf.decode(0, data).event.at == START


async def test_the_events_of_an_artifact_are_a_chain(log: Log) -> None:
    """An omitted event must show as a gap, within a batch and across batches."""
    await asyncio.gather(*[log.append(an_event(artifact="a_1")) for _ in range(3)])
    await log.append(an_event())
    await log.append(an_event(artifact="a_1"))

    chain = await log.leaves(artifact="a_1")

    hashes = [merkle.leaf_hash(each.data).hex() for each in chain]
    assert [each.aseq for each in chain] == [0, 1, 2, 3]
    assert [each.aprev for each in chain] == [None, *hashes[:-1]]


async def test_many_producers_share_few_commits(place: Place) -> None:
    """Group commit is what makes one fsync serve many producers."""
    store = FaultyStore(SqliteStore(place.db))
    log = await place.open(store=store)

    receipts = await asyncio.gather(*[log.append(an_event()) for _ in range(500)])

    assert sorted(receipt.index for receipt in receipts) == list(range(500))
    assert len(store.commits) <= 4
    await log.close()


async def test_the_same_event_again_is_the_same_receipt(place: Place) -> None:
    """A redelivered job must not tell its story twice: in one batch, later, after a restart."""
    log = await place.open()
    event = an_event(artifact="a_1")

    together = await asyncio.gather(log.append(event), log.append(event), log.append(an_event()))
    later = await log.append(event)
    await log.close()
    log = await place.open()
    after = await log.append(event)

    assert together[0] == together[1] == later == after
    assert note.verify(await log.checkpoint(), log.key).size == 2
    await log.close()


async def test_one_id_cannot_name_two_events(log: Log) -> None:
    """Else a second, different event would be acknowledged and never be written."""
    await log.append(an_event(id="e_1", artifact="a_1"))

    with pytest.raises(EventError, match="e_1"):
        await log.append(an_event(id="e_1", artifact="a_2"))
    outcomes = await asyncio.gather(
        log.append(an_event(id="e_2", artifact="a_1")),
        log.append(an_event(id="e_2", artifact="a_2")),
        return_exceptions=True,
    )
    assert [type(each) for each in outcomes] == [Receipt, EventError]


@pytest.mark.parametrize(
    "event",
    [
        an_event(id="no spaces"),
        an_event(id=""),
        an_event(tenant=""),
        an_event(artifact="a/../b"),
        an_event(at=datetime(2026, 11, 19)),  # noqa: DTZ001 - the naive time is the point
        an_event(at=datetime.fromisoformat("2026-11-19T15:00:00+01:00")),
        an_event(at=START + timedelta(minutes=6)),
        an_event(detail={"x": 1.5}),
        an_event(detail={"x": "y" * 5000}),
        an_event(detail={"clock_skew_us": 1}),
        an_event(EventType.ARTIFACT_STORED, region="eu-central"),
        an_event(EventType.ARTIFACT_STORED, artifact="a_1"),
        an_event(EventType.JOB_ACCEPTED),
        an_event(EventType.TOUCH_BEGAN, touch=None),
        an_event(EventType.TOUCH_BEGAN, processor=None),
        an_event(EventType.TOUCH_ENDED, touch="t_never"),
        an_event(EventType.TOUCH_ENDED, touch="t_open", outcome="vanished"),
        an_event(EventType.TOUCH_ENDED, touch="t_open", artifact="a_other"),
        an_event(EventType.TOUCH_BEGAN, touch="t_open"),
        an_event(EventType.TOUCH_BEGAN, touch="t_over"),
        an_event(EventType.TOUCH_ENDED, touch="t_over"),
    ],
)
async def test_an_unacceptable_event_fails_its_own_producer_only(log: Log, event: Event) -> None:
    """One bad event must not cost the others their evidence, nor leave a trace."""
    for kind, touch in [("began", "t_open"), ("began", "t_over"), ("ended", "t_over")]:
        await log.append(an_event(EventType(f"touch.{kind}"), touch=touch))

    outcomes = await asyncio.gather(
        log.append(an_event()), log.append(event), log.append(an_event()), return_exceptions=True
    )

    assert [type(each) for each in outcomes] == [Receipt, EventError, Receipt]
    assert note.verify(await log.checkpoint(), log.key).size == 5


_OTHER = {
    "action": "fetch",
    "artifact": "a_other",
    "decision": "d_other",
    "job": "j_other",
    "processor": "stt.example.us-east",
    "region": "us-east",
    "subject": "s_other",
    "tenant": "klinik",
}


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("fact", sorted(_OTHER))
async def test_a_touch_ends_as_what_it_began(place: Place, fact: str, *, restarted: bool) -> None:
    """Else the log would name one processor for the beginning and another for the end."""
    about = {"job": "j_1", "subject": "s_1"}
    log = await place.open()
    await log.append(an_event(EventType.TOUCH_BEGAN, **about))
    if restarted:
        await log.close()
        log = await place.open()

    with pytest.raises(EventError, match=f"^{fact}: t_1 began with another one$"):
        await log.append(an_event(EventType.TOUCH_ENDED, **about | {fact: _OTHER[fact]}))
    with pytest.raises(EventError):
        await log.append(an_event(EventType.TOUCH_ENDED, **about | {fact: None}))
    receipt = await log.append(an_event(EventType.TOUCH_ENDED, id="the-end", **about))
    another = an_event(EventType.TOUCH_ENDED, id="the-end", **about | {fact: _OTHER[fact]})
    with pytest.raises(EventError, match="names another event"):
        await log.append(another)

    assert receipt.index == 1
    await log.close()


async def test_time_never_goes_back_and_the_skew_is_told(place: Place) -> None:
    """A clock that was set back must not make later evidence look earlier, restart or not."""
    log = await place.open()
    await log.append(an_event(at=START))
    await log.append(an_event(at=START - timedelta(hours=1)))
    await log.close()
    log = await place.open()

    await log.append(an_event(at=START - timedelta(seconds=1), artifact="a_1"))

    [late] = await log.leaves(artifact="a_1")
    assert late.event.at == START
    assert late.event.detail == {"clock_skew_us": 1_000_000}
    await log.close()


async def test_unended_touches_are_found_after_a_restart(place: Place) -> None:
    """What a crash interrupted must be ended as killed by whoever comes next."""
    log = await place.open()
    for touch, job in [("t_1", "j_1"), ("t_2", "j_2"), ("t_3", "j_1")]:
        await log.append(an_event(EventType.TOUCH_BEGAN, touch=touch, job=job))
    await log.append(an_event(EventType.TOUCH_ENDED, touch="t_3", job="j_1"))
    await log.close()

    log = await place.open()

    assert [each.event.touch for each in await log.unended()] == ["t_1", "t_2"]
    assert [each.event.touch for each in await log.unended("j_1")] == ["t_1"]
    await log.append(an_event(EventType.TOUCH_ENDED, touch="t_1", job="j_1", outcome="killed"))
    assert [each.event.touch for each in await log.unended()] == ["t_2"]
    await log.close()


async def test_a_cancelled_producer_takes_nobody_with_it(log: Log) -> None:
    """Jobs are cancelled all the time; the batch they waited in must be whole."""
    tasks = [asyncio.create_task(log.append(an_event(artifact="a_1"))) for _ in range(20)]
    await asyncio.sleep(0)

    for task in tasks[::2]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(each) for each in outcomes] == [asyncio.CancelledError, Receipt] * 10
    assert [each.aseq for each in await log.leaves(artifact="a_1")] == list(range(20))


async def test_a_failed_commit_fails_its_producers_and_the_log_goes_on(place: Place) -> None:
    """Nothing was written, nobody was told otherwise; a retry gets the next index."""
    store = FaultyStore(SqliteStore(place.db))
    log = await place.open(store=store)
    store.fail_before = 1
    events = [an_event(artifact="a_1") for _ in range(3)]

    failed = await asyncio.gather(*map(log.append, events), return_exceptions=True)
    again = await asyncio.gather(*map(log.append, events))

    assert [type(each) for each in failed] == [AppendError] * 3
    assert store.failed == 1
    assert [each.index for each in again] == [0, 1, 2]
    assert [each.aseq for each in await log.leaves(artifact="a_1")] == [0, 1, 2]
    await log.close()


async def test_a_commit_that_failed_but_persisted_is_not_written_twice(place: Place) -> None:
    """The disk may keep what it reported as lost: the log must believe the disk."""
    store = FaultyStore(SqliteStore(place.db))
    log = await place.open(store=store)
    store.fail_after = 1
    event = an_event(artifact="a_1")

    with pytest.raises(AppendError):
        await log.append(event)
    again, following = await log.append(event), await log.append(an_event(artifact="a_1"))

    assert (again.index, following.index) == (0, 1)
    assert [each.aseq for each in await log.leaves(artifact="a_1")] == [0, 1]
    await log.close()
    await (await place.open()).close()


async def test_a_signer_that_is_away_refuses_the_append(place: Place) -> None:
    """No signature, no evidence; when the key is back the log goes on."""

    class Away(LocalSigner):
        away = False

        async def sign(self, message: bytes) -> bytes:
            if self.away:
                raise AppendError("planted: sealed")
            return await super().sign(message)

    signer = Away(place.signer._key)
    log = await place.open(signer=signer)
    signer.away = True

    with pytest.raises(AppendError, match="sealed"):
        await log.append(an_event())
    signer.away = False
    assert (await log.append(an_event())).index == 0
    await log.close()


async def test_a_signature_by_a_wrong_key_is_never_stored(place: Place) -> None:
    """A checkpoint that does not verify would stop the log for good at its next start."""

    class Wrong(LocalSigner):
        wrong = False

        async def sign(self, message: bytes) -> bytes:
            key = Ed25519PrivateKey.generate() if self.wrong else self._key
            return key.sign(message)

    signer = Wrong(place.signer._key)
    log = await place.open(signer=signer)
    signer.wrong = True

    with pytest.raises(AppendError):
        await log.append(an_event())
    await log.close()
    await (await place.open()).close()


async def test_nothing_is_acknowledged_before_the_mark_knows_it(place: Place) -> None:
    """An acknowledged event that only the store knows could be rolled back unseen."""

    class Full(FileMark):
        full = False

        async def write(self, note: str) -> None:
            if self.full:
                raise StoreError("planted: no space")
            await super().write(note)

    mark = Full(place.mark)
    log = await place.open(mark=mark)
    mark.full = True
    event = an_event()

    for _ in range(2):
        with pytest.raises(AppendError):
            await log.append(event)
    mark.full = False
    assert (await log.append(event)).index == 0
    assert await mark.read() == await log.checkpoint()
    await log.close()


async def test_an_unforeseen_error_stops_the_log_and_hangs_nobody(place: Place) -> None:
    """A bug in the writer must not leave producers waiting for ever, nor be written around."""

    class Buggy(FaultyStore):
        async def known(self, events: Sequence[Event]) -> Known:
            raise ZeroDivisionError

    log = await place.open(store=Buggy(SqliteStore(place.db)))

    for _ in range(2):
        with pytest.raises(AppendError, match="stopped"):
            await log.append(an_event())
    await log.close()


async def test_close_writes_what_is_queued_and_then_refuses(place: Place) -> None:
    """A clean stop loses nothing and accepts nothing."""
    log = await place.open()
    waiting = [asyncio.create_task(log.append(an_event())) for _ in range(10)]
    await asyncio.sleep(0)

    await log.close()
    await log.close()

    assert len({receipt.index for receipt in await asyncio.gather(*waiting)}) == 10
    with pytest.raises(AppendError, match="closed"):
        await log.append(an_event())


async def test_two_writers_of_one_log_are_refused(place: Place) -> None:
    """Two writers would sign two histories of one name."""
    log = await place.open()

    with pytest.raises(LockedError):
        await place.open()

    await log.append(an_event())
    await log.close()


async def _filled(place: Place, count: int = 300) -> None:
    log = await place.open()
    await asyncio.gather(*[log.append(an_event(artifact=f"a_{n % 7}")) for n in range(count)])
    await log.close()


def _execute(db: Path, sql: str, *args: object) -> None:
    with sqlite3.connect(db) as connection:
        connection.execute(sql, args)
    connection.close()


async def test_an_older_copy_of_the_store_is_refused(place: Place) -> None:
    """Going on from a restored backup would sign a second history."""
    await _filled(place)
    older = place.db.read_bytes()
    await _filled(place, 10)
    place.db.write_bytes(older)

    with pytest.raises(ForkError, match="older copy"):
        await place.open()


async def test_a_deleted_store_is_refused(place: Place) -> None:
    """Starting anew under the same name forgets everything that was signed."""
    await _filled(place, 3)
    place.db.unlink()

    with pytest.raises(ForkError, match="older copy"):
        await place.open()


async def test_a_lost_mark_is_refused(place: Place) -> None:
    """Without the mark a rolled-back store cannot be told from a good one."""
    await _filled(place, 3)
    place.mark.unlink()

    with pytest.raises(ForkError, match="mark"):
        await place.open()


async def test_a_store_ahead_of_the_mark_is_a_crash_and_opens(place: Place) -> None:
    """Between commit and mark there is a moment; a kill in it must not stop the log."""
    await _filled(place, 3)
    mark = place.mark.read_bytes()
    await _filled(place, 3)
    place.mark.write_bytes(mark)

    log = await place.open()

    assert await FileMark(place.mark).read() == await log.checkpoint()
    await log.close()


async def test_another_history_of_the_same_size_is_refused(place: Place, tmp_path: Path) -> None:
    """A rewritten log, re-signed with our own key, still is not the one that was marked."""
    await _filled(place, 3)
    (tmp_path / "other").mkdir()
    other = Place(tmp_path / "other")
    other.signer = place.signer
    await _filled(other, 5)
    place.db.write_bytes(other.db.read_bytes())

    with pytest.raises(ForkError, match="not an extension"):
        await place.open()


async def test_a_store_signed_by_another_key_is_refused(place: Place) -> None:
    """Whoever can write the file does not have the key."""
    await _filled(place, 3)
    place.signer = LocalSigner(Ed25519PrivateKey.generate())

    with pytest.raises(ForkError):
        await place.open()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE tile SET hashes = zeroblob(length(hashes)) WHERE level = 0 AND n = 1",
        "UPDATE tile SET hashes = zeroblob(length(hashes)) WHERE level = 1",
        "UPDATE tile SET hashes = substr(hashes, 1, 32) WHERE level = 0 AND n = 1",
        "DELETE FROM tile WHERE level = 1",
        "UPDATE head SET note = replace(note, '301', '300')",
        "UPDATE run SET entries = CAST(replace(entries, 'fernruf', 'gernruf') AS BLOB)",
        "UPDATE open_touch SET idx = 9999",
        "DELETE FROM run WHERE first >= 256",
        "UPDATE open_touch SET idx = idx",
    ],
)
async def test_a_store_changed_at_its_edge_is_refused(place: Place, sql: str) -> None:
    """What the next checkpoint would be built on must be what the last one signed."""
    await _filled(place, 0)
    mark = place.mark.read_bytes()
    await _filled(place)
    log = await place.open()
    await log.append(an_event(EventType.TOUCH_BEGAN))
    await log.close()
    place.mark.write_bytes(mark)  # an old mark proves little: the checkpoint must do
    _execute(place.db, sql)

    if sql == "UPDATE open_touch SET idx = idx":  # changes nothing: the control
        await (await place.open()).close()
    else:
        with pytest.raises((ForkError, StoreError)):
            await place.open()


async def test_proofs_hold_for_every_leaf_and_every_older_tree(place: Place) -> None:
    """Proofs are what we hand out: each must verify with nothing but the checkpoint."""
    await _filled(place, 300)
    log = await place.open()
    head = note.verify(await log.checkpoint(), log.key)
    hashes = [merkle.leaf_hash(data) for data in await log.entries(0, 300)]

    for old in (0, 1, 2, 255, 256, 257, 299, 300):
        growth = await log.prove_growth(old)
        assert merkle.verify_consistency(old, 300, growth, merkle.root(hashes[:old]), head.root)
    for index in (0, 1, 255, 256, 299):
        proof = await log.prove(index)
        assert proof.startswith("c2sp.org/tlog-proof@v1\nextra ")
        assert f"\nindex {index}\n" in proof
    await log.close()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-5, 5)), max_size=30)))
def test_any_schedule_of_batches_gives_one_sound_log(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[str, int]]]
) -> None:
    """Chains, times, root and receipts must agree however appends fall into batches."""

    async def run() -> None:
        place = Place(tmp_path_factory.mktemp("log"))
        for batch in batches:
            log = await place.open()
            events = [an_event(artifact=a, at=START + timedelta(seconds=s)) for a, s in batch]
            await asyncio.gather(*map(log.append, events))
            await log.close()
        store = SqliteStore(place.db)
        total = sum(map(len, batches))
        stored = await store.entries(Query(span=(0, total)))
        text = await store.checkpoint()
        await store.close()
        assert len(stored) == total
        if text is not None:
            leaves = [leaf.decode(index, data) for index, data in stored]
            root = merkle.root([merkle.leaf_hash(data) for _, data in stored])
            assert note.unverified(text).root == root
            times = [each.event.at for each in leaves]
            assert times == sorted(times)

    asyncio.run(run())
