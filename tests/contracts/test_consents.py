"""What every ledger of consents promises."""

from dataclasses import asdict, replace
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from support.policy_world import CONSENT, NOW, PURPOSE

from policy.consents.sql import SqlConsents
from policy.consents.tables import consents, metadata
from policy.errors import LedgerError
from policy.model import Consent, ConsentState
from policy.ports import Consents

pytestmark = pytest.mark.anyio

WITHDRAWN = replace(CONSENT, id="c_2", state=ConsentState.WITHDRAWN, at=NOW)


@pytest.fixture(params=["sql"])
async def ledger(request: pytest.FixtureRequest, engine: AsyncEngine) -> Consents:
    """Return an empty ledger of each kind."""
    async with engine.begin() as tx:
        await tx.run_sync(metadata.create_all)
    return SqlConsents(engine)


def ours(ledger: Consents, **changes: Any) -> Any:
    """Return what counts for the usual person, but for *changes*."""
    wanted = {"tenant": "acme", "subject": "s_1", "purpose": PURPOSE} | changes
    return ledger.newest(**wanted)


async def test_never_asked_is_none(ledger: Consents) -> None:
    """Nobody consents by silence."""
    assert await ours(ledger) is None


async def test_what_is_recorded_is_read_back(ledger: Consents) -> None:
    """The proof of a consent is all of it: words, version, language, channel, evidence."""
    await ledger.record(CONSENT)

    assert await ours(ledger) == CONSENT


async def test_the_newest_counts(ledger: Consents) -> None:
    """A withdrawal ends a consent even if its row arrives first."""
    await ledger.record(WITHDRAWN)
    await ledger.record(CONSENT)

    assert await ours(ledger) == WITHDRAWN


async def test_the_later_row_of_one_second_counts(ledger: Consents) -> None:
    """Yes and stop within a second: the second word is the person's will."""
    await ledger.record(replace(CONSENT, at=NOW))
    await ledger.record(WITHDRAWN)

    assert await ours(ledger) == WITHDRAWN


async def test_the_first_row_of_an_id_stays(ledger: Consents) -> None:
    """A redelivered message is the same expression of will; rows are never changed."""
    await ledger.record(CONSENT)
    await ledger.record(replace(CONSENT, state=ConsentState.REFUSED, at=NOW))

    assert await ours(ledger) == CONSENT


@pytest.mark.parametrize(
    "changes", [{"tenant": "other"}, {"subject": "s_2"}, {"purpose": "train_models"}]
)
async def test_a_consent_is_of_one_tenant_person_and_purpose(
    ledger: Consents, changes: dict[str, str]
) -> None:
    """A yes to one controller, for one purpose, says nothing to another."""
    await ledger.record(CONSENT)

    assert await ours(ledger, **changes) is None


async def test_a_broken_ledger_is_our_error_and_quotes_nobody() -> None:
    """The driver's message holds the row; what is raised holds its class only."""
    bare = create_async_engine("sqlite+aiosqlite:///:memory:")
    ledger = SqlConsents(bare)

    with pytest.raises(LedgerError) as recording:
        await ledger.record(CONSENT)
    with pytest.raises(LedgerError) as reading:
        await ours(ledger)
    await bare.dispose()

    for caught in (recording, reading):
        assert caught.value.__suppress_context__
        assert CONSENT.subject not in str(caught.value)
        assert CONSENT.evidence not in str(caught.value)


async def test_the_database_keeps_one_row_per_id(engine: AsyncEngine, ledger: Consents) -> None:
    """What the adapter promises holds for any other writer of the table, too."""
    await ledger.record(CONSENT)

    with pytest.raises(IntegrityError):
        async with engine.begin() as tx:
            await tx.execute(insert(consents), asdict(CONSENT))


def test_every_field_has_its_column() -> None:
    """A field that is not stored is a proof that is lost."""
    assert {*Consent.__dataclass_fields__, "seq"} == {column.name for column in consents.c}
