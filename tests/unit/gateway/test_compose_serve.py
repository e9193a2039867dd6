"""How the door is held open: up to a number, and no further."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from gateway.compose import serve

MOST = 3


@asynccontextmanager
async def served(app: Starlette) -> AsyncIterator[str]:
    """Serve *app* as a cell is served, for at most `MOST` at a time; yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(serve.configured(app, most=MOST))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn sets no event
            await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            await running


@pytest.mark.anyio
async def test_who_comes_beyond_the_limit_is_sent_away_at_once() -> None:
    """A flood of slow bodies must cost memory up to a bound; WhatsApp delivers again on 503."""
    inside = asyncio.Semaphore(0)
    go = asyncio.Event()

    async def slow(_request: Request) -> PlainTextResponse:
        inside.release()
        await go.wait()
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/", slow)])
    async with served(app) as url, httpx2.AsyncClient(trust_env=False, timeout=5) as http:
        taken = [asyncio.create_task(http.get(url)) for _ in range(MOST - 1)]
        for _ in taken:
            await inside.acquire()

        beyond = await http.get(url)
        go.set()

        assert beyond.status_code == 503
        assert [answer.status_code for answer in await asyncio.gather(*taken)] == [200] * len(taken)
