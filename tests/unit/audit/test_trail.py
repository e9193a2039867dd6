"""The trail of a region, quarter after quarter."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.audit import Clock, an_event

from audit import note, verify
from audit.errors import ForkError, LockedError, NotInLogError, StoreError
from audit.export import export
from audit.model import EventType
from audit.signers.local import LocalSigner
from audit.stores.folder import Folder
from audit.trail import Trail, quarter

pytestmark = pytest.mark.anyio
_AUTUMN = datetime(2026, 9, 30, 23, 59, 50, tzinfo=UTC)
_SIGNER = LocalSigner(Ed25519PrivateKey.generate())


async def _open(home: Path, clock: Clock) -> Trail:
    return await Trail.open(Folder(home, "eu-central"), _SIGNER, clock)


@pytest.mark.parametrize(
    ("at", "name"),
    [((2026, 1, 1), "2026q1"), ((2026, 3, 31), "2026q1"), ((2026, 4, 1), "2026q2"),
     ((2026, 9, 30), "2026q3"), ((2026, 12, 31), "2026q4")],
)  # fmt: skip
def test_quarters_are_those_of_the_calendar(at: tuple[int, int, int], name: str) -> None:
    """The quarter names the log for ever: origin, file and retention follow it."""
    assert quarter(datetime(*at, tzinfo=UTC)) == name


async def test_the_trail_rolls_over_and_reads_across(tmp_path: Path) -> None:
    """A question about last Thursday must not depend on which side of a quarter it fell."""
    clock = Clock(_AUTUMN)
    async with await _open(tmp_path, clock) as trail:
        before = await trail.append(an_event(artifact="a_1", at=clock()))
        clock.move(seconds=20)
        events = [an_event(artifact="a_1", at=clock()) for _ in range(5)]
        after = await asyncio.gather(*map(trail.append, events))

        leaves = await trail.leaves(artifact="a_1")

    assert before.origin == "audit.vocustody.example/eu-central/2026q3"
    assert {receipt.origin for receipt in after} == {"audit.vocustody.example/eu-central/2026q4"}
    assert [leaf.aseq for leaf in leaves] == [0, 0, 1, 2, 3, 4]


async def test_a_touch_ends_in_the_log_it_began_in(tmp_path: Path) -> None:
    """Each quarter's log is verified by itself: an end without a beginning is a finding."""
    clock = Clock(_AUTUMN)
    async with await _open(tmp_path, clock) as trail:
        began = await trail.append(an_event(EventType.TOUCH_BEGAN, at=clock()))
        clock.move(seconds=20)
        await trail.append(an_event(at=clock()))
    async with await _open(tmp_path, clock) as trail:
        ended = await trail.append(an_event(EventType.TOUCH_ENDED, at=clock()))
        unended = await trail.unended()
        for name in trail.quarters():
            await export(trail.reader(name), tmp_path / name, vkey=trail.vkey(name))

    assert (ended.origin, unended) == (began.origin, [])
    assert all(verify.verify(tmp_path / name).ok for name in ("2026q3", "2026q4"))


async def test_an_event_told_again_after_the_roll_is_not_told_twice(tmp_path: Path) -> None:
    """A job redelivered over midnight must get the receipt it did not live to see."""
    clock = Clock(_AUTUMN)
    event = an_event(at=clock())
    async with await _open(tmp_path, clock) as trail:
        first = await trail.append(event)
        late = an_event(at=clock())
        clock.move(seconds=20)
        await trail.append(an_event(at=clock()))

        again = await trail.append(event)
        new = await trail.append(late)

    assert again == first
    assert new.origin.endswith("2026q4")


async def test_reading_takes_no_lock_and_writing_takes_one(tmp_path: Path) -> None:
    """The command line answers while the server runs; a second server must not start."""
    async with await _open(tmp_path, Clock()) as trail:
        await trail.append(an_event(artifact="a_1"))

        async with await Trail.read(Folder(tmp_path, "eu-central")) as reading:
            seen = await reading.leaves(artifact="a_1")
            await trail.append(an_event(artifact="a_1"))
            then = await reading.leaves(artifact="a_1")
            head = note.verify(await reading.checkpoint(), note.parse_key(reading.vkey()))
        with pytest.raises(LockedError):
            await _open(tmp_path, Clock())

    assert (len(seen), len(then), head.size) == (1, 2, 2)


async def test_a_rolled_back_quarter_stops_the_start(tmp_path: Path) -> None:
    """Any quarter restored from an older copy is a fork in the making, not only the newest."""
    clock = Clock(_AUTUMN)
    async with await _open(tmp_path, clock) as trail:
        await trail.append(an_event(at=clock()))
    older = (tmp_path / "eu-central" / "2026q3.db").read_bytes()
    async with await _open(tmp_path, clock) as trail:
        await trail.append(an_event(at=clock()))
    (tmp_path / "eu-central" / "2026q3.db").write_bytes(older)

    with pytest.raises(ForkError):
        await _open(tmp_path, Clock(_AUTUMN + timedelta(days=2)))


async def test_what_is_not_there_is_said_plainly(tmp_path: Path) -> None:
    """A wrong region or quarter must not look like an empty trail."""
    with pytest.raises(StoreError, match="no audit log"):
        await Trail.read(Folder(tmp_path, "eu-west"))
    for region in ("../eu", "", "EU", "a/b"):
        with pytest.raises(StoreError, match="region"):
            await Trail.read(Folder(tmp_path, region))
    async with await _open(tmp_path, Clock()) as trail:
        with pytest.raises(NotInLogError):
            trail.reader("1999q1")
        with pytest.raises(ValueError, match="exactly one"):
            await trail.leaves()
