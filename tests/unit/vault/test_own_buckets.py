"""A tenant with buckets of its own: rolled apart, ended apart, and nobody else is touched."""

from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine
from support.agreeing import agreed
from support.custody import Clock

from vault import roll
from vault.errors import KeyringError
from vault.keyrings.local import LocalKeyring
from vault.keys import Keys
from vault.model import WrappedKey
from vault.tables import subject_keys

PEOPLE = ("s1", "s2", "s3", "s4", "s5")
TENANTS = {
    "s1": "fernruf",
    "s2": "fernruf",
    "s3": "fern",
    "s4": "lautwerk",
    "s-late": "fernruf",
    "s-first": "fernruf",
}
OWN = {"fernruf": 4, "fern": 2}


async def owner(subject: str) -> str | None:
    """Tell the tenant of *subject*."""
    return TENANTS.get(subject)


def cell(engine: AsyncEngine, keyring: LocalKeyring, clock: Clock, **but: object) -> Keys:
    """Return the keys of a cell with two large tenants and a small one."""
    how: dict[str, object] = {"own": OWN, "owner": owner} | but
    return Keys(engine, keyring, region="eu-1", now=clock, **how)  # type: ignore[arg-type]


async def keks(engine: AsyncEngine) -> dict[str, str]:
    """Return the KEK of each subject."""
    query = select(subject_keys.c.subject, subject_keys.c.kek)
    async with engine.connect() as connection:
        return {row.subject: row.kek for row in await connection.execute(query)}


@pytest.fixture
async def keys(tables: AsyncEngine, keyring: LocalKeyring, vault_clock: Clock) -> Keys:
    """Return keys with five people in them."""
    keys = cell(tables, keyring, vault_clock)
    for subject in PEOPLE:
        await keys.small_key(subject, "memory", create=True)
    return keys


@pytest.mark.anyio
async def test_a_large_tenant_has_buckets_of_its_own(keys: Keys) -> None:
    """Its keys must share no KEK with another tenant's, or neither could be ended alone."""
    found = await keks(keys._engine)

    assert {found["s1"][:-4], found["s2"][:-4]} == {"subjects-fernruf-"}
    assert found["s3"][:-4] == "subjects-fern-"
    assert {found["s4"][:-4], found["s5"][:-4]} == {"subjects-"}
    assert all(int(kek[-4:]) < 4 for kek in (found["s1"], found["s2"]))


@pytest.mark.anyio
async def test_people_from_before_keep_their_bucket(
    tables: AsyncEngine, keyring: LocalKeyring, vault_clock: Clock
) -> None:
    """The row remembers its KEK: a tenant may get its own buckets on any day."""
    before = await cell(tables, keyring, vault_clock, own={}).small_key("s1", "m", create=True)

    later = cell(tables, keyring, vault_clock)

    assert await later.small_key("s1", "m", create=True) == before
    await later.small_key("s2", "m", create=True)
    found = await keks(tables)
    assert (found["s1"][:-4], found["s2"][:-4]) == ("subjects-", "subjects-fernruf-")


@pytest.mark.anyio
async def test_no_key_is_made_in_a_bucket_that_ends(
    keys: Keys, keyring: LocalKeyring, vault_clock: Clock
) -> None:
    """Wrapped before the end and written after it, the new person's key would be lost."""

    class Slow(LocalKeyring):
        async def wrap(self, kek: str, key: bytes) -> WrappedKey:
            made = await super().wrap(kek, key)
            assert await roll.end_if_empty(keys._engine, kek, agreed(vault_clock()))
            return made

    home: Path = keyring._keks._path
    one = {"fernruf": 1}
    late = cell(keys._engine, Slow(home), vault_clock, own=one)
    await cell(keys._engine, keyring, vault_clock, own=one).small_key("s-first", "m", create=True)
    for subject, kek in (await keks(keys._engine)).items():
        if kek == "subjects-fernruf-0000":
            await keys.destroy_subject(subject)

    with pytest.raises(KeyringError):
        await late.small_key("s-late", "m", create=True)

    assert "s-late" not in await keks(keys._engine)
