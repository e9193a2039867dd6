"""Policy decisions: `policy.decide` on both engines, against a function with one answer."""

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from load import opa
from load.figures import Section, figure, percentile
from support.policy_world import HOMES, NOTICE, NOW, REGIONS, STAGES, asking, row

from policy import bundle, decide, jurisdictions
from policy.bundle import Bundle
from policy.embedded import EmbeddedEngine
from policy.model import GROUNDS, Allowed, Decision, Question, Stage
from policy.opa import OpaEngine
from policy.ports import PolicyEngine
from residency import registry

SIZES = (60, 300)  # processors
WARM_UP = 0.1  # of the questions, asked before and not counted
NO_OPA = "policy on OPA: not measured: no opa"


async def measure(directory: Path, *, questions: int) -> Section:
    """Return the section: *questions* of all stages and homes, one after the other, per row."""
    asked = [
        asking(stage=stage, controller=home, jurisdiction=home, region=region)
        for stage in Stage
        for home, region in HOMES
    ]
    asked = (asked * (questions // len(asked) + 1))[:questions]
    rows, floor = [], await _floor(asked)
    for number, (name, bundled) in enumerate(_worlds()):
        async for engine, waits in _engines(directory / str(number), bundled, asked):
            rows.append(_row(f"{engine}, {name}", waits, floor))
    rows.append(_row("floor: a function that returns a constant", floor, floor))
    return section(rows, missing=() if opa.binary() else (NO_OPA,))


def section(rows: list[tuple[str, ...]], *, missing: tuple[str, ...]) -> Section:
    """Return the *rows* as a section."""
    return Section(
        title="5. Policy decisions",
        compared=(
            "a whole decision by the embedded engine and by an OPA server over REST, against a "
            "bare function call (the floor)."
        ),
        said=(
            "`policy.decide.decide`, one question after the other: the question is checked and "
            "digested, the engine evaluates, the answer is held against the bundle. Every answer "
            "was an allow. The embedded engine is regorus in a thread of this process; OPA is a "
            "real server on loopback, asked over HTTP."
        ),
        head=("Engine and data", "decisions", "p50 ms", "p95 ms", "p99 ms", "p50 to floor"),
        rows=tuple(rows),
        missing=missing,
    )


def _row(name: str, waits: list[float], floor: list[float]) -> tuple[str, ...]:
    ratio = percentile(waits, 0.5) / percentile(floor, 0.5)
    figures = [figure(percentile(waits, share)) for share in (0.5, 0.95, 0.99)]
    return name, str(len(waits)), *figures, figure(ratio)


async def _engines(
    directory: Path, bundled: Bundle, asked: list[Question]
) -> AsyncIterator[tuple[str, list[float]]]:
    """Yield each engine's name and its waits."""
    async with AsyncExitStack() as stack:
        embedded = EmbeddedEngine(bundled)
        stack.push_async_callback(embedded.aclose)
        yield embedded.name, await waits_ms(embedded, bundled, asked)
        if found := opa.binary():
            url = await stack.enter_async_context(opa.serving(found, bundled, directory))
            server = OpaEngine(url)
            stack.push_async_callback(server.aclose)
            yield "OPA server", await waits_ms(server, bundled, asked)


async def waits_ms(engine: PolicyEngine, bundled: Bundle, asked: list[Question]) -> list[float]:
    """Return how long each of *asked* took; `RuntimeError` if one was not allowed."""
    facts, waits, found = bundled.facts, [], []
    for question in asked[: int(len(asked) * WARM_UP)]:
        await decide.decide(question, engine, facts=facts)
    for question in asked:
        began = time.perf_counter()
        found.append(await decide.decide(question, engine, facts=facts))
        waits.append((time.perf_counter() - began) * 1000)
    if others := [one.reasons for one in found if not isinstance(one, Allowed)]:
        raise RuntimeError(f"not all are allowed: {others[0]}")
    return waits


async def _floor(asked: list[Question]) -> list[float]:
    engine = EmbeddedEngine(bundled := shipped())
    constant = await decide.decide(asked[0], engine, facts=bundled.facts)
    await engine.aclose()

    def always(_question: Question) -> Decision:
        return constant

    waits = []
    for question in asked:
        began = time.perf_counter()
        always(question)
        waits.append((time.perf_counter() - began) * 1000)
    return waits


def shipped() -> Bundle:
    """Return the bundle over the registry that ships with us."""
    today = datetime.fromtimestamp(NOW, UTC).date()
    return _build(list(registry.load(today=today, development=True).rows()))


def _worlds() -> Iterator[tuple[str, Bundle]]:
    """Yield what is measured: ours, and more processors, at home only and abroad too."""
    yield "shipped registry", shipped()
    for size in SIZES:
        yield f"{size} processors", _many(size)
        yield f"{size} processors, every ground", _many(size, GROUNDS)


def _many(size: int, grounds: Sequence[str] = ()) -> Bundle:
    places = [(service, region) for service in STAGES for region in REGIONS]
    return _build(
        [
            row(f"{service}.{number}.{region}", service, region)
            for number in range(size // len(places) + 1)
            for service, region in places
        ][:size],
        grounds,
    )


def _build(rows: list[dict[str, Any]], grounds: Sequence[str] = ()) -> Bundle:
    return bundle.build(
        bundle.load(),
        processors=rows,
        jurisdictions=jurisdictions.load(),
        tenants={"acme": {}},
        notices=[NOTICE],
        grounds=grounds,
    )
