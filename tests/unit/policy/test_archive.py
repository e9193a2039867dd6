"""A bundle file is written one way, and read with suspicion."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from support import policy_world

from policy import archive
from policy.bundle import Bundle
from policy.errors import BundleError

Files = dict[str, bytes]


def unpack(raw: bytes) -> Files:
    """Return the files of an archive."""
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:gz") as tar:
        found = {entry.name: tar.extractfile(entry) for entry in tar}
        return {name: file.read() for name, file in found.items() if file}


def pack(path: Path, files: Files, *extra: tarfile.TarInfo) -> Path:
    """Write *files* and bare *extra* entries as an archive."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for entry in extra:
            tar.addfile(entry)
    return path


@pytest.fixture
def files(policy_bundle: Bundle) -> Files:
    """Return the files of a bundle that is in order."""
    return unpack(archive.pack(policy_bundle))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a bundle is written."""
    return tmp_path / "bundle.tar.gz"


def test_what_is_written_is_read_back(policy_bundle: Bundle, path: Path) -> None:
    """The bundle in force and the bundle on disk are one."""
    archive.write(policy_bundle, path)

    found = archive.read(path)

    assert found.revision == policy_bundle.revision
    assert dict(found.modules) == dict(policy_bundle.modules)
    assert [entry.name for entry in path.parent.iterdir()] == ["bundle.tar.gz"]


def test_one_bundle_one_sequence_of_bytes() -> None:
    """Two builds of one content can be compared by digest, without trusting either builder."""
    assert archive.pack(policy_world.build()) == archive.pack(policy_world.build())


def test_it_is_an_opa_bundle(policy_bundle: Bundle, files: Files) -> None:
    """OPA takes only what the manifest's roots cover, and reports its revision."""
    manifest = json.loads(files[".manifest"])

    assert manifest == {
        "revision": policy_bundle.revision,
        "rego_version": 1,
        "roots": ["vocustody"],
    }
    assert json.loads(files["data.json"])["vocustody"]["revision"] == policy_bundle.revision


def test_a_repacked_bundle_in_order_is_read(files: Files, path: Path) -> None:
    """The refusals below are refusals of what was changed, not of the packing."""
    assert archive.read(pack(path, files)).revision


def refused(path: Path, match: str) -> None:
    """Assert that *path* is refused for *match*."""
    with pytest.raises(BundleError, match=match):
        archive.read(path)


OUTSIDE = ["../evil.rego", "//etc/evil.rego", "/../evil.rego", "a/../b.rego", "run.sh", "A.rego"]
NOT_PLAIN = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_outside_is_refused(files: Files, path: Path, name: str) -> None:
    """An archive may not reach out of itself, nor carry what is neither rule nor data."""
    refused(pack(path, files | {name: b"package vocustody.x\n"}), "neither rule nor data")


@pytest.mark.parametrize("kind", NOT_PLAIN)
def test_links_and_devices_are_refused(files: Files, path: Path, kind: bytes) -> None:
    """A link reads whatever it points to."""
    entry = tarfile.TarInfo("link.rego")
    entry.type, entry.linkname = kind, "/etc/passwd"

    refused(pack(path, files, entry), "not a plain file")


def test_too_many_files_are_refused(files: Files, path: Path) -> None:
    """A million empty rules cost a million entries to load."""
    letters = [f"{a}{b}" for a in "abcdefghij" for b in "abcdefghij"]

    refused(pack(path, files | {f"{name}.rego": b"" for name in letters}), "over 64 files")


def test_a_bomb_is_refused(path: Path) -> None:
    """A few kilobytes may unpack to gigabytes: reading stops at the limit."""
    path.write_bytes(gzip.compress(bytes(archive.SIZE_LIMIT + 1)))

    refused(path, "over 8388608 bytes")


