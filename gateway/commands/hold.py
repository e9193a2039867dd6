"""``vocustody hold``: keep what a clock would delete, for a case; two people place and release."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import holding, inspect, ordered
from gateway.commands.shared import (
    AsJson,
    Config,
    Row,
    known_operator,
    load,
    pseudonym,
    show,
    with_database,
)
from gateway.compose.surroundings import now
from gateway.errors import MissingPartError
from gateway.ordered import Wanted
from vault.errors import HoldError

WAIT_S = 30.0
LOOK_EVERY_S = 0.2

app = typer.Typer()
group = typer.Typer(no_args_is_help=True, help="Legal holds: proposed by one, approved by another.")
app.add_typer(group, name="hold")

Ident = Annotated[str, typer.Argument(metavar="HOLD", help="A hold (h_).")]
By = Annotated[str, typer.Option("--by", help="Who says so: a name of operators.names.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Whose, if the cell has several.")]


@group.command("propose")
def propose_command(
    case: Annotated[str, typer.Option("--case", help="The case, by a code without a name.")],
    ground: Annotated[str, typer.Option("--ground", help='Such as "GDPR Art. 17(3)(e)".')],
    until: Annotated[str, typer.Option("--until", help="Its end, with a zone (ISO 8601).")],
    by: By,
    role: Annotated[str, typer.Option("--role", help="In which role.")] = "dpo",
    artifacts: Annotated[
        list[str] | None, typer.Option("--artifact", help="One of them (a_); may be repeated.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", help="All of a person (s_).", callback=pseudonym)
    ] = None,
    since: Annotated[str | None, typer.Option("--since", help="All from here on ...")] = None,
    before: Annotated[str | None, typer.Option("--before", help="... and before this.")] = None,
    tenant: Tenant = None,
    config: Config = None,
    as_json: AsJson = False,  # noqa: FBT002 - typer reads the default
) -> int:
    """
    Propose a hold: clocks stop at once, and go on after a day unless another person approves.

    Exit status: 0 it keeps all that it is about, 1 it is too late for some of it.
    """
    wanted = Wanted(
        by=by,
        role=role,
        tenant=_tenant(config, tenant),
        case=case,
        ground=ground,
        until=_seconds(until),
        artifacts=tuple(artifacts or ()),
        subject=subject,
        since=None if since is None else _seconds(since),
        before=None if before is None else _seconds(before),
    )
    row = _ordered(config, "propose", wanted)
    show([row], as_json=as_json)
    return int(bool(row["too_late_for"]))


@group.command("approve")
def approve_command(
    hold: Ident,
    by: By,
    role: Annotated[str, typer.Option("--role", help="In which role.")] = "approver",
    tenant: Tenant = None,
    config: Config = None,
    as_json: AsJson = False,  # noqa: FBT002 - same
) -> int:
    """Approve what another person proposed of a hold: that it is placed, or released."""
    wanted = Wanted(by=by, role=role, tenant=_tenant(config, tenant), hold=hold)
    show([_ordered(config, "approve", wanted)], as_json=as_json)
    return 0


@group.command("release")
def release_command(
    hold: Ident,
    by: By,
    role: Annotated[str, typer.Option("--role", help="In which role.")] = "dpo",
    tenant: Tenant = None,
    config: Config = None,
    as_json: AsJson = False,  # noqa: FBT002 - same
) -> int:
    """Propose to release a hold; its clocks run again when another person approves that."""
    wanted = Wanted(by=by, role=role, tenant=_tenant(config, tenant), hold=hold)
    show([_ordered(config, "release", wanted)], as_json=as_json)
    return 0


@group.command("list")
def list_command(config: Config = None, as_json: AsJson = False) -> int:  # noqa: FBT002
    """List the legal holds, the newest first: who, why, until when, and how far."""
    show(asyncio.run(with_database(config, holding.listed)), as_json=as_json)
    return 0


def _ordered(config: Path | None, verb: str, wanted: Wanted) -> Row:
    """Return what the running cell made of it."""
    known_operator(load(config), wanted.by)

    async def ask(engine: AsyncEngine) -> Sequence[Row]:
        ident = await ordered.ask(engine, verb, wanted, now())
        try:
            async with asyncio.timeout(WAIT_S):
                while (found := await ordered.answer(engine, ident)) is None:  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError:
            raise MissingPartError(
                f"no running cell answered within {WAIT_S:.0f} s; it may still do it "
                "(vocustody hold list; start the cell, its log says what fails)"
            ) from None
        finally:
            await ordered.drop(engine, ident)
        if found.fault:
            raise HoldError(found.fault)
        return [found.row]

    [row] = asyncio.run(with_database(config, ask))
    return row


def _tenant(config: Path | None, named: str | None) -> str:
    known = [tenant.id for tenant in load(config).tenants]
    if named is None and len(known) > 1:
        raise MissingPartError("whose hold is it? (--tenant)")
    if named is not None and named not in known:
        raise MissingPartError("--tenant: this cell works for no such tenant")
    return named or known[0]


def _seconds(text: str) -> int:
    at: datetime = inspect.moment(text)
    return int(at.timestamp())
