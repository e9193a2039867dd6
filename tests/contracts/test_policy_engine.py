"""
What every policy engine promises, and that no fault of one ever becomes a yes.

Both engines are real; the faults of an OPA server are played by a small HTTP server on
loopback, those of the embedded engine by rules that misbehave.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import regorus
from support.policy_world import QUESTION, asking

from policy import embedded
from policy.bundle import Bundle
from policy.decide import ENTRYPOINT, decide
from policy.embedded import EmbeddedEngine
from policy.errors import EngineError
from policy.model import Allowed, Denied, Facts, Undecided
from policy.opa import OpaEngine
from policy.ports import PolicyEngine
from policy.question import as_input

pytestmark = pytest.mark.anyio

NAMES = ("embedded", "opa")


@pytest.fixture(params=NAMES)
async def policy_engine(
    request: pytest.FixtureRequest, policy_bundle: Bundle
) -> AsyncIterator[PolicyEngine]:
    """Yield each engine with the test bundle."""
    engine: EmbeddedEngine | OpaEngine
    if request.param == "embedded":
        engine = EmbeddedEngine(policy_bundle)
    else:
        engine = OpaEngine(request.getfixturevalue("opa_server"), timeout_s=10)
    yield engine
    await engine.aclose()


async def test_a_question_in_order_is_allowed(
    policy_engine: PolicyEngine, policy_bundle: Bundle
) -> None:
    """The order is the registry's, the options are the row's, and the basis can be replayed."""
    decision = await decide(QUESTION, policy_engine, facts=policy_bundle.facts, deadline_s=10)

    assert isinstance(decision, Allowed)
    assert decision.processors == (
        "stt.first.eu-west",
        "stt.cell.eu-central",
        "spee.eu-central",
        "spee.eu-west",
        "stt.clauses.us-east",
        "stt.clauses.eu-zurich",
        "spee.eu-zurich",
    )
    assert decision.obligations.options["stt.first.eu-west"] == {"mip_opt_out": "true"}
    assert decision.obligations.raw_audio_seconds == 86_340
    assert decision.provenance.revision == policy_bundle.revision
    assert decision.provenance.engine == policy_engine.name


async def test_a_no_is_a_no(policy_engine: PolicyEngine, policy_bundle: Bundle) -> None:
    """Denied is final and says why, in the same words on each engine."""
    question = asking(controller="XX", held=True)

    decision = await decide(question, policy_engine, facts=policy_bundle.facts, deadline_s=10)

    assert isinstance(decision, Denied)
    assert decision.reasons == ("controller.law_missing", "hold.active")


async def test_empty_input_is_denied(policy_engine: PolicyEngine) -> None:
    """Rules do not rely on the wrapper: what is absent is not a yes."""
    answer = await policy_engine.evaluate(ENTRYPOINT, {})

    assert (answer["allow"], answer["processors"]) == (False, [])


async def test_an_undefined_rule_is_an_error(policy_engine: PolicyEngine) -> None:
    """A path that yields nothing must not look like an answer."""
    with pytest.raises(EngineError, match=r"engine\.(undefined|failed)"):
        await policy_engine.evaluate("vocustody/route/no_such_rule", {})


async def test_calls_may_overlap(policy_engine: PolicyEngine) -> None:
    """A worker asks for several notes at once; no answer may be another's."""
    tenants = ["acme", "nobody"] * 8

    answers = await asyncio.gather(
        *(policy_engine.evaluate(ENTRYPOINT, as_input(asking(tenant=t))) for t in tenants)
    )

    assert [answer["allow"] for answer in answers] == [True, False] * 8


async def test_closed_is_an_error(policy_engine: PolicyEngine) -> None:
    """During shutdown a late question is undecided, not unhandled."""
    assert isinstance(policy_engine, EmbeddedEngine | OpaEngine)
    await policy_engine.aclose()
    await policy_engine.aclose()

    with pytest.raises(EngineError, match=r"engine\.closed"):
        await policy_engine.evaluate(ENTRYPOINT, {})


