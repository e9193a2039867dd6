"""
The trail of one region: a log per quarter, one after the other.

- Events go to the log of the quarter that *now* is in; the trail rolls over by itself.
- The end of a touch goes where its beginning is, and an event told again is looked for in the
  quarter of its time, so that each log can be verified by itself. The artifact chain
  (``aseq``) starts anew in each log for the same reason.
- On disk: ``<directory>/<region>/<quarter>.db`` and the ``.vkey`` that verifies it, and a
  ``.mark`` in *marks*, which should be another volume.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from audit.errors import NotInLogError, StoreError
from audit.log import Log
from audit.model import Event, EventType, Leaf, Receipt
from audit.ports import Signer
from audit.reader import Reader
from audit.stores.mark import FileMark
from audit.stores.sqlite import SqliteReads, SqliteStore

ORG = "vocustody.example"
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)
_QUARTER = re.compile(r"[0-9]{4}q[1-4]", re.ASCII)


def quarter(at: datetime) -> str:
    """Return the quarter of *at*, such as ``2026q4``."""
    return f"{at.year:04d}q{(at.month + 2) // 3}"


class Quarters:
    """The logs of one region for reading, oldest first; an async context manager."""

    def __init__(self, home: Path, logs: Mapping[str, Reader]) -> None:
        self._home = home
        self._readers = dict(logs)

    async def leaves(
        self, *, artifact: str | None = None, job: str | None = None, touch: str | None = None
    ) -> list[Leaf]:
        """Return the leaves of one artifact, job or touch (name exactly one), oldest first."""
        found = []
        for reader in self._in_order():
            found += await reader.leaves(artifact=artifact, job=job, touch=touch)
        return found

    async def unended(self, job: str | None = None) -> list[Leaf]:
        """Return each ``touch.began`` that has no ``touch.ended``, of *job* or of all."""
        return [began for reader in self._in_order() for began in await reader.unended(job)]

    async def checkpoint(self) -> str:
        """Return the newest signed checkpoint of the newest quarter."""
        return await self._in_order()[-1].checkpoint()

    def quarters(self) -> list[str]:
        """Return the quarters there are, oldest first."""
        return sorted(self._readers)

    def reader(self, quarter: str | None = None) -> Reader:
        """Return the log of *quarter* (the newest by default) for export and proofs."""
        name = quarter or self.quarters()[-1]
        if name not in self._readers:
            raise NotInLogError(f"{name}: there is no log of this quarter")
        return self._readers[name]

    def vkey(self, quarter: str | None = None) -> str:
        """Return the key that verifies the log of *quarter* (the newest by default)."""
        try:
            return (self._home / f"{quarter or self.quarters()[-1]}.vkey").read_text().strip()
        except OSError as exc:
            raise StoreError(f"the vkey of this log: {type(exc).__name__}") from None

    async def close(self) -> None:
        """Close every log; safe to call twice."""
        for reader in self._in_order():
            await reader.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    def _in_order(self) -> list[Reader]:
        return [self._readers[name] for name in self.quarters()]


class Trail(Quarters):
    """The logs of one region, and the right to append to them."""

    def __init__(
        self, home: Path, marks: Path, *, region: str, signer: Signer,
        now: Callable[[], datetime], org: str,
    ) -> None:  # fmt: skip
        super().__init__(home, {})
        self._logs: dict[str, Log] = {}
        self._marks = marks
        self._region = region
        self._signer = signer
        self._now = now
        self._org = org
        self._rolling = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        directory: Path,
        region: str,
        signer: Signer,
        now: Callable[[], datetime],
        org: str = ORG,
        *,
        marks: Path | None = None,
    ) -> Self:
        """
        Open the trail of *region*; its logs are named ``audit.<org>/<region>/<quarter>``.

        Raises: `ForkError` if a log is not what was last signed; `LockedError` if another
        process writes it; `StoreError`.
        """
        home = _home(directory, region)
        marks = (directory / "marks" if marks is None else marks) / region
        for folder in (home, marks):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        trail = cls(home, marks, region=region, signer=signer, now=now, org=org)
        try:
            for name in sorted({*_quarters(home), quarter(now())}):
                await trail._log(name)
        except BaseException:
            await trail.close()
            raise
        return trail

    @staticmethod
    async def read(directory: Path, region: str) -> Quarters:
        """Open the trail of *region* for reading only, also while another process writes it."""
        home = _home(directory, region)
        names = _quarters(home)
        if not names:
            raise StoreError(f"{region}: there is no audit log here")
        return Quarters(home, {name: Reader(SqliteReads(home / f"{name}.db")) for name in names})

    async def append(self, event: Event) -> Receipt:
        """Append *event* to the log it belongs to; see `Log.append`."""
        return await (await self._log_of(event)).append(event)

    async def _log_of(self, event: Event) -> Log:
        current, told = quarter(self._now()), quarter(event.at)
        if event.type is EventType.TOUCH_ENDED and event.touch:
            for log in self._logs.values():
                if log.is_open(event.touch):
                    return log
        if told != current and told in self._logs and await self._logs[told].holds(event):
            return self._logs[told]
        return await self._log(current)

    async def _log(self, name: str) -> Log:
        if name in self._logs:
            return self._logs[name]
        async with self._rolling:
            if name not in self._logs:
                self._logs[name] = self._readers[name] = await self._open(name)
            return self._logs[name]

    async def _open(self, name: str) -> Log:
        log = await Log.open(
            SqliteStore(self._home / f"{name}.db"),
            self._signer,
            origin=f"audit.{self._org}/{self._region}/{name}",
            region=self._region,
            now=self._now,
            mark=FileMark(self._marks / f"{name}.mark"),
        )
        draft = self._home / f".{name}.vkey"
        draft.write_text(f"{log.key}\n")
        draft.replace(self._home / f"{name}.vkey")  # a reader sees a whole key or none
        return log


def _home(directory: Path, region: str) -> Path:
    if not _REGION.fullmatch(region):
        raise StoreError("region: expected lower-case letters, digits and hyphens")
    return directory / region


def _quarters(home: Path) -> list[str]:
    return sorted(path.stem for path in home.glob("*.db") if _QUARTER.fullmatch(path.stem))
