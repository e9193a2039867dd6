"""The contract of `LogStore`, `LogReads` and `HighWater`, on every adapter."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from simulation.stores import LogDisk, MemoryLog
from support.audit import an_event

from audit import leaf, merkle
from audit.errors import LockedError, StoreError
from audit.merkle import Frontier
from audit.model import Event, EventType
from audit.ports import Batch, LogStore, Query, Row
from audit.stores.mark import FileMark
from audit.stores.sqlite import SqliteReads, SqliteStore
from audit.tiles import Tile, Tree

pytestmark = pytest.mark.anyio


class Writer:
    """Turns events into batches, as the log does, without any of its rules."""

    def __init__(self) -> None:
        self.tree = Tree(Frontier(), [])
        self.chains: dict[str, tuple[int, str]] = {}

    def batch(self, *events: Event) -> Batch:
        """Return the next batch."""
        first, tree = self.tree.size, self.tree.copy()
        rows = [self._row(tree, event) for event in events]
        self.tree = tree
        return Batch(first=first, rows=rows, tiles=tree.changed(), note=f"size {tree.size}")

    def _row(self, tree: Tree, event: Event) -> Row:
        aseq, aprev = None, None
        if event.artifact:
            aseq, aprev = self.chains.get(event.artifact, (0, None))
        data = leaf.encode(
            event, ts=leaf.micros(event.at), log_region="eu-central", aseq=aseq, aprev=aprev
        )
        digest = merkle.leaf_hash(data)
        tree.append(digest)
        if event.artifact and aseq is not None:
            self.chains[event.artifact] = aseq + 1, digest.hex()
        return Row(data=data, event=event, aseq=aseq)


@pytest.fixture(params=["simulated", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LogStore]:
    """Yield each store in turn, empty."""
    simulated = request.param == "simulated"
    store = MemoryLog(LogDisk()) if simulated else SqliteStore(tmp_path / "log.db")
    yield store
    await store.close()


async def test_a_fresh_store_is_empty(store: LogStore) -> None:
    """Recovery tells a new log from a lost one by this."""
    assert await store.checkpoint() is None
    assert await store.tiles([Tile(0, 0)]) == {}
    assert await store.entries(Query(span=(0, 10))) == []


@pytest.mark.parametrize("sizes", [[1, 255, 1], [700], [100, 100, 100, 300], [256, 256]])
async def test_what_is_committed_is_read_back_byte_for_byte(
    store: LogStore, sizes: list[int]
) -> None:
    """Hashes are taken over stored bytes: packing into bundles must not change one of them."""
    writer, written = Writer(), list[bytes]()

    for size in sizes:
        batch = writer.batch(*[an_event(artifact=f"a_{n % 5}") for n in range(size)])
        await store.commit(batch)
        written += [row.data for row in batch.rows]

    total = sum(sizes)
    assert await store.checkpoint() == f"size {total}"
    assert await store.entries(Query(span=(0, total))) == list(enumerate(written))
    assert await store.entries(Query(span=(total - 1, total + 9))) == [(total - 1, written[-1])]
    assert await store.entries(Query(span=(1, 1))) == []
    tile = (await store.tiles([Tile(0, 0), Tile(5, 0)]))[Tile(0, 0)]
    assert tile == b"".join(map(merkle.leaf_hash, written[:256]))


async def test_entries_are_found_by_artifact_job_and_touch(store: LogStore) -> None:
    """A DPO asks by artifact, a worker by job, a touch by its id."""
    events = [
        an_event(artifact="a_1", job="j_1"),
        an_event(artifact="a_2", job="j_1"),
        an_event(EventType.TOUCH_BEGAN, artifact="a_1", touch="t_1"),
    ]
    batch = Writer().batch(*events)

    await store.commit(batch)

    async def found(query: Query) -> list[int]:
        return [index for index, _ in await store.entries(query)]

    assert await found(Query(artifact="a_1")) == [0, 2]
    assert await found(Query(job="j_1")) == [0, 1]
    assert await found(Query(touch="t_1")) == [2]
    assert await found(Query(artifact="a_9")) == []


async def test_open_touches_are_those_without_an_end(store: LogStore) -> None:
    """After a crash these are what must be ended as killed."""
    writer = Writer()
    await store.commit(writer.batch(*[
        an_event(EventType.TOUCH_BEGAN, touch=touch) for touch in ("t_1", "t_2", "t_3")
    ]))  # fmt: skip

    await store.commit(writer.batch(an_event(EventType.TOUCH_ENDED, touch="t_2")))

    assert [i for i, _ in await store.entries(Query(open_touches=True))] == [0, 2]


async def test_known_tells_ids_chain_ends_and_begun_touches(store: LogStore) -> None:
    """The writer builds the next batch on this: a wrong chain end would break the chain."""
    writer = Writer()
    await store.commit(writer.batch(an_event(id="e_old", artifact="a_1")))
    last = writer.batch(
        an_event(artifact="a_1"), an_event(EventType.TOUCH_BEGAN, artifact="a_2", touch="t_1")
    )
    await store.commit(last)

    known = await store.known([
        an_event(id="e_old", artifact="a_1"),
        an_event(id="e_new", artifact="a_9"),
        an_event(EventType.TOUCH_BEGAN, artifact="a_2", touch="t_1"),
        an_event(EventType.TOUCH_BEGAN, artifact="a_2", touch="t_9"),
    ])  # fmt: skip

    assert known.ids == {"e_old": (0, 1)}
    assert known.chains == {
        "a_1": (1, merkle.leaf_hash(last.rows[0].data)),
        "a_2": (0, merkle.leaf_hash(last.rows[1].data)),
    }
    assert known.touches == {"t_1"}


async def test_a_batch_on_another_size_is_refused_whole(store: LogStore) -> None:
    """Somebody else has written: going on would overwrite their leaves."""
    writer = Writer()
    await store.commit(writer.batch(an_event()))

    with pytest.raises(StoreError, match="another writer"):
        await store.commit(Writer().batch(an_event(artifact="a_x"), an_event()))

    assert await store.checkpoint() == "size 1"
    assert await store.entries(Query(artifact="a_x")) == []


async def test_a_batch_that_fails_half_way_leaves_nothing(store: LogStore) -> None:
    """A commit is all or nothing: half a batch would not have the signed root."""
    writer = Writer()
    await store.commit(writer.batch(an_event(id="e_1")))

    with pytest.raises(StoreError):
        await store.commit(writer.batch(an_event(artifact="a_x"), an_event(id="e_1")))

    assert await store.checkpoint() == "size 1"
    assert await store.entries(Query(span=(0, 9))) != []
    assert await store.entries(Query(artifact="a_x")) == []
    assert len((await store.tiles([Tile(0, 0)]))[Tile(0, 0)]) == 32


async def test_a_second_writer_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    """Two writers would sign two histories."""
    first = SqliteStore(tmp_path / "log.db")

    with pytest.raises(LockedError):
        SqliteStore(tmp_path / "log.db")

    await first.close()
    await SqliteStore(tmp_path / "log.db").close()


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
async def test_readers_see_each_commit_of_a_running_writer(store: LogStore, tmp_path: Path) -> None:
    """The command line answers questions while the server runs, and takes no lock for it."""
    writer, reads = Writer(), SqliteReads(tmp_path / "log.db")
    await store.commit(writer.batch(an_event()))

    before = await reads.checkpoint()
    await store.commit(writer.batch(an_event()))

    assert (before, await reads.checkpoint()) == ("size 1", "size 2")
    await reads.close()


async def test_a_closed_log_can_be_read_from_its_file_alone(tmp_path: Path) -> None:
    """An auditor gets a copy of the file, with no server beside it."""
    store = SqliteStore(tmp_path / "log.db")
    await store.commit(Writer().batch(an_event()))
    await store.close()

    reads = SqliteReads(tmp_path / "log.db")

    assert await reads.checkpoint() == "size 1"
    await reads.close()


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
async def test_commits_are_synced_to_the_disk(store: LogStore, tmp_path: Path) -> None:
    """WAL with synchronous below FULL loses acknowledged commits at a power cut."""
    await store.commit(Writer().batch(an_event()))
    assert isinstance(store, SqliteStore)

    synced = await store._writing.run(lambda db: db.execute("PRAGMA synchronous").fetchone())

    assert synced == (2,)
    with contextlib.closing(sqlite3.connect(tmp_path / "log.db")) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_what_is_not_a_log_is_an_error_of_ours(tmp_path: Path) -> None:
    """A caller maps our errors to outcomes; SQLite's own would pass it by and quote values."""
    (tmp_path / "junk.db").write_bytes(b"not a database, but long enough to look" * 99)
    with contextlib.closing(sqlite3.connect(tmp_path / "newer.db")) as db:
        db.execute("PRAGMA user_version = 99")

    for name in ("junk.db", "newer.db", "absent/log.db"):
        with pytest.raises(StoreError):
            SqliteStore(tmp_path / name)
    with pytest.raises(StoreError):
        SqliteReads(tmp_path / "absent.db")


async def test_a_closed_store_says_so_and_closes_twice(tmp_path: Path) -> None:
    """Shutdown paths meet; none of them may hang or raise."""
    store = SqliteStore(tmp_path / "log.db")
    await store.close()

    await store.close()

    with pytest.raises(StoreError, match="closed"):
        await store.checkpoint()


async def test_the_mark_is_what_was_written_last(tmp_path: Path) -> None:
    """The mark only helps if a restart reads exactly the newest note."""
    mark = FileMark(tmp_path / "mark")
    nothing = await mark.read()

    await mark.write("origin\n9\nroot\n")
    await mark.write("origin\n10\nroot\n")

    assert nothing is None
    assert await FileMark(tmp_path / "mark").read() == "origin\n10\nroot\n"


async def test_an_unusable_mark_is_an_error_of_ours(tmp_path: Path) -> None:
    """A mark that cannot be read or kept must stop the log, not pass as absent."""
    (tmp_path / "mark").mkdir()

    for act in (FileMark(tmp_path / "mark").read(), FileMark(tmp_path / "mark").write("x")):
        with pytest.raises(StoreError):
            await act
