"""
A region's logs in a folder: ``<directory>/<region>/<quarter>.db`` with its ``.vkey``.

The high-water ``.mark`` is in *marks*, which should be another volume.
Trust: see `LogStore` and `HighWater`.
"""

import re
from pathlib import Path

from audit.errors import StoreError
from audit.ports import HighWater, LogReads, LogStore
from audit.stores.mark import FileMark
from audit.stores.sqlite import SqliteReads, SqliteStore

_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)
_QUARTER = re.compile(r"[0-9]{4}q[1-4]", re.ASCII)


class Folder:
    """See `Shelf`; *directory* and *marks* may hold several regions."""

    def __init__(self, directory: Path, region: str, *, marks: Path | None = None) -> None:
        if not _REGION.fullmatch(region):
            raise StoreError("region: expected lower-case letters, digits and hyphens")
        self.region = region
        self._home = directory / region
        self._marks = (directory / "marks" if marks is None else marks) / region

    def quarters(self) -> list[str]:
        """See `Shelf.quarters`."""
        found = self._home.glob("*.db")
        return sorted(path.stem for path in found if _QUARTER.fullmatch(path.stem))

    def open(self, quarter: str) -> tuple[LogStore, HighWater]:
        """See `Shelf.open`."""
        for folder in (self._home, self._marks):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return SqliteStore(self._home / f"{quarter}.db"), FileMark(self._marks / f"{quarter}.mark")

    def reads(self, quarter: str) -> LogReads:
        """See `Shelf.reads`."""
        return SqliteReads(self._home / f"{quarter}.db")

    def vkey(self, quarter: str) -> str:
        """See `Shelf.vkey`."""
        try:
            return (self._home / f"{quarter}.vkey").read_text().strip()
        except OSError as exc:
            raise StoreError(f"the vkey of this log: {type(exc).__name__}") from None

    def keep_vkey(self, quarter: str, vkey: str) -> None:
        """See `Shelf.keep_vkey`."""
        (self._home / f"{quarter}.vkey").write_text(f"{vkey}\n")