def test_a_file_twice_is_refused(files: Files, path: Path) -> None:
    """Two readers might each take another one."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in [*files.items(), ("data.json", b"{}")]:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))

    refused(path, "there twice")


@pytest.mark.parametrize("name", [".manifest", "data.json"])
@pytest.mark.parametrize("content", [None, b"[]", b"{", b"\xff", b"[" * 100_000])
def test_manifest_and_data_must_be_there(
    files: Files, path: Path, name: str, content: bytes | None
) -> None:
    """Without them nobody knows which law this is."""
    rest = {key: value for key, value in files.items() if key != name}
    changed = rest if content is None else rest | {name: content}

    refused(pack(path, changed), name.replace(".", r"\."))


def edited(files: Files, **changes: Any) -> Files:
    """Return *files* with other data under ``vocustody``."""
    document = json.loads(files["data.json"])
    document["vocustody"] |= changes
    return files | {"data.json": json.dumps(document).encode()}


def test_data_outside_our_root_is_refused(files: Files, path: Path) -> None:
    """Data elsewhere could feed a server's own policy."""
    document = json.loads(files["data.json"]) | {"system": {}}

    refused(pack(path, files | {"data.json": json.dumps(document).encode()}), "must have exactly")
    refused(pack(path, files | {"data.json": b'{"vocustody": 1}'}), "must have exactly")


def test_a_changed_bundle_is_refused(files: Files, path: Path) -> None:
    """A revision that is not the content's would be replayed against the wrong law."""
    notices = edited(files, notices=["9999"])
    claimed = edited(files, revision="0" * 64)
    manifest = files | {".manifest": b'{"revision": "x", "roots": ["vocustody"]}'}

    for changed in (notices, claimed, manifest):
        refused(pack(path, changed), "revision is not that of the content")


def test_a_clock_or_a_socket_in_a_rule_is_refused(files: Files, path: Path) -> None:
    """Rules see what they are given, and nothing else."""
    text = files["route/route.rego"] + b"\nnow := time.now_ns()\n"

    refused(pack(path, files | {"route/route.rego": text}), r"time\.now_ns")


def test_an_empty_bundle_is_refused(files: Files, path: Path) -> None:
    """No rules, no law."""
    rest = {name: content for name, content in files.items() if not name.endswith(".rego")}

    refused(pack(path, rest), "no rules")


def test_a_float_in_the_data_is_refused(files: Files, path: Path) -> None:
    """Engines print floats differently, so no digest over one can be checked."""
    refused(pack(path, edited(files, tenants={"acme": {"x": 1.5}})), "another shape")


def test_text_that_is_no_text_is_refused(files: Files, path: Path) -> None:
    """Every fault of a file is our error."""
    refused(pack(path, files | {"route/route.rego": b"\xff"}), "not UTF-8")


@pytest.mark.parametrize(
    "raw", [b"", b"no archive", gzip.compress(b"no tar" * 200), gzip.compress(b"x")[:-6]]
)
def test_a_file_that_is_no_archive_is_refused(path: Path, raw: bytes) -> None:
    """Half a download is no bundle."""
    path.write_bytes(raw)

    with pytest.raises(BundleError):
        archive.read(path)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    """No file, no law."""
    refused(tmp_path / "none.tar.gz", "not readable")


def hostile(headers: dict[str, str]) -> bytes:
    """Return an archive of one file under *headers* of the pax kind."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("data.json")
        entry.size, entry.pax_headers = 2, headers
        tar.addfile(entry, io.BytesIO(b"{}"))
    return raw.getvalue()


def nested(depth: int) -> bytes:
    """Return headers that each speak of the next: a reader that follows them calls itself."""
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 1
    return (entry.tobuf(tarfile.GNU_FORMAT) + bytes(512)) * depth


@pytest.mark.parametrize(
    ("tar", "cause"),
    [
        (hostile({"GNU.sparse.map": "a,b"}), "ValueError"),
        (hostile({"size": "1" + "0" * 30}), "OverflowError"),
        (nested(2000), "RecursionError"),
    ],
)
def test_a_hostile_header_is_refused(tar: bytes, cause: str) -> None:
    """Headers are read before any signature: whoever answers for the source may write them."""
    with pytest.raises(BundleError, match=f"not a tar archive .{cause}."):
        archive.unpack(gzip.compress(tar))
