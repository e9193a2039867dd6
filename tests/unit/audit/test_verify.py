"""The offline verifier: finds every change, accuses no good log, and never falls over."""

import asyncio
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from support.audit import ORIGIN, START, Place, an_event

from audit import canonical, leaf, merkle, note, verify
from audit.errors import EventError
from audit.export import export
from audit.model import EventType
from audit.signers.local import LocalSigner

_SCRIPT = Path(verify.__file__)
_SIZE = 300
_KEY = Ed25519PrivateKey.from_private_bytes(b"\7" * 32)
_VKEY = note.Key(ORIGIN, _KEY.public_key().public_bytes_raw())


@dataclass
class Pack:
    """An exported log, an older export of it, and the proof of one event."""

    home: Path
    key: Path
    log: Path
    older: Path
    proof: Path


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Return a good log of 300 leaves with chains, touches and a moving clock."""
    home = tmp_path_factory.mktemp("pack")
    pack = Pack(home, home / "log.vkey", home / "log", home / "older", home / "event.tlog-proof")
    asyncio.run(_write(pack))
    return pack


async def _write(pack: Pack) -> None:
    place = Place(pack.home)
    place.signer = LocalSigner(_KEY)
    log = await place.open()
    for n in range(_SIZE // 2):
        common = {"artifact": f"a_{n % 9}", "touch": f"t_{n}", "at": place.clock.move(seconds=1)}
        await log.append(an_event(EventType.TOUCH_BEGAN, **common))
        await log.append(an_event(EventType.TOUCH_ENDED, **common))
        if n == 100:
            await export(log, pack.older, vkey=str(log.key))
    await export(log, pack.log, vkey=str(log.key))
    pack.key.write_text(f"{log.key}\n")
    pack.proof.write_text(await log.prove(200))
    await log.close()


def _run(*args: Path | str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", _SCRIPT, *args],
        capture_output=True, text=True, timeout=60, check=False, **kwargs,
    )  # fmt: skip


def test_a_good_log_is_good(pack: Pack) -> None:
    """A false alarm is an accusation."""
    verdict = verify.verify(pack.log, pack.key)

    assert (verdict.ok, verdict.leaves, verdict.origin) == (True, _SIZE, ORIGIN)
    assert verdict.notes == []


def test_a_key_from_the_pack_itself_is_said_to_be_that(pack: Pack) -> None:
    """A forger packs his own key: a verdict on it alone must not sound like proof."""
    verdict = verify.verify(pack.log)

    assert verdict.ok
    assert "key taken from the pack itself" in verdict.notes[0]


def test_the_proof_of_one_event_verifies_and_shows_the_event(pack: Pack) -> None:
    """One event can be shown to a stranger without showing the rest of the log."""
    verdict = verify.verify(pack.proof, pack.key)

    assert verdict.ok
    assert verdict.event is not None
    assert verdict.event["touch"] == "t_100"


_Mutate = Callable[[Path, random.Random], None]


def _bundle(pack: Path, rng: random.Random) -> tuple[Path, list[bytes]]:
    path = rng.choice(sorted(path for path in (pack / "tile/entries").rglob("*") if path.is_file()))
    return path, list(verify._unpack(path.read_bytes(), "bundle"))


def _put(path: Path, entries: list[bytes]) -> None:
    path.write_bytes(b"".join(len(data).to_bytes(2) + data for data in entries))


def _files(pack: Path) -> list[Path]:
    return sorted(path for path in pack.rglob("*") if path.is_file())


def _flip(pack: Path, rng: random.Random) -> None:
    path = rng.choice(_files(pack))
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _delete_entry(pack: Path, rng: random.Random) -> None:
    path, entries = _bundle(pack, rng)
    del entries[rng.randrange(len(entries))]
    _put(path, entries)


def _truncate(pack: Path, rng: random.Random) -> None:
    path = rng.choice(_files(pack))
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def _delete_file(pack: Path, rng: random.Random) -> None:
    rng.choice([path for path in _files(pack) if path.name != "vkey"]).unlink()


def _reorder(pack: Path, rng: random.Random) -> None:
    path, entries = _bundle(pack, rng)
    a, b = rng.sample(range(len(entries)), 2)
    entries[a], entries[b] = entries[b], entries[a]
    _put(path, entries)


def _duplicate(pack: Path, rng: random.Random) -> None:
    path, entries = _bundle(pack, rng)
    entries.insert(rng.randrange(len(entries)), rng.choice(entries))
    _put(path, entries)


def _change(field: str, value: Any) -> _Mutate:
    def mutate(pack: Path, rng: random.Random) -> None:
        path, entries = _bundle(pack, rng)
        n = rng.randrange(len(entries))
        entries[n] = canonical.encode(canonical.decode(entries[n]) | {field: value})
        _put(path, entries)

    return mutate


def _insert_forged(pack: Path, rng: random.Random) -> None:
    path, entries = _bundle(pack, rng)
    entries.append(canonical.encode(canonical.decode(entries[-1]) | {"id": "forged"}))
    _put(path, entries)


def _rehash(pack: Path, rng: random.Random) -> None:
    """Change an entry and every tile over it, as one without the key would."""
    _change("actor", "nobody")(pack, rng)
    _rebuild(pack, None)


def _resign(pack: Path, rng: random.Random) -> None:
    """Change an entry, every tile, and sign with a key of one's own under the same name."""
    _change("actor", "nobody")(pack, rng)
    _rebuild(pack, Ed25519PrivateKey.generate())


