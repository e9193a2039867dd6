"""The rules in an OPA server beside us, asked over HTTP."""

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from opa_client import create_opa_client  # type: ignore[import-untyped]

from policy.errors import EngineError

STRICT = {"strict-builtin-errors": "true"}  # a failed builtin fails the query, not one rule of it


class OpaEngine:
    """
    `PolicyEngine` on an OPA server at *url*; *timeout_s* bounds one request.

    No retries: an evaluation error is deterministic, and the job itself is retried. Each fault
    has its code: ``engine.unreachable``, ``engine.cut_off``, ``engine.timeout``,
    ``engine.status_500``, ``engine.empty``, ``engine.malformed``, ``engine.undefined``. Trusted
    for the decision itself, so keep it on loopback or behind TLS with *token*; an answer of
    another revision or shape is refused by `decide.decide`.
    """

    name = "opa"

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 0.25) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("url must be http://host:port or https://host:port")
        secure = parts.scheme == "https"
        self._client = create_opa_client(
            async_mode=True,
            host=f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname,
            port=parts.port or (443 if secure else 80),
            ssl=secure,
            token=token,
            retries=0,
            timeout=timeout_s,
        )
        self._opening = asyncio.Lock()
        self._open = False
        self._closed = False

    async def evaluate(self, entrypoint: str, question: Mapping[str, Any]) -> Any:
        """See `PolicyEngine.evaluate`."""
        package, _, rule = entrypoint.rpartition("/")
        await self._ensure_open()
        try:
            body = await self._client.query_rule(dict(question), package, rule, STRICT)
        except TimeoutError:
            raise EngineError("engine.timeout") from None
        except aiohttp.ContentTypeError:
            raise EngineError("engine.malformed") from None
        except aiohttp.ClientResponseError as exc:
            raise EngineError(f"engine.status_{exc.status}") from None
        except aiohttp.ClientPayloadError:
            raise EngineError("engine.cut_off") from None
        except (aiohttp.ClientError, OSError):
            raise EngineError("engine.unreachable") from None
        except (ValueError, RecursionError):
            raise EngineError("engine.malformed") from None
        return _result(body)

    async def aclose(self) -> None:
        """Close the connections; safe to call twice."""
        self._closed = True
        await self._client.close_connection()

    async def _ensure_open(self) -> None:
        async with self._opening:
            if self._closed:
                raise EngineError("engine.closed")
            if not self._open:
                await self._client.__aenter__()
                self._open = True


def _result(body: Any) -> Any:
    if body is None:  # aiohttp's word for a body of no bytes
        raise EngineError("engine.empty")
    if not isinstance(body, dict):
        raise EngineError("engine.malformed")
    if "result" not in body:
        raise EngineError("engine.undefined")
    return body["result"]
