"""
Verify an audit log offline: one file, the standard library and ``cryptography``.

    python verify.py PATH [--key VKEY|FILE] [--seen CHECKPOINT] [--json]

PATH is an exported log (a directory in the C2SP tlog-tiles layout) or the proof of one event
(a ``.tlog-proof`` file). Checked are

- the checkpoint's Ed25519 signature, by the key given (else by the one in the pack, and said so),
- that the root of all entries (RFC 6962) is the signed one, and every tile agrees with them,
- that each entry is canonical JSON of a known form, with times that never go back,
- that the events of each artifact are a chain without gaps, and that every touch that ended
  had begun, with the same processor, region, action, decision, artifact, tenant, job and subject,
- with ``--seen``, that the log extends a checkpoint that somebody kept elsewhere: nothing else
  shows that a log was cut back to an older, validly signed state.

Not shown by any of this: that the events are true, that the key was not stolen, and that
nobody else was shown another log (compare checkpoints for that).

Exit status: 0 all held; 1 a finding, with its place; 2 nothing could be verified.
"""

import argparse
import base64
import binascii
import hashlib
import io
import json
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WIDTH = 256
HASH = 32
MAX_ENTRY = 4096
MAX_DEPTH = 8
MAX_INT = 2**53 - 1
MAX_TEXT = 64 * 1024
MAX_FINDINGS = 100
PROOF_HEADER = "c2sp.org/tlog-proof@v1"

_P = 2**255 - 19
_Y8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER_Y = (0, 1, _P - 1, _Y8, _P - _Y8)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
_HEX_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_REQUIRED: dict[str, type] = {
    **dict.fromkeys(("v", "ts"), int),
    **dict.fromkeys(("id", "type", "log_region", "tenant", "actor"), str),
    "detail": dict,
}
_OPTIONAL: dict[str, type] = {
    "aseq": int,
    **dict.fromkeys(("aprev", "artifact", "subject", "job", "touch", "action"), str),
    **dict.fromkeys(("processor", "region", "decision", "outcome"), str),
}
_TOUCH_FACTS = (
    "artifact", "processor", "region", "action", "decision", "tenant", "job", "subject",
)  # fmt: skip
_TYPES = frozenset(
    f"{noun}.{verb}"
    for noun, verbs in {
        "access": ("approved", "asked", "denied", "exported", "used"),
        "artifact": ("destroyed", "stored"),
        "consent": ("asked", "expired", "granted", "refused", "renewed", "withdrawn"),
        "erasure": ("certified", "executed", "hardened", "requested"),
        "finding": ("closed", "opened"),
        "handover": ("closed", "opened"),
        "hold": ("placed", "proposed", "released"),
        "job": ("accepted", "ended"),
        "key": ("destroyed", "replaced", "rolled"),
        "policy": ("decided",),
        "processing": ("paused", "resumed"),
        "receipt": ("issued",),
        "reply": ("settled", "unknown"),
        "retention": ("checked", "overdue"),
        "subject": ("declared", "merged", "split"),
        "touch": ("began", "ended"),
        "update": ("arrived", "forwarded"),
    }.items()
    for verb in verbs
)


class Misuse(Exception):  # noqa: N818 - not an error of the log but of the call
    """There is nothing here that could be verified."""


