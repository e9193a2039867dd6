"""A stage for whole-cell tests: cells with settings of the test's choice, commands, processes."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from support.cell import GRACE_S, REGION, SCRIPTED, Town

from gateway.demo.cells import CellProcess, TenantPlan, write_settings
from gateway.demo.graph import GraphWorld

ADMIN = "admin-token-of-a-test"
PHONE = "493023125777"  # from the range that Berlin keeps for fiction
PATIENCE_S = 40.0


@dataclass(frozen=True, slots=True)
class Said:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


def secret(directory: Path, name: str, value: str) -> str:
    """Write a secret file that its owner alone can read; return its name."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / name
    path.touch(mode=0o600)
    path.write_text(value)
    return name


def scripted(directory: Path, **changes: str) -> Path:
    """Return a scripted registry that says something else (``text``, ``delay_ms``, ``hertz``)."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = SCRIPTED.read_text()
    said = changes.get("text", "go forward ten meters")
    text = text.replace('"go forward ten meters"', json.dumps(said))
    text = text.replace('delay_ms = "0"', f'delay_ms = "{changes.get("delay_ms", "0")}"')
    if "hertz" in changes:
        text = text.replace("settings = {}", f'settings = {{ hertz = "{changes["hertz"]}" }}')
    path = directory / "registry.toml"
    path.write_text(text)
    return path


def staged(
    directory: Path,
    graph: GraphWorld,
    *,
    registry: Path | None = SCRIPTED,
    assistant: Path | None = None,
    retention: Mapping[str, int] | None = None,
    more: str = "",
) -> Town:
    """Return a town with one cell, not yet started, whose metrics the test may read."""
    line = next(iter(graph.lines.values()))
    plan = TenantPlan(
        id="fernruf",
        controller="Fernruf GmbH",
        jurisdiction="DE",
        languages=("en",),
        line=line,
        assistant=assistant,
        retention=retention or {},
    )
    secret(directory, "admin", ADMIN)
    settings = [
        more,
        f"[outbox]\nunknown_grace_seconds = {GRACE_S}",
        '[admin]\ntoken_file = "admin"',
    ]
    config = write_settings(
        directory,
        cell="eu-1",
        region=REGION,
        graph_url=graph.url,
        tenants=[plan],
        registry=registry,
        more="\n".join(settings),
    )
    return Town(graph, line, CellProcess(config, lines=[line]), graph.person(PHONE, line=line))


async def agree(town: Town, note: bytes) -> None:
    """Speak *note*, be asked, and agree."""
    await town.ada.say(note)
    await received(town, "buttons")
    await town.ada.press("consent.grant")


async def received(town: Town, kind: str, nth: int = 1) -> Any:
    """Return the *nth* message of *kind* that reached the person, once it has."""

    def is_it(message: Any) -> bool:
        found = [each for each in town.ada.inbox if each.kind == kind]
        return len(found) >= nth and message is found[nth - 1]

    return await town.ada.expect(is_it, within_s=PATIENCE_S)


async def until(holds: Callable[[], Awaitable[Any]], *, within_s: float = PATIENCE_S) -> Any:
    """Return what *holds* returns as soon as it is true; raise `TimeoutError` if it never is."""
    async with asyncio.timeout(within_s):
        while not (found := await holds()):  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0.1)
    return found


async def get(town: Town, path: str, **headers: str) -> httpx2.Response:
    """Ask the cell for *path*."""
    async with httpx2.AsyncClient(trust_env=False, timeout=20) as http:
        return await http.get(f"{town.cell.url}{path}", headers=headers)


async def metrics(town: Town) -> str:
    """Return the cell's metrics, as its operator sees them."""
    answer = await get(town, "/metrics", authorization=f"Bearer {ADMIN}")
    assert answer.status_code == httpx2.codes.OK
    return str(answer.text)


async def vocustody(*command: str, typed: str = "", **environment: str) -> Said:
    """Run the command in a process of its own; *typed* is its standard input."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *command,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, env=os.environ | environment,
    )  # fmt: skip
    out, err = await process.communicate(typed.encode())
    return Said(await process.wait(), out.decode(), err.decode())


def family(pid: int) -> dict[int, str]:
    """Return every process that descends from *pid*, or is of its session, and its command."""
    parents = {int(e.name): _stat(e) for e in Path("/proc").iterdir() if e.name.isdigit()}
    found: dict[int, str] = {}
    fresh = {pid}
    while fresh:
        fresh = {
            one
            for one, (parent, session) in parents.items()
            if one not in found and one != pid and (parent in fresh or session == pid)
        }
        found |= {one: _command(one) for one in fresh}
    return found


def left(processes: dict[int, str], *, within_s: float = 5.0) -> dict[int, str]:
    """Return those of *processes* that still run when *within_s* are over."""
    deadline = time.monotonic() + within_s
    while (living := {pid: processes[pid] for pid in processes if _lives(pid)}) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.05)
    return living


def _stat(entry: Path) -> tuple[int, int]:
    """Return the parent and the session of a process; -1 if it ended meanwhile."""
    fields = _read(entry / "stat").rpartition(")")[2].split()
    return (int(fields[1]), int(fields[3])) if fields else (-1, -1)


def _command(pid: int) -> str:
    return _read(Path(f"/proc/{pid}/cmdline")).replace("\0", " ").strip()


def _lives(pid: int) -> bool:
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return bool(fields) and fields[0] != "Z"


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it ended meanwhile
        return ""
