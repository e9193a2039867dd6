"""
A bundle as a file: the tar.gz that an OPA server loads, and a reader that trusts none of it.

- Writing is deterministic: one bundle, one sequence of bytes.
- Reading refuses what is too large or too many, what is no plain file or lies outside the
  archive's root, what is neither rule nor data, and what does not have the revision it claims.
- Nothing is ever extracted to disk. ``opa build`` writes names from ``/`` on; both are one name.
- Whoever gives keys gets only what one of them has signed (`policy.signing`).
"""

import gzip
import io
import json
import os
import re
import stat
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from policy import bundle as bundles
from policy import canonical, signing
from policy.bundle import Bundle
from policy.errors import BundleError
from policy.signing import SIGNATURES, PublicKey, Signer

SIZE_LIMIT = 8 << 20  # bytes, unpacked
PACKED_LIMIT = 4 << 20  # bytes, as they come
FILE_LIMIT = 64

_MANIFEST = ".manifest"
_DATA = "data.json"
_MANIFEST_KEYS = frozenset({"metadata", "rego_version", "revision", "roots"})
_MODULE = re.compile(r"[a-z_]+(?:/[a-z_]+){0,4}\.rego")


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A bundle as it was published: its bytes, and *issued*, the number that only grows."""

    bundle: Bundle
    issued: int
    raw: bytes = field(repr=False)


def write(
    bundle: Bundle, path: Path, *, issued: int | None = None, signer: Signer | None = None
) -> None:
    """Write *bundle* to *path*; whoever reads meanwhile sees the old file or the new one."""
    place(pack(bundle, issued=issued, signer=signer), path)


def place(raw: bytes, path: Path) -> None:
    """Make *raw* the content of *path*, whole and on disk, or leave what was there."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def pack(bundle: Bundle, *, issued: int | None = None, signer: Signer | None = None) -> bytes:
    """
    Return *bundle* as the bytes of an OPA bundle, signed by *signer*.

    *issued* (epoch seconds, say) orders publications: a cell takes none older than it has had.
    """
    manifest: dict[str, Any] = {
        "revision": bundle.revision,
        "rego_version": 1,
        "roots": ["vocustody"],
    }
    if issued is not None:
        manifest["metadata"] = {"issued": issued}
    return _tar(
        {
            _MANIFEST: canonical.encode(manifest),
            _DATA: canonical.encode(bundle.document),
            **{name: text.encode() for name, text in bundle.modules.items()},
        },
        signer,
    )


def sign(raw: bytes, signer: Signer) -> bytes:
    """
    Return the bundle *raw* with a signature of *signer* in place of any other.

    Raises:
        BundleError: *raw* is no bundle that anybody should sign.

    """
    files = dict(_files(_inflate(raw)))
    _bundle(files)
    files.pop(SIGNATURES, None)
    return _tar(files, signer)


def _tar(files: Mapping[str, bytes], signer: Signer | None) -> bytes:
    signed = {SIGNATURES: signing.sign(files, signer)} if signer else {}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted({**files, **signed}.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), mtime=0)


def read(path: Path) -> Bundle:
    """
    Return the bundle in *path*, whoever signed it.

    Raises:
        BundleError: it is not one that `write` could have written; the message says why.

    """
    return unpack(load(path)).bundle


def load(path: Path) -> bytes:
    """Return the bytes of *path*, a plain file of at most `PACKED_LIMIT`; raise `BundleError`."""
    try:
        # Opening a pipe waits for whoever would write it.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BundleError(f"{path.name}: not a plain file")
            raw = file.read(PACKED_LIMIT + 1)
    except OSError as exc:
        raise BundleError(f"{path.name}: not readable ({type(exc).__name__})") from None
    if len(raw) > PACKED_LIMIT:
        raise BundleError(f"{path.name}: over {PACKED_LIMIT} bytes")
    return raw


def unpack(raw: bytes, *, keys: Sequence[PublicKey] | None = None) -> Packed:
    """
    Return the bundle in *raw*; it must be signed by one of *keys* if any are given.

    Raises:
        BundleError: it is not one that `pack` could have packed; the message says why.

    """
    files = dict(_files(_inflate(raw)))
    if keys is not None:
        signing.verify(files, keys)
    return Packed(bundle=_bundle(files), issued=_issued(_object(files, _MANIFEST)), raw=raw)


def _bundle(files: Mapping[str, bytes]) -> Bundle:
    manifest = _object(files, _MANIFEST)
    document = _object(files, _DATA)
    # Go reads a manifest's keys in any case: a second "Revision" would be another reader's truth.
    if set(manifest) - _MANIFEST_KEYS or manifest.get("roots") != ["vocustody"]:
        raise BundleError(f"{_MANIFEST}: must have the root vocustody, and nothing that we do not")
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


def _issued(manifest: Mapping[str, Any]) -> int:
    metadata = manifest.get("metadata", {"issued": 0})
    issued = metadata.get("issued") if isinstance(metadata, dict) else None
    if type(issued) is not int or set(metadata) != {"issued"} or not 0 <= issued < 1 << 53:
        raise BundleError(f"{_MANIFEST}: metadata must have exactly: issued, a whole number")
    return issued


def _inflate(packed: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(packed)) as file:
            raw = file.read(SIZE_LIMIT + 1)
    except (OSError, EOFError, zlib.error) as exc:
        raise BundleError(f"not readable ({type(exc).__name__})") from None
    if len(raw) > SIZE_LIMIT:
        raise BundleError(f"over {SIZE_LIMIT} bytes")
    return raw


def _files(raw: bytes) -> Iterator[tuple[str, bytes]]:
    seen: set[str] = set()
    try:
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as tar:
            for entry in tar:
                content = _content(tar, entry)
                name = entry.name.removeprefix("/")
                _named(name, seen)
                yield name, content.read()
    except BundleError:
        raise
    except Exception as exc:  # noqa: BLE001 - hostile headers make the parser raise anything
        raise BundleError(f"not a tar archive ({type(exc).__name__})") from None


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    # A sparse file of some bytes may claim any length.
    plain = entry.isreg() and not entry.issparse()
    content = tar.extractfile(entry) if plain else None
    if content is None:
        raise BundleError(f"{entry.name!r}: not a plain file")
    return content


def _named(name: str, seen: set[str]) -> None:
    if name not in {_MANIFEST, _DATA, SIGNATURES} and not _MODULE.fullmatch(name):
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