class Bad(Exception):  # noqa: N818 - a finding on its way to the report
    """One thing is wrong at one place."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}")
        self.where = where
        self.what = what


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and where."""

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class Key:
    """A verifier key (C2SP signed-note vkey)."""

    name: str
    id: bytes
    public: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a signed note says."""

    origin: str
    size: int
    root: bytes


@dataclass(slots=True)
class Verdict:
    """What was found. *ok* only if all was checked and held; *notes* are not findings."""

    origin: str = ""
    leaves: int = 0
    root: str = ""
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    event: dict[str, Any] | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing at all was found."""
        return not self.findings

    def add(self, where: str, what: str) -> None:
        """Record a finding; of very many, the first ones are kept."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(where, what))


def verify(pack: Path, policy: Path | None = None, *, seen: Path | None = None) -> Verdict:
    """
    Return the verdict on *pack*, an exported directory or a ``.tlog-proof`` file.

    *policy* is a file with a vkey, or a C2SP tlog-policy with one ``log`` line; *seen* a file
    with a checkpoint of this log that was kept elsewhere.

    Raises: `Misuse` if there is nothing to verify, or nothing to verify it with.
    """
    key = parse_policy(_text(policy)) if policy else None
    return verify_with(pack, key, _text(seen) if seen else None)


def verify_with(pack: Path, key: Key | None, seen: str | None = None) -> Verdict:
    """Do what `verify` does, with the *key* and the *seen* note at hand."""
    if _mode(pack) == "directory":
        return _verify_log(pack, key, seen)
    return _verify_proof(_text(pack), key, seen)


def _verify_log(pack: Path, key: Key | None, seen: str | None) -> Verdict:
    verdict = Verdict()
    if not any(_has(pack, name) for name in ("checkpoint", "tile")):
        raise Misuse("not an exported log: it has neither checkpoint nor tile")
    key = key or _bundled_key(pack, verdict)
    _check_bundled(pack, key, verdict)
    try:
        head = parse_note(_found_text(pack, "checkpoint"), key)
    except Bad as bad:
        verdict.add(bad.where, bad.what)
        return verdict
    verdict.origin, verdict.leaves, verdict.root = head.origin, head.size, _b64(head.root)
    _Replay(pack, head, _marks(seen, key, head, verdict), verdict).run()
    return verdict


def _verify_proof(text: str, key: Key | None, seen: str | None) -> Verdict:
    verdict = Verdict()
    if not text.startswith(f"{PROOF_HEADER}\n"):
        raise Misuse("neither an exported log nor a tlog-proof")
    if key is None:
        raise Misuse("a proof brings no key of its own: give --key")
    try:
        index, path, data, note = parse_proof(text)
        head = parse_note(note, key)
        verdict.origin, verdict.leaves, verdict.root = head.origin, head.size, _b64(head.root)
        check_included(leaf_hash(data), index, head, path)
        verdict.event = parse_leaf(data, f"leaf {index}")
    except Bad as bad:
        verdict.add(bad.where, bad.what)
    if seen is not None:
        verdict.notes.append("--seen needs the whole log: not checked against a single proof")
    return verdict


class _Replay:
    """Reads every entry once, in order; keeps only chain ends and open touches."""

    def __init__(
        self, pack: Path, head: Checkpoint, marks: dict[int, bytes], verdict: Verdict
    ) -> None:
        self._pack = pack
        self._head = head
        self._marks = marks
        self._verdict = verdict
        self._levels: list[list[bytes]] = []
        self._peaks: list[bytes] = []
        self._size = 0
        self._ts = 0
        self._chains: dict[str, tuple[int, bytes]] = {}
        self._touches: dict[str, dict[str, Any]] = {}
        self._expected: set[str] = {"checkpoint", "vkey"}

    def run(self) -> None:
        """Replay the log and record what does not hold."""
        try:
            self._compare_mark()
            for n in range(-(-self._head.size // WIDTH)):
                self._bundle(n)
            for level, hashes in enumerate(self._levels):
                if hashes:
                    self._tile(level, (self._size >> 8 * level) // WIDTH, hashes)
            if fold(self._peaks) != self._head.root:
                raise Bad("checkpoint", "the entries do not have the signed root")  # noqa: TRY301
        except Bad as bad:
            self._verdict.add(bad.where, bad.what)
        self._look_for_others()

    def _bundle(self, n: int) -> None:
        count = min(WIDTH, self._head.size - n * WIDTH)
        name = _path("entries", n, count)
        self._expected.add(name)
        packed = _found(self._pack, name, WIDTH * (2 + MAX_ENTRY))
        entries = list(_unpack(packed, name))
        hashes = [leaf_hash(data) for data in entries]
        self._compare_bundle(n, count, hashes, name)
        for data, digest in zip(entries, hashes, strict=True):
            self._entry(data, digest)

    def _compare_bundle(self, n: int, count: int, hashes: list[bytes], name: str) -> None:
        """Compare with the level-0 tile before anything else: that names the leaf."""
        tile = _found(self._pack, _path("0", n, count), WIDTH * HASH)
        for i, digest in enumerate(hashes[:count]):
            if digest != tile[i * HASH : (i + 1) * HASH]:
                raise Bad(f"leaf {n * WIDTH + i}", f"is not what {_path('0', n, count)} says")
        if len(hashes) != count:
            raise Bad(name, f"holds {len(hashes)} entries instead of {count}")

    def _entry(self, data: bytes, digest: bytes) -> None:
        where = f"leaf {self._size}"
        self._grow(digest)
        self._compare_mark()
        try:
            self._check(parse_leaf(data, where), digest, where)
        except Bad as bad:
            self._verdict.add(bad.where, bad.what)

    def _grow(self, digest: bytes) -> None:
        index, height = self._size, 0
        self._push(0, digest)
        while index & 1:
            digest = node_hash(self._peaks.pop(), digest)
            index, height = index >> 1, height + 1
            if height % 8 == 0:
                self._push(height // 8, digest)
        self._peaks.append(digest)
        self._size += 1

    def _push(self, level: int, digest: bytes) -> None:
        if level == len(self._levels):
            self._levels.append([])
        self._levels[level].append(digest)
        if len(self._levels[level]) == WIDTH:
            self._tile(level, self._size >> 8 * (level + 1), self._levels[level])
            self._levels[level] = []

    def _tile(self, level: int, n: int, hashes: list[bytes]) -> None:
        name = _path(str(level), n, len(hashes))
        self._expected.add(name)
        if _found(self._pack, name, WIDTH * HASH) != b"".join(hashes):
            raise Bad(name, "does not agree with the entries under it")

    def _compare_mark(self) -> None:
        root = self._marks.pop(self._size, None)
        if root is not None and fold(self._peaks) != root:
            raise Bad(f"leaf {self._size}", "the log is not the one seen before at this size")

    def _check(self, leaf: dict[str, Any], digest: bytes, where: str) -> None:
        if leaf["ts"] < self._ts:
            raise Bad(where, "its time is before that of the leaf before it")
        self._ts = leaf["ts"]
        self._check_chain(leaf, digest, where)
        self._check_touch(leaf, where)

    def _check_chain(self, leaf: dict[str, Any], digest: bytes, where: str) -> None:
        artifact = leaf.get("artifact")
        if artifact is None:
            return
        aseq, previous = self._chains.get(artifact, (-1, b""))
        self._chains[artifact] = leaf["aseq"], digest
        if leaf["aseq"] != aseq + 1:
            raise Bad(where, f"{artifact}: event {leaf['aseq']} follows event {aseq}")
        if leaf.get("aprev", "") != previous.hex():
            raise Bad(where, f"{artifact}: names another event as the one before it")

    def _check_touch(self, leaf: dict[str, Any], where: str) -> None:
        touch = leaf.get("touch")
        if leaf["type"] == "touch.began":
            if touch in self._touches:
                raise Bad(where, f"{touch}: a touch that began before")
            self._touches[str(touch)] = _about(leaf)
        elif leaf["type"] == "touch.ended":
            if touch not in self._touches:
                raise Bad(where, f"{touch}: a touch that never began, or ended before")
            began = self._touches.pop(str(touch))
            if other := [name for name, value in _about(leaf).items() if value != began[name]]:
                raise Bad(where, f"{touch}: ended with another {other[0]} than it began with")

    def _look_for_others(self) -> None:
        if self._touches and self._verdict.ok:
            self._verdict.notes.append(
                f"touches under way (began, not ended): {len(self._touches)}"
            )
        for name in _names(self._pack):
            if name.startswith("tile/") and name not in self._expected and self._verdict.ok:
                self._verdict.add(name, "is not part of this log")
            elif not name.startswith("tile/") and name not in self._expected:
                self._verdict.notes.append(f"not checked: {name}")


def parse_leaf(data: bytes, where: str) -> dict[str, Any]:
    """Return the fields of a leaf, or raise `Bad` if it is not canonical or not of this form."""
    if len(data) > MAX_ENTRY:
        raise Bad(where, "is over 4 KiB")
    try:
        leaf = _DECODER.decode(data.decode())
        if _ENCODER.encode(leaf).encode() != data or _depth(leaf) > MAX_DEPTH:
            raise Bad(where, "is not in canonical form")
    except (ValueError, RecursionError):
        raise Bad(where, "is not JSON of the canonical subset") from None
    _check_form(leaf, where)
    return dict(leaf)


def _about(leaf: dict[str, Any]) -> dict[str, Any]:
    """Return what a touch is about: both of its leaves say the same."""
    return {name: leaf.get(name) for name in _TOUCH_FACTS}


def _check_form(leaf: Any, where: str) -> None:
    if not isinstance(leaf, dict) or leaf.get("v") != 1:
        raise Bad(where, "is of a version unknown to this verifier")
    known = _REQUIRED | _OPTIONAL
    for name, value in leaf.items():
        if name not in known or type(value) is not known[name]:
            raise Bad(where, f"field {name[:40]!a} is unknown or of another type")
    if missing := sorted(_REQUIRED.keys() - leaf.keys()):
        raise Bad(where, f"field {missing[0]} is missing")
    if leaf["type"] not in _TYPES:
        raise Bad(where, "is of an unknown event type")
    if leaf["ts"] < 0 or ("artifact" in leaf) != ("aseq" in leaf):
        raise Bad(where, "has a time before 1970, or only one of artifact and aseq")
    if ("aprev" in leaf) != (leaf.get("aseq", 0) > 0):
        raise Bad(where, "has an aprev without a predecessor, or none with one")
    if leaf["type"].startswith("touch.") and "touch" not in leaf:
        raise Bad(where, "field touch is missing")


def _depth(value: Any) -> int:
    """Return how deep containers are nested in *value*; a plain value is 0."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return 0
    return 1 + max((_depth(item) for item in value if isinstance(item, dict | list)), default=0)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs) or not "".join(found).isascii():
        raise ValueError("a duplicate key, or one that is not ASCII")
    return found


