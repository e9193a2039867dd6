"""What fails around a note, in the namespace: rows N-01 to N-04, and every lawful vendor."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from borders.counting import counted, settled
from borders.errand import Gateway, connected, gateway
from borders.oracle import World
from borders.vendors import Vendors
from support.policy_world import NOW, QUESTION, row
from support.publishing import expecting, publisher_in

from audit.model import EventType
from gateway import assistant, dialogue, fallback, outcome
from gateway.dialogue import Turn
from gateway.session import Memory
from policy import archive, bundle, decide, jurisdictions
from policy.active import Release
from policy.bundle import Bundle
from policy.embedded import EmbeddedEngine
from policy.errors import FetchError
from policy.fetch import FileSource
from policy.follow import Follower
from policy.model import Allowed, Decision, Question
from policy.release import Releases
from residency.errors import NoProcessorError
from residency.model import Grant, Transcript
from residency.proxy import Broker

HOME, ADEQUATE, OTHER = "eu-central", "eu-zurich", "us-east"
LAWS = ("DE", "US")
TRIES = 10
SHORT_S = 0.4
STRICT = frozenset({"loopback", "metadata", "private"})
"""Where private addresses are as unlawful as in production."""


def _row(place: str, number: int) -> dict[str, Any]:
    name = f"stt.{place}.{number}"
    return row(name, "speech-to-text", place, hosts=[f"{place}.v{number}.example:443"])


def _world(*places: str) -> World:
    rows = [_row(place, number) for number, place in enumerate(places)]
    shipped = jurisdictions.load()
    laws = {code: shipped[code] for code in (*LAWS, "CH")}
    return World(
        rows=rows, laws=laws, tenants={"acme": {}}, grounds=["adequacy"], notices=["2026-11"]
    )


def _bundle(given: World) -> Bundle:
    return bundle.build(
        bundle.load(),
        processors=given.rows,
        jurisdictions=given.laws,
        tenants=given.tenants,
        notices=given.notices,
        grounds=given.grounds,
    )


async def _decided(given: World, question: Question = QUESTION) -> Decision:
    made = _bundle(given)
    engine = EmbeddedEngine(made)
    try:
        return await decide.decide(question, engine, facts=made.facts, deadline_s=10)
    finally:
        await engine.aclose()


async def _reply(gate: Gateway, given: World, decision: Decision) -> dict[str, Any]:
    """Return what a person is told, by the parts that tell them, and how long it took."""
    began = time.monotonic()
    speaks = assistant.load(None, languages=("en",))
    try:
        assert isinstance(decision, Allowed), decision
        heard: Transcript | None = await gate.answered(QUESTION, decision, given)
    except NoProcessorError as exc:
        turn = Turn(text=None, trouble=outcome.trouble(exc), language="en", at=NOW)
        said = dialogue.step(turn, Memory(), speaks)
        assert said.text
        return {"act": said.act, "took": time.monotonic() - began, "text": bool(said.text)}
    return {"act": "heard", "took": time.monotonic() - began, "text": bool(heard)}


async def _watched(vendors: Vendors, gate: Gateway, given: World) -> dict[str, Any]:
    began, heard = len(gate.touches(EventType.TOUCH_BEGAN)), len(vendors.heard)
    decision = await _decided(given)
    before = await settled()
    reply = await _reply(gate, given, decision)
    after = await settled()
    sent = {vendors.net.place(device): n for device, n in (after - before).items()}
    ended = gate.touches(EventType.TOUCH_ENDED)[began:]
    return reply | {
        "sent": sent,
        "touches": len(gate.touches(EventType.TOUCH_BEGAN)) - began,
        "ended": len(ended),
        "heard": vendors.heard[heard:],
        "refused": [code for event in ended for code in event.detail.get("refused", ())],
        "peers": [peer for event in ended for peer in event.detail.get("peers", ())],
    }


async def degrade(vendors: Vendors, *moods: str) -> Any:
    """All legal vendors have one of *moods*, then the next; the deadlines are the product's own."""
    fallback.VENDOR_S = TRUE_VENDOR_S
    given = _world(HOME, HOME, HOME)
    found = {}
    async with gateway(vendors) as gate:
        for mood in moods:
            vendors.moods |= {f"{HOME}.v{number}.example": mood for number in range(3)}
            found[mood] = await _watched(vendors, gate, given)
    return found


async def region_cut(vendors: Vendors) -> Any:
    """N-01: the whole region is off the net, without a word; then it is back."""
    fallback.VENDOR_S = TRUE_VENDOR_S
    given = _world(HOME, HOME)
    async with gateway(vendors) as gate:
        vendors.net.cut(HOME)
        cut = await _watched(vendors, gate, given)
        vendors.net.cut(HOME, "up")
        back = await _watched(vendors, gate, given)
    return {"cut": cut, "back": back}