def _add_file(pack: Path, rng: random.Random) -> None:
    (pack / "tile/entries" / f"{rng.randrange(3, 999):03d}").write_bytes(b"\0\2{}")


def _rebuild(pack: Path, private: Ed25519PrivateKey | None, *, vkey: bool = True) -> None:
    """Recompute tiles (and, with a key, the checkpoint) from the entries that are there."""
    bundles = sorted(path for path in (pack / "tile/entries").rglob("*") if path.is_file())
    entries = [e for path in bundles for e in verify._unpack(path.read_bytes(), "bundle")]
    hashes = [merkle.leaf_hash(data) for data in entries]
    shutil.rmtree(pack / "tile")
    full = len(hashes) // 256
    for level, row in enumerate(
        (hashes, [merkle.root(hashes[256 * n :][:256]) for n in range(full)])
    ):
        for n in range(0, len(row), 256):
            path = pack / verify._path(str(level), n // 256, len(row[n : n + 256]))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"".join(row[n : n + 256]))
    for n in range(0, len(entries), 256):
        path = pack / verify._path("entries", n // 256, len(entries[n : n + 256]))
        path.parent.mkdir(parents=True, exist_ok=True)
        _put(path, entries[n : n + 256])
    if private:
        key = note.Key(ORIGIN, private.public_key().public_bytes_raw())
        head = note.Checkpoint(ORIGIN, len(hashes), merkle.root(hashes))
        text = note.assemble(head, key, private.sign(head.text().encode()))
        (pack / "checkpoint").write_text(text)
        (pack / "vkey").write_text(f"{key}\n")


_MUTATIONS: dict[str, _Mutate] = {
    "flip a bit": _flip,
    "delete an entry": _delete_entry,
    "delete a file": _delete_file,
    "truncate a file": _truncate,
    "reorder": _reorder,
    "duplicate": _duplicate,
    "insert a forged entry": _insert_forged,
    "backdate": _change("ts", 1),
    "swap the tenant": _change("tenant", "other"),
    "unknown version": _change("v", 2),
    "unknown field": _change("extra", "x"),
    "change and rehash": _rehash,
    "change and sign with another key": _resign,
    "add a file": _add_file,
}


@pytest.mark.parametrize("name", _MUTATIONS)
def test_every_mutation_is_found_and_named(pack: Pack, tmp_path: Path, name: str) -> None:
    """The whole point of the log: no change to it goes unseen by one who holds the key."""
    rng = random.Random(f"{name} 7")
    victim = tmp_path / "log"
    shutil.copytree(pack.log, victim)
    good = _contents(victim)
    found = tried = 0

    for _ in range(700 if name == "flip a bit" else 100):
        _MUTATIONS[name](victim, rng)
        if _contents(victim) != good:
            tried += 1
            verdict = verify.verify(victim, pack.key)
            found += not verdict.ok and all(each.where for each in verdict.findings)
            _restore(victim, good)

    assert tried > 90
    assert found == tried


def _contents(pack: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in _files(pack)}


def _restore(pack: Path, good: dict[Path, bytes]) -> None:
    now = _contents(pack)
    for path in now.keys() - good.keys():
        path.unlink()
    for path, data in good.items():
        if now.get(path) != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def test_the_place_of_a_changed_leaf_is_named(pack: Pack, tmp_path: Path) -> None:
    """An auditor must be able to go and look, not only know that something is wrong."""
    shutil.copytree(pack.log, tmp_path / "log")
    path = tmp_path / "log/tile/entries/001.p/44"
    entries = list(verify._unpack(path.read_bytes(), "bundle"))
    entries[9] = entries[9].replace(b"fernruf", b"gernruf")
    _put(path, entries)

    verdict = verify.verify(tmp_path / "log", pack.key)

    assert [finding.where for finding in verdict.findings] == ["leaf 265"]


@pytest.mark.parametrize("entries", [slice(43), slice(44)])
def test_a_bundle_of_another_length_is_named(pack: Pack, tmp_path: Path, entries: slice) -> None:
    """Cutting the end off, or adding to it, changes no entry that is there."""
    shutil.copytree(pack.log, tmp_path / "log")
    path = tmp_path / "log/tile/entries/001.p/44"
    found = list(verify._unpack(path.read_bytes(), "bundle"))
    _put(path, found[entries] + found[43:44] * (entries.stop - 43))

    verdict = verify.verify(tmp_path / "log", pack.key)

    assert [finding.where for finding in verdict.findings] == ["tile/entries/001.p/44"]


def test_a_checkpoint_of_loose_form_is_found(pack: Pack, tmp_path: Path) -> None:
    """Two signatures by one key, or two spellings of one: readers would pick differently."""
    good = (pack.log / "checkpoint").read_text()
    text, line = good.split("\n\n")
    loose = line[:-3] + chr(ord(line[-3]) + 1) + line[-2:]
    for name, changed in {"twice": good + line, "loose": f"{text}\n\n{loose}"}.items():
        shutil.copytree(pack.log, tmp_path / name)
        (tmp_path / name / "checkpoint").write_text(changed)

        verdict = verify.verify(tmp_path / name, pack.key)

        assert [finding.where for finding in verdict.findings] == ["checkpoint"]


def test_an_older_export_is_found_by_a_checkpoint_kept_elsewhere(pack: Pack) -> None:
    """Rolling back leaves a validly signed log: only somebody's memory shows it."""
    newest, old = pack.log / "checkpoint", pack.older / "checkpoint"

    assert verify.verify(pack.older, pack.key).ok
    assert not verify.verify(pack.older, pack.key, seen=newest).ok
    assert verify.verify(pack.log, pack.key, seen=old).ok
    assert verify.verify(pack.log, pack.key, seen=newest).ok


def _entries_of(pack: Path) -> list[dict[str, Any]]:
    paths = sorted(path for path in (pack / "tile/entries").rglob("*") if path.is_file())
    return [
        canonical.decode(data)
        for path in paths
        for data in verify._unpack(path.read_bytes(), "bundle")
    ]


def _relink(leaves: list[dict[str, Any]]) -> list[bytes]:
    """Encode *leaves* with a chain that fits them."""
    chains: dict[str, str] = {}
    entries = []
    for fields in leaves:
        fields.pop("aprev", None)
        if fields.get("aseq", 0) > 0 and fields["artifact"] in chains:
            fields["aprev"] = chains[fields["artifact"]]
        entries.append(canonical.encode(fields))
        if "artifact" in fields:
            chains[fields["artifact"]] = merkle.leaf_hash(entries[-1]).hex()
    return entries


def _signed_wrong(
    pack: Pack, to: Path, change: Callable[[list[dict[str, Any]]], object], size: int = 50
) -> Path:
    """Export a log whose *content* is wrong, properly hashed and signed by the right key."""
    leaves = _entries_of(pack.log)[:size]
    change(leaves)
    shutil.copytree(pack.log, to)
    shutil.rmtree(to / "tile")
    (to / "tile/entries").mkdir(parents=True)
    _put(to / "tile/entries/000", _relink(leaves))
    _rebuild(to, _KEY)
    return to


def test_a_fork_is_found_by_a_checkpoint_kept_elsewhere(pack: Pack, tmp_path: Path) -> None:
    """A stolen key can sign another history, but not one that extends what was seen."""
    fork = _signed_wrong(
        pack, tmp_path / "fork", lambda leaves: leaves[9].update(actor="nobody"), _SIZE
    )

    assert verify.verify(fork, pack.key).ok
    verdict = verify.verify(fork, pack.key, seen=pack.older / "checkpoint")
    assert [finding.what for finding in verdict.findings] == [
        "the log is not the one seen before at this size"
    ]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda leaves: leaves.pop(20), "follows event"),
        (lambda leaves: leaves[0].pop("aseq"), "only one of artifact and aseq"),
        (lambda leaves: leaves[30].update(aseq=1), "follows event"),
        (lambda leaves: leaves[20].update(ts=leaves[19]["ts"] - 1), "its time is before"),
        (lambda leaves: leaves[20].update(ts=-1), "before 1970"),
        (lambda leaves: leaves[1].update(touch="t_x"), "never began"),
        (lambda leaves: leaves[2].update(touch="t_x"), "never began"),
        (lambda leaves: leaves[1].update(type="touch.began"), "began before"),
        (lambda leaves: leaves[1].update(artifact="a_8", aseq=0), "another artifact"),
        (lambda leaves: leaves[1].update(processor="stt.us"), "another processor"),
        (lambda leaves: leaves[1].update(region="us-east"), "another region"),
        (lambda leaves: leaves[1].update(action="fetch"), "another action"),
        (lambda leaves: leaves[1].update(decision="d_x"), "another decision"),
        (lambda leaves: leaves[1].update(tenant="other"), "another tenant"),
        (lambda leaves: leaves[1].update(job="j_x"), "another job"),
        (lambda leaves: leaves[1].update(subject="s_x"), "another subject"),
        (lambda leaves: leaves[1].pop("decision"), "another decision"),
        (lambda leaves: leaves[1].pop("touch"), "field touch is missing"),
        (lambda leaves: leaves[1].pop("tenant"), "field tenant is missing"),
        (lambda leaves: leaves[1].update(tenant=7), "another type"),
        (lambda leaves: leaves[1].update(v=True), "another type"),
        (lambda leaves: leaves[1].update(v=2), "version"),
        (lambda leaves: leaves[1].update(shoe="x"), "unknown"),
        (lambda leaves: leaves[1].update(type="touch.paused"), "unknown event type"),
    ],
)
def test_a_signature_does_not_excuse_wrong_content(
    pack: Pack, tmp_path: Path, change: Callable[[list[dict[str, Any]]], object], what: str
) -> None:
    """A writer that omits, backdates or invents is found though its signature is good."""
    verdict = verify.verify(_signed_wrong(pack, tmp_path / "log", change), pack.key)

    assert any(what in finding.what for finding in verdict.findings)
    assert all(finding.where.startswith("leaf ") for finding in verdict.findings)


