"""The consent ledger in the cell's database (SQLite or PostgreSQL)."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Select, case, desc, exists, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from policy.consents.tables import consents
from policy.errors import LedgerError
from policy.model import NO, YES, Consent, ConsentState, Expressed

_COLUMNS = tuple(consents.c[field.name] for field in fields(Consent))
_IS_NO = case((consents.c.state.in_(NO), 1), else_=0)  # of one second, a no counts


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
            .order_by(desc(consents.c.at), desc(_IS_NO), desc(consents.c.seq))
            .limit(1)
        )
        return next(iter(await self._read(wanted)), None)

    async def history(self, tenant: str, subject: str) -> list[Consent]:
        """See `Consents.history`."""
        theirs = (consents.c.tenant == tenant) & (consents.c.subject == subject)
        query = select(*_COLUMNS).where(theirs).order_by(consents.c.at, _IS_NO, consents.c.seq)
        return await self._read(query)

    async def due(self, now: int, limit: int) -> list[Consent]:
        """See `Consents.due`."""
        c, later = consents.c, consents.alias("later")
        same = (
            (later.c.tenant == c.tenant)
            & (later.c.subject == c.subject)
            & (later.c.purpose == c.purpose)
        )
        behind = later.c.state.in_(NO) | (later.c.seq > c.seq)  # *c* is a yes
        newer = (later.c.at > c.at) | ((later.c.at == c.at) & behind)
        over = c.state.in_(YES) & (c.expires_at <= now) & ~exists().where(same & newer)
        query = select(*_COLUMNS).where(over).order_by(c.expires_at, c.seq).limit(limit)
        return await self._read(query)

    async def _read(self, query: Select[Any]) -> list[Consent]:
        try:
            async with self._reading.connect() as connection:
                rows = (await connection.execute(query)).mappings().all()
        except SQLAlchemyError as exc:
            raise LedgerError(f"consent not read: {type(exc).__name__}") from None
        return [_consent(row) for row in rows]


def _consent(row: Mapping[Any, Any]) -> Consent:
    states = {"state": ConsentState(row["state"]), "expressed": Expressed(row["expressed"])}
    return Consent(**{**row, **states})
