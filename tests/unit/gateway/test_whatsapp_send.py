"""Sending against the simulator: what people get, what is refused, and what is in doubt."""

import asyncio
import contextlib
import traceback
from collections.abc import Awaitable, Callable

import httpx2
import pytest
from support.graph import account, ogg

from gateway.demo.graph import (
    ACCEPT_THEN_500,
    ACCEPT_THEN_DROP,
    DROP,
    Fault,
    GraphWorld,
    Person,
    refusal,
)
from gateway.errors import (
    AccountFaultError,
    ChannelBusyError,
    ChannelError,
    ChannelRefusedError,
    ChannelUnknownError,
    MediaRefusedError,
)
from gateway.whatsapp import send
from gateway.whatsapp.payload import Identity
from gateway.whatsapp.send import Graph

pytestmark = pytest.mark.anyio

PHONE = "12025550123"
BSUID = "US.13491208655302741918"
TO = Identity(phone=PHONE)


@pytest.fixture
async def person(graph: GraphWorld) -> Person:
    """Return somebody who has just written, so that the 24 hour window is open."""
    somebody = graph.person(PHONE, bsuid=BSUID)
    await somebody.type("hello")
    return somebody


@pytest.fixture
def channel(graph: GraphWorld, http: httpx2.AsyncClient) -> Graph:
    """Return the sender of the first line."""
    return Graph(http, account(graph))


async def test_a_text_arrives(channel: Graph, person: Person) -> None:
    """What comes back is the id that status webhooks will name."""
    wamid = await channel.text(TO, "Good morning", opaque="reply-1", reply_to="wamid.q")

    (received,) = person.inbox
    assert (received.kind, received.text) == ("text", "Good morning")
    assert (received.id, received.opaque, received.reply_to) == (wamid, "reply-1", "wamid.q")


@pytest.mark.parametrize("to", [Identity(bsuid=BSUID), Identity(phone=PHONE, bsuid=BSUID)])
async def test_a_person_is_reached_by_what_is_known(
    channel: Graph, person: Person, to: Identity
) -> None:
    """People with a user name have no number to write to."""
    await channel.text(to, "hello", opaque="reply-1")

    assert [each.text for each in person.inbox] == ["hello"]


async def test_nobody_is_no_recipient(channel: Graph) -> None:
    """An identity without any id must not become a request without a recipient."""
    with pytest.raises(ChannelRefusedError, match=r"recipient\.missing"):
        await channel.text(Identity(), "hello", opaque="reply-1")


async def test_a_number_goes_before_a_user_id(channel: Graph, graph: GraphWorld) -> None:
    """Some messages cannot be sent to a user id (131062)."""
    by_number = graph.person("12025550124")
    await by_number.type("hello")

    await channel.text(Identity(phone="12025550124", bsuid=BSUID), "hi", opaque="reply-1")

    assert [each.text for each in by_number.inbox] == ["hi"]


async def test_buttons_arrive_and_can_be_pressed(
    channel: Graph, graph: GraphWorld, person: Person
) -> None:
    """A question with buttons is how consent is asked."""
    await channel.buttons(TO, "May I?", [("yes", "Yes"), ("no", "No")], opaque="ask-1")

    (received,) = person.inbox
    assert (received.kind, received.text) == ("buttons", "May I?")
    assert received.buttons == (("yes", "Yes"), ("no", "No"))
    assert (await person.press("yes")).startswith("wamid.")


async def test_speech_arrives(channel: Graph, person: Person) -> None:
    """The bytes that were uploaded are the bytes that are heard."""
    spoken = ogg()

    await channel.voice(TO, await channel.upload(spoken), opaque="reply-1")

    (received,) = person.inbox
    assert (received.kind, received.audio) == ("voice", spoken)


async def test_a_document_arrives_under_its_name(channel: Graph, person: Person) -> None:
    """A receipt is a file that the person can keep and hand on."""
    media = await channel.upload_text(b'{"a": 1}')

    await channel.document(TO, media, "consent-receipt.json", opaque="reply-1")

    (received,) = person.inbox
    assert (received.kind, received.filename) == ("document", "consent-receipt.json")
    assert received.text == '{"a": 1}'


