"""
What must hold whenever a cell has come to rest, whatever happened to it.

Each rule yields what is wrong, in words that name no person. They read the database past the
product and know nothing of its code but its tables.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from simulation import database
from simulation.person import Said, Says
from simulation.stores import MemoryKeys

from gateway.note import artifact
from vault.epochs import epoch_of
from vault.model import Kind, WrappedKey

if TYPE_CHECKING:
    from simulation.node import Run

YES = {"granted", "renewed"}
MARKS = timedelta(days=60)


def broken(run: "Run") -> list[str]:
    """Return what is wrong where *run* came to rest; bring the node's notes up to date."""
    found = [fault for rule in RULES for fault in rule(run)]
    node = run.node
    node.allowed = node.mind.agrees
    if not run.erred:
        rows = run.bench.rows("SELECT artifact, due_at FROM retention WHERE state = 'due'")
        node.due = dict(rows)
        done = run.bench.rows("SELECT id FROM erasures WHERE executed_at IS NOT NULL")
        node.stones = {ident: node.stones.get(ident, node.time.now()) for (ident,) in done}
    return found


def consented(run: "Run") -> Iterator[str]:
    """No recording is touched without a consent that counted then."""
    yes = any(each.says is Says.YES for each in run.mind.said[run.said_before :])
    yes = yes or run.node.allowed or run.mind.agrees
    if len(run.node.fetched) > run.fetched_before and not yes:
        yield "a recording was fetched, and its person had not agreed, or had said no"


def heeded(run: "Run") -> Iterator[str]:
    """Hold that a no which we took counts, however old it is and however it was typed."""
    if not run.mind.refused_last:
        return
    for (subject,) in run.bench.rows("SELECT DISTINCT subject FROM aliases"):
        sql = """SELECT state FROM consents WHERE subject = ? AND purpose = 'transcribe_and_answer'
                 ORDER BY at DESC, seq DESC LIMIT 1"""
        if any(state in YES for (state,) in run.bench.rows(sql, subject)):
            yield "a no was acknowledged, and the ledger still says yes"


def ended(run: "Run") -> Iterator[str]:
    """Hold that what we took has an end, waits for an answer, or will be looked at again."""
    now = int(run.node.time.wall().timestamp() * 1e6)
    waiting = {each.job for each in run.cell.broker.stream.waiting.values()}
    for said in run.mind.said:
        if said.lost:
            continue
        rows = run.bench.rows("SELECT state, next_try_at FROM jobs WHERE id = ?", said.job)
        if not rows:
            yield f"an acknowledged update vanished ({said.says})"
        elif rows[0][0] == "accepted" and rows[0][1] <= now and said.job not in waiting:
            yield f"an acknowledged update waits for nobody ({said.says})"


def answered(run: "Run") -> Iterator[str]:
    """Nobody is left in silence: an answer, a question, a notice, or a reason that is theirs."""
    if not run.mind.said or len(run.mind.said) == run.said_before or run.power.found:
        return
    said = run.mind.said[-1]
    if said.says not in {Says.VOICE, Says.ELSE} or said.late or not said.calm or said.lost:
        return
    if len(run.world.shown) > said.shown_before:
        return
    if _waits(run, said):
        return
    yield f"silence ({said.says})"


def _waits(run: "Run", said: Said) -> bool:
    [(state, reason)] = run.bench.rows("SELECT state, reason FROM jobs WHERE id = ?", said.job)
    if state == "parked":
        return said.asked_before
    if state == "accepted":
        return True
    # In human hands the dialogue says nothing: the human does.
    taken = run.bench.rows("SELECT 1 FROM handovers WHERE taken AND closing_recorded_at IS NULL")
    return bool(taken) or reason.startswith(("consent.", "person."))


def once(run: "Run") -> Iterator[str]:
    """Nothing is said twice, but once more where nobody knows whether it arrived, and recorded."""
    for opaque, count in Counter(each.opaque for each in run.world.shown).items():
        if count == 1:
            continue
        rows = run.bench.rows("SELECT possible_duplicate FROM replies WHERE id = ?", opaque)
        if count > 2 or (rows and not rows[0][0]):
            yield "an answer came twice, and not as a recorded doubt"


