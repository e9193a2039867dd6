"""
The command ``vocustody``: 0 is good, 1 is a finding, 2 is misuse or something missing.

Commands that only read work while the server runs.
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from audit import verify as verifier
from audit.errors import AuditError
from audit.evidence import erasure as certificate
from audit.model import Entry
from audit.timeline import compared
from gateway import cores, findings, handover, inspect, log, register, replayed
from gateway.commands import clock as clock_group
from gateway.commands import erasures as erasures_group
from gateway.commands import hold as hold_group
from gateway.commands import keys as keys_group
from gateway.commands import retention as retention_group
from gateway.commands import subjects as subjects_group
from gateway.commands import vault as vault_group
from gateway.commands.shared import (
    AsJson,
    Config,
    Subject,
    known_operator,
    load,
    show,
    to_json,
    with_database,
)
from gateway.compose import (
    crossings,
    doctor,
    egress,
    engines,
    people,
    publication,
    replays,
    rules,
    serve,
    stores,
    surroundings,
)
from gateway.demo import story
from gateway.errors import GatewayError, MissingPartError, SettingsError
from gateway.settings import Settings
from policy.errors import BundleError, PolicyError
from policy.signing import KEYID
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
consent_app = typer.Typer(no_args_is_help=True, help="The ledger of consents.")
app.add_typer(consent_app, name="consent")
subject_app = typer.Typer(
    no_args_is_help=True, help="A person: who they are to us, what is declared and held of them."
)
app.add_typer(subject_app, name="subject")
findings_app = typer.Typer()
app.add_typer(findings_app, name="findings")
handovers_app = typer.Typer()
app.add_typer(handovers_app, name="handovers")
app.add_typer(clock_group.app, name="clock", help="Whether the clocks agree.")
for group in (erasures_group, hold_group, keys_group, retention_group, vault_group):
    app.add_typer(group.app)
subject_app.command("find")(subjects_group.find_command)
subject_app.command("export")(subjects_group.export_command)

BundleFile = Annotated[Path, typer.Argument(metavar="FILE", help="A bundle (.tar.gz).")]
KeyId = Annotated[str, typer.Option("--keyid", help="The key's name in OPA's configuration.")]
Ident = Annotated[str, typer.Argument(metavar="ID", help="An artifact (a_), job (j_) or touch.")]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; without *argv*, as this process's program."""
    try:
        if argv is None:
            cores.forbid()
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
    serve.serve(load(config))
    return 0


@app.command("egress")
def egress_command(config: Config = None) -> int:
    """Run the egress broker beside the gateway, until it is stopped."""
    egress.run(load(config))
    return 0


@app.command("doctor")
def doctor_command(config: Config = None) -> int:
    """Check everything this cell needs, and name the fix for what is missing."""
    faults = 0
    for check in doctor.examine(load(config)):
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
    """
    Say where a recording was at a time, and which processor touched it.

    Of a job (j_) or a touch (t_): one answer for each artifact that its log entries name.
    """
    shelf = stores.shelf(load(config))
    found = asyncio.run(inspect.where(shelf, ident, inspect.moment(at)))
    if as_json:
        rows = [asdict(each) for each in found]
        print(to_json(rows[0] if found[0].artifact == ident else rows))
    else:
        print("\n".join(each.sentence for each in found))
    return 0


@app.command("timeline")
def timeline_command(
    ident: Ident,
    config: Config = None,
    as_json: AsJson = False,  # noqa: FBT002 - same
) -> int:
    """List everything the trail says about an id."""
    entries = asyncio.run(inspect.entries(stores.shelf(load(config)), ident))
    print(to_json([asdict(entry) for entry in entries]) if as_json else _table(entries))
    return 0


@app.command("notes")
def notes_command(
    config: Config = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000)] = 20,
    as_json: AsJson = False,  # noqa: FBT002 - same
) -> int:
    """List the newest jobs: their ids, recordings and ends."""
    show(
        asyncio.run(with_database(config, lambda engine: inspect.notes(engine, limit))),
        as_json=as_json,
    )
    return 0


