"""
A person is found, handed what is held of them, erased, and proven erased: on a running cell.

The commands are those of a DPO; the certificate is checked by a program that has the log's key
and nothing else. Then yesterday's database comes back.
"""

import json
import shutil
import sqlite3
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.cell import NOTE, Town
from support.stage import PHONE, Said, agree, received, scripted, staged, until, vocustody

from audit.stores.folder import Folder
from gateway.demo.graph import GraphWorld
from gateway.tombstones import NAME, PREFIX

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

WORDS = "the quick brown ocelot"


@pytest.fixture
async def town(tmp_path: Path, graph: GraphWorld) -> AsyncIterator[Town]:
    """Yield a running cell that a person agreed with and spoke to."""
    town = staged(tmp_path / "cell", graph, registry=scripted(tmp_path / "r", text=WORDS))
    await town.cell.start()
    await agree(town, NOTE.read_bytes())
    await received(town, "voice")
    yield town
    await town.cell.kill()


async def ask(town: Town, *command: str, typed: str = "") -> Said:
    """Run a command against the running cell."""
    return await vocustody(*command, "--config", str(town.cell.config), typed=typed)


async def subject_of(town: Town) -> str:
    """Return ada's pseudonym, as a DPO finds it."""
    found = await ask(town, "subject", "find", "fernruf", typed=f"+{PHONE}\n")
    assert found.status == 0, found.err
    return found.out.strip()


async def erased(town: Town, subject: str) -> str:
    """Erase *subject* for good, and return the erasure's id once it is certified."""
    said = await ask(
        town, "erase", subject, "--because", "request 17", "--by", "dpo", "--hard", "--json"
    )
    assert said.status == 0, said.err
    ident: str = json.loads(said.out)[0]["erasure"]

    async def certified() -> bool:
        rows = json.loads((await ask(town, "erasures", "list", "--json")).out)
        return any(row["erasure"] == ident and row["done"] for row in rows)

    await until(certified)
    return ident


def rows(town: Town, query: str) -> list[Any]:
    """Return what *query* finds in the cell's database."""
    path = town.cell.config.parent / "data" / "cell.db"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        return list(database.execute(query))


def vkey(town: Town) -> str:
    """Return the key of the cell's log, as an auditor was given it."""
    return Folder(town.cell.config.parent / "data" / "audit", "eu-central").vkey(
        Folder(town.cell.config.parent / "data" / "audit", "eu-central").quarters()[-1]
    )


async def test_a_person_is_handed_everything_and_erased(town: Town, tmp_path: Path) -> None:
    """Access and erasure by one selector; a certificate that a stranger verifies offline."""
    subject = await subject_of(town)
    report = tmp_path / "report.zip"
    exported = await ask(town, "subject", "export", subject, str(report), "--by", "dpo")
    assert exported.status == 0, exported.err
    with zipfile.ZipFile(report) as archive:
        data = json.loads(archive.read("data.json"))
        page = archive.read("index.html").decode()
        texts = [archive.read(name) for name in archive.namelist() if name.endswith(".json")]
    assert any(WORDS.encode() in text for text in texts), "their own words are handed to them"
    assert WORDS in json.dumps(data["tables"]["sessions"])
    assert {each["processor"] for each in data["recipients"]}
    assert subject in page
    assert report.stat().st_mode & 0o077 == 0
    assert (await ask(town, "subject", "export", subject, str(report), "--by", "dpo")).status == 2

    ident = await erased(town, subject)

    printed = await ask(town, "erasures", "certificate", ident)
    assert printed.status == 0
    path = tmp_path / "certificate.json"
    path.write_text(printed.out)
    checked = await vocustody("verify", str(path), "--key", vkey(town))
    assert checked.status == 0, checked.out
    assert "complete-with-residuals (done)" in checked.out
    made = json.loads(printed.out)["certificate"]
    assert made["selector"]["sha256"] == data["selector_sha256"]
    vendors = {each["store"]: each for each in made["vendors"]}
    assert any("deletion confirmed for 1 of 1" in each["detail"] for each in vendors.values())
    path.write_text(printed.out.replace("request 17", "request 18"))
    assert (await vocustody("verify", str(path), "--key", vkey(town))).status == 1

    assert (await ask(town, "subject", "find", "fernruf", typed=f"{PHONE}\n")).status == 2
    assert rows(town, "SELECT * FROM aliases") == []
    assert rows(town, "SELECT * FROM jobs") == []
    assert rows(town, "SELECT * FROM subject_keys WHERE ciphertext IS NOT NULL") == []
    told = {leaf["type"] for leaf in await town.leaves()}
    assert told >= {"access.exported", "erasure.requested", "erasure.executed", "key.rolled"}


async def test_who_writes_again_is_somebody_new_and_old_news_is_barred(town: Town) -> None:
    """Meta delivers again for seven days: what was said before the erasure stays unsaid."""
    subject = await subject_of(town)
    before = len(town.ada.inbox)
    await erased(town, subject)
    await town.ada.say(NOTE.read_bytes())
    await received(town, "buttons", 2)

    assert await subject_of(town) != subject
    assert len(town.ada.inbox) == before + 1, "asked for consent as anybody is, nothing more"


@pytest.mark.parametrize("journal", ["stays", "is put back too"])
async def test_yesterdays_database_comes_back_erased(
    town: Town, tmp_path: Path, journal: str
) -> None:
    """A restore knows the person and not the erasure; nothing is served before it does."""
    subject = await subject_of(town)
    data = town.cell.config.parent / "data"
    with sqlite3.connect(data / "cell.db") as live, sqlite3.connect(tmp_path / "old.db") as old:
        live.backup(old)
    await erased(town, subject)
    assert subject in (data / NAME).read_text()
    await town.cell.stop()
    for path in data.glob("cell.db*"):
        path.unlink()
    (tmp_path / "old.db").rename(data / "cell.db")
    if journal != "stays":  # both places: what is left is the log
        (data / NAME).unlink()
        shutil.rmtree(data / "objects" / PREFIX)
    assert rows(town, "SELECT 1 FROM aliases"), "the backup brings the person back"
    assert rows(town, "SELECT 1 FROM subject_keys WHERE ciphertext IS NOT NULL")

    await town.cell.start()

    assert "erasure.replayed" in town.cell.log
    assert rows(town, "SELECT 1 FROM aliases") == []
    assert rows(town, f"SELECT 1 FROM jobs WHERE subject = '{subject}'") == []
    living = f"SELECT 1 FROM subject_keys WHERE subject = '{subject}' AND ciphertext IS NOT NULL"
    assert rows(town, living) == []
    assert (await ask(town, "subject", "find", "fernruf", typed=PHONE)).status == 2


async def test_yesterdays_log_keeps_the_cell_from_starting(town: Town) -> None:
    """R-03. Whoever could take the log back could unsay an erasure; the mark stands elsewhere."""
    data = town.cell.config.parent / "data"
    await town.cell.stop()
    [log] = (data / "audit" / "eu-central").glob("*.db")
    older = log.read_bytes()
    await town.cell.start()
    subject = await subject_of(town)
    await erased(town, subject)
    await town.cell.stop()
    newer = log.read_bytes()
    log.write_bytes(older)

    with pytest.raises(RuntimeError, match="ended"):
        await town.cell.start()

    assert "an older copy?" in town.cell.log
    assert log.read_bytes() == older, "nothing was appended to it"
    log.write_bytes(newer)
    await town.cell.start()
