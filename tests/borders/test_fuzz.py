"""The rules against an oracle that shares nothing with them; see `borders.oracle`."""

import ast
import dataclasses
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from borders import oracle, worlds
from borders.agreement import Tally, fuzz
from borders.oracle import World
from support import opa as real_opa

from policy import archive, bundle
from policy.bundle import Bundle
from policy.opa import OpaEngine
from policy.ports import PolicyEngine

CASES = 4_000
ALL_CASES = 20_000
ON_OPA = 300
PLANTED = 4_000
"""Cases within which a planted fault must show."""


def _agreed(tally: Tally, cases: int) -> None:
    """Assert that rules and oracle agreed, and about something."""
    print(f"seed {tally.seed}: {tally.cases} cases, {dict(tally.met)}")  # noqa: T201 - to replay it
    assert tally.wrong == []
    assert tally.cases == cases
    # A generator that only ever meets a no, or never leaves home, would prove nothing.
    telling = (*oracle.STRONGEST_FIRST, "abroad", "several", "stranger")
    rare = {name for name in telling if tally.met[name] < cases // 500}
    assert rare == set()
    assert tally.met["Allowed"] > cases // 10
    assert tally.met["Denied"] > cases // 10
    assert tally.met["Undecided"] == 0


@pytest.mark.anyio
async def test_random_cases_find_no_disagreement() -> None:
    """Whoever may be touched, in which order and on what ground: two readings of the laws agree."""
    _agreed(await fuzz(CASES), CASES)


@pytest.mark.anyio
@pytest.mark.long
@pytest.mark.timeout(600)
async def test_20_000_random_cases_find_no_disagreement() -> None:
    """The same, with more of everything."""
    _agreed(await fuzz(ALL_CASES), ALL_CASES)


@contextmanager
def serving(opa: str, given: Bundle, home: Path) -> Iterator[str]:
    """Yield the URL of a real OPA that loaded *given* as production would."""
    archive.write(given, home / "bundle.tar.gz")
    address = f"127.0.0.1:{real_opa._free_port()}"
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            real_opa._command(opa, address),
            cwd=home,
            env=real_opa._environment(home),
            stdout=log,
            stderr=log,
        )
        try:
            real_opa._wait_until_ready(process, f"http://{address}", home / "server.log")
            yield f"http://{address}"
        finally:
            real_opa._stop(process)


@pytest.mark.anyio
async def test_real_opa_agrees_too(opa_binary: str, tmp_path: Path) -> None:
    """The embedded engine could share a fault with nobody but itself; production runs OPA."""

    @asynccontextmanager
    async def on_opa(given: Bundle) -> AsyncIterator[PolicyEngine]:
        with serving(opa_binary, given, tmp_path) as url:
            engine = OpaEngine(url, timeout_s=10)
            try:
                yield engine
            finally:
                await engine.aclose()

    tally = await fuzz(ON_OPA, seed=worlds.SEED + 1, engine=on_opa)

    assert tally.wrong == []
    assert tally.cases == ON_OPA
    assert tally.met["Allowed"] > 0


def test_the_oracle_reads_no_rule() -> None:
    """An oracle that called the rules would agree with any fault of theirs."""
    tree = ast.parse(Path(oracle.__file__).read_text(encoding="utf-8"))

    found = {
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    } | {
        name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }

    assert found == {"collections.abc", "dataclasses", "typing", "policy.model"}