def _integer(text: str) -> int:
    if abs(number := int(text)) > MAX_INT:
        raise ValueError("beyond 53 bits")
    return number


def _refuse(_text: str) -> Any:
    raise ValueError("not an integer")


_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_refuse, parse_constant=_refuse
)


def parse_policy(text: str) -> Key:
    """Return the one log key that *text* (a vkey, or a tlog-policy) names."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    words = [line.split() for line in lines]
    if any(word[0] in ("witness", "group") for word in words) or any(
        word[0] == "quorum" and word[1:] != ["none"] for word in words
    ):
        raise Misuse("the policy asks for witnesses, which this verifier does not check")
    keys = [word[-1] for word in words if word[0] != "quorum"]
    if len(keys) != 1:
        raise Misuse("the policy must name exactly one log key")
    return parse_vkey(keys[0])


def parse_vkey(text: str) -> Key:
    """Return the key of ``name+hex(id)+base64(0x01 || key)``; `Misuse` if it is none to trust."""
    try:
        name, key_id, encoded = text.strip().split("+", 2)
        raw = _unb64(encoded)
    except ValueError:
        raise Misuse("not a vkey: expected name+id+key") from None
    if len(raw) != 1 + HASH or raw[0] != 1 or not name or re.search(r"\s", name):
        raise Misuse("not a vkey of an Ed25519 key")
    y = int.from_bytes(raw[1:], "little") & (2**255 - 1)
    if y >= _P or y in _SMALL_ORDER_Y:
        raise Misuse("the vkey's point is non-canonical or of small order")
    expected = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
    if key_id != expected.hex():
        raise Misuse("the vkey's id is not that of its key")
    return Key(name, expected, raw[1:])


def parse_note(note: str, key: Key) -> Checkpoint:
    """Return the checkpoint that *key* signed, or raise `Bad`."""
    text, gap, lines = note.rpartition("\n\n")
    if not gap or not lines.endswith("\n") or re.search(r"[\x00-\x09\x0b-\x1f]", note):
        raise Bad("checkpoint", "is not a signed note")
    signatures: dict[tuple[str, bytes], bytes] = {}
    for line in lines[:-1].split("\n"):
        name, raw = _signature(line)
        if (name, raw[:4]) in signatures:
            raise Bad("checkpoint", "is signed twice by one key")
        signatures[name, raw[:4]] = raw[4:]
    if (key.name, key.id) not in signatures:
        raise Bad("checkpoint", f"is not signed by {key.name} with this key")
    try:
        public = Ed25519PublicKey.from_public_bytes(key.public)
        public.verify(signatures[key.name, key.id], f"{text}\n".encode())
    except (InvalidSignature, ValueError):
        raise Bad("checkpoint", "its signature does not verify") from None
    return _checkpoint(f"{text}\n", key)


def _signature(line: str) -> tuple[str, bytes]:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    try:
        raw = _unb64(encoded)
    except ValueError:
        raw = b""
    if dash != "—" or not name or len(raw) <= 4:  # noqa: PLR2004 - the key id
        raise Bad("checkpoint", "has a malformed signature line")
    return name, raw


def _checkpoint(text: str, key: Key) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) != 4 or not _NUMBER.fullmatch(lines[1]):  # noqa: PLR2004 - three and an end
        raise Bad("checkpoint", "is not an origin, a size and a root")
    try:
        root = _unb64(lines[2])
    except ValueError:
        root = b""
    if len(root) != HASH or lines[0] != key.name:
        raise Bad("checkpoint", "its root is malformed, or its origin is not the key's")
    return Checkpoint(lines[0], int(lines[1]), root)


def parse_proof(text: str) -> tuple[int, list[bytes], bytes, str]:
    """Return the index, path, entry and note of a ``.tlog-proof``; nothing is verified yet."""
    proof, _, note = text.partition("\n\n")
    _, *lines = proof.split("\n")
    try:
        extra, index, *path = lines
        data = _unb64(extra.removeprefix("extra "))
        hashes = [_unb64(line) for line in path]
    except ValueError:
        raise Bad("proof", "is malformed, or does not carry its entry") from None
    number = index.removeprefix("index ")
    if not extra.startswith("extra ") or number == index or not _NUMBER.fullmatch(number):
        raise Bad("proof", "is malformed, or does not carry its entry")
    if any(len(digest) != HASH for digest in hashes):
        raise Bad("proof", "has a hash of another length")
    return int(number), hashes, data, note


def _marks(seen: str | None, key: Key, head: Checkpoint, verdict: Verdict) -> dict[int, bytes]:
    """Return the root to expect at the size of the checkpoint *seen* before, if it is one."""
    if seen is None:
        return {}
    try:
        before = parse_note(seen, key)
    except Bad as bad:
        raise Misuse(f"the checkpoint to compare with {bad.what}") from None
    if before.size > head.size:
        verdict.add("checkpoint", f"holds {head.size} leaves, but {before.size} were seen before")
    return {before.size: before.root}


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of an entry."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def fold(peaks: Sequence[bytes]) -> bytes:
    """Return the root over the perfect subtrees *peaks*, the largest first."""
    if not peaks:
        return hashlib.sha256(b"").digest()
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root


def check_included(digest: bytes, index: int, head: Checkpoint, path: Sequence[bytes]) -> None:
    """Return if *path* leads from *digest* to the root (RFC 9162, 2.1.3.2), else raise `Bad`."""
    fn, sn = index, head.size - 1
    for sibling in path:
        if sn == 0:
            raise Bad(f"leaf {index}", "its proof is too long")
        if fn & 1 or fn == sn:
            digest = node_hash(sibling, digest)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            digest = node_hash(digest, sibling)
        fn, sn = fn >> 1, sn >> 1
    if index >= head.size or sn != 0 or digest != head.root:
        raise Bad(f"leaf {index}", "its proof does not lead to the signed root")


def _bundled_key(pack: Path, verdict: Verdict) -> Key:
    if not _has(pack, "vkey"):
        raise Misuse("no key: the pack has no vkey, so give --key")
    verdict.notes.append("key taken from the pack itself: it proves nothing about who signed")
    return parse_policy(_text(pack / "vkey"))


def _check_bundled(pack: Path, key: Key, verdict: Verdict) -> None:
    try:
        if _has(pack, "vkey") and parse_policy(_text(pack / "vkey")) != key:
            verdict.add("vkey", "is not the key given")
    except Misuse as misuse:
        verdict.add("vkey", str(misuse))


def _path(level: str, n: int, width: int) -> str:
    groups = [f"{n % 1000:03d}"]
    while n := n // 1000:
        groups.append(f"x{n % 1000:03d}")
    partial = f".p/{width}" if width < WIDTH else ""
    return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"


def _unpack(packed: bytes, name: str) -> Iterator[bytes]:
    at = 0
    while at < len(packed):
        end = at + 2 + int.from_bytes(packed[at : at + 2], "big")
        if end > len(packed):
            raise Bad(name, "ends in the middle of an entry")
        yield packed[at + 2 : end]
        at = end


def _names(pack: Path) -> Iterator[str]:
    for folder, _, files in os.walk(pack):
        for name in sorted(files):
            path = (Path(folder) / name).relative_to(pack).as_posix()
            yield path.encode("utf-8", "backslashreplace").decode()


def _mode(path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as exc:
        raise Misuse(f"cannot be opened ({type(exc).__name__})") from None
    if stat.S_ISDIR(mode):
        return "directory"
    if not stat.S_ISREG(mode):
        raise Misuse("is neither a file nor a directory")
    return "file"


def _has(pack: Path, name: str) -> bool:
    try:
        (pack / name).lstat()
    except OSError:
        return False
    return True


def read_file(path: Path, limit: int, flags: int = 0) -> bytes:
    """Return what is in the regular file *path*; never waits on a pipe or reads on for ever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("not a regular file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError("too large")
    return data


def _text(path: Path) -> str:
    try:
        return read_file(path, MAX_TEXT).decode()
    except (OSError, ValueError) as exc:
        raise Misuse(f"{path.name!a} cannot be read ({type(exc).__name__})") from None


def _found(pack: Path, name: str, limit: int) -> bytes:
    try:
        return read_file(pack / name, limit, os.O_NOFOLLOW)
    except OSError as exc:
        raise Bad(name, f"is missing or cannot be read ({type(exc).__name__})") from None


def _found_text(pack: Path, name: str) -> str:
    try:
        return _found(pack, name, MAX_TEXT).decode()
    except ValueError:
        raise Bad(name, "is not text") from None


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _unb64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as exc:
        raise ValueError("not base64") from exc
    if _b64(raw) != text:
        raise ValueError("base64 that is not canonical")
    return raw


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0 (held), 1 (a finding) or 2 (nothing to verify)."""
    args = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        key = read_key(args.key) if args.key else None
        verdict = verify_with(args.path, key, _text(args.seen) if args.seen else None)
    except Misuse as misuse:
        sys.stderr.write(f"verify: {misuse}\n")
        return 2
    sys.stdout.write(f"{as_json(verdict) if args.json else as_text(verdict)}\n")
    return 0 if verdict.ok else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Verify an audit log or one event's proof.")
    parser.add_argument("path", type=Path, help="an exported log, or a .tlog-proof file")
    parser.add_argument("--key", help="the vkey, or a file with it or with a tlog-policy")
    parser.add_argument("--seen", type=Path, help="a checkpoint of this log kept elsewhere")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    return parser


def read_key(given: str) -> Key:
    """Return the key that *given* is, or that stands in the file of that name."""
    return parse_vkey(given) if given.count("+") > 1 else parse_policy(_text(Path(given)))


def as_json(verdict: Verdict) -> str:
    """Return *verdict* for a program."""
    return json.dumps(
        {
            "ok": verdict.ok,
            "origin": verdict.origin,
            "leaves": verdict.leaves,
            "root": verdict.root,
            "findings": [{"where": f.where, "what": f.what} for f in verdict.findings],
            "notes": verdict.notes,
            "event": verdict.event,
        }
    )


def as_text(verdict: Verdict) -> str:
    """Return *verdict* for a person."""
    lines = [f"{verdict.origin or 'unknown log'}: {verdict.leaves} leaves, root {verdict.root}"]
    if verdict.event:
        lines.append(f"event: {json.dumps(verdict.event, sort_keys=True)}")
    lines += [f"note: {note}" for note in verdict.notes]
    lines += [f"FINDING {finding.where}: {finding.what}" for finding in verdict.findings]
    lines.append("everything checked held" if verdict.ok else "this log cannot be relied on")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
