"""The door: only signed, bounded, strict and durable deliveries hear 200."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from support.gateway import Clock

from gateway import webhook
from gateway.errors import DoorError
from gateway.forwards import Forwards, Post, Target
from gateway.inbox import Inbox
from gateway.metrics import Metrics
from gateway.schema import forwards, jobs, unattributed
from gateway.webhook import Door, Doors
from gateway.whatsapp import signature
from vault.custody import Custody
from vault.keyrings.local import LocalKeyring
from vault.keys import Keys
from vault.objects.local import LocalObjects

SECRET = b"app-secret-of-t"
OLD = b"app-secret-of-last-month"
PATH = "/webhooks/whatsapp/t"


def body(*messages: dict[str, Any], number: str = "1") -> bytes:
    """Return a delivery to *number*."""
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": number},
        "messages": list(messages),
    }
    change = {"field": "messages", "value": value}
    entry = {"id": "102290129340398", "changes": [change]}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()


def typed(name: str) -> dict[str, Any]:
    """Return one typed message."""
    return {
        "from": "12025550143", "id": f"wamid.{name}", "timestamp": "1763560800",
        "type": "text", "text": {"body": "hello"},
    }  # fmt: skip


class World:
    """A door on a real inbox."""

    def __init__(self, engine: AsyncEngine, clock: Clock, path: Path) -> None:
        self.engine = engine
        keys = Keys(engine, LocalKeyring(path / "keys"), region="eu-central", now=clock)
        custody = Custody(engine, keys, LocalObjects(path / "objects"), now=clock)
        self.inbox = Inbox(engine, keys, custody, now=clock, committed=self._told)
        door = Door(
            tenant="t", phone_number_ids=frozenset({"1"}), app_secrets=(SECRET, OLD),
            verify_token=b"verify-me",
        )  # fmt: skip
        key = X25519PrivateKey.generate().public_key()
        there = Target(cell="sg-1", region="ap-singapore", key=key)
        post = Post(numbers={"2": there}, secret=SECRET)
        metrics = Metrics(tenants=["t"], processors=[], regions=["eu-central"])
        doors = Doors(
            tenants={"t": door},
            inbox=self.inbox,
            forwards=Forwards(engine, {"t": post}, cell="eu-1", now=clock, wake=lambda: None),
            metrics=metrics,
        )
        app = Starlette(routes=webhook.routes(), exception_handlers={DoorError: webhook.refused})

        async def with_doors(scope: Any, receive: Any, send: Any) -> None:
            scope["state"] = {"doors": doors}
            await app(scope, receive, send)

        transport = httpx2.ASGITransport(app=with_doors, raise_app_exceptions=False)
        self.http = httpx2.AsyncClient(transport=transport, base_url="http://door.example")

    def _told(self, found: Sequence[str]) -> None:
        """Nobody needs to know."""

    async def post(
        self, content: Any, *, secret: bytes = SECRET, path: str = PATH, **headers: str
    ) -> httpx2.Response:
        """Deliver *content*, signed unless a header says otherwise."""
        raw = content if isinstance(content, bytes) else b""
        signed = {"x-hub-signature-256": signature.sign(raw, secret).decode()}
        return await self.http.post(path, content=content, headers=signed | headers)

    async def jobs(self) -> int:
        """Return how many jobs there are."""
        async with self.engine.connect() as tx:
            return int((await tx.execute(select(func.count()).select_from(jobs))).scalar_one())


@pytest.fixture
async def world(cell_db: AsyncEngine, clock: Clock, tmp_path: Path) -> AsyncIterator[World]:
    """Yield a running door."""
    world = World(cell_db, clock, tmp_path)
    world.inbox.start()
    yield world
    await world.inbox.aclose()
    await world.http.aclose()


@pytest.mark.anyio
async def test_a_signed_delivery_is_accepted_and_durable(world: World) -> None:
    """The one job of the door."""
    answer = await world.post(body(typed("1")))

    assert (answer.status_code, answer.text) == (200, "ok")
    assert await world.jobs() == 1


@pytest.mark.anyio
async def test_the_old_secret_still_opens_during_a_rotation(world: World) -> None:
    """W09: both secrets are valid while Meta switches over."""
    assert (await world.post(body(typed("1")), secret=OLD)).status_code == 200


REFUSED = {
    "W01 no signature": ({"x-hub-signature-256": ""}, 401),
    "W02 sha1 only": ({"x-hub-signature-256": "sha1=" + "0" * 40}, 401),
    "W04 short": ({"x-hub-signature-256": "sha256=" + "0" * 63}, 401),
    "W08 non-ASCII": ({"x-hub-signature-256": "sha256=" + "\u00e9" * 64}, 401),
    "W17 gzip": ({"content-encoding": "gzip"}, 415),
    "W26 host": ({"host": "door.example/admin"}, 400),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_not_whatsapp_is_refused(world: World, name: str) -> None:
    """Each refusal has its own status, stores nothing, and quotes nothing."""
    headers, status = REFUSED[name]
    raw = {key: value.encode("latin-1") for key, value in headers.items()}
    signed = {"x-hub-signature-256": signature.sign(body(typed("1")), SECRET)}

    answer = await world.http.post(PATH, content=body(typed("1")), headers=signed | raw)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert b"12025550143" not in answer.content
    assert await world.jobs() == 0


@pytest.mark.anyio
async def test_two_signatures_are_refused_though_one_is_right(world: World) -> None:
    """W07: which one a proxy looked at is not ours to guess."""
    content = body(typed("1"))
    headers = [
        ("x-hub-signature-256", signature.sign(content, SECRET).decode()),
        ("x-hub-signature-256", "sha256=" + "0" * 64),
    ]

    assert (await world.http.post(PATH, content=content, headers=headers)).status_code == 401


@pytest.mark.anyio
async def test_another_tenants_secret_and_an_unknown_tenant(world: World) -> None:
    """W10, W12: a tenant's path opens to that tenant's secret only."""
    content = body(typed("1"))

    assert (await world.post(content, secret=b"someone-else")).status_code == 401
    assert (await world.post(content, path="/webhooks/whatsapp/nobody")).status_code == 404


@pytest.mark.anyio
async def test_another_number_is_dropped_not_stored(world: World) -> None:
    """W31: the app may be shared by numbers that are not this tenant's."""
    assert (await world.post(body(typed("1"), number="2"))).status_code == 200
    assert await world.jobs() == 0


