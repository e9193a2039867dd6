"""
The Cloud API over HTTP: one Starlette application, served on a free loopback port.

Any version prefix is accepted. A request is judged in Graph's order: token, then fault (a knob
of the test), then content. Calls and encrypted messages are not simulated.
"""

import asyncio
import contextlib
import gzip
import hashlib
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http import HTTPStatus
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.demo.graph import media, sending
from gateway.demo.graph.faults import Fault
from gateway.demo.graph.media import Stored, Trick
from gateway.demo.graph.wire import GraphError
from gateway.demo.graph.world import GraphWorld, Line, Receipt

HUGE = 17 * 1024 * 1024
SLOW_PART_S = 0.05
_BOUNDARY = re.compile(r'multipart/form-data;\s*boundary="?([^";]{1,70})"?')
_DISPOSITION = re.compile(rb'name="([^"]+)"')
_TYPE = re.compile(rb"(?im)^content-type:[ ]*([^\r\n]+)")

Act = Callable[["_Call"], Awaitable[dict[str, Any]]]


class _Call:
    """One request with what is known of it so far."""

    def __init__(self, world: GraphWorld, request: Request, line: Line) -> None:
        self.world = world
        self.request = request
        self.line = line
        self.content = b""


class GraphApp:
    """The routes of one `GraphWorld`."""

    def __init__(self, world: GraphWorld) -> None:
        self._world = world
        self.asgi = _with_hang_up(
            Starlette(
                routes=[
                    Route("/_cdn/{token}", self._cdn, methods=["GET"]),
                    self._route("/{v}/{number}/messages", "POST", _messages),
                    self._route("/{v}/{number}/media", "POST", _upload, "upload"),
                    self._route("/{v}/{number}/settings", "GET", _get_settings, "settings"),
                    self._route("/{v}/{number}/settings", "POST", _set_settings, "settings"),
                    self._route("/{v}/{media}", "GET", _describe, "media.get"),
                    self._route("/{v}/{media}", "DELETE", _delete, "media.delete"),
                ]
            )
        )

    def _route(self, path: str, method: str, act: Act, operation: str = "messages") -> Route:
        async def endpoint(request: Request) -> Response:
            line = self._line(request)
            call = _Call(self._world, request, line) if line else None
            response = await self._answer(call, act, operation)
            self._record(request, path, line, response, call.content if call else b"")
            return response

        return Route(path, endpoint, methods=[method])

    def _line(self, request: Request) -> Line | None:
        """Return the line whose token the request bears, if it is the line it speaks of."""
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        for line in self._world.lines.values():
            named = request.path_params.get("number", line.phone_number_id)
            if bearer == line.token and named == line.phone_number_id:
                return line
        return None

    async def _answer(self, call: _Call | None, act: Act, operation: str) -> Response:
        if call is None:
            return _refused(GraphError(190, 401, "Invalid OAuth access token"))
        if operation == "messages" and b'"status"' in await call.request.body():
            operation = "typing"
        fault = self._world.faults.take(operation)
        if fault is not None and not fault.accept:
            return _faulty(fault)
        try:
            answer = await act(call)
        except GraphError as exc:
            return _refused(exc)
        if call.line.status_first:
            await self._world.courier.settle()
        return JSONResponse(answer) if fault is None else _faulty(fault)

    async def _cdn(self, request: Request) -> Response:
        fault = self._world.faults.take("cdn")
        line = self._line(request)
        item = self._world.media.follow(request.path_params["token"], self._world.clock.now())
        if fault is not None:
            response = _faulty(fault)
        elif line is None or (item is not None and item.phone_number_id != line.phone_number_id):
            response = Response(status_code=HTTPStatus.UNAUTHORIZED)
        elif item is None:
            response = Response(status_code=HTTPStatus.NOT_FOUND)
        else:
            response = _download(item)
        served = response.body if item and response.status_code == HTTPStatus.OK else b""
        self._record(request, "/_cdn/{token}", line, response, served)
        return response

    def _record(
        self,
        request: Request,
        path: str,
        line: Line | None,
        response: Response,
        content: bytes | memoryview,
    ) -> None:
        hung_up = isinstance(response, HangUp) and not response.body
        self._world.receipts.append(
            Receipt(
                at=self._world.clock.now(),
                method=request.method,
                path=path,
                phone_number_id=line.phone_number_id if line else "",
                bearer_ok=line is not None,
                status=None if hung_up else response.status_code,
                sent_bytes=len(response.body),
                content_bytes=len(content),
                content_sha256=hashlib.sha256(content).hexdigest() if content else "",
            )
        )


async def _messages(call: _Call) -> dict[str, Any]:
    request = _json(await call.request.body())
    if request.get("status") == "read":
        sending.mark_read(call.world, call.line, request)
        return {"success": True}
    return sending.accept(call.world, call.line, request)


async def _upload(call: _Call) -> dict[str, Any]:
    kind = call.request.headers.get("content-type", "")
    parts = _parts(kind, await call.request.body())
    mime, call.content = parts.get("file", ("", b""))
    if mime not in media.AUDIO_TYPES:
        raise GraphError(100, 400, f"Unsupported Audio mime type {mime}")
    if len(call.content) > media.MAX_UPLOAD:
        raise GraphError(100, 400, "Media file size too big")
    life = media.NO_STORAGE_LIFE if call.line.no_storage else media.UPLOAD_LIFE
    until = call.world.clock.now() + life
    number = call.line.phone_number_id
    return {"id": call.world.media.add(number, mime, call.content, until).id}


