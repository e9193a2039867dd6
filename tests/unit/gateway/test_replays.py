"""
``policy replay`` and ``policy explain`` on what a real cell decided about one voice note.

The cell runs once and stops in order; each test works on a copy of what it left.
"""

import json
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.cell import NOTE
from support.stage import PHONE, Said, agree, received, staged, vocustody

from gateway import cli, settings
from gateway.compose import stores
from gateway.compose.surroundings import now
from gateway.demo.graph import GraphWorld, serve
from policy import archive, bundle
from policy.bundle import Bundle
from vault.keyrings.local import LocalKeyring
from vault.keys import Keys

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

STT = "stt.scripted.eu-central"
PAST = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Left:
    """What the cell left, and what a replay said while it still ran."""

    directory: Path
    same: Path
    meanwhile: Said


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run the fixture and the tests on one loop."""
    return "asyncio"


@pytest.fixture(scope="module")
async def left(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Left]:
    """Yield what a cell left that was asked for consent, got it, and answered one note."""
    home = tmp_path_factory.mktemp("replays")
    world = GraphWorld(lambda: datetime.now(UTC))
    world.line()
    async with serve(world):
        town = staged(home / "cell", world)
        config = ("--config", str(town.cell.config))
        try:
            await town.cell.start()
            await agree(town, NOTE.read_bytes())
            await received(town, "voice")
            await vocustody("policy", "bundle", str(home / "same.tar.gz"), *config)
            replay = ("policy", "replay", "--bundle", str(home / "same.tar.gz"), "--json")
            meanwhile = await vocustody(*replay, *config)
        finally:
            await town.cell.stop()
        yield Left(home / "cell", home / "same.tar.gz", meanwhile)


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of the cell's directory, and commands on it."""

    directory: Path
    same: Path
    read: Callable[[], Any]

    async def run(self, *command: str) -> tuple[int, str]:
        """Return the status of ``policy command`` and what it printed."""
        config = ("--config", str(self.directory / "vocustody.toml"))
        status = await anyio.to_thread.run_sync(lambda: cli.main(["policy", *command, *config]))
        out, err = self.read()
        return status, out or err

    async def replay(self, candidate: Path | None = None, *more: str) -> tuple[int, Any]:
        """Return status and report of a replay under *candidate* (the same bundle)."""
        chosen = str(candidate or self.same)
        status, said = await self.run("replay", "--bundle", chosen, "--json", *more)
        return status, json.loads(said) if said.startswith("{") else said

    def sql(self, statement: str) -> list[Any]:
        """Run *statement* on the copy's database."""
        with sqlite3.connect(self.directory / "data" / "cell.db") as db:
            found = db.execute(statement).fetchall()
        db.close()
        return found

    def changed(self, **changes: Any) -> Path:
        """Write the cell's bundle with *changes*, and return the file."""
        there = archive.read(self.same)
        path = self.directory / "candidate.tar.gz"
        archive.write(_rebuilt(there, changes), path)
        return path


def _rebuilt(there: Bundle, changes: dict[str, Any]) -> Bundle:
    data = there.data
    return bundle.build(
        there.modules,
        processors=changes.get("processors", data["processors"]),
        jurisdictions=data["jurisdictions"],
        tenants=changes.get("tenants", data["tenants"]),
        notices=data["notices"],
    )


