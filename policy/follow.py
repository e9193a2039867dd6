"""
A cell follows its source of bundles: fetch, verify, pass the gate, keep, swap; or stay.

- What is refused changes nothing: the release in force stays, and says since when nobody has
  stood by it (`age`).
- A source that is reached and publishes what is in force confirms it; so does a pin, as long as
  the source is reached. What a server has not swapped to yet is not confirmed.
- The order on disk is: release, then state; in memory: one assignment. Who is killed in
  between has the old release or the new one.
- Kept is not admitted: the last release, a pin and what a server may still have stand the gate
  of this process, whatever they stood before. The settings may have been tightened since.
- What was refused may have come at a bad moment (a busy machine, a full disk), and its source
  will not send it again: it is looked at once more every `REST_S` seconds.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from policy import archive, gate
from policy.active import Active, Release
from policy.archive import Packed
from policy.bundle import Bundle
from policy.decide import DEADLINE_S
from policy.errors import BundleError, EngineError, FetchError, PolicyError
from policy.fetch import Source
from policy.gate import Expected
from policy.release import Releases, State
from policy.signing import PublicKey

TICK_S = 2.0  # how long a pin waits at most
REST_S = 60  # what was refused costs a rehearsal no more often than this
STALE_S = 900  # from here on somebody is told; what stops at 24 h, the rules say


class Told(Protocol):
    """Hears what happens to releases: an event of two words, and identifiers only."""

    def __call__(self, event: str, *, revision: str = "", reason: str = "") -> None:
        """Take note of *event*."""
        ...


class Follower:
    """
    Keeps one cell's rules up to date.

    *opened* returns the release of a bundle; *served* says that a server evaluates it, which
    swaps by itself. *now* gives epoch seconds.
    """

    def __init__(
        self,
        releases: Releases,
        *,
        expected: Expected,
        opened: Callable[[Bundle], Release],
        served: bool,
        now: Callable[[], int],
        told: Told,
        source: Source | None = None,
        keys: Sequence[PublicKey] | None = None,
        poll_s: float = 15.0,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._releases, self._expected, self._opened = releases, expected, opened
        self._served, self._now, self._told = served, now, told
        self._source, self._keys, self._poll_s = source, keys, poll_s
        self._deadline_s = deadline_s
        self._good: str | None = None  # what the source publishes, if it passed the gate
        self._raw: bytes | None = None  # what the source publishes, while it has not passed
        self._looked: int | None = None  # when it was last held against the gate
        self._admitted = set[str]()
        self._barred = dict[str, tuple[int, str]]()  # kept, but refused: when, and why
        self._pin: str | None = None
        self._state: State
        self._offered: Packed
        self._active: Active | None = None
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def active(self) -> Active:
        """Return what decides; `begin` puts it in place."""
        if self._active is None:
            raise EngineError("engine.closed")
        return self._active

    @property
    def revision(self) -> str:
        """Return what is to be enforced; a server may still be on its way there."""
        return self._state.revision

    @property
    def age(self) -> int:
        """Return for how many seconds nobody has stood by the release in force."""
        if self._source is None:
            return 0
        return max(0, self._now() - self._state.confirmed)

    @property
    def alive(self) -> bool:
        """Tell whether the source is followed; who has none has nothing to lose."""
        return self._source is None or (self._task is not None and not self._task.done())

    @property
    def offered(self) -> Packed:
        """Return the release that a server of ours should have, as it was published last."""
        return self._offered

    async def begin(self, built: Packed | None = None) -> None:
        """
        Put a release in force: *built*, else the last one, else what the source has now.

        Raises:
            BundleError: there is none that may be enforced.
            FetchError: there is none here, and the source is not reached.

        """
        before = self._releases.state
        if built is not None:
            await self._admit(built, gate.NEVER)
            self._releases.keep(built)
            await self._enforce(built, before)
        elif before is not None and (last := await self._last(before)) is not None:
            await self._enforce(last, before)
        else:
            packed = await self._candidate(await self._fetched(), before)
            self._good = packed.bundle.revision
            await self._enforce(packed, before)
            if self._pin is None:
                self._releases.forgive()

    async def _last(self, before: State) -> Packed | None:
        try:
            self._pin = self._releases.pinned
            return await self._kept(self._pin or before.revision)
        except BundleError as exc:
            self._refuse(exc)
            return None

    async def _fetched(self) -> bytes:
        raw = await self._source.newest() if self._source else None
        if raw is None:
            raise FetchError("no release is kept here, and no source is set")
        return raw

    async def _enforce(self, packed: Packed, before: State | None) -> None:
        """Begin with *packed*; a server may still have what was in force before."""
        revision = packed.bundle.revision
        release = self._opened(packed.bundle)
        older = await self._older(revision, before) if self._served and before else None
        self._active = Active(
            older or release, strange=self._wanted.set, deadline_s=self._deadline_s
        )
        if older is not None:
            await self._active.stage(release)
        resumed = before is not None and before.revision == revision and self._source is not None
        at = before.confirmed if before is not None and resumed else self._now()
        self._state = self._releases.activate(packed, at=at)
        self._offered = packed

    async def _older(self, revision: str, before: State) -> Release | None:
        older = before.previous if before.revision == revision else before.revision
        try:
            return self._opened((await self._kept(older)).bundle)
        except BundleError:
            return None

    def start(self) -> None:
        """Follow the source until `aclose`."""
        if self._source is not None:
            self._task = asyncio.create_task(self._follow())

    async def aclose(self) -> None:
        """Stop following, and close the release in force."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._source is not None:
            await self._source.aclose()
        if self._active is not None:
            await self._active.aclose()

    async def _follow(self) -> None:
        loop, due, warned = asyncio.get_running_loop(), 0.0, False
        while True:
            if loop.time() >= due or self._wanted.is_set() or self._repinned():
                self._wanted.clear()
                due = loop.time() + self._poll_s
                await self._tried()
            stale = self.age >= STALE_S
            if stale and not warned:
                self._told("policy.stale", revision=self.active.facts.revision)
            warned = stale
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), min(TICK_S, self._poll_s))

    def _repinned(self) -> bool:
        try:
            return self._releases.pinned != self._pin
        except (PolicyError, OSError):
            return True

    async def _tried(self) -> None:
        try:
            await self.poll()
        except Exception as exc:  # noqa: BLE001 - no publication may be the last that is looked at
            self._told("policy.poll_failed", reason=type(exc).__name__)

    async def poll(self) -> None:
        """
        Look once at pin and source, and enforce what they say if it may be enforced.

        Raises:
            BundleError: what is pinned cannot be enforced.
            FetchError: the source is not reached; a pin was followed all the same.

        """
        self._pin = self._releases.pinned
        try:
            await self._look()
        finally:
            await self._turn(self._pin or self._good)
        if (self._pin or self._good) == self.active.facts.revision:
            self._state = self._releases.confirm(self._state, at=self._now())

    async def _look(self) -> None:
        raw = await self._source.newest() if self._source else None
        if raw is not None:
            self._good, self._raw, self._looked = None, raw, None
        if self._raw is None or self._resting(self._looked):
            return
        self._looked = self._now()
        try:
            packed = await self._candidate(self._raw, self._state)
        except BundleError as exc:
            self._refuse(exc)
            return
        self._raw = None
        self._releases.forgive()
        self._good = packed.bundle.revision
        if self._good == self._state.revision:
            self._offered = packed  # signed anew, perhaps by another key

    def _resting(self, since: int | None) -> bool:
        return since is not None and 0 <= self._now() - since < REST_S

    async def _candidate(self, raw: bytes, before: State | None) -> Packed:
        """Return the release in *raw*, verified, admitted and kept; raise `BundleError`."""
        try:
            packed = archive.unpack(raw, keys=self._keys)
        except BundleError:
            self._raw = None  # these bytes will never be another bundle
            raise
        await self._admit(packed, before.newest if before else gate.NEVER)
        self._releases.keep(packed)
        return packed

    async def _kept(self, revision: str) -> Packed:
        """Return the kept *revision*, admitted by this process; raise `BundleError`."""
        packed = self._releases.load(revision, keys=self._keys)
        if revision in self._admitted:
            return packed
        since, fault = self._barred.get(revision, (None, ""))
        if self._resting(since):
            raise BundleError(fault)
        try:
            await self._admit(packed, gate.NEVER)
        except BundleError as exc:
            self._barred[revision] = self._now(), str(exc)
            raise
        return packed

    async def _admit(self, packed: Packed, newest: tuple[int, str]) -> None:
        await gate.admit(packed, expected=self._expected, newest=newest, now=self._now())
        self._admitted.add(packed.bundle.revision)

    async def _turn(self, revision: str | None) -> None:
        """Enforce the kept *revision*, or have the server's next answers held against it too."""
        expected = self.active.staged or self.active.facts
        if revision is None or revision == expected.revision == self._state.revision:
            return
        try:
            packed = await self._kept(revision)
        except BundleError as exc:
            self._refuse(exc)
            raise
        if revision == self.active.facts.revision:
            await self.active.unstage()
        else:
            release = await asyncio.to_thread(self._opened, packed.bundle)
            if self._served:
                await self.active.stage(release)
            else:
                await self.active.swap(release)
        self._state = self._releases.activate(packed, at=self._state.confirmed)
        self._offered = packed  # the last step: a server never has what nobody expects
        self._told("policy.staged" if self._served else "policy.activated", revision=revision)

    def _refuse(self, exc: BundleError) -> None:
        self._releases.refuse(str(exc), at=self._now())
        self._told("policy.refused", reason=type(exc).__name__)
