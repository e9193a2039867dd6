"""What every ledger of consents promises."""

from dataclasses import asdict, replace
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from support.policy_world import CONSENT, NOW, PURPOSE

from policy import consent
from policy.consents.sql import SqlConsents
from policy.consents.tables import consents
from policy.errors import LedgerError
from policy.model import Consent, ConsentState, Expressed
from policy.ports import Consents

pytestmark = pytest.mark.anyio

WITHDRAWN = replace(CONSENT, id="c_2", state=ConsentState.WITHDRAWN, at=NOW)


@pytest.fixture
async def ledger(each_db: AsyncEngine) -> Consents:
    """Return an empty ledger on each database."""
    return SqlConsents(each_db)


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


async def test_how_it_was_expressed_and_shown_is_read_back(ledger: Consents) -> None:
    """A pressed button and a typed word are not the same proof."""
    pressed = replace(CONSENT, expressed=Expressed.BUTTON, shown="f" * 64)
    await ledger.record(pressed)

    assert await ours(ledger) == pressed


async def test_history_is_all_of_one_person_in_order(ledger: Consents) -> None:
    """A DPO must see what was expressed when, for each purpose, and nobody else's."""
    other = replace(CONSENT, id="c_3", purpose="training", at=CONSENT.at + 1)
    for row in (WITHDRAWN, other, CONSENT, replace(CONSENT, id="c_4", subject="s_2")):
        await ledger.record(row)
    await ledger.record(replace(CONSENT, id="c_5", tenant="other"))

    assert await ledger.history("acme", "s_1") == [CONSENT, other, WITHDRAWN]


async def test_due_are_the_yeses_that_count_and_are_over(ledger: Consents) -> None:
    """Only what would still be believed is to be ended, each person and purpose alone."""
    over = replace(CONSENT, expires_at=NOW)
    rows = [
        over,
        replace(over, id="c_r", subject="s_2", state=ConsentState.RENEWED, expires_at=NOW - 5),
        replace(over, id="c_n", subject="s_3", state=ConsentState.REFUSED),
        replace(CONSENT, id="c_l", subject="s_4"),
        replace(over, id="c_a", subject="s_5"),
        replace(CONSENT, id="c_b", subject="s_5", at=NOW),
        replace(over, id="c_p", subject="s_1", purpose="training", expires_at=NOW - 1),
    ]
    for row in rows:
        await ledger.record(row)

    assert [row.id for row in await ledger.due(NOW, 10)] == ["c_r", "c_p", CONSENT.id]
    assert [row.id for row in await ledger.due(NOW, 1)] == ["c_r"]


async def test_an_end_that_is_recorded_is_not_due_again(ledger: Consents) -> None:
    """The sweep may run twice, or in two cells at once."""
    await ledger.record(replace(CONSENT, expires_at=NOW))
    [due] = await ledger.due(NOW, 10)

    for _ in range(2):
        await ledger.record(consent.expired(due))

    assert await ledger.due(NOW, 10) == []
    assert [row.state for row in await ledger.history("acme", "s_1")] == ["granted", "expired"]


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


@pytest.mark.parametrize("last", [CONSENT.at - 1, CONSENT.at])
async def test_a_yes_that_comes_in_behind_a_no_of_its_second_or_later_does_not_count(
    ledger: Consents, last: int
) -> None:
    """WhatsApp delivers out of order: what was written last counts, and of one second a no."""
    no = replace(CONSENT, id="c_no", state=ConsentState.REFUSED)
    late = replace(CONSENT, id="c_late", at=last, expires_at=NOW)
    for row in (no, late):
        await ledger.record(row)

    assert await ours(ledger) == no == consent.counting([no, late])
    assert (await ledger.history("acme", "s_1"))[-1] == no
    assert await ledger.due(NOW, 9) == []


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


async def test_the_database_keeps_one_row_per_id(each_db: AsyncEngine, ledger: Consents) -> None:
    """What the adapter promises holds for any other writer of the table, too."""
    await ledger.record(CONSENT)

    with pytest.raises(IntegrityError):
        async with each_db.begin() as tx:
            await tx.execute(insert(consents), asdict(CONSENT))


def test_every_field_has_its_column() -> None:
    """A field that is not stored is a proof that is lost."""
    assert {*Consent.__dataclass_fields__, "seq"} == {column.name for column in consents.c}
