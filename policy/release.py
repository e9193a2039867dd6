"""
Bundles on disk: every one that was ever enforced, and which of them is.

- ``<revision>.tar.gz`` is written before the revision becomes the active one, and is kept: a
  stored decision is replayed with the bundle that made it.
- ``active.json`` and ``pin.json`` are replaced, never changed: who is killed in the middle
  leaves the old or the new one.
- A pin names the release to be enforced whatever the source publishes, until it is taken away.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from policy import archive
from policy.archive import Packed
from policy.bundle import Bundle
from policy.errors import BundleError
from policy.signing import PublicKey

_REVISION = re.compile(r"[0-9a-f]{64}")
_STATE = "active.json"
_PIN = "pin.json"
_REFUSED = "refused.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """
    The active revision, when its source last *confirmed* it (epoch seconds), and what it followed.

    *newest_issued* and *newest_revision* are those of the newest publication ever admitted: they
    stay when an older one is rolled back to.
    """

    revision: str
    confirmed: int
    newest_issued: int
    newest_revision: str
    previous: str = ""

    @property
    def newest(self) -> tuple[int, str]:
        """Return issue number and revision of the newest publication."""
        return self.newest_issued, self.newest_revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The candidate that was refused last: when (epoch seconds) and why."""

    at: int
    fault: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pin:
    revision: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


_Kind = TypeVar("_Kind", State, Refusal, _Pin)


class Releases:
    """The releases in *directory*. Trusted: who can write there can name the active release."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory

    def keep(self, packed: Packed) -> None:
        """Keep *packed* under its revision."""
        archive.place(packed.raw, self._path(packed.bundle.revision))

    def load(self, revision: str, *, keys: Sequence[PublicKey] | None = None) -> Packed:
        """
        Return the release *revision*, signed by one of *keys* if any are given.

        Raises:
            BundleError: it is not kept, or is no longer what it was.

        """
        path = self._path(revision)
        if not path.exists():
            raise BundleError(f"release {revision[:16]} is not kept here")
        packed = archive.unpack(archive.load(path), keys=keys)
        if packed.bundle.revision != revision:
            raise BundleError(f"{path.name}: holds another release")
        return packed

    def bundle(self, revision: str) -> Bundle:
        """Return the bundle that *revision* names, to replay what it decided."""
        return self.load(revision).bundle

    def revisions(self) -> tuple[str, ...]:
        """Return what is kept, the newest file first."""
        kept = [path for path in self._directory.glob("*.tar.gz") if _REVISION.match(path.name)]
        kept.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        return tuple(path.name.removesuffix(".tar.gz") for path in kept)

    def find(self, start: str) -> str:
        """Return the one kept revision that begins with *start*; raise `BundleError`."""
        found = [revision for revision in self.revisions() if revision.startswith(start)]
        if len(found) != 1:
            raise BundleError(f"{len(found)} kept releases begin with {start!r} (give more of it)")
        return found[0]

    @property
    def state(self) -> State | None:
        """Return what is active, or None before the first release."""
        return self._read(_STATE, State)

    def activate(self, packed: Packed, *, at: int) -> State:
        """Record that *packed*, which is kept, is enforced from *at* on."""
        revision, before = packed.bundle.revision, self.state
        known = before or State(revision="", confirmed=at, newest_issued=-1, newest_revision="")
        newest = max(known.newest, (packed.issued, revision))
        state = State(
            revision=revision,
            confirmed=at,
            newest_issued=newest[0],
            newest_revision=newest[1],
            previous=known.previous if known.revision == revision else known.revision,
        )
        self._write(_STATE, state)
        return state

    def confirm(self, state: State, *, at: int) -> State:
        """Record that the source stood by the active release at *at*."""
        confirmed = replace(state, confirmed=at)
        self._write(_STATE, confirmed)
        return confirmed

    @property
    def pinned(self) -> str | None:
        """Return the revision that is to be enforced whatever is published, or None."""
        pin = self._read(_PIN, _Pin)
        return None if pin is None else pin.revision

    def pin(self, revision: str) -> None:
        """Have the kept *revision* enforced; raise `BundleError` if it cannot be."""
        self.load(revision)
        self._write(_PIN, _Pin(revision=revision))

    def unpin(self) -> None:
        """Follow the source again."""
        (self._directory / _PIN).unlink(missing_ok=True)

    @property
    def refusal(self) -> Refusal | None:
        """Return the last refusal since the last release, or None."""
        return self._read(_REFUSED, Refusal)

    def refuse(self, fault: str, *, at: int) -> None:
        """Record why a candidate was refused."""
        self._write(_REFUSED, Refusal(at=at, fault=fault))

    def forgive(self) -> None:
        """Forget the refusal: the source stands by something that we enforce."""
        (self._directory / _REFUSED).unlink(missing_ok=True)

    def _path(self, revision: str) -> Path:
        if not _REVISION.fullmatch(revision):
            raise BundleError("a revision is 64 hex digits")
        return self._directory / f"{revision}.tar.gz"

    def _read(self, name: str, kind: type[_Kind]) -> _Kind | None:
        path = self._directory / name
        if not path.exists():
            return None
        try:
            return msgspec.json.decode(archive.load(path), type=kind)
        except msgspec.MsgspecError as exc:
            raise BundleError(f"{name}: {exc} (remove it)") from None

    def _write(self, name: str, value: State | Refusal | _Pin) -> None:
        archive.place(msgspec.json.encode(value), self._directory / name)