@handovers_app.callback(invoke_without_command=True)
def handovers_alone(context: typer.Context, config: Config = None, as_json: AsJson = False) -> int:  # noqa: FBT002
    """Conversations in human hands; by itself, the list."""
    return 0 if context.invoked_subcommand else handovers_command(config, as_json)


@handovers_app.command("list")
def handovers_command(config: Config = None, as_json: AsJson = False) -> int:  # noqa: FBT002
    """List the conversations that wait for a human."""
    show(asyncio.run(with_database(config, inspect.open_handovers)), as_json=as_json)
    return 0


@handovers_app.command("close")
def give_back_command(
    job: Annotated[str, typer.Argument(metavar="JOB", help="A job (j_).")],
    by: Annotated[str, typer.Option("--by", help="Who is done with it.")],
    config: Config = None,
) -> int:
    """Close a handover; the dialogue answers again when the running cell has it on the trail."""
    others: list[int] = []
    by = known_operator(load(config), by)

    async def ask(engine: Any) -> list[dict[str, Any]]:
        others.append(await handover.close(engine, job, by=by, at=surroundings.now()))
        return []

    asyncio.run(with_database(config, ask))
    print(f"{job}: closed by {by}")
    if others[0]:
        print(f"{others[0]} more of this conversation are open: a human still has it")
    return 0


@app.command("processors")
def processors_command(config: Config = None, as_json: AsJson = False) -> int:  # noqa: FBT002
    """List the registry: declared beside observed, and who is eligible and why not."""
    loaded = load(config)
    found = asyncio.run(_processors(loaded))
    print(to_json(found) if as_json else "\n".join(map(_processor, found)))
    return 1 if any(row["differences"] for row in found) else 0


@app.command("transfers")
def transfers_command(config: Config = None, as_json: AsJson = False) -> int:  # noqa: FBT002
    """List the transfer impact records: what left its country, to whom, on which ground."""
    loaded = load(config)
    shelf, cell = stores.shelf(loaded), loaded.cell

    async def ask(engine: Any) -> list[dict[str, Any]]:
        known = rules.registry(loaded)
        found = await register.moved(known, shelf, engine, cell=cell.id, region=cell.region)
        return [asdict(record) for record in found]

    show(asyncio.run(with_database(config, ask)), as_json=as_json)
    return 0


@findings_app.callback(invoke_without_command=True)
def findings_alone(context: typer.Context, config: Config = None, as_json: AsJson = False) -> int:  # noqa: FBT002
    """Where what was seen is not what was declared; by itself, the list."""
    return 0 if context.invoked_subcommand else findings_command(config, as_json)


@findings_app.command("list")
def findings_command(config: Config = None, as_json: AsJson = False) -> int:  # noqa: FBT002
    """List the findings about processors, the newest first; 1 if one is in force."""
    found = asyncio.run(with_database(config, register.listed))
    show(found, as_json=as_json)
    return 1 if any(row["in_force"] for row in found) else 0


@findings_app.command("close")
def close_command(
    ident: Annotated[str, typer.Argument(metavar="ID", help="A finding (f_).")],
    by: Annotated[str, typer.Option("--by", help="Who looked at it.")],
    why: Annotated[str, typer.Option("--why", help="What came of it.")],
    config: Config = None,
) -> int:
    """Close a finding; the suspension ends when the running cell has it on the trail."""
    by = known_operator(load(config), by)

    async def ask(engine: Any) -> list[dict[str, Any]]:
        await findings.close(engine, ident, by=by, why=why, at=surroundings.now())
        return []

    asyncio.run(with_database(config, ask))
    print(f"{ident}: closed by {by}")
    return 0


@consent_app.command("history")
def history_command(subject: Subject, config: Config = None, as_json: AsJson = False) -> int:  # noqa: FBT002
    """List everything a person agreed to, refused or took back."""
    rows = asyncio.run(with_database(config, lambda engine: people.history(engine, subject)))
    show(rows, as_json=as_json)
    return 0