def test_wrong_content_control(pack: Pack, tmp_path: Path) -> None:
    """The builder of wrong logs, changing nothing, builds a good one."""
    assert verify.verify(_signed_wrong(pack, tmp_path / "log", len), pack.key).ok


def test_an_aprev_that_names_another_event_is_found(pack: Pack, tmp_path: Path) -> None:
    """The chain says what came before; naming something else hides what did."""
    shutil.copytree(pack.log, tmp_path / "log")
    for path in sorted((tmp_path / "log/tile/entries").rglob("0*")):
        if path.is_file():
            entries = list(verify._unpack(path.read_bytes(), "bundle"))
            entries[40] = canonical.encode(canonical.decode(entries[40]) | {"aprev": "0" * 64})
            _put(path, entries)
    _rebuild(tmp_path / "log", _KEY)

    verdict = verify.verify(tmp_path / "log", pack.key)

    assert any("names another event" in finding.what for finding in verdict.findings)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}', b'{"b":1,"a":1}', b'{"a": 1}', b'{"a":1.0}', b'{"a":1e3}', b'{"a":NaN}',
        b'{"a":-0}', b'{"a":9007199254740993}', b'{"\xc3\xa4":1}', b'{"a":"\\u0041"}',
        b'{"a":"\\ud800"}', b'{"a":"\xff"}', b"[" * 4000, b"[]", b"1", b"", b"{}",
        b'{"a":[[[[[[[[[1]]]]]]]]]}', b'{"a":' + b"9" * 4080 + b"}", b" " * 5000,
    ],
)  # fmt: skip
def test_no_other_spelling_of_json_passes(data: bytes) -> None:
    """Two programs must not read two events in one entry."""
    with pytest.raises(verify.Bad):
        verify.parse_leaf(data, "leaf 0")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (b'"v":1', b'"v":1', None),
        (b'"v":1', b'"v": 1', "canonical form"),
        (b'"v":1', b'"v":1,"a":1', "canonical form"),
        (b'"fernruf"', b'"fern\\u0072uf"', "canonical form"),
        (b'"v":1', b'"v":1,"v":1', "canonical subset"),
        (b'"v":1', b'"v":1.0', "canonical subset"),
        (b'"v":1', b'"v":9007199254740993', "canonical subset"),
        (b'"detail":{}', b'"detail":{"\xc3\xa4":1}', "canonical subset"),
    ],
)
def test_a_good_leaf_spelled_otherwise_is_refused(old: bytes, new: bytes, what: str | None) -> None:
    """All but the spelling is right here, so nothing else can be what refuses it."""
    now = leaf.micros(START)
    data = leaf.encode(an_event(), ts=now, log_region="eu-central", aseq=None, aprev=None)
    assert old in data
    changed = data.replace(old, new)

    if what is None:
        assert verify.parse_leaf(changed, "leaf 0")["tenant"] == "fernruf"
    else:
        with pytest.raises(verify.Bad, match=what):
            verify.parse_leaf(changed, "leaf 0")


