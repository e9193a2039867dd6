"""Negative tests of an erasure: each finds what it looks for when it is there."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncEngine
from support.desk import TENANT
from support.erasing import Eraser

from gateway import db, trials, turns
from gateway.erasure import Erasure
from gateway.jobs import State
from gateway.schema import inbox, sessions
from vault.errors import KeyringError
from vault.model import WrappedKey
from vault.tables import metadata, subject_keys


async def erased(eraser: Eraser) -> Erasure:
    """Return an erasure that is hardened."""
    desk = eraser.desk
    await desk.consents()
    note = await desk.spoken()
    await turns.act(note, desk.ports)
    await desk.ports.jobs.end(note.job, State.DONE, "answered")
    return await eraser.erased(note.subject)


async def held(eraser: Eraser, one: Erasure, **backup: trials.Backup) -> dict[str, bool | None]:
    """Return how each trial went."""
    found = await trials.trials(one, eraser.desk.ports, backup=backup.get("backup"))
    return {trial.name: trial.held for trial in found}


async def object_back(eraser: Eraser, one: Erasure) -> None:
    """Put an object back."""
    await eraser.desk.ports.custody.objects.put(one.facts.objects[0][1], b"x")


async def key_back(eraser: Eraser, one: Erasure) -> None:
    """Give the person a key again."""
    alive = {"ciphertext": "x", "destroyed_at": None}
    async with eraser.desk.ports.engine.begin() as tx:
        await tx.execute(update(subject_keys).values(**alive))


async def row_back(eraser: Eraser, one: Erasure) -> None:
    """Remember the person again."""
    row = {"conversation": "c", "tenant": TENANT, "subject": one.subject, "sealed": b"x"}
    async with eraser.desk.ports.engine.begin() as tx:
        await tx.execute(insert(sessions).values(**row, updated_at=1))


async def body_back(eraser: Eraser, one: Erasure) -> None:
    """Bring the body of an update back."""
    async with eraser.desk.ports.engine.begin() as tx:
        await tx.execute(update(inbox).values(sealed=b"x"))


FOUND: dict[str, Callable[[Eraser, Erasure], Awaitable[None]]] = {
    "bodies": body_back,
    "key": key_back,
    "list": row_back,
    "re-read": object_back,
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", FOUND)
async def test_what_is_back_is_found(eraser: Eraser, name: str) -> None:
    """A trial that finds nothing whatever there is would certify anything."""
    one = await erased(eraser)
    assert set((await held(eraser, one)).values()) == {True}

    await FOUND[name](eraser, one)

    found = await held(eraser, one)
    assert found[name] is False


@pytest.mark.anyio
async def test_a_version_that_still_opens_is_found(eraser: Eraser) -> None:
    """Without the roll the wrapped keys in old backups open: decrypt and restore both say so."""
    desk = eraser.desk
    await desk.consents()
    note = await desk.typed()
    await desk.ports.custody.seal_small(note.subject, "x", b"x")
    ident = await eraser.ask(note.subject)
    await eraser.erasures.advance(ident)
    one = await eraser.found(ident)
    assert one.facts.planted

    found = await held(eraser, one)

    assert (found["decrypt"], found["restore"]) == (False, False)


@pytest.mark.anyio
async def test_a_key_service_that_is_away_proves_nothing(eraser: Eraser) -> None:
    """Not tried is not passed: the certificate says unaudited."""
    one = await erased(eraser)

    async def away(_wrapped: WrappedKey) -> bool:
        raise KeyringError("away")

    eraser.desk.ports.keys.opens = away  # type: ignore[method-assign]

    found = await held(eraser, one)
    assert (found["decrypt"], found["restore"]) == (None, None)


@pytest.fixture
async def backup(tmp_path: Path) -> AsyncEngine:
    """Return the newest backup: a database with the custody tables."""
    engine = db.connect(f"sqlite+aiosqlite:///{tmp_path / 'backup.db'}")
    async with engine.begin() as tx:
        await tx.run_sync(metadata.create_all)
    return engine


@pytest.mark.anyio
async def test_the_newest_backup_is_tried(eraser: Eraser, backup: AsyncEngine) -> None:
    """The person's own row in it must not open; one that does is a failed erasure."""
    desk = eraser.desk
    await desk.consents()
    note = await desk.typed()
    await desk.ports.custody.seal_small(note.subject, "x", b"x")
    [row] = [r for r in await desk.rows(subject_keys) if r.subject == note.subject]
    async with backup.begin() as tx:
        await tx.execute(insert(subject_keys).values(dict(row._mapping)))
    url = backup.url
    await backup.dispose()
    ident = await eraser.ask(note.subject)
    await eraser.erasures.advance(ident)
    again = lambda: db.connect(url.render_as_string())  # noqa: E731 - read once
    assert (await held(eraser, await eraser.found(ident), backup=again))["restore"] is False

    await eraser.harden()

    one = await eraser.found(ident)
    [trial] = [
        each
        for each in await trials.trials(one, desk.ports, backup=again)
        if each.name == "restore"
    ]
    assert (trial.held, trial.said) == (True, "the newest backup holds 1 of their keys, 0 open")


@pytest.mark.anyio
async def test_a_backup_that_cannot_be_read_is_unaudited(eraser: Eraser, tmp_path: Path) -> None:
    """A name in the settings is no proof that the backup was looked at."""
    one = await erased(eraser)
    path = tmp_path / "empty.db"

    found = await held(eraser, one, backup=lambda: db.connect(f"sqlite+aiosqlite:///{path}"))

    assert found["restore"] is None
