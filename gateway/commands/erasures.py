"""``vocustody erase`` and its kin: a person's data goes, and a certificate says so."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from gateway import erasure
from gateway.commands.shared import (
    AsJson,
    Config,
    Subject,
    known_operator,
    load,
    show,
    with_database,
)
from gateway.compose import access
from gateway.errors import MissingPartError

app = typer.Typer()
erasures = typer.Typer(no_args_is_help=True, help="Erasures and their certificates.")
app.add_typer(erasures, name="erasures")

Because = Annotated[
    str, typer.Option("--because", help="The case, for the log: no number of a person, no name.")
]
By = Annotated[
    str, typer.Option("--by", help="Who asks: a name of operators.names, for the certificate.")
]
Trigger = Annotated[str, typer.Option("--trigger", help=f"One of {', '.join(erasure.TRIGGERS)}.")]
Hard = Annotated[
    bool, typer.Option("--hard", help="Roll the person's key bucket at once, not within 24 h.")
]
Wait = Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for the cell.")]
Ident = Annotated[str, typer.Argument(metavar="ERASURE", help="An erasure (e_).")]


@app.command("erase")
def erase_command(
    subject: Subject,
    because: Because,
    by: By,
    trigger: Trigger = "request",
    hard: Hard = False,  # noqa: FBT002 - typer reads the default
    wait: Wait = 10.0,
    config: Config = None,
    as_json: AsJson = False,  # noqa: FBT002 - same
) -> int:
    """
    Erase everything that is held of a person; the running cell does it, within seconds.

    The certificate follows when their key bucket was rolled: vocustody erasures certificate.
    """
    loaded = load(config)
    by = known_operator(loaded, by)
    ident = asyncio.run(
        access.erase(loaded, subject, because=because, trigger=trigger, by=by, urgent=hard)
    )
    if wait:
        show([asyncio.run(access.wait(loaded, ident, wait_s=wait))], as_json=as_json)
    else:
        show([{"erasure": ident}], as_json=as_json)
    return 0


@erasures.command("list")
def list_command(config: Config = None, as_json: AsJson = False) -> int:  # noqa: FBT002
    """
    List all erasures, the newest first: how far each is, and its verdict.

    Exit status: 0 all that are due are done, 1 one is not.
    """
    rows = asyncio.run(with_database(config, erasure.summaries))
    show(rows, as_json=as_json)
    return int(any(row["certified"] and not row["done"] for row in rows))


@erasures.command("certificate")
def certificate_command(ident: Ident, config: Config = None) -> int:
    """
    Print the signed certificate of an erasure; vocustody verify checks it, offline.

    Exit status: 0 it may be shown as done, 1 it may not.
    """

    async def ask(engine: Any) -> Sequence[dict[str, Any]]:
        one, document = await erasure.find(engine, ident), await erasure.certificate(engine, ident)
        if one is None or document is None:
            raise MissingPartError(
                f"{ident}: no certificate yet (vocustody erasures list says how far it is)"
            )
        sys.stdout.write(f"{document.decode()}\n")
        return [{"done": one.certified}]

    [found] = asyncio.run(with_database(config, ask))
    return int(not found["done"])


@erasures.command("contract-end")
def contract_end_command(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="The tenant that leaves.")],
    because: Because,
    by: By,
    config: Config = None,
) -> int:
    """Erase everybody of a tenant whose contract ends; the running cell does it."""
    loaded = load(config)
    by = known_operator(loaded, by)
    idents = asyncio.run(access.erase_tenant(loaded, tenant, because=because, by=by))
    print("\n".join(idents) or "nobody is known of this tenant")
    return 0
