"""
The command ``vocustody``: 0 is good, 1 is a finding, 2 is misuse or something missing.

Commands that only read work while the server runs.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.exc import SQLAlchemyError
from typer.exceptions import TyperException

from audit import verify as verifier
from audit.errors import AuditError
from audit.model import Entry
from gateway import compose, inspect, log, settings
from gateway.compose import doctor, rules, serve, stores
from gateway.demo import story
from gateway.errors import GatewayError, MissingPartError, SettingsError
from gateway.settings import Settings
from policy.errors import PolicyError
from residency.errors import ResidencyError
from vault.errors import VaultError

EXPECTED = (AuditError, GatewayError, PolicyError, ResidencyError, VaultError, OSError)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Chain of custody for WhatsApp voice AI.",
)
policy_app = typer.Typer(no_args_is_help=True, help="The policy bundle.")
app.add_typer(policy_app, name="policy")

Config = Annotated[
    Path | None, typer.Option("--config", help="Settings file (or set VOCUSTODY_CONFIG).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Ident = Annotated[str, typer.Argument(metavar="ID", help="An artifact (a_), job (j_) or touch.")]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        return int(app(args=argv, standalone_mode=False) or 0)
    except TyperException as exc:
        if said := str(exc):  # empty when the help was all there is to say
            print(f"vocustody: {said}", file=sys.stderr)
        return 2
    except SettingsError as exc:
        for fault in exc.faults:
            print(f"vocustody: {fault}", file=sys.stderr)
        return 2
    except EXPECTED as exc:
        print(f"vocustody: {exc}", file=sys.stderr)
        return 2
    except Exception as exc:  # noqa: BLE001 - its text may quote a person or a password
        print(f"vocustody: {log.told(exc)}", file=sys.stderr)
        return 2


@app.command("serve")
def serve_command(config: Config = None) -> int:
    """Run one cell until it is stopped."""
    serve.serve(_settings(config))
    return 0


@app.command("doctor")
def doctor_command(config: Config = None) -> int:
    """Check everything this cell needs, and name the fix for what is missing."""
    faults = 0
    for check in doctor.examine(_settings(config)):
        print(check.line)
        faults += not check.ok
    return 1 if faults else 0


@app.command("where")
def where_command(
    ident: Ident,
    at: Annotated[str, typer.Option("--at", help="A time with its zone (ISO 8601).")],
    config: Config = None,
    as_json: AsJson = False,  # noqa: FBT002 - typer reads the default
) -> int:
    """Say where a recording was at a time, and which processor touched it."""
    shelf = stores.shelf(_settings(config))
    found = asyncio.run(inspect.where(shelf, ident, inspect.moment(at)))
    print(_json(asdict(found)) if as_json else found.sentence)
    return 0


@app.command("timeline")
def timeline_command(
    ident: Ident,
    config: Config = None,
    as_json: AsJson = False,  # noqa: FBT002 - same
) -> int:
    """List everything the trail says about an id."""
    entries = asyncio.run(inspect.entries(stores.shelf(_settings(config)), ident))
    print(_json([asdict(entry) for entry in entries]) if as_json else _table(entries))
    return 0


@app.command("notes")
def notes_command(
    config: Config = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000)] = 20,
    as_json: AsJson = False,  # noqa: FBT002 - same
) -> int:
    """List the newest jobs: their ids, recordings and ends."""
    _rows(asyncio.run(_with_database(config, lambda engine: inspect.notes(engine, limit))), as_json)
    return 0


@app.command("handovers")
def handovers_command(config: Config = None, as_json: AsJson = False) -> int:  # noqa: FBT002
    """List the conversations that wait for a human."""
    _rows(asyncio.run(_with_database(config, inspect.open_handovers)), as_json)
    return 0


@app.command("export-log")
def export_command(
    to: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory.")],
    config: Config = None,
    quarter: Annotated[str | None, typer.Option("--quarter", help="Such as 2026q4.")] = None,
) -> int:
    """Write the audit log as static files that anybody can verify."""
    print(asyncio.run(inspect.export_log(stores.shelf(_settings(config)), to, quarter)))
    return 0


@app.command("verify")
def verify_command(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The export, or a proof file.")],
    key: Annotated[str | None, typer.Option("--key", help="The vkey, or a file with it.")] = None,
    seen: Annotated[
        Path | None, typer.Option("--seen", help="A checkpoint kept elsewhere.")
    ] = None,
    as_json: AsJson = False,  # noqa: FBT002 - typer reads the default
) -> int:
    """Verify an exported log or one event's proof; needs no settings and no server."""
    given = [str(path)]
    given += ["--key", key] if key else []
    given += ["--seen", str(seen)] if seen else []
    return verifier.main([*given, "--json"] if as_json else given)


@app.command("demo")
def demo_command(
    leave: Annotated[bool, typer.Option("--exit", help="Leave when the story is over.")] = False,  # noqa: FBT002 - typer reads the default
) -> int:
    """Play the demonstration: four people, two companies, four jurisdictions."""
    return asyncio.run(story.play(leave=leave))


@policy_app.command("bundle")
def bundle_command(
    to: Annotated[Path, typer.Argument(metavar="FILE", help="A new .tar.gz for an OPA server.")],
    config: Config = None,
) -> int:
    """Write the bundle that this cell enforces, for an OPA server to load."""
    print(rules.write_bundle(_settings(config), to))
    return 0


def _settings(config: Path | None) -> Settings:
    return settings.load(compose.config_path(config))


async def _with_database(config: Path | None, ask: Any) -> list[dict[str, Any]]:
    engine = stores.existing_database(_settings(config))
    try:
        return list(await ask(engine))
    except SQLAlchemyError as exc:
        raise MissingPartError(
            f"the database cannot be read: {type(exc).__name__} (has the gateway run once?)"
        ) from None
    finally:
        await engine.dispose()


def _rows(rows: list[dict[str, Any]], as_json: bool) -> None:  # noqa: FBT001 - private
    if as_json:
        print(_json(rows))
        return
    for row in rows:
        print("  ".join(f"{name}={value}" for name, value in row.items() if value))


def _table(entries: Sequence[Entry]) -> str:
    return "\n".join(
        f"{_span(entry)}  {entry.what}"
        f"{'  ' + entry.processor if entry.processor else ''}"
        f"{'  ' + entry.outcome if entry.outcome else ''}"
        for entry in entries
    )


def _span(entry: Entry) -> str:
    began = entry.began.isoformat(sep=" ", timespec="milliseconds")
    if entry.ended is None:
        return f"{began} .. open"
    took_ms = (entry.ended - entry.began).total_seconds() * 1000
    return f"{began} +{took_ms:.0f} ms" if took_ms else began


def _json(value: Any) -> str:
    return json.dumps(value, default=_plain, indent=2)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
