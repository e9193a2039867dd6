"""Engines asked from plain functions, and what their answers let happen."""

import contextlib
from collections.abc import Iterator
from typing import Any

import anyio.from_thread
import pytest

from policy import decide
from policy.bundle import Bundle
from policy.embedded import EmbeddedEngine
from policy.model import Question
from policy.opa import OpaEngine
from policy.ports import PolicyEngine
from policy.question import as_input


class Asker:
    """An engine on an event loop of its own, to be asked from a plain function."""

    def __init__(self, engine: PolicyEngine, portal: anyio.from_thread.BlockingPortal) -> None:
        self._engine = engine
        self._portal = portal

    def __call__(self, question: Question, entrypoint: str = decide.ENTRYPOINT) -> dict[str, Any]:
        """Return the raw answer."""
        answer = self._portal.call(self._engine.evaluate, entrypoint, as_input(question))
        assert isinstance(answer, dict)
        return answer


def reach(answer: dict[str, Any]) -> set[str]:
    """Return the processors and hosts of *answer*."""
    hosts = {host for found in answer["obligations"]["egress"].values() for host in found}
    return {*answer["processors"], *hosts}


@contextlib.contextmanager
def embedded_asker(bundle: Bundle, portal: anyio.from_thread.BlockingPortal) -> Iterator[Asker]:
    """Yield the embedded engine over *bundle*."""
    engine = EmbeddedEngine(bundle)
    yield Asker(engine, portal)
    portal.call(engine.aclose)


@contextlib.contextmanager
def opa_asker(url: str, portal: anyio.from_thread.BlockingPortal) -> Iterator[Asker]:
    """Yield the OPA server at *url*."""

    async def connect() -> OpaEngine:
        return OpaEngine(url, timeout_s=10)

    engine = portal.call(connect)
    yield Asker(engine, portal)
    portal.call(engine.aclose)


@pytest.fixture(scope="module")
def portal() -> Iterator[anyio.from_thread.BlockingPortal]:
    """Yield a running event loop."""
    with anyio.from_thread.start_blocking_portal() as running:
        yield running