@pytest.mark.parametrize("size", [0, 1024 * 1024 + 1])
async def test_a_document_that_is_empty_or_too_large_does_not_leave(
    channel: Graph, graph: GraphWorld, size: int
) -> None:
    """A refusal of ours has no side effect."""
    with pytest.raises(MediaRefusedError):
        await channel.upload_text(bytes(size))

    assert not graph.receipts


async def test_typing_shows_and_marks_as_read(
    channel: Graph, graph: GraphWorld, person: Person
) -> None:
    """A person who sees nothing for seconds sends the note again."""
    wamid = await person.type("are you there?")

    await channel.typing(wamid)

    assert (person.read, len(person.typing)) == ([wamid], 1)


Send = Callable[[Graph], Awaitable[object]]


@pytest.mark.parametrize(
    ("act", "code"),
    [
        pytest.param(lambda g: g.text(TO, "", opaque="o"), "limit.text", id="no-text"),
        pytest.param(lambda g: g.text(TO, "x" * 4097, opaque="o"), "limit.text", id="4097"),
        pytest.param(lambda g: g.text(TO, "x", opaque=""), "limit.opaque", id="no-opaque"),
        pytest.param(lambda g: g.text(TO, "x", opaque="o" * 513), "limit.opaque", id="opaque-513"),
        pytest.param(lambda g: g.buttons(TO, "x", [], opaque="o"), "limit.buttons", id="none"),
        pytest.param(
            lambda g: g.buttons(TO, "x" * 1025, [("a", "A")], opaque="o"), "limit.text", id="1025"
        ),
        pytest.param(
            lambda g: g.buttons(TO, "x", [(c, c) for c in "abcd"], opaque="o"),
            "limit.buttons",
            id="four",
        ),
        pytest.param(
            lambda g: g.buttons(TO, "x", [("a", "A"), ("a", "B")], opaque="o"),
            "limit.buttons",
            id="same-id-twice",
        ),
        pytest.param(
            lambda g: g.buttons(TO, "x", [("a", "A" * 21)], opaque="o"),
            "limit.button.title",
            id="title-21",
        ),
        pytest.param(
            lambda g: g.buttons(TO, "x", [("a" * 257, "A")], opaque="o"),
            "limit.button.id",
            id="id-257",
        ),
        pytest.param(
            lambda g: g.buttons(TO, "x", [("", "A")], opaque="o"), "limit.button.id", id="no-id"
        ),
        pytest.param(lambda g: g.upload(b"RIFF"), "limit.voice", id="no-ogg"),
        pytest.param(
            lambda g: g.upload(b"OggS" + bytes(send.MAX_VOICE_BYTES)), "limit.voice", id="16-MiB"
        ),
    ],
)
async def test_what_whatsapp_would_refuse_is_not_sent(
    channel: Graph, graph: GraphWorld, act: Send, code: str
) -> None:
    """A refusal before the request has no side effect and costs no quota."""
    with pytest.raises((ChannelRefusedError, MediaRefusedError)) as caught:
        await act(channel)

    assert caught.value.code == code
    assert list(graph.receipts) == []


@pytest.mark.parametrize("length", [1, 4096])
async def test_the_limits_themselves_are_allowed(
    channel: Graph, person: Person, length: int
) -> None:
    """A limit that is one off cuts people's answers."""
    await channel.text(TO, "x" * length, opaque="o" * 512)

    assert [len(each.text) for each in person.inbox] == [length]