async def control_plane_cut(vendors: Vendors) -> Any:
    """N-02: the source of bundles is gone; the clock is moved, the last signed bundle stays."""
    given = _world(HOME, ADEQUATE)
    vendors.moods[f"{HOME}.v0.example"] = "busy"
    clock = [NOW]
    made = _bundle(given)
    with TemporaryDirectory() as directory:
        home = Path(directory)
        publisher = publisher_in(home / "publisher")
        file = home / "bundle.tar.gz"
        archive.place(publisher.publish(made, 1), file)
        follower = Follower(
            Releases(home / "bundles"),
            expected=expecting(made),
            opened=_opened,
            served=False,
            now=lambda: clock[0],
            told=lambda *_, **__: None,
            source=FileSource(file),
            keys=publisher.keys,
            deadline_s=10,
        )
        await follower.begin()
        file.unlink()
        async with gateway(vendors) as gate:
            found = [
                await _at(age, clock, follower, vendors, gate, given)
                for age in (0, 3_600, 86_400, 86_401, 30 * 86_400)
            ]
        await follower.aclose()
    return {"at": found}


def _opened(made: Bundle) -> Release:
    engine = EmbeddedEngine(made)
    return Release(facts=made.facts, engine=engine, close=engine.aclose)


async def _at(
    age: int, clock: list[int], follower: Follower, vendors: Vendors, gate: Gateway, given: World
) -> dict[str, Any]:
    clock[0] = NOW + age
    failed = False
    try:
        await follower.poll()
    except FetchError:
        failed = True
    lasting = replace(QUESTION.consent, expires_at=NOW + 99 * 86_400) if QUESTION.consent else None
    question = replace(QUESTION, now=NOW, bundle_age=follower.age, consent=lasting)
    decision = await follower.active.decide(question)

    async def act() -> None:
        assert isinstance(decision, Allowed), decision
        try:
            await gate.answered(question, decision, given)
        except NoProcessorError:
            return

    return {
        "age": follower.age,
        "asked": age,
        "failed": failed,
        "sent": await counted(act(), vendors),
    }


async def flapping(vendors: Vendors, seed: str) -> Any:
    """N-03: lines that reset, that carry one way only, that stall; each try is a touch."""
    fallback.VENDOR_S, fallback.LEAST_S = SHORT_S, SHORT_S / 2
    given = _world(HOME, HOME, OTHER)
    for number in range(2):
        vendors.moods[f"{HOME}.v{number}.example"] = "faulty"
    draw = random.Random(seed)
    async with gateway(vendors) as gate:
        found = []
        for _ in range(TRIES):
            if draw.random() < 0.2:
                vendors.net.cut(HOME)
            found.append(await _watched(vendors, gate, given))
            vendors.net.cut(HOME, "up")
    return {"runs": found}


Resolver = Callable[[str, int], Awaitable[Sequence[str]]]


def _resolvers(vendors: Vendors) -> dict[str, Resolver]:
    turns = [0]

    async def dead(host: str, _port: int) -> Sequence[str]:
        raise OSError("no answer")

    async def slow(host: str, _port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        return ()

    def saying(*addresses: str) -> Resolver:
        async def say(host: str, _port: int) -> Sequence[str]:
            return addresses

        return say

    async def changing(host: str, port: int) -> Sequence[str]:
        turns[0] += 1
        here = vendors.address(f"{HOME}.v0.example")
        return (here if turns[0] == 1 else vendors.address(f"{OTHER}.v0.example"),)

    return {
        "dead": dead,
        "slow": slow,
        "private": saying("10.20.7.10"),
        "metadata": saying("169.254.169.254"),
        "loopback": saying("127.0.0.1"),
        "one of two": saying(vendors.address(f"{HOME}.v0.example"), "169.254.169.254"),
        "changing": changing,
        "another region": saying(vendors.address(f"{OTHER}.v0.example")),
    }


async def names(vendors: Vendors) -> Any:
    """N-04: DNS is dead, slow or poisoned, in one way after another."""
    found = {}
    async with gateway(vendors) as gate:
        for which, resolve in _resolvers(vendors).items():
            found[which] = await _resolved(gate, resolve, strict=which in STRICT)
        found["changing"]["again"] = await _twice(vendors)
    return found


async def _resolved(gate: Gateway, resolve: Resolver, *, strict: bool) -> dict[str, Any]:
    given, usual = _world(HOME), gate.broker
    gate.broker = Broker(private=() if strict else [f"{HOME}.v0.example:443"], resolve=resolve)
    await gate.broker.start()
    try:
        return await _watched(gate.vendors, gate, given)
    finally:
        await gate.broker.aclose()
        gate.broker = usual


async def _twice(vendors: Vendors) -> list[str]:
    """Return the peers of two connections under one ticket, while the name's answer changes."""
    target = f"{HOME}.v0.example:443"
    broker = Broker(private=[target], resolve=_resolvers(vendors)["changing"])
    await broker.start()
    passage = await broker.admit(
        Grant(processor="p", decision="d", touch="t", hosts=(target,), seconds=5)
    )
    for _ in range(2):
        _, writer = await connected(passage, target)
        writer.transport.abort()
    contacts = await broker.end(passage)
    await broker.aclose()
    return [contact.peer for contact in contacts]


TRUE_VENDOR_S = fallback.VENDOR_S

SCENES: dict[str, Callable[..., Awaitable[Any]]] = {
    "control_plane_cut": control_plane_cut,
    "degrade": degrade,
    "flapping": flapping,
    "names": names,
    "region_cut": region_cut,
}
