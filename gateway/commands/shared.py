"""What every command shares: its options, its settings, its database, and how it prints."""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import compose, settings
from gateway.compose import stores
from gateway.errors import GatewayError, MissingPartError
from gateway.settings import Settings

Config = Annotated[
    Path | None, typer.Option("--config", help="Settings file (or set VOCUSTODY_CONFIG).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def pseudonym(given: str | None) -> str | None:
    """Return *given*, or refuse what is no pseudonym without repeating it: it may be a number."""
    if given is not None and not re.fullmatch(r"s_[0-9A-Za-z]{1,32}", given):
        raise typer.BadParameter(
            "that is no pseudonym, they begin with s_ (vocustody subject find tells whose a "
            "number is; it reads the number from standard input)"
        )
    return given


Subject = Annotated[
    str, typer.Argument(metavar="SUBJECT", help="A pseudonym (s_).", callback=pseudonym)
]
Row = dict[str, Any]


def load(config: Path | None) -> Settings:
    """Return the settings of *config*, or of the file that the environment names."""
    return settings.load(compose.config_path(config))


class OperatorError(GatewayError):
    """Whoever is named by ``--by`` is nobody of the settings."""


def known_operator(settings: Settings, by: str) -> str:
    """
    Return *by* if the settings know somebody of this name; the log keeps it for good.

    Raises:
        OperatorError: they do not; the message lists whom they know.

    """
    known = settings.operator_names
    if by in known:
        return by
    if not known:
        raise OperatorError("--by: the settings name nobody (list who may ask in operators.names)")
    raise OperatorError(
        f"--by: nobody of the settings (one of {', '.join(sorted(known))}; see operators.names)"
    )


async def with_database(
    config: Path | None, ask: Callable[[AsyncEngine], Awaitable[Sequence[Row]]]
) -> list[Row]:
    """
    Return what *ask* finds in the cell's database.

    Raises:
        MissingPartError: there is no database, or it cannot be read.

    """
    engine = stores.existing_database(load(config))
    try:
        return list(await ask(engine))
    except SQLAlchemyError as exc:
        raise MissingPartError(
            f"the database cannot be read: {type(exc).__name__} (has the gateway run once?)"
        ) from None
    finally:
        await engine.dispose()


def show(rows: Sequence[Row], *, as_json: bool) -> None:
    """Print *rows*: as JSON, or one line each of what is not empty."""
    if as_json:
        print(to_json(rows))
        return
    for row in rows:
        print("  ".join(f"{name}={value}" for name, value in row.items() if value))


def to_json(value: Any) -> str:
    """Return *value* as JSON; times in ISO 8601."""
    return json.dumps(value, default=_plain, indent=2)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
