"""
The Cloud API over HTTP: one Starlette application.

Any version prefix is accepted. A request is judged in Graph's order: token, then fault (a knob
of the test), then content. Calls and encrypted messages are not simulated.
"""

import contextlib
import gzip
import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.demo.graph import media, sending
from gateway.demo.graph.faults import Fault, Outage
from gateway.demo.graph.media import Stored, Trick
from gateway.demo.graph.serving import HangUp, listen
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
        self.asgi = Starlette(
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
        if call.line.outage is not None:
            return _out(call.line.outage)
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
        elif line is None or line.outage or (item and item.phone_number_id != line.phone_number_id):
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
    if mime not in media.AUDIO_TYPES | media.DOCUMENT_TYPES:
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


def _out(outage: Outage) -> Response:
    if outage.code is None:
        return Response("<html>not found</html>", outage.status, media_type="text/html")
    return _refused(
        GraphError(
            outage.code, outage.status, outage.says, subcode=outage.subcode, kind=outage.kind
        )
    )


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


@contextlib.asynccontextmanager
async def serve(world: GraphWorld) -> AsyncIterator[GraphWorld]:
    """Serve *world* and deliver its webhooks; set its `url`."""
    async with listen(GraphApp(world).asgi) as world.url, world.courier.running():
        yield world
