"""``vocustody vault-policy``: what an identity may do at OpenBao or Vault."""

from typing import Annotated

import typer

from gateway.commands.shared import Config, load
from gateway.compose import identities

app = typer.Typer()

Asked = Annotated[
    identities.Who, typer.Argument(metavar="WHO", help="The worker (the cell), or the keeper.")
]
Cell = Annotated[str | None, typer.Option("--cell", help="The cell's id; needs --mount, too.")]
AtMount = Annotated[str | None, typer.Option("--mount", help="Where its region's keys are.")]


@app.command("vault-policy")
def vault_policy_command(
    who: Asked, config: Config = None, cell: Cell = None, mount: AtMount = None
) -> int:
    """
    Print the ACL policy of the worker or of the keeper.

    It asks no server. With --cell and --mount it needs no settings: those name secrets that do
    not exist before the policy does.
    """
    if cell and mount:
        print(identities.policy(who, cell=cell, mount=mount), end="")
    else:
        print(identities.policy_of(who, load(config)), end="")
    return 0