@pytest.mark.parametrize(
    ("fault", "error", "arrived"),
    [
        pytest.param(ACCEPT_THEN_DROP, ChannelUnknownError, 1, id="accepted-then-silence"),
        pytest.param(ACCEPT_THEN_500, ChannelUnknownError, 1, id="accepted-then-500"),
        pytest.param(DROP, ChannelUnknownError, 0, id="lost"),
        pytest.param(refusal(131000, 500), ChannelUnknownError, 0, id="graph-does-not-know"),
        pytest.param(Fault(accept=False, status=502), ChannelUnknownError, 0, id="502"),
        pytest.param(refusal(131056, 429), ChannelBusyError, 0, id="pair-rate"),
        pytest.param(refusal(131016, 503), ChannelBusyError, 0, id="overloaded"),
        pytest.param(refusal(190, 401), AccountFaultError, 0, id="token"),
    ],
)
async def test_doubt_is_told_apart_from_failure(
    channel: Graph,
    graph: GraphWorld,
    person: Person,
    *,
    fault: Fault,
    error: type[ChannelError],
    arrived: int,
) -> None:
    """A message that may have arrived must not be sent again on a guess."""
    graph.faults.add("messages", fault)

    with pytest.raises(error) as caught:
        await channel.text(TO, "once only", opaque="reply-1")

    assert type(caught.value) is error
    assert len(person.inbox) == arrived


async def test_an_answer_that_drips_is_doubt(
    graph: GraphWorld, http: httpx2.AsyncClient, person: Person
) -> None:
    """A header now and then keeps every read timeout happy: only a total deadline ends it."""

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(40):
                writer.write(b"1\r\n \r\n")
                await writer.drain()
                await asyncio.sleep(0.05)
            writer.write(b"0\r\n\r\n")
            writer.close()

    async with await asyncio.start_server(drip, "127.0.0.1") as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        dripping = Graph(http, account(graph, graph=url), deadline_s=0.2)

        with pytest.raises(ChannelUnknownError, match="no_answer"):
            await dripping.text(TO, "hello", opaque="reply-1")


async def test_a_connection_that_was_never_made_is_busy(
    graph: GraphWorld, http: httpx2.AsyncClient
) -> None:
    """Nothing left, so a retry cannot repeat anything."""
    nowhere = Graph(http, account(graph, graph="http://127.0.0.1:1/v25.0"))

    with pytest.raises(ChannelBusyError, match="no_connection"):
        await nowhere.text(TO, "hello", opaque="reply-1")


@pytest.mark.parametrize("operation", ["upload", "typing"])
async def test_calls_that_harm_nobody_when_repeated_are_never_in_doubt(
    channel: Graph, graph: GraphWorld, person: Person, operation: str
) -> None:
    """An upload nobody hears and a second "typing" may simply be done again."""
    graph.faults.add(operation, DROP)
    wamid = await person.type("hello")

    with pytest.raises(ChannelBusyError, match="no_answer"):
        await (channel.upload(ogg()) if operation == "upload" else channel.typing(wamid))


@pytest.mark.parametrize("answer", [b"{}", b'{"messages":[]}', b'{"messages":[{"id":7}]}', b"[]"])
async def test_a_success_that_names_no_message_is_doubt(answer: bytes) -> None:
    """Without an id the status webhooks cannot be matched, but the message may be out."""
    transport = httpx2.MockTransport(lambda _request: httpx2.Response(200, content=answer))
    graph = GraphWorld(lambda: pytest.fail("no clock is needed"))
    line = graph.line()

    async with httpx2.AsyncClient(transport=transport) as http:
        with pytest.raises(ChannelUnknownError):
            await Graph(http, account(graph, line)).text(TO, "hello", opaque="reply-1")


async def test_outside_the_window_is_refused(
    channel: Graph, graph: GraphWorld, person: Person
) -> None:
    """24 hours after the person's last message only templates may be sent."""
    graph.clock.advance(24 * 3600)

    with pytest.raises(ChannelRefusedError, match="131047"):
        await channel.text(TO, "late", opaque="reply-1")


async def test_an_error_quotes_neither_person_nor_text(
    channel: Graph, graph: GraphWorld, person: Person
) -> None:
    """Graph quotes the number in its error; our traceback must not."""
    graph.clock.advance(24 * 3600)
    words = f"a secret text, {PHONE}"

    with pytest.raises(ChannelRefusedError) as caught:
        await channel.text(TO, words, opaque="reply-1")

    told = "".join(traceback.format_exception(caught.value))
    assert "fbtrace_id=" in told
    assert PHONE not in told
    assert words not in told