_plain = st.none() | st.booleans() | st.text(max_size=9) | st.integers(-(2**54), 2**54)
_nested = st.recursive(
    _plain,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=3), _nested, max_size=4), st.integers(0, 10))
def test_what_the_writer_accepts_the_verifier_accepts(detail: dict[str, Any], deep: int) -> None:
    """Two codecs of one form: where they differ, a good log is accused or a bad one passes."""
    value: Any = []
    for _ in range(deep):
        value = [value]
    event = an_event(detail=detail | {"deep": value})
    try:
        data = leaf.encode(event, ts=1, log_region="eu-central", aseq=None, aprev=None)
    except EventError:
        return

    fields = verify.parse_leaf(data, "leaf 0")

    assert fields == canonical.decode(data)


def test_both_readers_know_the_same_events() -> None:
    """The verifier imports nothing of ours, so its list is a copy that must not drift."""
    assert frozenset(EventType) == verify._TYPES


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_change_to_a_proof_passes(pack: Pack, data: st.DataObject) -> None:
    """A proof travels alone, by mail: any change on the way must show."""
    good = pack.proof.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    bad = data.draw(
        st.sampled_from([
            good[:at],
            good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :],
            good[:at] + good[at + 1 :],
            good[:at] + good[at : at + 1] + good[at:],
        ]).filter(lambda text: text != good)
    )  # fmt: skip
    (pack.home / "bad").write_bytes(bad)

    try:
        verdict = verify.verify(pack.home / "bad", pack.key)
    except verify.Misuse:
        return
    assert not verdict.ok