GOOD: dict[str, Any] = {
    "allow": True,
    "obligations": {
        "egress": {"spee.eu-central": []},
        "options": {"spee.eu-central": {}},
        "raw_audio_seconds": 1,
        "redact": {"analytics": ["card"], "log": ["card"], "understand": ["card"]},
        "redacted_seconds": 1,
        "reply_audio_seconds": 1,
        "transcript_seconds": 1,
        "transfers": {"spee.eu-central": "domestic"},
    },
    "processors": ["spee.eu-central"],
    "reasons": [],
    "revision": "r1",
}
FACTS = Facts(
    revision="r1",
    data_sha256="d1",
    processors={"transcribe": frozenset({"spee.eu-central"})},
    hosts={"spee.eu-central": ()},
)
Serving = Callable[[Any], AbstractAsyncContextManager[PolicyEngine]]


def rules(body: str) -> Bundle:
    """Return rules that no honest bundle may hold, as an engine would get them."""
    return Bundle(modules={"route.rego": f"package vocustody.route\n\n{body}\n"}, data={})


@asynccontextmanager
async def embedded_running(body: str) -> AsyncIterator[PolicyEngine]:
    """Yield the embedded engine on *body*."""
    engine = EmbeddedEngine(rules(body))
    yield engine
    await engine.aclose()