@consent_app.command("receipt")
def receipt_command(
    subject: Subject,
    purpose: Annotated[str | None, typer.Option("--purpose", help="Of this one alone.")] = None,
    config: Config = None,
) -> int:
    """Print a signed receipt of a person's consents; the running cell issues it, within 10 s."""

    async def ask(engine: Any) -> list[dict[str, Any]]:
        print((await people.receipt(engine, subject, purpose)).decode())
        return []

    asyncio.run(with_database(config, ask))
    return 0


@subject_app.command("declare")
def declare_command(
    subject: Subject,
    residence: Annotated[str | None, typer.Option("--residence", help="Such as DE.")] = None,
    minor: Annotated[bool | None, typer.Option("--minor/--adult")] = None,
    config: Config = None,
    as_json: AsJson = False,  # noqa: FBT002 - typer reads the default
) -> int:
    """Declare where a person lives, or that they are a minor; counts from the next note on."""

    async def ask(engine: Any) -> list[dict[str, Any]]:
        return await people.declare(engine, subject, residence=residence, minor=minor)

    show(asyncio.run(with_database(config, ask)), as_json=as_json)
    return 0


@app.command("export-log")
def export_command(
    to: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory.")],
    config: Config = None,
    quarter: Annotated[str | None, typer.Option("--quarter", help="Such as 2026q4.")] = None,
) -> int:
    """Write the audit log as static files that anybody can verify."""
    print(asyncio.run(inspect.export_log(stores.shelf(load(config)), to, quarter)))
    return 0


@app.command("verify")
def verify_command(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="The export, a proof file, or a certificate (.json)."),
    ],
    key: Annotated[str | None, typer.Option("--key", help="The vkey, or a file with it.")] = None,
    seen: Annotated[
        Path | None, typer.Option("--seen", help="A checkpoint kept elsewhere.")
    ] = None,
    as_json: AsJson = False,  # noqa: FBT002 - typer reads the default
) -> int:
    """Verify an exported log, a proof, or an erasure certificate; needs no settings, no server."""
    if path.suffix == ".json":
        return certificate.main(path, key, as_json=as_json)
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
    to: Annotated[Path, typer.Argument(metavar="FILE", help="A new .tar.gz.")],
    config: Config = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="Sign with this P-256 private key (PEM).")
    ] = None,
    keyid: KeyId = KEYID,
) -> int:
    """Write the bundle of this cell's registry and settings, signed if a key is given."""
    signer = publication.signer(key, keyid) if key else None
    print(rules.write_bundle(load(config), to, signer))
    return 0


@policy_app.command("sign")
def sign_command(
    path: BundleFile,
    key: Annotated[Path, typer.Option("--key", help="A P-256 private key (PEM).")],
    keyid: KeyId = KEYID,
) -> int:
    """Sign a bundle in place; needs no settings and no server."""
    print(publication.sign(path, key, keyid))
    return 0


@policy_app.command("check")
def check_command(path: BundleFile, config: Config = None) -> int:
    """Say whether this cell would enforce a bundle, and if not, why."""
    chosen = load(config)
    try:
        print(asyncio.run(publication.check(chosen, rules.registry(chosen), path)))
    except BundleError as exc:
        print(f"refused: {exc}")
        return 1
    return 0


@policy_app.command("status")
def status_command(config: Config = None, as_json: AsJson = False) -> int:  # noqa: FBT002
    """Show the release in force: its age, its pin, and what was refused since."""
    found = publication.status(load(config))
    show([asdict(found)], as_json=as_json)
    return 1 if found.stale or found.refused else 0


@policy_app.command("rollback")
def rollback_command(
    revision: Annotated[
        str | None, typer.Argument(metavar="REVISION", help="Default: the one before.")
    ] = None,
    config: Config = None,
    unpin: Annotated[bool, typer.Option("--unpin", help="Follow the source again.")] = False,  # noqa: FBT002
) -> int:
    """Enforce a kept release, whatever is published, until it is unpinned."""
    chosen = load(config)
    if unpin:
        publication.releases(chosen).unpin()
        return 0
    print(publication.roll_back(chosen, revision))
    return 0