@pytest.mark.parametrize(
    "text",
    [
        "log x", "", "not a key", "name+00000000+AAAA",
        f"log {_VKEY}\nlog {_VKEY}", f"log {_VKEY}\nwitness w {_VKEY}\nquorum w",
        f"log {_VKEY}\nquorum w", str(_VKEY).replace("+A", "+B"), f"{ORIGIN}+00000000+AQ==",
        str(note.Key(ORIGIN, _VKEY.public)).replace(_VKEY.id.hex(), "00000000"),
    ],
)  # fmt: skip
def test_a_policy_that_cannot_be_kept_is_misuse(pack: Pack, tmp_path: Path, text: str) -> None:
    """Passing over a witness that was asked for would be a false assurance."""
    (tmp_path / "policy").write_text(text)

    with pytest.raises(verify.Misuse):
        verify.verify(pack.log, tmp_path / "policy")


def test_a_tlog_policy_names_the_key(pack: Pack, tmp_path: Path) -> None:
    """The C2SP policy form is what other tools share."""
    (tmp_path / "policy").write_text(f"# ours\nlog {_VKEY}\nquorum none\n")

    assert verify.verify(pack.log, tmp_path / "policy").ok


def test_weak_keys_are_refused_here_too() -> None:
    """The verifier has its own copy of the list, so it has its own test."""
    for y in (0, 1, verify._Y8, verify._P - 1, verify._P + 3):
        public = y.to_bytes(32, "little")
        name = "log.example"
        raw = b"\1" + public
        key_id = hashlib.sha256(name.encode() + b"\n" + raw).hexdigest()[:8]
        with pytest.raises(verify.Misuse, match="small order"):
            verify.parse_vkey(f"{name}+{key_id}+{verify._b64(raw)}")