async def _describe(call: _Call) -> dict[str, Any]:
    item = _item(call)
    link = call.world.media.link(item, call.world.url, call.world.clock.now(), "getMedia")
    return call.world.media.describe(item, link)


async def _delete(call: _Call) -> dict[str, Any]:
    del call.world.media.items[_item(call).id]
    return {"success": True}


async def _get_settings(call: _Call) -> dict[str, Any]:
    return call.line.settings


async def _set_settings(call: _Call) -> dict[str, Any]:
    call.line.settings |= _json(await call.request.body())
    return {"success": True}


def _item(call: _Call) -> Stored:
    number = call.request.query_params.get("phone_number_id", call.line.phone_number_id)
    media_id = call.request.path_params["media"]
    item = call.world.media.find(media_id, call.line.phone_number_id, call.world.clock.now())
    if number != item.phone_number_id:
        raise GraphError(100, 400, "Object does not belong to this phone number")
    return item


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise GraphError(100, 400, "Invalid parameter")
    return found


def _parts(content_type: str, body: bytes) -> dict[str, tuple[str, bytes]]:
    """Return the (media type, content) of each part of a form (RFC 7578)."""
    found = _BOUNDARY.match(content_type)
    if found is None:
        raise GraphError(100, 400, "Not a form")
    parts = {}
    for part in (b"\r\n" + body).split(f"\r\n--{found[1]}".encode())[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        if name := _DISPOSITION.search(head):
            kind = _TYPE.search(head)
            parts[name[1].decode()] = (kind[1].decode() if kind else "", content)
    return parts


def _refused(exc: GraphError) -> Response:
    return JSONResponse(exc.body(), status_code=exc.status)


def _faulty(fault: Fault) -> Response:
    if fault.status is None:
        return HangUp()
    if fault.code is None:
        return Response("<html>error</html>", fault.status, media_type="text/html")
    return _refused(GraphError(fault.code, fault.status, "injected"))


def _download(item: Stored) -> Response:
    content, kind = item.content, item.mime
    match item.trick:
        case Trick.REDIRECT:
            return Response(status_code=302, headers={"Location": "https://cdn.evil.example/x"})
        case Trick.TRUNCATED:
            return HangUp(content[: len(content) // 2], announced=len(content))
        case Trick.SLOW:
            return HangUp(content, announced=len(content), pause_s=SLOW_PART_S)
        case Trick.HUGE:
            return HangUp(bytes(HUGE), announced=None)
        case Trick.GZIP:
            bomb = gzip.compress(bytes(HUGE))
            return Response(bomb, media_type=kind, headers={"Content-Encoding": "gzip"})
        case Trick.WRONG_BYTES:
            content = content[:-1] + bytes([content[-1] ^ 1])
        case Trick.WRONG_TYPE:
            kind = "text/html"
    return Response(content, media_type=kind)


class HangUp(Response):
    """
    An answer that breaks off: with no content at all, before its first byte.

    Otherwise *content* is sent under a Content-Length of *announced* (None: in chunks), one
    byte each *pause_s* if that is set.
    """

    def __init__(
        self, content: bytes = b"", *, announced: int | None = None, pause_s: float = 0.0
    ) -> None:
        super().__init__()
        self.body = content
        self._announced = announced
        self._pause_s = pause_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what there is, then close the connection."""
        if self.body:
            length = [] if self._announced is None else [_length(self._announced)]
            await send({"type": "http.response.start", "status": 200, "headers": length})
            step = 1 if self._pause_s else len(self.body)
            for start in range(0, len(self.body), step):
                part = self.body[start : start + step]
                await send({"type": "http.response.body", "body": part, "more_body": True})
                await asyncio.sleep(self._pause_s)
        scope["hang_up"]()
        while (await receive())["type"] != "http.disconnect":
            pass


def _length(count: int) -> tuple[bytes, bytes]:
    return b"content-length", str(count).encode()


def _with_hang_up(app: ASGIApp) -> ASGIApp:
    async def outermost(scope: Scope, receive: Receive, send: Send) -> None:
        # ASGI has no word for "hang up": take the transport from uvicorn's own send method.
        scope["hang_up"] = getattr(send, "__self__").transport.close  # noqa: B009
        await app(scope, receive, send)

    return outermost


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.leave = asyncio.Event()

    async def main_loop(self) -> None:
        """Serve until told to leave (uvicorn's own loop looks only ten times a second)."""
        await self.leave.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signals to whoever runs the world."""
        yield


@contextlib.asynccontextmanager
async def listen(app: ASGIApp) -> AsyncIterator[str]:
    """Serve *app* on a free loopback port; yield its address."""
    # The socket already listens: a request made before uvicorn is up waits in its backlog.
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        log_level="critical",
        access_log=False,
        date_header=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.leave.set()
        await serving


@contextlib.asynccontextmanager
async def serve(world: GraphWorld) -> AsyncIterator[GraphWorld]:
    """Serve *world* and deliver its webhooks; set its `url`."""
    async with listen(GraphApp(world).asgi) as world.url, world.courier.running():
        yield world
