"""
Secrets as files: the only way one gets in.

- A secret file belongs to its reader alone: nothing for group or world (``mode & 0o077``).
- What is read is stripped of surrounding white space; nothing left is a fault.
- The value is in no ``repr``, no message and no serialised form.
"""

import stat
from pathlib import Path
from typing import Annotated, Any

from pydantic import GetPydanticSchema, ValidationInfo
from pydantic_core import core_schema

MAX_BYTES = 16 * 1024


class SecretFile:
    """One secret and where it was read from; *value* is for the one place that uses it."""

    __slots__ = ("path", "value")

    def __init__(self, path: Path, value: bytes) -> None:
        self.path = path
        self.value = value

    def __repr__(self) -> str:
        return f"SecretFile({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretFile) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.path)

    @property
    def text(self) -> str:
        """Return the secret as text; `read` has made sure that it is UTF-8."""
        return self.value.decode()


def read(path: Path) -> SecretFile:
    """Read the secret at *path*; `ValueError` names the fault and the fix, never the value."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is not a file (give the path of a secret file)")
        if status.st_mode & 0o077:
            raise ValueError(f"{path} is open to group or world (chmod 600 {path})")
        value = path.read_bytes()
    except OSError as exc:
        raise ValueError(f"{path} cannot be read: {exc.strerror} (create it, mode 600)") from None
    if len(value) > MAX_BYTES:
        raise ValueError(f"{path} is over {MAX_BYTES} bytes (a secret file holds one secret)")
    if not value.strip():
        raise ValueError(f"{path} is empty (write the secret into it)")
    try:
        value.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text (write the secret as text)") from None
    return SecretFile(path, value.strip())


class Newest:
    """The text of a secret file as it is now; while it cannot be read, as it was last."""

    def __init__(self, given: SecretFile) -> None:
        self._given = given
        self._seen: object = None

    def __call__(self) -> str:
        """Return the secret's text; a file that did not change is not read again."""
        try:
            status = self._given.path.stat()
            seen = (status.st_mtime_ns, status.st_ino, status.st_size)
            if seen != self._seen:
                self._given = read(self._given.path)
                self._seen = seen
        except (OSError, ValueError):  # half-way through being replaced
            pass
        return self._given.text


def locate(given: object, info: ValidationInfo) -> Path:
    """Return the path *given* in a settings file, relative paths counted from that file."""
    if not isinstance(given, str) or not given.strip():
        raise ValueError("must be the path of a file (a string)")
    base: Path = (info.context or {}).get("base", Path())
    return base / Path(given).expanduser()


def _load(given: object, info: ValidationInfo) -> SecretFile:
    return read(locate(given, info))


def _schema(_source: Any, _handler: Any) -> core_schema.CoreSchema:
    return core_schema.with_info_plain_validator_function(
        _load,
        serialization=core_schema.plain_serializer_function_ser_schema(lambda s: str(s.path)),
    )


Secret = Annotated[SecretFile, GetPydanticSchema(_schema)]
