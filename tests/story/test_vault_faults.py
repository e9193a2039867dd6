"""
One cell whose OpenBao (raft, audited) is sealed in mid job, hangs, cannot write, loses a key.

Nothing is lost, nothing is sent twice, nothing lies in clear meanwhile; and what is lost by
fault is never told as an erasure.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support import scanner
from support.cell import NOTE, Town
from support.disks import SmallDisk, small_disk
from support.openbao_raft import RaftBao, raft_server
from support.stage import agree, get, metrics, received, scripted, secret, staged, until, vocustody

from gateway.demo.graph import GraphWorld, serve

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

SPOKEN = "Ocelot Umlaut dreams of 17 marmalade bridges"
CONTROL = "Control 5500 0000 0000 0004"
THINKING_MS = "2500"


@dataclass(frozen=True, slots=True)
class Scene:
    """The cell's town, its key service, and the disk that the audit of that is written to."""

    town: Town
    bao: RaftBao
    disk: SmallDisk
    home: Path

    async def spoken(self) -> int:
        """Have the person speak; return how many texts they had before."""
        before = len(self.town.of_kind("text"))
        await self.town.ada.say(NOTE.read_bytes())
        return before

    async def transcribing(self, before: int) -> bool:
        """Whether more transcriptions have begun than *before*."""
        return await self.transcriptions() > before

    async def transcriptions(self) -> int:
        """Return how many transcriptions have begun."""
        leaves = await self.town.leaves()
        began = [leaf for leaf in leaves if leaf["type"] == "touch.began"]
        return len([leaf for leaf in began if leaf["action"] == "transcribe"])

    async def jobs(self) -> list[dict[str, Any]]:
        """Return the jobs, newest first, as an operator sees them."""
        listed = await vocustody("notes", "--json", "--config", str(self.town.cell.config))
        assert listed.status == 0, listed.err
        found: list[dict[str, Any]] = json.loads(listed.out)
        return found

    async def ready(self) -> bool:
        """Whether ``/readyz`` answers 200."""
        return bool((await get(self.town, "/readyz")).status_code == httpx2.codes.OK)

    async def not_ready(self) -> bool:
        """Whether ``/readyz`` names the keyring."""
        return "keyring" in (await get(self.town, "/readyz")).json()["failed"]

    def in_clear(self) -> list[scanner.Hit]:
        """Return where the words or the sound lie in clear; void unless a control is found."""
        data = self.town.cell.config.parent / "data"
        planted = data / "control"
        planted.write_bytes(scanner.every_form(CONTROL))
        places = scanner.files([data, self.home / "tmp", self.home / "cell" / "serve.log"])
        planted.unlink()
        note = NOTE.read_bytes()
        secrets = {"words": scanner.forms(SPOKEN), "head": scanner.of_bytes(note[:64])}
        secrets[scanner.CONTROL] = scanner.forms(CONTROL)
        for index, window in enumerate(scanner.windows(note, 8)):
            secrets[f"part {index}"] = scanner.of_bytes(window)
        hits = scanner.scan(places, scanner.Needles(secrets))
        missed = scanner.unseen(CONTROL, hits)
        assert not missed, f"VOID: not found: {missed}"
        # A tone is the control's own: nobody spoke one here.
        return [hit for hit in hits if hit.place != str(planted)]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run the scene's fixture and its tests on one loop."""
    return "asyncio"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    """Yield a disk of 16 MiB."""
    with small_disk(tmp_path_factory.mktemp("audit") / "disk", mebibytes=16) as disk:
        yield disk


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory, disk: SmallDisk) -> Iterator[RaftBao]:
    """Yield a server that writes both its audit files to the small disk."""
    devices = disk.path / "audit-1.log", disk.path / "audit-2.log"
    with raft_server(tmp_path_factory.mktemp("bao"), audit=devices) as server:
        assert server.call("POST", "sys/mounts/transit", {"type": "transit"})[0] == 204
        assert server.call("POST", "transit/config/keys", {"disable_upsert": True})[0] in {200, 204}
        yield server


@pytest.fixture(scope="module")
async def scene(
    tmp_path_factory: pytest.TempPathFactory, bao: RaftBao, disk: SmallDisk
) -> AsyncIterator[Scene]:
    """Yield a cell on that server, whose person has agreed and was answered once."""
    home = tmp_path_factory.mktemp("scene")
    (home / "tmp").mkdir()
    secret(home / "cell", "vault", bao.token)
    more = f"""
[services]
vault = {{ url = "{bao.url}", token_file = "vault", keeper_token_file = "vault" }}
"""
    world = GraphWorld(lambda: datetime.now(UTC))
    world.line()
    async with serve(world):
        registry = scripted(home / "registry", text=SPOKEN, delay_ms=THINKING_MS)
        town = staged(home / "cell", world, registry=registry, more=more)
        try:
            await town.cell.start(TMPDIR=str(home / "tmp"))
            await agree(town, NOTE.read_bytes())
            await received(town, "voice")
            yield Scene(town, bao, disk, home)
        finally:
            bao.thaw()
            await town.cell.kill()


