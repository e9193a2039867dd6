"""The key inventory: what the key service has is held against what our tables need."""

from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from support.agreeing import AFTER
from support.custody import START, Clock, label

from vault import inventory
from vault.inventory import Expected
from vault.keyrings.local import LocalKeeper, LocalKeyring
from vault.keys import Keys
from vault.model import Kek

QUARTER = timedelta(days=90)


def kek(name: str = "subjects-0001", **but: object) -> Kek:
    """Return a KEK that is as it should be, *but*."""
    well: dict[str, object] = {
        "name": name,
        "oldest": 2,
        "newest": 2,
        "rotated_at": START,
        "exportable": False,
        "backup_allowed": False,
        "algorithm": "aes256-gcm96",
    }
    return Kek(**(well | but))  # type: ignore[arg-type]


def alarms(found: Kek | None, known: Expected | None, **how: object) -> tuple[str, ...]:
    """Return the alarms of one KEK."""
    name = found.name if found else "subjects-0001"
    [line] = inventory.lines(
        [found] if found else [],
        {name: known} if known else {},
        at=START + timedelta(days=1),
        cryptoperiod=QUARTER,
        **how,  # type: ignore[arg-type]
    )
    return line.alarms


LIVING = Expected(keys=3, objects=5, oldest=2)


@pytest.mark.parametrize(
    ("found", "known", "alarm"),
    [
        (kek(), LIVING, ()),
        (kek(oldest=1), LIVING, ()),
        (kek(exportable=True), LIVING, ("exportable",)),
        (kek(backup_allowed=True), LIVING, ("plaintext backup allowed",)),
        (kek(algorithm="rsa-2048"), LIVING, ("not aes256-gcm96",)),
        (kek(newest=9), LIVING, ("versions are not trimmed",)),
        (kek(rotated_at=START - QUARTER), LIVING, ("older than its cryptoperiod",)),
        (kek(oldest=3, newest=3), LIVING, ("living keys of destroyed versions",)),
        (
            kek(),
            Expected(keys=3, oldest=2, newest=3),
            ("living keys of versions it does not have",),
        ),
        (
            kek(),
            Expected(keys=3, oldest=2, tried=3, closed=1),
            ("1 of 3 keys that were tried do not open",),
        ),
        (kek(), None, ("nothing hangs on it: destroy it",)),
        (kek(), Expected(ending=True), ()),
        (None, LIVING, ("missing: living keys are wrapped by it",)),
        (None, Expected(ending=True), ()),
    ],
)
def test_what_is_wrong_is_an_alarm(
    found: Kek | None, known: Expected | None, alarm: tuple[str, ...]
) -> None:
    """Each of these was somebody's incident: a key that could leave, or one that was lost."""
    assert alarms(found, known) == alarm


def test_a_development_keyring_is_exportable_by_nature() -> None:
    """An alarm that always sounds is one that nobody hears."""
    assert alarms(kek(exportable=True, backup_allowed=True), LIVING, development=True) == ()


def test_keys_that_are_not_ours_are_not_judged() -> None:
    """The mount may hold the audit's signing key, and others'."""
    assert inventory.lines([kek("vocustody-audit")], {}, at=START, cryptoperiod=QUARTER) == []


@pytest.mark.anyio
async def test_it_is_counted_what_hangs_on_a_kek(
    tables: AsyncEngine, keyring: LocalKeyring, vault_clock: Clock
) -> None:
    """Before a KEK is touched, an operator wants to know whom it would hit."""
    keys = Keys(tables, keyring, region="eu-central-1", now=vault_clock, buckets=1)
    for subject in ("s1", "s2"):
        await keys.artifact_key(label(subject=subject), "raw-2026112214", create=True)
    await keys.artifact_key(label(), "raw-2026112215", create=True)
    await keys.destroy_subject("s2")
    await keys.destroy_epoch("raw-2026112215", AFTER)

    known = await inventory.expected(tables)

    assert known["subjects-0000"] == Expected(keys=1, oldest=1, newest=1)
    assert known["raw-2026112214"] == Expected(keys=1, oldest=1, newest=1)
    assert known["raw-2026112215"] == Expected(ending=True)
    there = [found.name for found in await LocalKeeper(keyring._keks._path).keks()]
    assert there == ["raw-2026112214", "raw-2026112215", "subjects-0000"]
