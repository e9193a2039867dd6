"""
A bundle as a file: the tar.gz that an OPA server loads, and a reader that trusts none of it.

- Writing is deterministic: one bundle, one sequence of bytes.
- Reading refuses what is too large or too many, what is no plain file or lies outside the
  archive's root, what is neither rule nor data, and what does not have the revision it claims.
- No signature is checked: who can replace the file and its expected revision is trusted.
"""

import gzip
import io
import json
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from policy import bundle as bundles
from policy import canonical
from policy.bundle import Bundle
from policy.errors import BundleError

SIZE_LIMIT = 8 << 20  # bytes, unpacked
FILE_LIMIT = 64

_MANIFEST = ".manifest"
_DATA = "data.json"
_MODULE = re.compile(r"[a-z_]+(?:/[a-z_]+){0,4}\.rego")


def write(bundle: Bundle, path: Path) -> None:
    """Write *bundle* to *path*; whoever reads meanwhile sees the old file or the new one."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(pack(bundle))
    fresh.replace(path)


def pack(bundle: Bundle) -> bytes:
    """Return *bundle* as the bytes of an OPA bundle."""
    manifest = {"revision": bundle.revision, "rego_version": 1, "roots": ["vocustody"]}
    files = {
        _MANIFEST: canonical.encode(manifest),
        _DATA: canonical.encode(bundle.document),
        **{name: text.encode() for name, text in bundle.modules.items()},
    }
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), mtime=0)


def read(path: Path) -> Bundle:
    """
    Return the bundle in *path*.

    Raises:
        BundleError: it is not one that `write` could have written; the message says why.

    """
    files = dict(_files(_inflate(path)))
    manifest = _object(files, _MANIFEST)
    document = _object(files, _DATA)
    if set(document) != {"vocustody"} or not isinstance(document["vocustody"], dict):
        raise BundleError(f"{_DATA}: must have exactly: vocustody")
    data = dict(document["vocustody"])
    claimed = data.pop("revision", None)
    modules = {name: _text(name, raw) for name, raw in files.items() if name.endswith(".rego")}
    bundle = Bundle(modules=modules, data=data)
    bundles.check(bundle)
    if not manifest.get("revision") == claimed == bundle.revision:
        raise BundleError(f"{_MANIFEST}: revision is not that of the content")
    return bundle


def _inflate(path: Path) -> bytes:
    try:
        with gzip.open(path) as packed:
            raw = packed.read(SIZE_LIMIT + 1)
    except (OSError, EOFError, zlib.error) as exc:
        raise BundleError(f"{path.name}: not readable ({type(exc).__name__})") from None
    if len(raw) > SIZE_LIMIT:
        raise BundleError(f"{path.name}: over {SIZE_LIMIT} bytes")
    return raw


def _files(raw: bytes) -> Iterator[tuple[str, bytes]]:
    seen: set[str] = set()
    try:
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as tar:
            for entry in tar:
                content = tar.extractfile(entry) if entry.isreg() else None
                if content is None:
                    raise BundleError(f"{entry.name!r}: not a plain file")
                _named(entry.name, seen)
                yield entry.name, content.read()
    except tarfile.TarError as exc:
        raise BundleError(f"not a tar archive ({type(exc).__name__})") from None


def _named(name: str, seen: set[str]) -> None:
    if name not in {_MANIFEST, _DATA} and not _MODULE.fullmatch(name):
        raise BundleError(f"{name!r}: neither rule nor data")
    if name in seen:
        raise BundleError(f"{name!r}: there twice")
    seen.add(name)
    if len(seen) > FILE_LIMIT:
        raise BundleError(f"over {FILE_LIMIT} files")


def _object(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    if name not in files:
        raise BundleError(f"{name}: is missing")
    try:
        found = json.loads(files[name])
    except (ValueError, RecursionError) as exc:
        raise BundleError(f"{name}: not JSON ({type(exc).__name__})") from None
    if not isinstance(found, dict):
        raise BundleError(f"{name}: not an object")
    return found


def _text(name: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BundleError(f"{name}: not UTF-8") from None