async def test_sealed_in_mid_job_the_job_waits_and_nothing_lies_in_clear(scene: Scene) -> None:
    """V-01. Between the download and the answer the keys go: the note is answered all the same."""
    heard = await scene.transcriptions()
    before = await scene.spoken()
    await until(lambda: scene.transcribing(heard))
    scene.bao.seal()
    assert scene.bao.health() == 503

    assert await until(scene.not_ready)
    await asyncio.sleep(float(THINKING_MS) / 1000 + 1)  # the engine has answered by then
    [newest, *_] = await scene.jobs()
    answered, clear = len(scene.town.of_kind("text")) - before, scene.in_clear()
    scene.bao.unseal()

    assert (newest["state"], answered, clear) == ("accepted", 0, [])
    await received(scene.town, "text", before + 1)
    assert await until(scene.ready)
    assert (await until(lambda: _ended(scene)))["state"] == "done"
    assert len(scene.town.of_kind("text")) == before + 1
    assert scene.in_clear() == []


async def test_while_it_hangs_notes_are_accepted_and_answered_later(scene: Scene) -> None:
    """V-02. WhatsApp is answered from the keys of the last minute; the rest waits its turn."""
    before = await scene.spoken()
    await received(scene.town, "text", before + 1)
    scene.bao.freeze()
    assert await until(lambda: _hangs(scene.bao))

    after = await scene.spoken()
    accepted = scene.town.world.courier.attempts[-1].status
    assert await until(scene.not_ready)
    scene.bao.thaw()

    assert accepted == httpx2.codes.OK
    await received(scene.town, "text", after + 1)
    assert await until(scene.ready)
    assert (await until(lambda: _ended(scene)))["state"] == "done"


async def test_while_its_audit_disk_is_full_the_job_waits(scene: Scene) -> None:
    """V-03. What cannot be audited is refused with 500: an outage, no refusal and no erasure."""
    before = await scene.spoken()
    scene.disk.fill()
    status, _ = scene.bao.call("GET", "sys/mounts")
    assert status == 500

    assert await until(scene.not_ready)
    await asyncio.sleep(float(THINKING_MS) / 1000 + 1)
    [newest, *_] = await scene.jobs()
    scene.disk.free()

    assert newest["state"] in {"accepted", "done"}
    await received(scene.town, "text", before + 1)
    assert await until(scene.ready)
    assert (await until(lambda: _ended(scene)))["state"] == "done"
    assert len(scene.town.of_kind("text")) == before + 1


async def test_a_lost_key_is_a_fault_to_everybody_who_looks(scene: Scene) -> None:
    """V-04. The note goes to a human, and job, metric and inventory say fault, not erasure."""
    await scene.town.cell.stop()  # with it goes what was unwrapped in the last minute
    _, listed = scene.bao.call("LIST", "transit/keys")
    [kek] = [name for name in listed["data"]["keys"] if name.startswith("subjects-")]
    scene.bao.call("POST", f"transit/keys/{kek}/config", {"deletion_allowed": True})
    assert scene.bao.call("DELETE", f"transit/keys/{kek}")[0] == 204
    await scene.town.cell.start(TMPDIR=str(scene.home / "tmp"))

    await scene.spoken()
    ended = await until(lambda: _ended(scene))
    config = str(scene.town.cell.config)
    keys = await vocustody("keys", "--json", "--config", config)
    handed = await vocustody("handovers", "--json", "--config", config)

    assert (ended["state"], ended["reason"]) == ("handed_over", "key.lost")
    assert [row["reason"] for row in json.loads(handed.out)] == ["key.lost"]
    assert 'reason="key.lost"' in await metrics(scene.town)
    assert keys.status == 1
    assert {line["kek"]: line["alarms"] for line in json.loads(keys.out) if line["alarms"]} == {
        kek: ["missing: living keys are wrapped by it"]
    }
    leaves = [leaf for leaf in await scene.town.leaves() if leaf["type"].startswith("key.")]
    assert kek not in {leaf["detail"]["kek"] for leaf in leaves}, "nobody says that we ended it"


async def _hangs(bao: RaftBao) -> bool:
    try:
        bao.call("GET", "sys/health", limit_s=0.3)
    except TimeoutError:
        return True
    return False


async def _ended(scene: Scene) -> dict[str, Any] | None:
    jobs = await scene.jobs()
    return jobs[0] if all(job["ended"] for job in jobs) else None
