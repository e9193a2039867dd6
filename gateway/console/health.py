"""
Alive, ready, measured.

*ready* is 200 only when a webhook would be accepted and worked on: the database takes a
write, the inbox, relay, worker and clocks run, the broker and the keyring answer, the policy
engine decides, the trail is open.
"""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from gateway.metrics import Metrics

Check = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """Named checks, the metrics, and the token that admits to them (None: not served)."""

    checks: Mapping[str, Check]
    metrics: Metrics
    token: bytes | None = field(repr=False)


async def healthz(_request: Request) -> Response:
    """Answer: the process lives."""
    return PlainTextResponse("ok")


async def readyz(request: Request) -> Response:
    """Answer 200 if every check holds, else 503 with the names of those that do not."""
    vitals: Vitals = request.state.vitals
    failed = [name for name, check in vitals.checks.items() if not await _holds(check)]
    body = {"ready": not failed, "failed": failed}
    return JSONResponse(body, status_code=503 if failed else 200)


async def metrics(request: Request) -> Response:
    """Answer with Prometheus text to whoever carries the admin token."""
    vitals: Vitals = request.state.vitals
    given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
    if vitals.token is None:
        return PlainTextResponse("no [admin] token_file is set", status_code=404)
    if not hmac.compare_digest(given, vitals.token):
        return PlainTextResponse("unauthorized", status_code=401)
    return Response(vitals.metrics.render(), media_type="text/plain; version=0.0.4")


async def _holds(check: Check) -> bool:
    try:
        return await check()
    except Exception:  # noqa: BLE001 - whatever fails, the cell is not ready
        return False
