"""The front door: what is for another cell is sealed to it at once, and nobody else reads it."""

from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine
from support.gateway import Clock

from gateway.errors import ForwardError, NotAcceptedError
from gateway.forwards import LIMIT, Forwards, Post, Target, divided, fitting, seal, unseal
from gateway.schema import forwards as table
from gateway.whatsapp.payload import (
    ChannelFault,
    Identity,
    Message,
    Parsed,
    Status,
    Text,
    Unattributed,
    Unreadable,
    Update,
)

KEY = X25519PrivateKey.generate()
SECRET = b"app-secret"
TARGET = Target(cell="sg-1", region="ap-singapore", key=KEY.public_key())
FORWARD = "f_" + "0" * 32
CANARY = "the quick brown fox told nobody"


def message(number: str = "2", body: str = CANARY) -> Message:
    """Return one typed message to *number*."""
    return Message(
        phone_number_id=number,
        id="wamid.1",
        sender=Identity(phone="6591234567"),
        sent_at=1_763_560_800,
        content=Text(body=body),
    )


def sealed(update: Update, secret: bytes = SECRET) -> bytes:
    """Return *update* sealed to the target."""
    return seal(update, forward=FORWARD, tenant="t", sender="eu-1", target=TARGET, secret=secret)


def opened(content: bytes, **changed: object) -> object:
    """Unseal *content* as the target does, but for what is *changed*."""
    values: dict[str, object] = {
        "forward": FORWARD,
        "tenant": "t",
        "sender": "eu-1",
        "cell": "sg-1",
        "key": KEY,
        "secrets_": (b"new-secret", SECRET),
    }
    return unseal(content, **(values | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "update",
    [
        message(),
        Status(phone_number_id="2", message_id="w", state="read", at=1, opaque="r_1"),
        ChannelFault(phone_number_id="2", codes=(131035,)),
        Unattributed(phone_number_id="2", reason="sender", raw=b'{"a":"\xc3\xa9"}'),
    ],
    ids=["message", "status", "fault", "unattributed"],
)
def test_the_right_cell_reads_what_was_sent(update: Update) -> None:
    """Nothing of an update is lost on the way, whatever its kind."""
    assert opened(sealed(update)) == update


def test_what_is_sealed_shows_nothing() -> None:
    """What is written, queued and carried is ciphertext."""
    assert CANARY.encode() not in sealed(message())
    assert b"6591234567" not in sealed(message())


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"key": X25519PrivateKey.generate()}, "forward.sealed"),
        ({"forward": "f_" + "1" * 32}, "forward.sealed"),
        ({"tenant": "other"}, "forward.sealed"),
        ({"cell": "br-1"}, "forward.sealed"),
        ({"sender": "us-1"}, "forward.sealed"),
        ({"secrets_": (b"another",)}, "forward.sender"),
        ({"secrets_": ()}, "forward.sender"),
    ],
    ids=["key", "id", "tenant", "cell", "sender", "secret", "no secret"],
)
def test_it_opens_for_its_cell_tenant_and_id_only(changed: dict[str, object], code: str) -> None:
    """A copy under another id, or an update by who has no secret, is refused by its own code."""
    with pytest.raises(ForwardError) as refused:
        opened(sealed(message()), **changed)

    assert refused.value.code == code


@given(st.binary(max_size=200))
def test_nonsense_is_refused_and_never_raises_anything_else(content: bytes) -> None:
    """Whoever can write to the stream can write anything."""
    with pytest.raises(ForwardError):
        opened(content)


def test_a_whole_update_that_is_none_is_refused() -> None:
    """A cell of another version may send what we do not know."""

    class Odd(Text, tag="odd", frozen=True, kw_only=True):
        """No update."""

    with pytest.raises(ForwardError, match=r"forward\.update"):
        opened(sealed(Odd(body="x")))  # type: ignore[arg-type]


def test_a_delivery_is_divided_by_number() -> None:
    """What is ours is ours; the rest goes on; what was counted stays counted once."""
    ours, theirs = message("1"), message("2")

    kept, others = divided(
        Parsed(updates=(ours, theirs), dropped={"malformed": 2}), frozenset({"1"})
    )

    assert kept == Parsed(updates=(ours,), dropped={"malformed": 2})
    assert others == (theirs,)


@pytest.fixture
async def front(cell_db: AsyncEngine, clock: Clock) -> tuple[Forwards, list[int]]:
    """Return the front door's forwards, and how often it woke the publisher."""
    woken: list[int] = []
    post = Post(numbers={"2": TARGET}, secret=SECRET)
    return (
        Forwards(cell_db, {"t": post}, cell="eu-1", now=clock, wake=lambda: woken.append(1)),
        woken,
    )


@pytest.mark.anyio
async def test_only_ciphertext_is_written(
    front: tuple[Forwards, list[int]], cell_db: AsyncEngine, tmp_path: Path
) -> None:
    """The row is durable before 200, opens for the target, and names no person."""
    forwards, woken = front

    assert await forwards.accept("t", [message()]) == 1

    async with cell_db.connect() as tx:
        row = (await tx.execute(select(table))).one()
    assert (row.cell, row.region, row.tenant) == ("sg-1", "ap-singapore", "t")
    assert opened(row.sealed, forward=row.id) == message()
    assert CANARY.encode() not in row.sealed
    assert woken == [1]


@pytest.mark.anyio
async def test_nothing_to_hand_on_writes_and_wakes_nothing(
    front: tuple[Forwards, list[int]],
) -> None:
    """Most deliveries are our own."""
    forwards, woken = front

    assert await forwards.accept("t", []) == 0
    assert woken == []
    assert forwards.numbers("t") == {"2"}
    assert forwards.numbers("nobody") == frozenset()


@pytest.mark.anyio
async def test_a_database_that_is_down_is_not_a_200(
    front: tuple[Forwards, list[int]], cell_db: AsyncEngine
) -> None:
    """WhatsApp must deliver again what we could not write."""
    forwards, woken = front
    async with cell_db.begin() as tx:
        await tx.run_sync(table.drop)

    with pytest.raises(NotAcceptedError):
        await forwards.accept("t", [message()])

    assert woken == []


@pytest.mark.anyio
async def test_what_no_stream_would_take_goes_as_unreadable(
    front: tuple[Forwards, list[int]], cell_db: AsyncEngine
) -> None:
    """Refused, it would come again for a week, with all the others of its delivery."""
    forwards, _ = front

    assert await forwards.accept("t", [message(body="x" * LIMIT), message()]) == 2

    async with cell_db.connect() as tx:
        rows = (await tx.execute(select(table))).all()
    assert all(len(row.sealed) <= LIMIT for row in rows)


def test_a_message_that_is_too_large_keeps_its_sender() -> None:
    """The other cell tells the person to type; one of the usual size is left as it is."""
    large, usual = message(body="x" * LIMIT), message()

    assert fitting(usual) is usual
    assert fitting(large) == msgspec.structs.replace(large, content=Unreadable(what="too_large"))


def test_what_names_no_number_stays_with_the_front_door() -> None:
    """Nobody can tell whose it is, so there is no key to seal it to."""
    lost = Unattributed(phone_number_id="", reason="change", raw=b"{}")
    theirs = Unattributed(phone_number_id="2", reason="sender", raw=b"{}")

    kept, handed = divided(Parsed(updates=(lost, theirs), dropped={}), frozenset({"1"}))

    assert (kept.updates, handed) == ((lost,), (theirs,))
