"""Killing the writer: what was acknowledged is there, what is there is one history."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.audit import Clock

from audit import note, verify
from audit.export import export
from audit.signers.local import LocalSigner
from audit.stores.folder import Folder
from audit.trail import Trail

_WRITER = """
import asyncio, sys
from pathlib import Path
from support.audit import Clock, an_event
from audit.signers.local import LocalSigner
from audit.stores.folder import Folder
from audit.trail import Trail

async def producer(trail, name):
    n = 0
    while True:
        event = an_event(id=f"e-{sys.argv[2]}-{name}-{n}", artifact=f"a_{n % 5}")
        receipt = await trail.append(event)
        sys.stdout.write(f"{receipt.index} {receipt.leaf_hash}\\n")
        sys.stdout.flush()
        n += 1

async def main():
    home = Path(sys.argv[1])
    signer = LocalSigner.open(home / "key.pem")
    trail = await Trail.open(Folder(home, "eu-central"), signer, Clock())
    await asyncio.gather(*[producer(trail, name) for name in range(16)])

asyncio.run(main())
"""
_ROUNDS = 8


@pytest.mark.anyio
async def test_a_kill_at_any_moment_loses_no_acknowledged_event(tmp_path: Path) -> None:
    """A receipt is a promise across power and process: the touch went ahead because of it."""
    rng = random.Random(11)
    acked: dict[int, str] = {}
    heads: list[note.Checkpoint] = []

    for n in range(_ROUNDS):
        acked |= _write_and_kill(tmp_path, n, lines=rng.randrange(1, 400))
        signer = LocalSigner.open(tmp_path / "key.pem")
        async with await Trail.open(Folder(tmp_path, "eu-central"), signer, Clock()) as trail:
            heads.append(note.unverified(await trail.checkpoint()))
            await export(trail.reader(), tmp_path / f"out-{n}", vkey=trail.vkey())

    hashes = [verify.leaf_hash(data) for data in _entries(tmp_path / f"out-{_ROUNDS - 1}")]
    verdicts = [verify.verify(tmp_path / f"out-{n}") for n in range(_ROUNDS)]
    assert [verdict.findings for verdict in verdicts] == [[]] * _ROUNDS
    assert all(hashes[index].hex() == leaf for index, leaf in acked.items())
    assert len(acked) > _ROUNDS
    assert [head.size for head in heads] == sorted({head.size for head in heads})
    seen = tmp_path / "out-0/checkpoint"
    assert verify.verify(tmp_path / f"out-{_ROUNDS - 1}", seen=seen).ok


def _write_and_kill(home: Path, n: int, *, lines: int) -> dict[int, str]:
    """Kill a child after it acknowledged *lines*; return all that it acknowledged."""
    path = os.pathsep.join([str(Path.cwd()), str(Path(__file__).parents[2])])
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(home), str(n)],
        stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}, text=True,
    ) as child:  # fmt: skip
        assert child.stdout
        told = [child.stdout.readline() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        told += child.stdout.readlines()
    assert child.returncode == -signal.SIGKILL
    whole = [line.split() for line in told if line.endswith("\n")]
    return {int(index): leaf for index, leaf in whole}


def _entries(pack: Path) -> list[bytes]:
    paths = sorted(path for path in (pack / "tile/entries").rglob("*") if path.is_file())
    return [data for path in paths for data in verify._unpack(path.read_bytes(), "bundle")]
