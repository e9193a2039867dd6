"""
Whatever becomes of the policy engine, no processor hears a recording.

Each engine in each of its faults, asked on the main path: the decision is undecided under a code
of its own, the media host is not asked, and a listener that stands for every processor of the
cell counts no connection. The same path with nothing wrong does connect.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import regorus
from support.desk import Desk
from support.policy_world import QUESTION
from support.publishing import with_rules

from gateway import hearing
from gateway.errors import UndecidedError
from gateway.session import Memory
from policy import decide, embedded
from policy.bundle import Bundle
from policy.decide import ENTRYPOINT
from policy.embedded import EmbeddedEngine
from policy.model import Asked, Decision, Question, Undecided
from policy.opa import OpaEngine
from policy.ports import PolicyEngine
from policy.question import as_input

pytestmark = pytest.mark.anyio

Faulty = Callable[[Bundle, Any], AbstractAsyncContextManager[PolicyEngine]]


@asynccontextmanager
async def served(raw: bytes | None, *, timeout_s: float = 5.0) -> AsyncIterator[PolicyEngine]:
    """Yield the OPA engine; its server sends *raw*, or nothing for as long as anybody waits."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if raw is None:
            await reader.read()
        else:
            writer.write(raw)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    engine = OpaEngine(
        f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout_s=timeout_s
    )
    yield engine
    await engine.aclose()
    server.close()
    await server.wait_closed()


def http(status: int, body: str, kind: str = "application/json") -> bytes:
    """Return one HTTP answer."""
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n{body}".encode()


@pytest.fixture(scope="module")
def good(policy_bundle: Bundle) -> Any:
    """Return what an engine in order says to a question in order."""

    async def asked() -> Any:
        engine = EmbeddedEngine(policy_bundle)
        answer = await engine.evaluate(ENTRYPOINT, as_input(QUESTION))
        await engine.aclose()
        return answer

    return asyncio.run(asked())


def raw(body: bytes | None) -> Faulty:
    """Return an OPA server that sends *body*."""
    return lambda _bundle, _answer: served(body, timeout_s=5.0 if body is not None else 0.2)


def result(change: Callable[[Any], Any]) -> Faulty:
    """Return an OPA server whose answer is a good one, changed."""
    return lambda _bundle, answer: served(http(200, json.dumps({"result": change(answer)})))


@asynccontextmanager
async def refused(_bundle: Bundle, _answer: Any) -> AsyncIterator[PolicyEngine]:
    """Yield the OPA engine with nobody at its address."""
    engine = OpaEngine("http://127.0.0.1:1", timeout_s=5)
    yield engine
    await engine.aclose()


@asynccontextmanager
async def ruled(bundle: Bundle, body: str) -> AsyncIterator[PolicyEngine]:
    """Yield the embedded engine with other route rules."""
    engine = EmbeddedEngine(with_rules(bundle, route=f"package vocustody.route\n\n{body}\n"))
    yield engine
    await engine.aclose()


def rules(body: str) -> Faulty:
    """Return the embedded engine with *body* as its rules."""
    return lambda bundle, _answer: ruled(bundle, body)


def literal(change: Callable[[Any], Any]) -> Faulty:
    """Return the embedded engine with a rule that gives a good answer, changed."""
    return lambda bundle, answer: ruled(
        bundle, f"decision := {json.dumps(change(answer), indent=1)}"
    )


@asynccontextmanager
async def panicking(bundle: Bundle, _answer: Any) -> AsyncIterator[PolicyEngine]:
    """Yield the embedded engine on an engine of another thread, which panics."""
    foreign = regorus.Engine()
    engine = EmbeddedEngine(bundle)
    engine._thread.submit(setattr, embedded._here, "engine", foreign).result()
    yield engine
    engine._thread.shutdown()  # lets go of the foreign engine before its own thread drops it


@asynccontextmanager
async def closed(bundle: Bundle, _answer: Any) -> AsyncIterator[PolicyEngine]:
    """Yield the embedded engine, gone: what a refused connection is to a server."""
    engine = EmbeddedEngine(bundle)
    await engine.aclose()
    yield engine


