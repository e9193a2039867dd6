"""The consent ledger in the cell's database (SQLite or PostgreSQL)."""

from dataclasses import asdict, fields

from sqlalchemy import desc, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from policy.consents.tables import consents
from policy.errors import LedgerError
from policy.model import Consent, ConsentState

_COLUMNS = tuple(consents.c[field.name] for field in fields(Consent))


class SqlConsents:
    """
    `Consents` over SQL; the table is `policy.consents.tables`.

    Trusted: who can write the database can write a consent. The trail holds what was expressed.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        dialect = sqlite if engine.dialect.name == "sqlite" else postgresql
        self._insert = dialect.insert(consents).on_conflict_do_nothing(index_elements=["id"])
        # A reader need not wait for the cell's one SQLite writer; elsewhere this says nothing.
        self._reading = engine.execution_options(reading=True)

    async def record(self, consent: Consent) -> None:
        """See `Consents.record`: the first row of an id stays."""
        try:
            async with self._engine.begin() as tx:
                await tx.execute(self._insert, asdict(consent))
        except SQLAlchemyError as exc:
            # Its text holds the row.
            raise LedgerError(f"consent not recorded: {type(exc).__name__}") from None

    async def newest(self, tenant: str, subject: str, purpose: str) -> Consent | None:
        """See `Consents.newest`."""
        wanted = (
            select(*_COLUMNS)
            .where(consents.c.tenant == tenant)
            .where(consents.c.subject == subject)
            .where(consents.c.purpose == purpose)
            .order_by(desc(consents.c.at), desc(consents.c.seq))
            .limit(1)
        )
        try:
            async with self._reading.connect() as connection:
                row = (await connection.execute(wanted)).mappings().one_or_none()
        except SQLAlchemyError as exc:
            raise LedgerError(f"consent not read: {type(exc).__name__}") from None
        return None if row is None else _consent(dict(row))


def _consent(row: dict[str, object]) -> Consent:
    return Consent(**{**row, "state": ConsentState(str(row["state"]))})  # type: ignore[arg-type]