def test_it_runs_alone_on_the_standard_library_and_cryptography(pack: Pack, tmp_path: Path) -> None:
    """An auditor copies one file to a machine that has nothing of ours, and reads it first."""
    shutil.copy(_SCRIPT, tmp_path / "verify.py")
    probe = (
        "import runpy, sys\n"
        "sys.argv = ['verify.py', *sys.argv[1:]]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: code = end.code\n"
        "tops = {name.partition('.')[0] for name in sys.modules}\n"
        "foreign = tops - set(sys.stdlib_module_names) - {'cryptography', '_cffi_backend'}\n"
        "print(code, sorted(foreign - {'__main__'}), 'audit' in tops)\n"
    )

    done = subprocess.run(
        [sys.executable, "-I", "-c", probe, str(pack.log), "--key", str(pack.key)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.stderr == ""
    ran, foreign = done.stdout.splitlines()[-1].split(" ", 1)
    assert ran == "0"
    assert foreign.endswith("False")
    assert "orjson" not in foreign
    assert "hvac" not in foreign


def test_the_command_s_exit_status_tells_good_bad_and_misuse(pack: Pack, tmp_path: Path) -> None:
    """Scripts go by the status alone: a misuse must never look like a verified log."""
    shutil.copytree(pack.log, tmp_path / "bad")
    (tmp_path / "bad/tile/0/000").unlink()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty-file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "junk").write_bytes(bytes(range(256)))
    shutil.copytree(pack.log, tmp_path / "no-key")
    (tmp_path / "no-key/vkey").unlink()
    key = ("--key", str(pack.key))

    good = _run(pack.log, "--key", str(_VKEY), "--json")
    assert (good.returncode, json.loads(good.stdout)["leaves"]) == (0, _SIZE)
    assert _run(pack.proof, *key).returncode == 0
    bad = _run(tmp_path / "bad", *key)
    assert (bad.returncode, "FINDING tile/0/000: is missing" in bad.stdout) == (1, True)
    for path in ("absent", "empty", "empty-file", "pipe", "junk", "no-key"):
        done = _run(tmp_path / path)
        assert (path, done.returncode, done.stdout) == (path, 2, "")
        assert done.stderr.startswith("verify: ")
        assert done.stderr.count("\n") == 1
    assert _run().returncode == 2
    assert _run(pack.proof).returncode == 2
    assert _run(pack.log, "--key", tmp_path / "pipe").returncode == 2
    assert _run(pack.log, "--seen", tmp_path / "junk").returncode == 2


def test_pipes_links_and_odd_names_inside_a_pack_are_findings(pack: Pack, tmp_path: Path) -> None:
    """A hostile pack must neither hang the auditor nor send him to read other files."""
    for name in ("pipe", "link", "huge", "odd"):
        shutil.copytree(pack.log, tmp_path / name)
    target = "tile/entries/000"
    (tmp_path / "pipe" / target).unlink()
    os.mkfifo(tmp_path / "pipe" / target)
    (tmp_path / "link" / target).unlink()
    (tmp_path / "link" / target).symlink_to(pack.log / target)
    os.truncate(tmp_path / "huge" / target, 2**33)
    (tmp_path / "odd/tile" / os.fsdecode(b"\xff\n")).touch()
    (tmp_path / "odd" / os.fsdecode(b"\xfe")).touch()

    for name in ("pipe", "link", "huge", "odd"):
        done = _run(tmp_path / name, "--key", str(pack.key), env={"LC_ALL": "C"})
        assert (name, done.returncode, done.stderr) == (name, 1, "")
        assert name == "odd" or f"{target}: is missing or cannot be read" in done.stdout


def test_open_touches_and_other_files_are_noted_not_accused(pack: Pack, tmp_path: Path) -> None:
    """A touch under way at export time is no fault, nor is a letter lying beside the log."""
    path = _signed_wrong(pack, tmp_path / "log", lambda leaves: leaves.pop())
    (path / "letter.txt").touch()

    verdict = verify.verify(path, pack.key)

    assert verdict.ok
    assert verdict.notes == [
        "touches under way (began, not ended): 1", "not checked: letter.txt",
    ]  # fmt: skip


def test_clock_of_the_fixture_moves(pack: Pack) -> None:
    """The backdating tests need times that differ."""
    first, *_, last = _entries_of(pack.log)

    assert last["ts"] - first["ts"] == (_SIZE // 2 - 1) * timedelta(seconds=1) // timedelta(
        microseconds=1
    )
    assert first["ts"] > START.timestamp() * 1e6