SLOW = "decision := count([x | some x in numbers.range(1, 400000); x % 7 == 3])"
FAULTS: Mapping[str, Mapping[str, tuple[Faulty, str]]] = {
    "opa": {
        "refused": (refused, "engine.unreachable"),
        "silence": (raw(None), "engine.timeout"),
        "500": (raw(http(500, '{"code": "internal_error"}')), "engine.status_500"),
        "503": (raw(http(503, "{}")), "engine.status_503"),
        "html": (raw(http(200, "<html>proxy</html>", "text/html")), "engine.malformed"),
        "empty": (raw(http(200, "")), "engine.empty"),
        "null": (result(lambda _: None), "answer.null"),
        "wrong type": (result(lambda _: "true"), "answer.type"),
        "undefined": (raw(http(200, "{}")), "engine.undefined"),
        "old revision": (result(lambda good: good | {"revision": "0" * 64}), "answer.revision"),
        # A server that panics answers nothing more to anybody: it closes in the middle.
        "panic": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), "engine.cut_off"),
    },
    "embedded": {
        "refused": (closed, "engine.closed"),
        "silence": (rules(SLOW), "engine.late"),
        "500": (rules('decision contains 1\n\ndecision := "conflict"'), "engine.failed"),
        "html": (literal(lambda _: "<html>"), "answer.type"),
        "empty": (literal(lambda _: {}), "answer.shape"),
        "null": (literal(lambda _: None), "answer.null"),
        "wrong type": (literal(lambda good: good | {"allow": "true"}), "answer.allow"),
        "undefined": (rules("decision := 1 if input.absent"), "engine.undefined"),
        "old revision": (literal(lambda good: good | {"revision": "0" * 64}), "answer.revision"),
        "panic": (panicking, "engine.panicked"),
    },
}
CELLS = [(engine, fault) for engine, faults in FAULTS.items() for fault in faults]


class Processors:
    """One listener in the place of every processor of the cell; it counts who connects."""

    def __init__(self, real: Any, port: int) -> None:
        self.processor, self._real, self._port = real.processor, real, port

    async def transcribe(self, *arguments: Any, **named: Any) -> Any:
        """Connect, then answer as the script says."""
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.close()
        return await self._real.transcribe(*arguments, **named)


@pytest.fixture
async def connections(desk: Desk) -> AsyncIterator[list[str]]:
    """Yield the connections to a listener through which each engine of *desk* goes."""
    seen: list[str] = []

    async def connected(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append("connected")
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    engines = {name: Processors(real, port) for name, real in desk.ports.hearing.items()}
    desk.with_ports(hearing=engines)
    yield seen
    server.close()
    await server.wait_closed()


def asked_of(desk: Desk, bundle: Bundle, engine: PolicyEngine, deadline_s: float) -> None:
    """Have *desk* ask *engine*."""

    async def ask(question: Question, kept: Callable[[Asked], None] | None = None) -> Decision:
        return await decide.decide(
            question, engine, facts=bundle.facts, deadline_s=deadline_s, kept=kept
        )

    desk.with_ports(decide=ask)


async def test_with_nothing_wrong_a_processor_is_reached(
    desk: Desk, connections: list[str]
) -> None:
    """The silence below is the policy's, not the test's."""
    await desk.consents()

    await hearing.words(await desk.spoken(), Memory(), desk.ports)

    assert connections
    assert desk.fetched()


@pytest.mark.parametrize(("name", "fault"), CELLS)
async def test_no_fault_reaches_a_processor(
    desk: Desk, desk_bundle: Bundle, good: Any, connections: list[str], name: str, fault: str
) -> None:
    """Undecided, under this cell's code; nothing is fetched, nobody is connected to."""
    faulty, code = FAULTS[name][fault]
    await desk.consents()
    note = await desk.spoken()
    answer = good | {"revision": desk_bundle.revision}

    async with faulty(desk_bundle, answer) as engine:
        asked_of(desk, desk_bundle, engine, 0.02 if code == "engine.late" else 10)
        with pytest.raises(UndecidedError) as caught:
            await hearing.words(note, Memory(), desk.ports)

    assert caught.value.reasons == (code,)
    assert connections == []
    assert desk.fetched() == []
    [event] = [e for e in desk.trail.seen if e.type == "policy.decided"]
    assert (event.outcome, event.detail["reasons"]) == ("undecided", [code])


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_of_an_engine_has_its_own_code(name: str) -> None:
    """Two faults under one code are one fault to whoever is paged."""
    codes = [code for _, code in FAULTS[name].values()]

    assert len(set(codes)) == len(codes)


async def test_the_answer_unspoilt_is_an_allow(policy_bundle: Bundle, good: Any) -> None:
    """Each changed answer above is a no for what was changed in it."""
    async with literal(lambda answer: answer)(policy_bundle, good) as engine:
        found = await decide.decide(QUESTION, engine, facts=policy_bundle.facts, deadline_s=10)

    assert not isinstance(found, Undecided), found.reasons
    assert replace(found.provenance, id="") != found.provenance