RULES: dict[str, tuple[str, ...]] = {
    "a withdrawal of the transfer's consent is ignored": (
        "consent/consent.rego",
        'input.transfer_consent.state in {"granted", "renewed"}',
        'input.transfer_consent.state in {"granted", "renewed", "withdrawn"}',
    ),
    "a withdrawal is ignored": (
        "consent/consent.rego",
        '"renewed"}\n}\n\nunexpired',
        '"renewed", "withdrawn"}\n}\n\nunexpired',
        'input.consent.state == "withdrawn"',
        'input.consent.state == "never"',
    ),
    "a consent lasts for ever": (
        "consent/consent.rego",
        "unexpired if input.consent.expires_at > input.now",
        "unexpired if input.consent.expires_at > 0",
    ),
    "another tenant's consent counts": (
        "consent/consent.rego",
        "\tinput.consent.tenant == input.tenant\n",
        "",
    ),
    "any minor may agree": (
        "law/law.rego",
        "capable if input.minor == false",
        "capable if input.minor in {true, false}",
    ),
    "one law of several is enough": (
        "residency/residency.rego",
        "common(sets) := sets[0] - {n | some other in sets; some n in (sets[0] - other)}",
        "common(sets) := sets[0]",
    ),
    "a contract lasts a second longer": (
        "residency/residency.rego",
        "row.until > input.now",
        "row.until >= input.now",
    ),
    "contracts and reviews never end": (
        "residency/residency.rego",
        "row.until > input.now",
        "row.until > 0",
    ),
    "who is suspended goes on": (
        "residency/residency.rego",
        "some group in [suspended, refused]",
        "some group in [refused]",
    ),
    "the tenant's refusal is ignored": (
        "residency/residency.rego",
        "some group in [suspended, refused]",
        "some group in [suspended]",
    ),
    "a stale bundle lets out": (
        "transfer/transfer.rego",
        "fresh if input.bundle_age <= 86400",
        "fresh if input.bundle_age <= 864000",
    ),
    "a filed paper never ends": (
        "transfer/transfer.rego",
        "\tway.expires > input.now\n",
        "",
    ),
    "the ground of one law will do": (
        "transfer/transfer.rego",
        "\t\tevery place in others {\n\t\t\topen(place, row, way.ground)\n\t\t}\n",
        "",
    ),
    "the tenant refuses a ground in vain": (
        "transfer/transfer.rego",
        "unrefused(ground) if object.get(refused, ground, false) == false",
        'unrefused(ground) if ground != ""',
    ),
    "the controller's law is forgotten": (
        "law/law.rego",
        'split(object.get(input, "controller", input.jurisdiction), "+")',
        'split(input.jurisdiction, "+")',
    ),
    "the person's law is forgotten": (
        "law/law.rego",
        "some group in [controllers, persons]",
        "some group in [controllers]",
    ),
    "a law that localises does not": (
        "law/law.rego",
        'object.get(data.vocustody.jurisdictions, [code, "localises"], "") != ""',
        'object.get(data.vocustody.jurisdictions, [code, "localises"], "") == "never"',
    ),
    "no law of theirs is no law at all": (
        "law/law.rego",
        "count(unlisted) > 0; found := data.vocustody.strictest",
        "count(unlisted) > 9; found := data.vocustody.strictest",
    ),
    "strangers' data goes further than the cell's region": (
        "law/law.rego",
        "within(_) if count(unlisted) == 0",
        "within(_) if count(unlisted) >= 0",
    ),
    "strangers' data goes abroad": (
        "transfer/transfer.rego",
        "\tconfined == false\n",
        "",
    ),
    "who is declined is served": (
        "route/route.rego",
        "welcome if law.related",
        "welcome if law.known",
    ),
    "a hold is ignored": ("route/route.rego", "unheld if input.held == false", "unheld if true"),
}


def _mutated(path: str, *pairs: str) -> dict[str, str]:
    modules = bundle.load()
    text = modules[path]
    for old, new in zip(pairs[::2], pairs[1::2], strict=True):
        assert old in text, "the rule was rewritten: plant the fault anew"
        text = text.replace(old, new)
    return modules | {path: text}


@pytest.mark.anyio
@pytest.mark.parametrize("fault", RULES)
async def test_a_fault_planted_in_the_rules_is_found(fault: str) -> None:
    """Agreement means something only where a disagreement would have been seen."""
    modules = _mutated(*RULES[fault])

    tally = await fuzz(PLANTED, build=lambda given: worlds.built(given, modules), patience=1)

    assert len(tally.wrong) > 0


def _a_country_found_adequate(given: World) -> World:
    entry = {"country": "US", "reference": "nobody's", "as_of": "2026-11-22"}
    laws = {code: law | {"adequate": [*law["adequate"], entry]} for code, law in given.laws.items()}
    return dataclasses.replace(given, laws=laws)


def _every_ground_named(given: World) -> World:
    return dataclasses.replace(given, grounds=oracle.STRONGEST_FIRST)


def _nobody_barred(given: World) -> World:
    laws: dict[str, Any] = {code: law | {"barred": []} for code, law in given.laws.items()}
    return dataclasses.replace(given, laws=laws)


def _backwards(given: World) -> World:
    return dataclasses.replace(given, rows=given.rows[::-1])


@pytest.mark.anyio
@pytest.mark.parametrize(
    "fault", [_a_country_found_adequate, _every_ground_named, _nobody_barred, _backwards]
)
async def test_a_fault_planted_in_the_data_is_found(fault: Any) -> None:
    """The bundle's tables decide as much as its rules do."""
    tally = await fuzz(PLANTED, build=lambda given: worlds.built(fault(given)), patience=1)

    assert len(tally.wrong) > 0