def touched(run: "Run") -> Iterator[str]:
    """Every touch that began has an end, unless its job is still to be tried."""
    opened = run.bench.rows("SELECT 1 FROM jobs WHERE state = 'accepted'")
    if not opened and any(disk.unended for disk in run.node.disks.logs.values()):
        yield "a touch has no end"


def gone(run: "Run") -> Iterator[str]:
    """Hold that what was taken back or erased is nowhere: no row, no object, no key."""
    for job in {*run.mind.revoked, *run.mind.withdrawn}:
        rows = run.bench.rows("SELECT artifact, state FROM jobs WHERE id = ?", job)
        for recording, state in rows:
            if state != "accepted":
                idents = [artifact(recording, kind) for kind in Kind]
                yield from _left(run, f"id IN ({','.join('?' * len(idents))})", *idents)
    for subject in run.mind.erased:
        yield from _left(run, "subject = ?", subject)
        alive = "SELECT 1 FROM subject_keys WHERE subject = ? AND ciphertext IS NOT NULL"
        if run.bench.rows(alive, subject):
            yield "an erased person's key lives"
        if run.bench.rows("SELECT 1 FROM aliases WHERE subject = ?", subject):
            yield "a number leads to an erased person"


def _left(run: "Run", which: str, *values: str) -> Iterator[str]:
    sql = f"SELECT state, object_name FROM artifacts WHERE {which}"
    for state, name in run.bench.rows(sql, *values):
        if state != "destroyed":
            yield "what was taken back is kept"
        if name in run.node.disks.objects:
            yield "the object of what was taken back is there"


def kept(run: "Run") -> Iterator[str]:
    """Nothing is destroyed before it is due by the true time, whatever a clock says."""
    now = run.node.time.now()
    for ident, due in run.node.due.items():
        if due <= int(now.timestamp()):
            continue
        sql = """SELECT a.state, r.reason, e.ciphertext IS NOT NULL, a.epoch FROM artifacts a
                 JOIN retention r ON r.artifact = a.id
                 LEFT JOIN epoch_keys e ON e.epoch = a.epoch WHERE a.id = ?"""
        for state, reason, alive, epoch in run.bench.rows(sql, ident):
            if state == "destroyed" and reason == "retention.expired":
                yield "an artifact was destroyed before it was due"
            if state == "kept" and not (alive and epoch in run.node.disks.keks):
                yield "the key of what is not due was destroyed"
    for kind in (Kind.RAW_AUDIO, Kind.TRANSCRIPT):
        sql = "SELECT 1 FROM epoch_keys WHERE epoch = ? AND ciphertext IS NULL"
        if run.bench.rows(sql, epoch_of(kind, now)):
            yield "the key of the epoch that is open now was destroyed"


def remembered(run: "Run") -> Iterator[str]:
    """Hold that the journal forgets nobody before its time: a restore would bring them back."""
    journal = run.cell.journal.read_bytes() if run.cell.journal.exists() else b""
    for ident, at in run.node.stones.items():
        young = at + MARKS > run.node.time.now() + timedelta(days=1)
        there = ident.encode() in journal, f"tombstones/{ident}" in run.node.disks.objects
        if young and not all(there):
            yield "the journal forgot an erasure"


def dead(run: "Run") -> Iterator[str]:
    """Once an erasure is hard, no backup of the key table opens anything of that person."""
    backup, subjects = run.node.backup, run.mind.erased
    hard = run.bench.rows(
        "SELECT subject FROM erasures WHERE scope = 'person' AND hardened_at IS NOT NULL"
    )
    if backup is None or not subjects or not hard:
        return
    older = database.connect()
    older.deserialize(backup.database)
    keys = MemoryKeys(run.node.disks.keks, run.node.time.now)
    for (subject,) in hard:
        if subject in subjects:
            sql = """SELECT kek, version, ciphertext FROM subject_keys
                     WHERE subject = ? AND ciphertext IS NOT NULL"""
            for kek, version, text in older.read(sql, (subject,)):
                wrapped = WrappedKey(kek=kek, version=version, ciphertext=text)
                if isinstance(keys._tried(wrapped), bytes):
                    yield "a backup opens an erased person's key"
    older.close()


RULES: tuple[Callable[["Run"], Iterator[str]], ...] = (
    consented,
    heeded,
    ended,
    answered,
    once,
    touched,
    gone,
    kept,
    remembered,
    dead,
)
