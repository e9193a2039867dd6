"""Cells as processes: their settings on disk, ``vocustody serve`` over them, and their ends."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from gateway.demo.graph import Line

READY_S = 60.0
LISTENING = b"listening on port "


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantPlan:
    """One tenant of a cell: the number its people write to, and what it sets itself."""

    id: str
    controller: str
    jurisdiction: str
    languages: Sequence[str]
    line: Line
    assistant: Path | None = None
    retention: Mapping[str, int] = field(default_factory=dict)


def write_settings(
    directory: Path,
    *,
    cell: str,
    region: str,
    graph_url: str,
    tenants: Sequence[TenantPlan],
    listen: str = "127.0.0.1:0",
    registry: Path | None = None,
    more: str = "",
) -> Path:
    """Write a development cell's settings and secrets under *directory*; return the file."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = [
        "[cell]",
        f'id = "{cell}"',
        f'region = "{region}"',
        'data = "data"',
        f'listen = "{listen}"',
        'mode = "development"',
        '[operators]\nnames = ["dpo", "officer", "p_1", "p_2"]',
        more,
        f'[registry]\nfile = "{registry}"' if registry else "",
        *(_tenant(directory, plan, graph_url) for plan in tenants),
    ]
    path = directory / "vocustody.toml"
    path.write_text("\n".join(lines))
    return path


def _tenant(directory: Path, plan: TenantPlan, graph_url: str) -> str:
    secrets = {
        "app": plan.line.app_secret,
        "verify": plan.line.verify_token.encode(),
        "access": plan.line.token.encode(),
    }
    for name, secret in secrets.items():
        _secret(directory / f"{plan.id}-{name}", secret)
    languages = ", ".join(f'"{tag}"' for tag in plan.languages)
    retention = "".join(f"{name} = {seconds}\n" for name, seconds in plan.retention.items())
    return f"""
[[tenants]]
id = "{plan.id}"
controller = "{plan.controller}"
jurisdiction = "{plan.jurisdiction}"
languages = [{languages}]
{f'assistant = "{plan.assistant}"' if plan.assistant else ""}
[tenants.retention]
{retention}
[tenants.whatsapp]
phone_number_ids = ["{plan.line.phone_number_id}"]
app_secret_files = ["{plan.id}-app"]
verify_token_file = "{plan.id}-verify"
access_token_file = "{plan.id}-access"
graph_url = "{graph_url}/v25.0"
media_hosts = ["{urlsplit(graph_url).netloc}"]
"""


def _secret(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


class CellProcess:
    """
    One ``vocustody serve`` over *config*; its output goes to ``serve.log`` beside it.

    *program* is how ``vocustody`` is run, and may be replaced before a start.
    """

    def __init__(self, config: Path, *, lines: Sequence[Line] = ()) -> None:
        self.config = config
        self.url = ""
        self.program: Sequence[str] = (sys.executable, "-m", "gateway")
        self._lines = lines
        self._process: asyncio.subprocess.Process | None = None
        self._log = config.parent / "serve.log"

    @property
    def log(self) -> str:
        """Return everything the cell has printed."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def pid(self) -> int:
        """Return the process id of the running cell."""
        if self._process is None:
            raise RuntimeError("the cell is not running")
        return self._process.pid

    async def start(self, **environment: str) -> None:
        """Start, wait until the cell is ready, and point its lines' webhooks at it."""
        await self.launch(**environment)
        await self.ready()

    async def launch(self, **environment: str) -> None:
        """Start, and wait until the port is known."""
        with self._log.open("ab") as out:
            offset = out.tell()
            self._process = await asyncio.create_subprocess_exec(
                *self.program, "serve", "--config", str(self.config),
                stdout=out, stderr=out, start_new_session=True, env=_environment(environment),
            )  # fmt: skip
        async with asyncio.timeout(READY_S):
            port = await self._port(offset)
        self.url = f"http://127.0.0.1:{port}"
        for line in self._lines:
            tenant = self._tenant_of(line)
            line.callback_url = f"{self.url}/webhooks/whatsapp/{tenant}"

    async def ready(self) -> None:
        """Wait until ``/readyz`` says 200; raise `RuntimeError` if the cell ends before."""
        async with httpx2.AsyncClient(trust_env=False) as http, asyncio.timeout(READY_S):
            while True:
                if self.ended:
                    raise RuntimeError(f"the cell ended:\n{self.log}")
                with contextlib.suppress(httpx2.TransportError):
                    if (await http.get(f"{self.url}/readyz")).status_code == httpx2.codes.OK:
                        return
                await asyncio.sleep(0.1)

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process is None or self._process.returncode is not None

    async def wait(self) -> int:
        """Wait until the process ends by itself; return its exit status."""
        if self._process is None:
            return 0
        return await self._process.wait()

    async def stop(self) -> int:
        """Ask for an orderly end and wait for it."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> int:
        """Kill at once, as a crash would."""
        return await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> int:
        if self._process is None:
            return 0
        if not self.ended:
            self._process.send_signal(how)
        status = await self._process.wait()
        self._process = None
        return status

    async def _port(self, offset: int) -> int:
        while True:
            printed = self._log.read_bytes()[offset:]
            if LISTENING in printed:
                return int(printed.partition(LISTENING)[2].split()[0])
            if self.ended:
                raise RuntimeError(f"the cell ended:\n{self.log}")
            await asyncio.sleep(0.05)

    def _tenant_of(self, line: Line) -> str:
        text = self.config.read_text()
        before = text.partition(f'phone_number_ids = ["{line.phone_number_id}"]')[0]
        return before.rpartition('[[tenants]]\nid = "')[2].partition('"')[0]


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    kept = ("PATH", "HOME", "LANG", "PYTHONPATH", "VIRTUAL_ENV", "OPENBLAS_CORETYPE", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ} | dict(more)
