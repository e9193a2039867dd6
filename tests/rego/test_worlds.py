"""Other registries, other laws: what holds must hold for each bundle, not for one."""

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.from_thread
import pytest
from support import policy_world
from support.asker import Asker, embedded_asker, opa_asker, reach
from support.opa import serving
from support.policy_world import DAY, NOW, REGIONS, STAGES, questions, row

from policy import canonical, explain, jurisdictions
from policy.bundle import Bundle
from policy.model import GROUNDS

SEEDS = range(3)
LANGUAGES = ["de", "en", "fr", "it", "pt"]
MOMENTS = [0, NOW, NOW + 1, NOW + 9 * DAY, NOW + 99 * DAY]


@contextlib.contextmanager
def engines(
    bundle: Bundle, portal: anyio.from_thread.BlockingPortal, binary: str, home: Path
) -> Iterator[tuple[Asker, Asker]]:
    """Yield the embedded engine and an OPA, both over *bundle*."""
    home.mkdir()
    with (
        embedded_asker(bundle, portal) as embedded,
        serving(binary, bundle, home) as url,
        opa_asker(url, portal) as opa,
    ):
        yield embedded, opa


def random_world(seed: int) -> dict[str, Any]:
    """Return what *seed* says that a bundle is built of: rows, tenants, grounds and laws."""
    draw = random.Random(seed)
    rows = [random_row(draw, f"p{n}") for n in range(40)]
    draw.shuffle(rows)
    laws = jurisdictions.load()
    for code in ("AT", "DE", "GB", "SG"):
        tools = {
            kind: draw.sample(GROUNDS, draw.randrange(2, 5)) for kind in ("voice", "reply_text")
        }
        barred = draw.sample(["BR", "CH", "SG", "US"], draw.randrange(2))
        kept = laws[code]["retention"] | {"raw_audio_seconds": draw.randrange(1, 80_000)}
        laws[code] = {**laws[code], "barred": barred, "tools": tools, "retention": kept}
    laws["SG"]["localises"] = "Art. 1"
    tenants = policy_world.tenants()
    tenants["acme"] = {
        "refused": [f"p{draw.randrange(40)}" for _ in range(draw.randrange(4))],
        "refused_grounds": draw.sample(GROUNDS, draw.randrange(2)),
    }
    grounds = draw.sample(GROUNDS, draw.randrange(3, 5))
    return {"processors": rows, "tenants": tenants, "grounds": grounds, "jurisdictions": laws}


def random_row(draw: random.Random, name: str) -> dict[str, Any]:
    """Return a row that is in order or not, as *draw* has it."""
    service = draw.choice(sorted(STAGES))
    tools = [
        {"tool": tool, "module": module, "law": law, "expires": draw.choice(MOMENTS[1:])}
        for tool, module in (("scc", "2"), ("scc", "3"), ("bcr", ""))
        for law in ("GDPR", "UK GDPR")
        if draw.random() < 0.4
    ]
    return row(
        name,
        service,
        draw.choice(sorted(REGIONS)),
        languages=draw.sample(LANGUAGES, draw.randrange(5)),
        contract_expires=draw.choice([*MOMENTS, *MOMENTS[3:] * 3]),
        review_expires=draw.choice(MOMENTS[1:] + MOMENTS[3:] * 3),
        transfers=draw.sample(tools, len(tools)),
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_the_fast_answer_is_the_slow_one_in_any_world(
    seed: int, portal: anyio.from_thread.BlockingPortal, opa_binary: str, tmp_path: Path
) -> None:
    """The index is worked out for any registry; the slow rules walk the registry itself."""
    bundle = policy_world.build(**random_world(seed))
    abroad = 0

    with engines(bundle, portal, opa_binary, tmp_path / "opa") as (embedded, opa):
        for question in questions(100):
            fast, slow = embedded(question), embedded(question, explain.ENTRYPOINT)
            assert canonical.encode(fast) == canonical.encode(opa(question)), question
            rows = {name: found for name, found in slow["processors"].items() if found["rank"]}
            chosen = sorted(rows, key=lambda name: rows[name]["rank"])
            assert fast["processors"] == chosen, question
            grounds = {name: found["ground"] for name, found in rows.items()}
            assert fast["obligations"]["transfers"] == grounds, question
            if fast["allow"]:
                parts = slow["law"]["parts"]
                kept = fast["obligations"]["raw_audio_seconds"]
                assert kept == parts["retention.raw_audio"]["value"], question
            abroad += any(ground != "domestic" for ground in grounds.values())

    assert abroad > 0


def expired(world: dict[str, Any]) -> dict[str, Any]:
    """Return *world* with every other agreement ended."""
    rows = world["processors"]
    ended = [{"contract_expires": 1, "hosts": one["hosts"]} for one in rows]
    return world | {
        "processors": [
            one | (ended[n] if n % 2 and one["contract_expires"] else {})
            for n, one in enumerate(rows)
        ]
    }


def unfiled(world: dict[str, Any]) -> dict[str, Any]:
    """Return *world* with no tool filed."""
    return world | {"processors": [one | {"transfers": []} for one in world["processors"]]}


def groundless(world: dict[str, Any]) -> dict[str, Any]:
    """Return *world* in which the deployment names no ground but one."""
    return world | {"grounds": sorted(world["grounds"])[:1]}


def refusing(world: dict[str, Any]) -> dict[str, Any]:
    """Return *world* in which each tenant refuses more: processors, a ground and a purpose."""
    more = {
        "refused": [f"p{n}" for n in range(0, 40, 3)],
        "refused_grounds": ["scc"],
        "refused_purposes": ["transfer_abroad", "training"],
    }
    return world | {
        "tenants": {
            tenant: overlay
            | {name: sorted({*overlay.get(name, []), *added}) for name, added in more.items()}
            for tenant, overlay in world["tenants"].items()
        }
    }


def struck_down(world: dict[str, Any]) -> dict[str, Any]:
    """Return *world* after a court has left adequacy and clauses without effect."""
    laws = world["jurisdictions"]
    left = {
        code: {kind: sorted({*tools} - {"adequacy", "scc"}) for kind, tools in law["tools"].items()}
        for code, law in laws.items()
    }
    changed = {code: {**law, "adequate": [], "tools": left[code]} for code, law in laws.items()}
    return world | {"jurisdictions": changed}


def outdated(world: dict[str, Any]) -> dict[str, Any]:
    """Return *world* in which no notice is accepted any more."""
    return world | {"notices": ["2020-01"]}


STRICTER = [expired, unfiled, groundless, refusing, struck_down, outdated]


@pytest.mark.parametrize("stricter", STRICTER)
def test_one_deny_more_in_the_data_never_allows_more(
    stricter: Any, portal: anyio.from_thread.BlockingPortal, opa_binary: str, tmp_path: Path
) -> None:
    """A bundle that is stricter anywhere is looser nowhere, on either engine."""
    world = random_world(2)
    before = policy_world.build(**world)
    after = policy_world.build(**stricter(world))
    fewer = 0

    with (
        engines(before, portal, opa_binary, tmp_path / "before") as loose,
        engines(after, portal, opa_binary, tmp_path / "after") as strict,
    ):
        for question in questions(80):
            for ask_before, ask_after in zip(loose, strict, strict=True):
                had, has = reach(ask_before(question)), reach(ask_after(question))
                assert has <= had, question
                fewer += has < had

    assert fewer > 0
