"""What runs inside the namespace: ``python -m borders.lab REPORT WHAT [ARGUMENT...]``."""

import asyncio
import json
import random
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from borders import leaks, oracle, partitions, worlds
from borders.counting import counted, strays
from borders.errand import Gateway, gateway
from borders.namespace import ELSEWHERE
from borders.oracle import World
from borders.vendors import GOOGLE_HOST, GOOGLE_PLACE, Vendors

from audit.model import EventType
from gateway import fallback
from policy import decide
from policy.embedded import EmbeddedEngine
from policy.model import Allowed, Decision, Question
from residency.errors import NoProcessorError

PER_WORLD = 5
PATIENCE_S = 1.0  # of one try: a silent vendor costs as much
MOODS = ("ok", "ok", "ok", "refused", "silent", "busy", "redirect")
SPOKEN = ("speak", "transcribe", "understand")


def places(world: World, hosts: Sequence[str] | frozenset[str]) -> set[str]:
    """Return where *hosts* stand."""
    return {row["region"] for row in world.rows if set(row["hosts"]) & set(hosts)}


async def control(vendors: Vendors) -> Any:
    """Count what was sent on purpose, and nothing: the counters are exact."""
    idle = await counted(asyncio.sleep(0.5), vendors)

    async def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            for number, place in enumerate(vendors.places, start=1):
                for _ in range(number):
                    out.sendto(b"x", (vendors.net.address(place, 9), 9))
            for _ in range(20):
                out.sendto(b"x", ("203.0.113.7", 9))

    sent = await counted(send(), vendors)
    wanted = {place: number for number, place in enumerate(vendors.places, start=1)}
    return {"idle": idle, "sent": sent, "wanted": wanted | {ELSEWHERE: 20}}


def _drawn(draw: random.Random) -> World:
    """Return a world; most have the real Google among their processors."""
    for _ in range(draw.choice([1, 40, 40])):
        given = worlds.world(draw)
        rows = [dict(row) for row in given.rows]
        if found := [row for row in rows if _could_be_google(row)]:
            found[0]["hosts"] = [f"{GOOGLE_HOST}:443"]
            return replace(given, rows=rows)
    return given


def _could_be_google(row: Any) -> bool:
    here = row["region"] == GOOGLE_PLACE and row["service"] == "speech-to-text"
    return bool(here and row["contract_expires"])


def _spoken(draw: random.Random, given: World) -> worlds.Case:
    """Return a case of a stage that processors serve, not WhatsApp; most may leave the cell."""
    wanted = draw.random() < 0.75
    for _ in range(500):
        case = worlds.case(draw, given)
        if case.question.stage in SPOKEN and bool(oracle.hosts(given, case.question)) == wanted:
            return case
    return case


def _moods(draw: random.Random, vendors: Vendors, given: World) -> None:
    vendors.moods.clear()
    others = [f"{place}.v0.example:443" for place in vendors.places]
    for row in given.rows:
        for host in row["hosts"]:
            mood = draw.choice(MOODS)
            said = f"redirect {draw.choice(others)}" if mood == "redirect" else mood
            vendors.moods[host.rpartition(":")[0]] = said


async def cases(vendors: Vendors, count: str, seed: str) -> Any:
    """Have notes heard under random questions; report every packet that should not be."""
    tally: Counter[str] = Counter()
    faults: list[str] = []
    legal_addresses: set[str] = set()
    async with gateway(vendors) as gate:
        number = 0
        while number < int(count):
            drawn = f"{seed}/{number}"
            draw = random.Random(drawn)
            given = _drawn(draw)
            bundle = worlds.built(given)
            engine = EmbeddedEngine(bundle)
            for _ in range(min(PER_WORLD, int(count) - number)):
                case = _spoken(draw, given)
                _moods(draw, vendors, given)
                hosts = oracle.hosts(given, case.question)
                legal_addresses |= {vendors.address(h.rpartition(":")[0]) for h in hosts}
                asked = await decide.decide(
                    case.question, engine, facts=bundle.facts, deadline_s=10
                )
                found = await _one(gate, asked, given, case, draw, tally)
                faults += [f"{drawn} (case {number}): {each}" for each in found]
                number += 1
            await engine.aclose()
    return {"tally": tally, "faults": faults, "addresses": sorted(legal_addresses), "cases": number}


async def _one(
    gate: Gateway,
    decision: Decision,
    given: World,
    case: worlds.Case,
    draw: random.Random,
    tally: Counter[str],
) -> Sequence[str]:
    question, vendors = case.question, gate.vendors
    resting = [row["id"] for row in given.rows if draw.random() < 0.15]
    chatter = [f"{draw.choice(vendors.places)}.v11.example:443", "telemetry.vendor.example:443"]
    legal = places(given, oracle.hosts(given, question))
    tries, began = len(gate.touches(EventType.TOUCH_BEGAN)), len(vendors.heard)

    async def act() -> None:
        if not isinstance(decision, Allowed):
            tally["denied"] += 1
            return
        try:
            await gate.answered(question, decision, given, resting=resting, chatter=chatter)
            tally["heard"] += 1
        except NoProcessorError:
            tally["nobody"] += 1

    sent = await counted(act(), vendors)
    touched = gate.touches(EventType.TOUCH_BEGAN)[tries:]
    ended = gate.touches(EventType.TOUCH_ENDED)[tries:]
    tally["packets"] += sum(sent.values())
    tally["touches"] += len(touched)
    tally["google"] += sum(1 for e in ended if e.detail.get("host") == f"{GOOGLE_HOST}:443")
    tally["strays"] += sum(strays(sent, legal).values())
    if heard := vendors.heard[began:]:
        tally["notes that arrived"] += len(heard)
    return _faults(given, question, sent, legal, touched, ended, heard, vendors, resting)


def _faults(
    given: World,
    question: Question,
    sent: dict[str, int],
    legal: set[str],
    touched: Sequence[Any],
    ended: Sequence[Any],
    heard: Sequence[str],
    vendors: Vendors,
    resting: Sequence[str],
) -> Sequence[str]:
    faults = []
    by_id = {row["id"]: row for row in given.rows}
    order = [name for name, _ in oracle.ways(given, question)]
    tried = [event.processor for event in touched]
    wanted = {by_id[name]["region"] for name in tried if by_id[name]["hosts"]}
    if found := strays(sent, legal):
        faults.append(f"packets to {found}, legal {sorted(legal)}")
    if tried[:1] != [name for name in order if name not in resting][:1]:
        faults.append(f"tried {tried}, allowed {order}, resting {list(resting)}")
    if set(sent) != wanted:
        faults.append(f"packets to {sorted(sent)}, touches in {sorted(wanted)}")
    if [name for name in order if name in tried] != tried:
        faults.append(f"tried {tried}, allowed {order}")
    if [event.touch for event in touched] != [event.touch for event in ended]:
        faults.append("a touch without its end")
    if not {f"{name}:443" for name in heard} <= oracle.hosts(given, question):
        faults.append(f"heard by {heard}")
    return faults


SCENES: dict[str, Callable[..., Awaitable[Any]]] = {"cases": cases, "control": control}


async def main(report: str, what: str, *words: str) -> None:
    """Run one scene and write what came of it."""
    fallback.VENDOR_S = PATIENCE_S
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        vendors = await Vendors.open(sorted(worlds.PLACES), Path(home))
        found = await (SCENES | leaks.SCENES | partitions.SCENES)[what](vendors, *words)
    found = {"seconds": round(time.monotonic() - began, 1)} | found
    await asyncio.to_thread(Path(report).write_text, json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