@pytest.mark.anyio
async def test_three_mebibytes_and_one_byte_are_too_many(world: World) -> None:
    """W13: refused by its declared length, before a byte of it is hashed."""
    answer = await world.post(b"x" * (webhook.MAX_BODY + 1))

    assert answer.status_code == 413


@pytest.mark.anyio
async def test_an_endless_chunked_body_is_cut_at_the_cap(world: World) -> None:
    """W14: without a length, what counts is what was read."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield b"x" * 65_536

    answer = await world.post(endless())

    assert answer.status_code == 413
    assert sent <= webhook.MAX_BODY + 2 * 65_536


@pytest.mark.anyio
async def test_a_dripping_body_runs_out_of_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W15: a slow sender must not hold a connection for ever."""
    monkeypatch.setattr(webhook, "BODY_DEADLINE_S", 0.05)

    async def drip() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.02)

    assert (await world.post(drip())).status_code == 408


@pytest.mark.anyio
async def test_a_signed_body_that_is_no_payload_is_400(world: World) -> None:
    """W25: signed nonsense is our sender's mistake, not a reason to retry for a week."""
    answer = await world.post(b"[]")

    assert answer.status_code == 400


@pytest.mark.anyio
async def test_one_poisoned_update_does_not_cost_the_others(world: World) -> None:
    """W30: a thousand updates, one from nobody: 999 jobs, one part kept sealed, and a 200."""
    messages = [typed(str(n)) for n in range(1000)]
    messages[700] |= {"from": "not a number", "text": {"body": "a canary"}}

    answer = await world.post(body(*messages))

    assert answer.status_code == 200
    assert await world.jobs() == 999
    async with world.engine.connect() as tx:
        [kept] = (await tx.execute(select(unattributed))).all()
    assert (kept.tenant, kept.reason) == ("t", "sender")
    assert b"canary" not in kept.sealed


@pytest.mark.anyio
async def test_a_field_that_nobody_reads_refuses_nothing(world: World) -> None:
    """A name cut inside an emoji, a repeated key, a long number: 200, and the message is a job."""
    odd = b'"profile":{"name":"\\ud83d","name":1,"age":' + b"9" * 5_000 + b',"x":NaN}'
    whole = body(typed("1")).replace(b'"messaging_product": "whatsapp"', odd)

    assert (await world.post(whole)).status_code == 200
    assert await world.jobs() == 1


@pytest.mark.anyio
async def test_a_message_of_odd_fields_is_a_job(world: World) -> None:
    """Whoever names themselves is answered, if only with the wish that they type."""
    odd = {"from": "12025550143", "type": [], "timestamp": {}, "text": 7}

    assert (await world.post(body(odd))).status_code == 200
    assert (await world.post(body(odd))).status_code == 200, "delivered again, it is the same"
    assert await world.jobs() == 1


@pytest.mark.anyio
async def test_a_database_that_is_down_is_503(world: World) -> None:
    """WhatsApp then delivers again; a 200 would lose the note."""
    async with world.engine.begin() as tx:
        await tx.execute(text("DROP TABLE inbox"))

    assert (await world.post(body(typed("1")))).status_code == 503


HANDSHAKE = {"hub.mode": "subscribe", "hub.verify_token": "verify-me", "hub.challenge": "115820"}


@pytest.mark.anyio
async def test_the_handshake_echoes_the_challenge(world: World) -> None:
    """Meta asks on every change of the callback URL."""
    answer = await world.http.get(PATH, params=HANDSHAKE)

    assert (answer.status_code, answer.text) == (200, "115820")
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "change", [{"hub.verify_token": "guess"}, {"hub.mode": "x"}, {"hub.challenge": "<b>"}]
)
async def test_a_handshake_without_the_token_is_403(world: World, change: dict[str, str]) -> None:
    """W11: otherwise anybody could point our number elsewhere, or reflect markup."""
    answer = await world.http.get(PATH, params=HANDSHAKE | change)

    assert answer.status_code == 403


@pytest.mark.anyio
async def test_another_cells_number_is_handed_on_and_not_kept(world: World) -> None:
    """A delivery holds updates of several numbers: each goes to its own cell, sealed or here."""
    both = json.loads(body(typed("1")))
    both["entry"] += json.loads(body(typed("2"), number="2"))["entry"]

    answer = await world.post(json.dumps(both).encode())

    assert answer.status_code == 200
    assert await world.jobs() == 1
    async with world.engine.connect() as tx:
        row = (await tx.execute(select(forwards))).one()
    assert row.cell == "sg-1"
    assert b"hello" not in row.sealed
