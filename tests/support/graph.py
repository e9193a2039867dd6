"""A running simulator of WhatsApp, and a callback that it can deliver to."""

import secrets
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.demo.graph import GraphWorld, Line, listen, serve
from gateway.whatsapp import connection
from gateway.whatsapp.account import Account


@dataclass(slots=True)
class Callback:
    """A webhook that keeps what it gets; *answers* are its next statuses (then always 200)."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: deque[int] = field(default_factory=deque)
    challenge: str | None = None

    async def receive(self, request: Request) -> Response:
        """Keep one delivery."""
        self.bodies.append(await request.body())
        self.headers.append(dict(request.headers))
        return Response(status_code=self.answers.popleft() if self.answers else 200)

    async def verify(self, request: Request) -> Response:
        """Echo the challenge, or what `challenge` says instead."""
        return PlainTextResponse(self.challenge or request.query_params["hub.challenge"])


@pytest.fixture
async def callback() -> AsyncIterator[Callback]:
    """Yield a callback on a loopback port."""
    found = Callback()
    routes = [
        Route("/hook", found.receive, methods=["POST"]),
        Route("/hook", found.verify, methods=["GET"]),
    ]
    async with listen(Starlette(routes=routes)) as url:
        found.url = f"{url}/hook"
        yield found


@pytest.fixture
async def graph() -> AsyncIterator[GraphWorld]:
    """Yield a running world in real time with one business line and nobody in it."""
    world = GraphWorld(lambda: datetime.now(UTC))
    world.line()
    async with serve(world):
        yield world


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    """Yield the channel's own client, allowed to reach loopback."""
    async with connection.client(development=True) as client:
        yield client


def account(world: GraphWorld, line: Line | None = None, **changes: Any) -> Account:
    """Return the account of *line* (by default, the first one) at the simulator."""
    chosen = line or next(iter(world.lines.values()))
    fields: dict[str, Any] = {
        "phone_number_id": chosen.phone_number_id,
        "token": chosen.token,
        "graph": f"{world.url}/v25.0",
        "media_hosts": frozenset({world.url.removeprefix("http://")}),
        "development": True,
    }
    return Account(**(fields | changes))


def ogg(size: int = 2_000, *, channels: int = 1) -> bytes:
    """Return *size* bytes that begin as an Ogg/Opus stream does (RFC 7845); the rest is noise."""
    head = b"OggS" + bytes(24) + b"OpusHead" + bytes([1, channels]) + bytes(9)
    return head + secrets.token_bytes(size - len(head))