@app.command("cell-key")
def cell_key_command(
    to: Annotated[Path, typer.Argument(metavar="FILE", help="A new private key file.")],
) -> int:
    """Make the key that other cells' front doors seal updates to; prints the public file."""
    print(crossings.make_key(to))
    return 0


@policy_app.command("replay")
def replay_command(
    bundle: Annotated[Path, typer.Option("--bundle", help="The candidate, a .tar.gz.")],
    config: Config = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Made at this time (ISO 8601) or later.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000_000)] = 10_000,
    as_json: AsJson = False,  # noqa: FBT002 - typer reads the default
) -> int:
    """
    Show which stored decisions another bundle would change.

    Each is first reproduced, byte for byte, under the bundle that made it. The candidate needs
    no signature: nothing enforces it here.

    Exit status: 0 nothing would change, 1 something would, 2 misuse or something missing,
    3 something did not reproduce.
    """
    after = inspect.moment(since) if since else None
    report = asyncio.run(replays.replayed(load(config), bundle, since=after, limit=limit))
    print(to_json(report.summary) if as_json else "\n".join(replayed.report(report)))
    return report.status


@policy_app.command("explain")
def explain_command(
    decision: Annotated[str, typer.Argument(metavar="DECISION", help="A decision (d_).")],
    config: Config = None,
    as_json: AsJson = False,  # noqa: FBT002 - typer reads the default
) -> int:
    """
    Show why a decision chose whom it chose, for each processor of the registry it knew.

    Exit status: 0 the decision came back as it was made, 2 it is unknown or gone, 3 it did not.
    """
    found = asyncio.run(replays.explained(load(config), decision))
    print(to_json(found.summary) if as_json else "\n".join(replayed.explanation(found)))
    return found.status


async def _processors(loaded: Settings) -> list[dict[str, Any]]:
    try:
        engine = stores.existing_database(loaded)
    except MissingPartError:  # a cell that never ran has seen nothing
        engine = None
    try:
        return await register.processors(
            rules.registry(loaded),
            engine,
            built=engines.BUILT,
            region=loaded.cell.region,
            today=surroundings.now().date(),
        )
    finally:
        if engine is not None:
            await engine.dispose()


def _processor(row: dict[str, Any]) -> str:
    declared, observed = row["declared"], row["observed"]
    state = "eligible" if row["eligible"] else f"not eligible: {'; '.join(row['why_not'])}"
    seen = [
        f"{fact} {observed[fact]['value']} ({observed[fact]['basis']})"
        for fact in register.FACTS
        if fact in observed
    ]
    hosts = ", ".join(declared["hosts"]) or "inside the cell"
    return "\n".join(
        [
            f"{row['processor']}  {row['vendor']}  {state}",
            f"  declared: {declared['region']} ({declared['country']}), {hosts}",
            f"  observed: {', '.join(seen) or 'nothing yet (unknown)'}",
            *(f"  DIFFERS: {difference}" for difference in row["differences"]),
        ]
    )


def _table(entries: Sequence[Entry]) -> str:
    return "\n".join(
        f"{_span(entry)}  {entry.what}"
        f"{'  ' + entry.processor if entry.processor else ''}"
        f"{'  ' + entry.outcome if entry.outcome else ''}"
        f"{'  ' + told if (told := compared(entry)) else ''}"
        for entry in entries
    )


def _span(entry: Entry) -> str:
    began = entry.began.isoformat(sep=" ", timespec="milliseconds")
    if entry.died_before is not None:
        noticed = entry.died_before.isoformat(sep=" ", timespec="milliseconds")
        return f"{began} .. no end on record, the process died before {noticed}"
    if entry.ended is None:
        return f"{began} .. no end on record"
    took_ms = (entry.ended - entry.began).total_seconds() * 1000
    return f"{began} +{took_ms:.0f} ms" if took_ms else began