@asynccontextmanager
async def opa_answering(
    raw: bytes | None, *, timeout_s: float = 0.1
) -> AsyncIterator[PolicyEngine]:
    """Yield an engine whose server sends *raw* and hangs up, or never sends anything."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if raw is None:
            await reader.read()
        else:
            writer.write(raw)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    engine = OpaEngine(f"http://127.0.0.1:{port}", timeout_s=timeout_s)
    yield engine
    await engine.aclose()
    server.close()
    await server.wait_closed()


def http(status: int, body: str, kind: str = "application/json") -> bytes:
    """Return one HTTP answer."""
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n{body}".encode()


def embedded_giving(answer: Any) -> AbstractAsyncContextManager[PolicyEngine]:
    """Return the embedded engine with a rule that gives *answer*."""
    return embedded_running(f"decision := {json.dumps(answer)}")


def opa_giving(answer: Any) -> AbstractAsyncContextManager[PolicyEngine]:
    """Return an OPA engine whose server gives *answer*."""
    return opa_answering(http(200, json.dumps({"result": answer})), timeout_s=10)


WRONG_ANSWERS: dict[str, Any] = {
    "answer.null": None,
    "answer.type": [True],
    "answer.shape": {"allow": True},
    "answer.revision": GOOD | {"revision": "r0"},
    "answer.allow": GOOD | {"allow": 1},
    "answer.reasons": GOOD | {"reasons": ["not a code"]},
    "answer.processors": GOOD | {"processors": "spee.eu-central"},
    "answer.contradiction": GOOD | {"processors": []},
    "answer.unknown_processor": GOOD | {"processors": ["stt.evil"]},
    "answer.obligations": GOOD | {"obligations": GOOD["obligations"] | {"raw_audio_seconds": "1"}},
}


@pytest.mark.parametrize("giving", [embedded_giving, opa_giving])
async def test_the_good_answer_is_allowed(giving: Serving) -> None:
    """The faults below are faults only because this one, unspoilt, is a yes."""
    async with giving(GOOD) as engine:
        decision = await decide(QUESTION, engine, facts=FACTS, deadline_s=10)

    assert isinstance(decision, Allowed)


@pytest.mark.parametrize("code", WRONG_ANSWERS)
@pytest.mark.parametrize("giving", [embedded_giving, opa_giving])
async def test_wrong_answers_are_undecided(giving: Serving, code: str) -> None:
    """Each kind of wrong answer is named, so that whoever is paged knows what broke."""
    async with giving(WRONG_ANSWERS[code]) as engine:
        decision = await decide(QUESTION, engine, facts=FACTS, deadline_s=10)

    assert isinstance(decision, Undecided)
    assert decision.reasons == (code,)


OPA_FAULTS = {
    "engine.empty": http(200, ""),
    "engine.malformed": http(200, "<html>proxy</html>", "text/html"),
    "engine.status_404": http(404, "{}"),
    "engine.status_500": http(500, '{"code": "internal_error"}'),
    "engine.status_503": http(503, "{}"),
    "engine.timeout": None,
    "engine.undefined": http(200, "{}"),
    "engine.unreachable": b"",
}


@pytest.mark.parametrize("code", OPA_FAULTS)
async def test_faults_of_a_server_are_undecided(code: str) -> None:
    """Down, slow, proxied, overloaded or empty: nobody said yes."""
    async with opa_answering(OPA_FAULTS[code], timeout_s=0.2) as engine:
        decision = await decide(QUESTION, engine, facts=FACTS, deadline_s=10)

    assert isinstance(decision, Undecided)
    assert decision.reasons == (code,)


@pytest.mark.parametrize(
    "body", ["{", "[]", "true", '"<undefined>"', "[" * 100_000, '{"result": 1e999}', "9" * 5000]
)
async def test_bodies_that_are_no_answer_are_undecided(body: str) -> None:
    """Whatever the parser does with it, it is not an answer."""
    async with opa_answering(http(200, body), timeout_s=10) as engine:
        decision = await decide(QUESTION, engine, facts=FACTS, deadline_s=10)

    assert isinstance(decision, Undecided)
    assert decision.reasons[0] in {"engine.malformed", "answer.type"}


async def test_refused_connection_is_undecided() -> None:
    """The sidecar is not there yet, or not any more."""
    engine = OpaEngine("http://127.0.0.1:1", timeout_s=1)

    decision = await decide(QUESTION, engine, facts=FACTS, deadline_s=10)
    await engine.aclose()

    assert isinstance(decision, Undecided)
    assert decision.reasons == ("engine.unreachable",)


async def test_a_server_is_asked_once() -> None:
    """An evaluation error is deterministic: asking again only takes time from the person."""
    asked = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(http(500, "{}"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    engine = OpaEngine(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", token="t0k")

    await decide(QUESTION, engine, facts=FACTS, deadline_s=10)
    await engine.aclose()
    server.close()
    await server.wait_closed()

    (request,) = asked
    assert b"POST /v1/data/vocustody/route/decision?strict-builtin-errors=true" in request
    assert b"Authorization: Bearer t0k" in request


SLOW = """
decision := count([x | some x in numbers.range(1, 200000); x % 7 == 3])
"""
EMBEDDED_FAULTS = {
    "engine.failed": 'decision contains x if some x in [1]\n\ndecision := "conflict"',
    "engine.undefined": "decision := 1 if input.absent",
}


@pytest.mark.parametrize("code", EMBEDDED_FAULTS)
async def test_faults_of_the_embedded_engine_are_undecided(code: str) -> None:
    """A rule that conflicts, or yields nothing, is not an answer."""
    async with embedded_running(EMBEDDED_FAULTS[code]) as engine:
        decision = await decide(QUESTION, engine, facts=FACTS, deadline_s=10)

    assert isinstance(decision, Undecided)
    assert decision.reasons == (code,)


async def test_a_slow_rule_is_undecided() -> None:
    """It cannot be stopped, but what it says too late is not used."""
    async with embedded_running(SLOW) as engine:
        decision = await decide(QUESTION, engine, facts=FACTS, deadline_s=0.01)

    assert isinstance(decision, Undecided)
    assert decision.reasons == ("engine.late",)


async def test_a_panic_is_undecided() -> None:
    """PanicException is no Exception: left alone, it would end the worker, not the question."""
    foreign = regorus.Engine()
    engine = EmbeddedEngine(rules("decision := 1"))
    engine._thread.submit(setattr, embedded._here, "engine", foreign).result()

    decision = await decide(QUESTION, engine, facts=FACTS, deadline_s=10)
    engine._thread.shutdown()  # lets go of the foreign engine before its own thread drops it

    assert isinstance(decision, Undecided)
    assert decision.reasons == ("engine.panicked",)


async def test_too_large_an_input_is_not_evaluated() -> None:
    """An evaluation cannot be interrupted, so its input is bounded."""
    async with embedded_running("decision := 1") as engine:
        with pytest.raises(EngineError, match=r"engine\.input_size"):
            await engine.evaluate(ENTRYPOINT, {"x": "y" * embedded.INPUT_LIMIT})


def test_every_fault_has_a_code_of_its_own() -> None:
    """Two faults under one code are one fault to whoever reads the metrics."""
    others = ["engine.closed", "engine.input_size", "engine.late", "engine.panicked"]
    shared = {"engine.undefined"}

    codes = [*WRONG_ANSWERS, *OPA_FAULTS, *(set(EMBEDDED_FAULTS) - shared), *others]

    assert len(codes) == len(set(codes))
