"""The benchmarks: what they compute, and that each of them still runs."""

import math
import os
import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from load import (
    bare_relay,
    broker,
    door,
    durable,
    erasing,
    fairness,
    journey,
    kept_keys,
    machine,
    notes,
    page,
    plan,
    rolls,
    rules,
    sender,
    stages,
    town,
    unwraps,
    vendors,
)
from load.__main__ import status
from load.fairness import Size, Turn
from load.figures import Aim, Section, figure, largest, percentile
from load.journey import Journey, Span
from load.plan import Plan
from load.sender import Volley
from support.egress import head, vendor
from support.policy_world import asking

from gateway.demo.graph import Line
from policy.embedded import EmbeddedEngine
from residency.model import Passage
from residency.proxy import Broker
from vault.errors import KeyringError
from vault.keyrings.local import LocalKeyring
from vault.model import WrappedKey

AT = datetime(2026, 11, 22, 14, 15, tzinfo=UTC)
TINY = Plan(
    deliveries={2: 6},
    events={2: 4},
    rounds=1,
    real_notes=0,
    notes_alone=1,
    notes_together=0,
    people=1,
    seal_seconds=0.001,
    seal_rounds=1,
    recordings=(1,),
    questions=24,
    calls=2,
    mebibytes=1,
    vendor_notes=1,
    flood=Size(notes=2, people=2, quota=60, lead_s=0),
    keys=kept_keys.Size(askers=(4,), seconds=0.05, kept=20, buckets=(20,)),
    erasing=erasing.Size(people=1, artifacts=5, due=40),
)
TITLES = (
    "1. Webhooks accepted",
    "2. Notes answered",
    "2.1 Where the gateway's own share goes",
    "2.2 Stages, by the cell's own histograms",
    "3. Audit appends",
    "4. Seal and open",
    "4.1 Memory of a large recording",
    "5. Policy decisions",
    "6. Calls through the egress broker",
    "6.1 Throughput of a tunnel",
    "7. Notes through the cloud vendors' adapters",
    "8. Fairness between tenants",
    "9. Keys unwrapped",
    "9.1 A bucket rolled",
    "9.2 What a person's key takes",
    "10. Erasing a person",
    "11. Sweeping what is due",
)
ROWS = {
    "webhooks": {"2, alone", "2, at work"},
    "notes": {"scripted, 300 ms, one at a time", "delivered → accepted", "stt"},
    "appends": {"2"},
    "seals": {"16 KiB", "40 KiB", "1 MiB", "16 MiB", "1 MiB, from one piece to the next"},
    "policy": {"OPA server, shipped registry", "OPA server, 60 processors"},
    "broker": {
        "HTTP, ticket, tunnel and new connection",
        "TLS, ticket, tunnel and new connection",
        "broker",
    },
    "vendors": {
        "Google Speech: adapter, ticket and broker",
        "Azure Speech: adapter, ticket and broker",
    },
    "keys": {
        "4 askers, 1 bucket",
        "20 people, SQLite",
        "20 people, PostgreSQL",
        "key table, SQLite",
    },
    "erasures": {"1", "40"},
    "fairness": {fairness.ALONE, fairness.LIMITED, fairness.SHARED},
}


def _now() -> datetime:
    return datetime.now(UTC)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ROWS)
