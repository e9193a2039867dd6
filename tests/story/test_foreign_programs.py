"""
The gateway among programs that are not ours: a sender of webhooks, and a Graph server.

Both share no code with us and cannot: they run isolated, with the standard library alone. The
settings are written by hand, as an operator would.
"""

import asyncio
import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.cell import NOTE, SCRIPTED
from support.stage import secret, until

from gateway.audio import ogg
from gateway.demo.cells import CellProcess

FOREIGN = Path(__file__).parent / "foreign"
NUMBER = "106540352242922"
SENDER = "12025550187"
MEDIA = "900100200300400"

SETTINGS = """
[cell]
id = "eu-1"
region = "eu-central"
data = "data"
listen = "127.0.0.1:0"
mode = "development"

[services]
database = "sqlite+aiosqlite:///{home}/own.db"

[registry]
file = "{registry}"

[[tenants]]
id = "clinic"
controller = "Beispiel Klinik GmbH"
jurisdiction = "US"
languages = ["en", "de"]

[tenants.whatsapp]
phone_number_ids = ["{number}"]
app_secret_files = ["secrets/app-new", "secrets/app-old"]
verify_token_file = "secrets/verify"
access_token_file = "secrets/access"
graph_url = "http://127.0.0.1:{port}/v23.0"
media_hosts = ["127.0.0.1:{port}"]
"""


def isolated(program: str, *arguments: str) -> list[str]:
    """Return the command that runs *program* where it can import nothing of ours."""
    return [sys.executable, "-I", "-S", str(FOREIGN / program), *arguments]


@dataclass(slots=True)
class Abroad:
    """Two foreign programs and our cell between them."""

    home: Path
    cell: CellProcess
    graph: asyncio.subprocess.Process
    requests: list[dict[str, Any]] = field(default_factory=list)

    async def listen(self) -> None:
        """Keep what the foreign server says it was asked."""
        assert self.graph.stdout
        async for line in self.graph.stdout:
            self.requests.append(json.loads(line))

    async def send(self, message: dict[str, Any], secret_name: str = "app-new") -> int:
        """Have the foreign program send *message*; return the status of the answer."""
        port, path = self.cell.url.rpartition(":")[2], self.home / "secrets" / secret_name
        command = isolated(
            "send_webhook.py", port, "clinic", str(path), NUMBER, SENDER, json.dumps(message)
        )
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        return int((await process.communicate())[0])

    def messages(self, kind: str) -> list[dict[str, Any]]:
        """Return the messages of *kind* that were sent to the person."""
        bodies = [request.get("json", {}) for request in self.requests]
        return [body for body in bodies if body.get("type") == kind]

    async def asked(self, look: Callable[[], list[Any]]) -> Any:
        """Return the first that *look* finds, once it finds one."""

        async def found() -> list[Any]:
            return look()

        return (await until(found))[0]


@pytest.fixture
async def abroad(tmp_path: Path) -> AsyncIterator[Abroad]:
    """Yield the two programs and the cell, all running."""
    for name in ("app-new", "app-old", "verify", "access"):
        secret(tmp_path / "secrets", name, f"{name}-of-a-foreign-test")
    token = str(tmp_path / "secrets" / "access")
    graph = await asyncio.create_subprocess_exec(
        *isolated("graph_server.py", NUMBER, token, str(NOTE)), stdout=subprocess.PIPE
    )
    assert graph.stdout
    port = int(await graph.stdout.readline())
    config = tmp_path / "vocustody.toml"
    config.write_text(SETTINGS.format(home=tmp_path, registry=SCRIPTED, number=NUMBER, port=port))
    abroad = Abroad(tmp_path, CellProcess(config), graph)
    listening = asyncio.create_task(abroad.listen())
    await abroad.cell.start()
    yield abroad
    await abroad.cell.kill()
    graph.kill()
    await graph.wait()
    await listening


def voice_note() -> dict[str, Any]:
    """Return a message with the recording that the foreign server keeps."""
    digest = base64.b64encode(hashlib.sha256(NOTE.read_bytes()).digest()).decode()
    audio = {"id": MEDIA, "mime_type": "audio/ogg; codecs=opus", "sha256": digest, "voice": True}
    return {"type": "audio", "audio": audio}


@pytest.mark.anyio
@pytest.mark.timeout(120)
async def test_a_foreign_note_is_answered_through_a_foreign_graph(abroad: Abroad) -> None:
    """Our simulator and our gateway could share a mistake; these programs cannot."""
    assert await abroad.send(voice_note()) == 200
    asked = await abroad.asked(lambda: abroad.messages("interactive"))
    buttons = [each["reply"] for each in asked["interactive"]["action"]["buttons"]]
    assert not [each for each in abroad.requests if each["method"] == "GET"], "not fetched yet"
    grant = next(each for each in buttons if each["id"] == "consent.grant")
    reply = {"type": "button_reply", "button_reply": grant}
    pressed = {"context": {"id": "wamid.FOREIGN1"}, "type": "interactive", "interactive": reply}
    assert await abroad.send(pressed, "app-old") == 200, "the older secret still signs"
    text = await abroad.asked(lambda: abroad.messages("text"))
    voice = await abroad.asked(lambda: abroad.messages("audio"))

    assert text["to"] == voice["to"] == SENDER
    assert text["text"]["body"]
    assert voice["audio"]["voice"] is True
    assert voice["audio"]["id"] == "700"
    (upload,) = [each for each in abroad.requests if "parts" in each]
    spoken = upload["parts"]["file"]
    assert spoken["type"] == "audio/ogg"
    assert ogg.inspect(base64.b64decode(spoken["base64"])).channels == 1
    assert all(each["authorised"] for each in abroad.requests)
    opaque = {message["biz_opaque_callback_data"] for message in (asked, text, voice)}
    assert len(opaque) == 3
    assert not [one for one in opaque if SENDER in one]


@pytest.mark.anyio
async def test_a_foreign_forgery_is_refused(abroad: Abroad) -> None:
    """Whoever does not hold the app secret cannot make the gateway work."""
    assert await abroad.send({"type": "text", "text": {"body": "hi"}}, "verify") == 401
    assert await abroad.send({"type": "text", "text": {"body": "hi"}}) == 200

    await abroad.asked(lambda: abroad.messages("text"))

    assert len(abroad.messages("text")) == 1
