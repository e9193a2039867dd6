"""
Alive, ready, measured.

*ready* is 200 only when a webhook would be accepted and worked on: the database takes a
write, the inbox, relay, worker and clocks run, the broker and the keyring answer, the policy
engine decides, the trail is open. A *warning* is told beside it and changes nothing: somebody
should look before it becomes a failure.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from gateway.metrics import Metrics

CHECK_LIMIT_S = 3.0  # a prober gives up soon after; what has not answered by then is not ready
Check = Callable[[], Awaitable[bool]]
FRESH_S = 0.5


@dataclass(slots=True, kw_only=True)
class Vitals:
    """
    Named checks and warnings, the metrics, and the token that admits to them (None: not served).

    The checks cost writes and calls, and anybody may ask: one round of them serves for
    `FRESH_S` seconds.
    """

    checks: Mapping[str, Check]
    metrics: Metrics
    token: bytes | None = field(repr=False)
    warnings: Mapping[str, Callable[[], bool]] = field(default_factory=dict)
    _failed: list[str] = field(default_factory=list, init=False)
    _until: float = field(default=0.0, init=False)
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def failed(self) -> list[str]:
        """Return the names of the checks that do not hold."""
        async with self._asking:
            if time.monotonic() >= self._until:
                found = await asyncio.gather(*(_holds(check) for check in self.checks.values()))
                names = zip(self.checks, found, strict=True)
                self._failed = [name for name, holds in names if not holds]
                self._until = time.monotonic() + FRESH_S
            return self._failed


async def healthz(_request: Request) -> Response:
    """Answer: the process lives."""
    return PlainTextResponse("ok")


async def readyz(request: Request) -> Response:
    """Answer 200 if every check holds, else 503 with the names of those that do not."""
    vitals: Vitals = request.state.vitals
    failed = await vitals.failed()
    warned = [name for name, holds in vitals.warnings.items() if holds()]
    body = {"ready": not failed, "failed": failed, "warned": warned}
    return JSONResponse(body, status_code=503 if failed else 200)


async def metrics(request: Request) -> Response:
    """Answer with Prometheus text to whoever carries the admin token."""
    vitals: Vitals = request.state.vitals
    given = request.headers.get("authorization", "").encode()
    if vitals.token is None:
        return PlainTextResponse("no [admin] token_file is set", status_code=404)
    if not hmac.compare_digest(given, b"Bearer " + vitals.token):
        return PlainTextResponse("unauthorized", status_code=401)
    return Response(vitals.metrics.render(), media_type="text/plain; version=0.0.4")


async def _holds(check: Check) -> bool:
    try:
        async with asyncio.timeout(CHECK_LIMIT_S):
            return await check()
    except Exception:  # noqa: BLE001 - whatever fails, the cell is not ready
        return False
