"""
The schema's history (Alembic): `upgrade` brings a database to this version.

The tables live in `gateway.schema`, `vault.tables` and `policy.consents.tables`; a test
compares what the migrations build with what those declare.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, MetaData
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import schema
from policy.consents import tables as consents
from vault import tables as custody

METADATA: list[MetaData] = [schema.metadata, custody.metadata, consents.metadata]


def config(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration, on *connection* if one is given."""
    found = Config()
    found.set_main_option("script_location", str(Path(__file__).parent))
    found.attributes["connection"] = connection
    return found


async def upgrade(engine: AsyncEngine) -> None:
    """Bring the database behind *engine* to the newest schema, in one transaction."""
    async with engine.begin() as tx:
        await tx.run_sync(lambda connection: command.upgrade(config(connection), "head"))