@pytest.fixture
def copy(left: Left, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Copy:
    """Return a copy that the test may damage."""
    shutil.copytree(left.directory, tmp_path / "cell", ignore=shutil.ignore_patterns("nats"))
    return Copy(tmp_path / "cell", left.same, capsys.readouterr)


async def test_a_replay_works_while_the_cell_runs(left: Left) -> None:
    """Nobody stops a cell to find out what a bundle would do to it."""
    report = json.loads(left.meanwhile.out)

    assert left.meanwhile.status == 0
    assert report["reproduced"] == report["seen"] > 0


async def test_the_same_bundle_reproduces_all_and_changes_nothing(copy: Copy) -> None:
    """Every decision on the way of the note comes back byte for byte: exit 0."""
    status, report = await copy.replay()

    stages = {row[0] for row in copy.sql("SELECT stage FROM decisions")}
    assert status == 0
    assert (
        report["reproduced"] == report["seen"] == copy.sql("SELECT count(*) FROM decisions")[0][0]
    )
    assert (report["changed"], report["not_reproduced"], report["gone"]) == (0, [], {})
    assert stages == {"capture", "notice", "reply", "speak", "transcribe", "understand"}


async def test_every_decision_on_record_is_kept(left: Left, copy: Copy) -> None:
    """An orderly end loses none; a replay over half of them proves half."""
    config = str(copy.directory / "vocustody.toml")
    status = await anyio.to_thread.run_sync(
        lambda: cli.main(["export-log", str(copy.directory / "pack"), "--config", config])
    )
    packed = b"".join(
        path.read_bytes() for path in (copy.directory / "pack").rglob("*") if path.is_file()
    )

    ids = [row[0] for row in copy.sql("SELECT id FROM decisions")]
    assert status == 0
    assert packed.count(b'"policy.decided"') == len(ids)
    assert all(ident.encode() in packed for ident in ids)


async def test_a_refused_processor_is_shown_per_jurisdiction_and_processor(copy: Copy) -> None:
    """A tenant that refuses its only speech-to-text has to know what stops: exit 1."""
    tenants = {"fernruf": {"refused": [STT]}}

    status, report = await copy.replay(copy.changed(tenants=tenants))

    heard = copy.sql(
        "SELECT count(*) FROM decisions WHERE stage = 'transcribe' AND outcome = 'allowed'"
    )[0][0]
    assert status == 1
    assert heard >= 1
    assert report["processors"][STT] == {"added": 0, "removed": heard}
    assert report["kinds"]["allowed_to_denied"] >= heard
    assert report["jurisdictions"]["DE"]["in all"] == report["changed"]
    assert set(report["jurisdictions"]) == {"DE"}
    assert report["not_reproduced"] == []


async def test_a_lapsed_contract_is_shown(copy: Copy) -> None:
    """The day on which a contract ends is known before it comes."""
    rows = archive.read(copy.same).data["processors"]
    lapsed = [row | ({"contract_expires": PAST} if row["id"] == STT else {}) for row in rows]

    status, report = await copy.replay(copy.changed(processors=lapsed))

    [example, *_] = report["examples"]["allowed_to_denied"]
    assert status == 1
    assert report["processors"][STT]["removed"] >= 1
    assert (example["was"], example["would"]) == ("allowed", "denied")


async def test_a_changed_digest_is_not_reproduced(copy: Copy) -> None:
    """Somebody who can write to the database must not be believed: exit 3, before any change."""
    [[ident]] = copy.sql("SELECT id FROM decisions WHERE stage = 'transcribe'")
    copy.sql(f"UPDATE decisions SET answer_sha256 = '{'0' * 64}' WHERE id = '{ident}'")

    status, report = await copy.replay(copy.changed(tenants={"fernruf": {"refused": [STT]}}))

    assert status == 3
    assert report["not_reproduced"] == [{"id": ident, "why": "answer.digest"}]


async def test_an_altered_old_bundle_is_not_reproduced(copy: Copy) -> None:
    """The archive of what was enforced is evidence too."""
    [old] = (copy.directory / "data" / "bundles").glob("*.tar.gz")
    shutil.copy(copy.changed(tenants={}), old)

    status, report = await copy.replay()

    assert status == 3
    assert {fault["why"] for fault in report["not_reproduced"]} == {"bundle.altered"}


async def test_a_missing_old_bundle_is_counted(copy: Copy) -> None:
    """What cannot be compared is neither the same nor different."""
    [old] = (copy.directory / "data" / "bundles").glob("*.tar.gz")
    old.unlink()

    status, report = await copy.replay()

    assert (status, report["reproduced"]) == (0, 0)
    assert report["gone"] == {"bundle.missing": report["seen"]}


async def test_an_erased_persons_decisions_are_counted_as_gone(copy: Copy) -> None:
    """Erasure reaches replays: the input dies with the key, the count stays true."""
    await _erase(copy)

    status, report = await copy.replay()

    assert (status, report["reproduced"]) == (0, 0)
    assert report["gone"] == {"key.destroyed": report["seen"]}


async def _erase(copy: Copy) -> None:
    loaded = settings.load(copy.directory / "vocustody.toml")
    engine = stores.existing_database(loaded)
    keys = Keys(engine, LocalKeyring(loaded.cell.data / "keys"), region=loaded.cell.region, now=now)
    for [subject] in copy.sql("SELECT DISTINCT subject FROM decisions"):
        await keys.destroy_subject(subject)
    await engine.dispose()


async def test_a_replay_may_be_cut_short(copy: Copy) -> None:
    """A year of decisions is not needed to judge one line."""
    _, everything = await copy.replay()
    _, two = await copy.replay(None, "--limit", "2")
    _, none = await copy.replay(None, "--since", "2100-01-01T00:00:00Z")

    assert everything["seen"] > 2
    assert (two["seen"], none["seen"]) == (2, 0)


async def test_what_is_no_bundle_is_refused(copy: Copy) -> None:
    """A typing error must not look like a harmless candidate: exit 2."""
    (copy.directory / "no.tar.gz").write_bytes(b"no")

    for given in ("no.tar.gz", "missing.tar.gz"):
        status, said = await copy.run("replay", "--bundle", str(copy.directory / given))
        assert (status, "not readable" in said) == (2, True)
    status, said = await copy.run("replay", "--bundle", str(copy.same), "--since", "yesterday")
    assert (status, "not a time" in said) == (2, True)


async def test_text_tells_what_json_tells_and_names_nobody(copy: Copy) -> None:
    """It is pasted into reviews."""
    candidate = copy.changed(tenants={"fernruf": {"refused": [STT]}})
    _, report = await copy.replay(candidate)

    status, said = await copy.run("replay", "--bundle", str(candidate))

    assert status == 1
    assert f"would change {report['changed']}" in said
    assert f"processor {STT}: +0 -{report['processors'][STT]['removed']}" in said
    assert report["examples"]["allowed_to_denied"][0]["id"] in said
    subjects = {row[0] for row in copy.sql("SELECT DISTINCT subject FROM decisions")}
    assert not [each for each in {PHONE, *subjects} if each in said + json.dumps(report)]


async def test_explain_says_why_each_processor_was_chosen_or_not(copy: Copy) -> None:
    """A DPO asks of one decision: why there, and why not elsewhere."""
    [[ident]] = copy.sql("SELECT id FROM decisions WHERE stage = 'transcribe'")

    status, said = await copy.run("explain", ident, "--json")
    found = json.loads(said)

    assert (status, found["reproduced"], found["outcome"]) == (0, True, "allowed")
    first, *others = found["processors"]
    assert (first["processor"], first["rank"], first["ground"]) == (STT, 1, "domestic")
    assert others
    assert all(each["rank"] == 0 and each["reasons"] for each in others)
    assert found["obligations"]["raw_audio_seconds"] > 0
    assert len(found["revision"]) == len(found["answer_sha256"]) == 64
    assert found["law"]["controller"] == found["law"]["person"] == {"DE": "GDPR"}
    assert found["law"]["parts"]["places"]["by"] == ["DE"]


async def test_explain_of_a_no_gives_its_reasons(copy: Copy) -> None:
    """A no without a reason cannot be appealed."""
    [[ident], *_] = copy.sql("SELECT id FROM decisions WHERE outcome = 'denied'")

    status, said = await copy.run("explain", ident)

    assert status == 0
    assert "reasons consent.missing" in said
    assert "law of the controller DE: GDPR" in said
    assert "law retention.raw_audio 86340 (by DE)" in said
    assert "reproduced yes" in said
    assert f"processor {STT}: not chosen, " in said


async def test_explain_tells_what_did_not_reproduce(copy: Copy) -> None:
    """An explanation of another decision is worse than none: exit 3."""
    [[ident]] = copy.sql("SELECT id FROM decisions WHERE stage = 'transcribe'")
    copy.sql(f"UPDATE decisions SET answer_sha256 = '{'0' * 64}' WHERE id = '{ident}'")

    status, said = await copy.run("explain", ident)

    assert status == 3
    assert "reproduced no: answer.digest" in said


@pytest.mark.parametrize(
    ("ident", "says"),
    [("d_" + "0" * 32, "no such decision"), ("a_" + "0" * 32, "not the id of a decision")],
)
async def test_explain_of_what_is_unknown_says_so(copy: Copy, ident: str, says: str) -> None:
    """A typing error is no finding: exit 2."""
    status, said = await copy.run("explain", ident)

    assert (status, says in said) == (2, True)


async def test_explain_of_what_is_gone_says_so(copy: Copy) -> None:
    """Why there is no answer is an answer, and it names no pseudonym."""
    [[ident, subject], *_] = copy.sql("SELECT id, subject FROM decisions")
    await _erase(copy)

    status, said = await copy.run("explain", ident)

    assert (status, "died with its subject's key" in said, subject in said) == (2, True, False)


async def test_explain_of_a_tampered_row_says_so(copy: Copy) -> None:
    """What does not open must not be taken for what was erased."""
    [[ident], *_] = copy.sql("SELECT id FROM decisions")
    copy.sql(f"UPDATE decisions SET sealed = x'00' WHERE id = '{ident}'")

    status, said = await copy.run("explain", ident)

    assert (status, "tampered" in said) == (2, True)