async def test_each_measurement_runs(
    name: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A benchmark that nobody runs rots: each is run here, with next to nothing to do."""
    if name == "policy":
        opa = Path(request.getfixturevalue("opa_binary"))
        monkeypatch.setenv("PATH", f"{opa.parent}{os.pathsep}{os.environ['PATH']}")
    measure = plan.measurements(TINY, _now)[name]

    sections = [section async for section in plan.run({name: measure}, tmp_path)]

    rows = [row for section in sections for row in section.rows]
    assert {row[0] for row in rows} >= ROWS[name]
    for section in sections:
        assert section.title in TITLES
        assert section.compared
        assert not section.missing
        assert all(len(row) == len(section.head) for row in section.rows)


def test_all_measurements_are_tested() -> None:
    """A measurement that is added is run here too."""
    assert set(plan.measurements(TINY, _now)) == set(ROWS)


SECTION = Section(
    title="1. Webhooks accepted",
    compared="ours against the floor.",
    said="How.",
    head=("Connections", "ours /s"),
    rows=(("1", "500"),),
    aims=(
        Aim(what="accepted, ours to floor", measured=0.5, least=0.8, why="It did more."),
        Aim(what="first response p95", measured=0.9, unit=" s", most=3, why="Unseen."),
    ),
    missing=("policy on OPA: not measured: no opa",),
)


def test_the_page_holds_every_section_and_what_was_missed() -> None:
    """A miss that is not printed is a claim; its reason comes from the numbers."""
    sections = [replace(SECTION, title=title) for title in TITLES]

    text = page.render(sections, {"cores": "2"}, AT)

    for title in TITLES:
        assert f"## {title}\n" in text
        assert f"- **{title}**: ours against the floor.\n" in text
    assert f"\n{len(TITLES)} met, {len(TITLES)} missed.\n" in text
    assert "| date | 2026-11-22 14:15 UTC |" in text
    assert "| accepted, ours to floor | at least 0.800 | 0.500 | **no** |" in text
    assert "| first response p95 | at most 3.00 s | 0.900 s | yes |" in text
    assert "- **accepted, ours to floor**: 0.500, not at least 0.800. It did more.\n" in text
    assert "- policy on OPA: not measured: no opa\n" in text
    assert "Unseen." not in text


def test_a_page_without_a_miss_says_so() -> None:
    """An empty list could also be a forgotten one."""
    assert "## What was missed, and why\n\nNothing.\n" in page.render([], {}, AT)


@pytest.mark.parametrize(
    ("share", "found"), [(0.5, 2.0), (0.51, 3.0), (0.75, 3.0), (0.99, 4.0), (0.0, 1.0)]
)
def test_a_percentile_is_a_value_that_was_measured(share: float, found: float) -> None:
    """Interpolating between few values invents some."""
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == found


def test_no_values_have_no_percentile() -> None:
    """Nothing measured is not zero."""
    assert math.isnan(percentile([], 0.5))
    assert figure(percentile([], 0.5)) == "-"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.05678, "0.0568"), (5.678, "5.68"), (56.78, "56.8"), (5678.9, "5,679")],
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    """More digits than a run can repeat are noise."""
    assert figure(value) == text


@pytest.mark.parametrize(
    ("aim", "met"),
    [
        (Aim(what="", measured=0.8, least=0.8), True),
        (Aim(what="", measured=0.79, least=0.8), False),
        (Aim(what="", measured=3.0, most=3.0), True),
        (Aim(what="", measured=3.1, most=3.0), False),
        (Aim(what="", measured=math.nan, most=3.0), False),
    ],
)
def test_an_aim_is_held_against_its_number(aim: Aim, met: bool) -> None:  # noqa: FBT001
    """What was not measured was not met."""
    assert aim.met is met


def test_the_largest_parts_are_named_first() -> None:
    """The reason for a miss is where most of the time went."""
    parts = {"a": [1.0, 3.0], "b": [9.0], "c": [4.0], "none": []}

    assert largest(parts, 2, " ms") == "b 9.00 ms, c 4.00 ms"


JOURNEY = Journey(
    window=Span("answered", 0.0, 1.0),
    touches=(
        Span("fetch", 0.1, 0.2),
        Span("transcribe", 0.3, 0.7),
        Span("send-typing", 0.35, 0.4),
        Span("send-text", 0.9, 1.5),
        Span("speak", 1.6, 1.8),
    ),
    facts=(Span("accepted", 0.05, 0.05), Span("reply decided", 0.8, 0.8)),
)


def test_own_time_is_what_no_touch_covers() -> None:
    """Touches that overlap count once, and what lies beyond the answer not at all."""
    assert JOURNEY.own_ms == pytest.approx(400)
    assert JOURNEY.spent_ms(["transcribe"]) == pytest.approx(400)
    assert JOURNEY.spent_ms(journey.GRAPH) == pytest.approx(250)
    assert JOURNEY.spent_ms(["speak"]) == 0


def test_gaps_sum_up_to_the_own_time_and_name_their_ends() -> None:
    """Whoever wants to be faster needs to know where."""
    assert JOURNEY.gaps_ms() == pytest.approx(
        {
            "delivered → accepted": 50,
            "accepted → fetch": 50,
            "fetch → transcribe": 100,
            "transcribe → reply decided": 100,
            "reply decided → send-text": 100,
        }
    )


def test_stages_are_read_as_prometheus_reads_them() -> None:
    """Series of one stage are added up, and a quantile lies within its bucket."""
    text = "# TYPE vocustody_stage_seconds histogram\n" + "".join(
        f'vocustody_stage_seconds_{name}{{stage="seal",tenant="{tenant}"{le}}} {value}\n'
        for tenant in ("a", "b")
        for name, le, value in (
            ("bucket", ',le="0.01"', 1),
            ("bucket", ',le="0.02"', 2),
            ("bucket", ',le="+Inf"', 2),
            ("sum", "", 0.03),
            ("count", "", 2),
        )
    )

    seal = stages.parsed(text)["seal"]

    assert seal.count == 4
    assert seal.mean_ms == pytest.approx(15)
    assert seal.quantile_ms(0.5) == pytest.approx(10)
    assert seal.quantile_ms(0.95) == pytest.approx(19)


def test_the_file_system_is_that_of_the_nearest_mount() -> None:
    """An fsync on tmpfs costs nothing: the page must not hide it."""
    mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /proc tmpfs rw 0 0\n"

    assert machine.filesystem(Path("/proc/self/fd"), mounts) == "tmpfs"
    assert machine.filesystem(Path("/nowhere/at/all"), mounts) == "ext4"


def test_a_lost_delivery_is_no_figure() -> None:
    """A door that answers 200 and keeps nothing would be the fastest of all."""
    with pytest.raises(RuntimeError, match="2 deliveries were answered 200, 1 are"):
        door.all_kept(Volley(ok=2), 1)


def test_a_note_that_was_not_heard_is_no_figure() -> None:
    """Without an engine the cell apologises at once."""
    unheard = replace(JOURNEY, touches=JOURNEY.touches[:1])

    assert notes.transcribed([JOURNEY]) == (JOURNEY,)
    with pytest.raises(RuntimeError, match="without being transcribed"):
        notes.transcribed([JOURNEY, unheard])


@pytest.mark.anyio
async def test_a_denial_is_no_figure() -> None:
    """A denial may be quicker than the decision that was meant to be measured."""
    bundled = rules.shipped()
    engine = EmbeddedEngine(bundled)

    with pytest.raises(RuntimeError, match=r"consent\.missing"):
        await rules.waits_ms(engine, bundled, [asking(consent=None)])
    await engine.aclose()


def _waited(milliseconds: float) -> Journey:
    return Journey(window=Span("answered", 0.0, milliseconds / 1000), touches=(), facts=())


@pytest.mark.parametrize(
    ("p95", "met"), [((300.0, 360.0), True), ((300.0, 361.0), False), ((300.0, 250.0), True)]
)
def test_fairness_is_growth_over_the_same_cell_alone(
    p95: tuple[float, float],
    met: bool,  # noqa: FBT001
) -> None:
    """An aim held against any other yardstick is another aim; the contrast has none."""
    turns = [
        Turn(name=name, ways=(_waited(100), _waited(wait)), flooded=9)
        for name, wait in zip((fairness.ALONE, fairness.LIMITED), p95, strict=True)
    ]
    turns.append(Turn(name=fairness.SHARED, ways=(_waited(9_000),), flooded=9))

    found = fairness.section(turns, TINY.flood)

    (aim,) = found.aims
    assert aim.measured == pytest.approx((p95[1] / p95[0] - 1) * 100)
    assert aim.met is met
    assert f"delivered → text sent {figure((p95[1] - p95[0]) / 2)} ms" in aim.why


def test_what_a_neighbour_sets_stays_with_the_neighbour() -> None:
    """A quota written into the wrong tenant's table would limit the wrong one."""
    settings = '[cell]\n[[tenants]]\nid = "fernruf"\n[[tenants]]\nid = "lautwerk"\n'

    text = town.extended(settings, {"lautwerk": "[tenants.limits]\nconcurrency = 1"})

    first, second = tomllib.loads(text)["tenants"]
    assert first == {"id": "fernruf"}
    assert second == {"id": "lautwerk", "limits": {"concurrency": 1}}


def test_a_vendor_that_failed_is_no_figure() -> None:
    """A refusal may be quicker than any answer."""
    vendors.heard(vendors.SAID)
    with pytest.raises(RuntimeError, match="did not say"):
        vendors.heard("")


@pytest.mark.anyio
async def test_a_tunnel_that_was_refused_is_no_figure() -> None:
    """Nobody times a call that never reached the vendor."""
    egress = Broker()
    await egress.start()

    with pytest.raises(RuntimeError, match="no tunnel: 407"):
        await broker.tunnelled(egress.proxy, head(Passage()), None)
    await egress.aclose()


@pytest.mark.anyio
async def test_a_call_that_the_vendor_did_not_answer_is_no_figure() -> None:
    """Bytes that come back may be an error page."""
    async with vendor() as world:  # it echoes
        caller = broker.Caller(broker.Vendor(port=world.port, trust=None), Broker())

        with pytest.raises(RuntimeError, match="did not answer"):
            await caller.direct()


@pytest.mark.anyio
async def test_the_bare_relay_carries_what_it_is_given() -> None:
    """A yardstick that drops bytes is faster than it should be."""
    async with vendor() as world, bare_relay.relaying("127.0.0.1", world.port) as proxy:
        reader, writer = await broker.tunnelled(proxy, head(Passage()), None)
        writer.write(b"x" * 200_000)
        got = await reader.readexactly(200_000)
        writer.close()

    assert got == bytes(world.got) == b"x" * 200_000


def _line(secret: str) -> Line:
    return Line(
        phone_number_id="1",
        display="12025550100",
        token="",
        waba_id="2",
        app_secret=secret.encode(),
        verify_token="",
    )


@pytest.mark.anyio
async def test_the_floor_checks_signatures(tmp_path: Path) -> None:
    """A floor that does less than it says makes the ratio a wrong one."""
    requests = door.deliveries(_line("another secret"), 2, AT)

    async with door.bare(tmp_path / "floor.db") as (_, port):
        volley = await sender.fire(port, requests, connections=1, limit_s=5)

    assert (volley.ok, volley.others) == (0, 2)
    assert durable.count(tmp_path / "floor.db", "entry") == 0


@pytest.mark.anyio
async def test_a_load_ends_in_time(tmp_path: Path) -> None:
    """A slow machine measures less, not longer."""
    requests = door.deliveries(_line(door.SECRET), 3, AT)

    async with door.bare(tmp_path / "floor.db") as (_, port):
        volley = await sender.fire(port, requests, connections=1, limit_s=0)

    assert volley.ok == 1


@pytest.mark.parametrize(
    ("missing", "ci", "found"), [((), "true", 0), (("opa",), "true", 1), (("opa",), "false", 0)]
)
def test_ci_fails_on_what_was_not_measured(missing: tuple[str, ...], ci: str, found: int) -> None:
    """What is left out in silence is forgotten."""
    assert status([replace(SECTION, missing=missing)], {"CI": ci}) == found


@pytest.mark.anyio
async def test_a_roll_that_left_an_older_copy_open_is_no_figure(tmp_path: Path) -> None:
    """The cheapest roll is one that trims nothing."""
    keyring = LocalKeyring(tmp_path)
    old = await keyring.wrap("subjects-0000", bytes(48))

    with pytest.raises(RuntimeError, match="still opens"):
        await rolls.dead(keyring, old)


@pytest.mark.anyio
async def test_a_key_that_did_not_come_back_is_no_figure() -> None:
    """An error is answered faster than a key."""

    async def ask(_wrapped: WrappedKey) -> bytes | Exception:
        return KeyringError("sealed")

    one = WrappedKey(kek="subjects-0000", version=1, ciphertext="vault:v1:")
    with pytest.raises(RuntimeError, match="not unwrapped"):
        await unwraps.asked(ask, [one], askers=1, seconds=1.0)
