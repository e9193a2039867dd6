"""The simulator keeps Meta's side of the contract: tests that lean on it lean on these."""

import hashlib
import hmac
import json
import random
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.graph import Callback, ogg

from gateway.demo.graph import (
    ACCEPT_THEN_DROP,
    Clock,
    Fault,
    GraphWorld,
    Line,
    Person,
    Signing,
    Trick,
    wire,
)

pytestmark = pytest.mark.anyio

PHONE = "12025550123"
BSUID = "US.13491208655302741918"
OPUS = "audio/ogg; codecs=opus"
TLS = ssl.create_default_context()  # made once: it takes longer than a request


@pytest.fixture
def line(graph: GraphWorld, callback: Callback) -> Line:
    """Return the first line, delivering to the callback."""
    line = next(iter(graph.lines.values()))
    line.callback_url = callback.url
    return line


@pytest.fixture
def person(graph: GraphWorld, line: Line) -> Person:
    """Return somebody with number and user id."""
    return graph.person(PHONE, bsuid=BSUID)


def changes(callback: Callback) -> list[dict[str, Any]]:
    """Return every change delivered so far."""
    entries = [entry for body in callback.bodies for entry in json.loads(body)["entry"]]
    return [change for entry in entries for change in entry["changes"]]


def messages(callback: Callback) -> list[dict[str, Any]]:
    """Return every message delivered so far."""
    return [each for change in changes(callback) for each in change["value"].get("messages", [])]


def statuses(callback: Callback) -> list[dict[str, Any]]:
    """Return every status delivered so far."""
    return [each for change in changes(callback) for each in change["value"].get("statuses", [])]


async def call(
    world: GraphWorld, line: Line, method: str, path: str, **request: Any
) -> httpx2.Response:
    """Make a request with the line's token."""
    headers = {"Authorization": f"Bearer {line.token}"} | request.pop("headers", {})
    async with httpx2.AsyncClient(trust_env=False, verify=TLS) as http:
        return await http.request(method, f"{world.url}{path}", headers=headers, **request)


async def send(world: GraphWorld, line: Line, **message: Any) -> httpx2.Response:
    """Send a message, by default a text to the first person."""
    whole = {"messaging_product": "whatsapp", "to": PHONE, "biz_opaque_callback_data": "reply-1"}
    whole |= {"type": "text", "text": {"body": "hi"}} | message
    return await call(world, line, "POST", f"/v25.0/{line.phone_number_id}/messages", json=whole)


async def upload(world: GraphWorld, line: Line, content: bytes, mime: str = OPUS) -> Any:
    """Upload *content*."""
    return await call(
        world,
        line,
        "POST",
        f"/v25.0/{line.phone_number_id}/media",
        data={"messaging_product": "whatsapp", "type": mime},
        files={"file": ("voice.ogg", content, mime)},
    )


def code(answer: httpx2.Response) -> tuple[int, int]:
    """Return the HTTP status and Graph's code."""
    return answer.status_code, answer.json()["error"]["code"]


def test_the_encoder_escapes_what_meta_s_does() -> None:
    """A receiver that passes here and fails at Meta would be the simulator's fault."""
    real = wire.encode({"a": "äöå \U0001f600 </%@"})

    assert real == b'{"a":"\\u00e4\\u00f6\\u00e5 \\ud83d\\ude00 \\u003C\\/\\u0025\\u0040"}'


def test_the_encoder_reproduces_a_recorded_delivery() -> None:
    """The one public recording of Meta's own bytes is the measure."""
    recorded = (Path(__file__).parents[1] / "corpus" / "webhook" / "signed.json").read_bytes()

    assert wire.encode(json.loads(recorded)) == recorded


async def test_a_delivery_is_signed_over_its_bytes(
    line: Line, person: Person, callback: Callback
) -> None:
    """The signature covers Meta's escaping, not the JSON value."""
    await person.type("50 % @ <home>/é")

    (body,), (headers,) = callback.bodies, callback.headers
    digest = hmac.new(line.app_secret, body, hashlib.sha256).hexdigest()
    assert headers["x-hub-signature-256"] == f"sha256={digest}"
    assert b"\\u0025 \\u0040 \\u003Chome>\\/\\u00e9" in body


@pytest.mark.parametrize(
    ("signing", "header"),
    [
        (Signing.MISSING, None),
        (Signing.SHA1, None),
        (Signing.WRONG_KEY, "other"),
        (Signing.RESERIALISED, "other"),
        (Signing.UPPER_CASE, "upper"),
    ],
)
async def test_a_delivery_can_be_signed_wrongly(
    graph: GraphWorld,
    line: Line,
    person: Person,
    callback: Callback,
    *,
    signing: Signing,
    header: Any,
) -> None:
    """Each wrong way must really be wrong, or a test of the refusal proves nothing."""
    graph.courier.signing = signing

    await person.type("hello/")

    right = wire.signature(callback.bodies[0], line.app_secret)
    upper = "sha256=" + right.removeprefix("sha256=").upper()
    got = callback.headers[0].get("x-hub-signature-256")
    assert got != right
    assert {None: got is None, "upper": got == upper, "other": got not in (None, upper)}[header]


async def test_the_handshake_wants_the_challenge_back(
    graph: GraphWorld, line: Line, callback: Callback
) -> None:
    """Meta subscribes only on an exact echo."""
    assert await graph.verify_callback(line)

    callback.challenge = "something else"
    assert not await graph.verify_callback(line)


async def test_a_voice_note_travels_as_whatsapp_sends_it(
    graph: GraphWorld, line: Line, person: Person, callback: Callback
) -> None:
    """The whole way of a note: webhook, metadata, URL, bytes."""
    note = ogg()

    await person.say(note)

    (message,) = messages(callback)
    audio = message["audio"]
    assert (message["from"], message["from_user_id"]) == (PHONE, BSUID)
    assert (audio["mime_type"], audio["voice"]) == (OPUS, True)
    assert audio["sha256"] == wire.digest_base64(note)
    found = (await call(graph, line, "GET", f"/v25.0/{audio['id']}")).json()
    assert found["sha256"] == hashlib.sha256(note).hexdigest()
    assert found["file_size"] == str(len(note))
    for url in (found["url"], audio["url"]):
        path = url.removeprefix(graph.url)
        assert (await call(graph, line, "GET", path)).content == note


@pytest.mark.parametrize(
    ("ids", "present", "absent"),
    [
        ({"phone": PHONE}, {"from"}, {"from_user_id"}),
        ({"bsuid": BSUID}, {"from_user_id"}, {"from"}),
        ({"phone": PHONE, "bsuid": BSUID}, {"from", "from_user_id"}, set()),
    ],
)
async def test_people_are_known_by_number_user_id_or_both(
    graph: GraphWorld, line: Line, callback: Callback, *, ids: Any, present: Any, absent: Any
) -> None:
    """All three kinds of user exist since user names do."""
    await graph.person(**ids).type("hello")

    (message,) = messages(callback)
    assert present <= message.keys()
    assert not absent & message.keys()


async def test_a_message_id_holds_its_owner(person: Person) -> None:
    """Real ids do: a test for leaks must be able to find one."""
    assert wire.owner(await person.type("hello")) == PHONE


async def test_people_can_do_what_whatsapp_offers(
    graph: GraphWorld, line: Line, person: Person, callback: Callback
) -> None:
    """Erasure, edits and moves begin with what a person does."""
    first = await person.type("hello")
    await person.edit(first, "hello!")
    await person.react(first, "\U0001f44d")
    await person.react(first)
    await person.revoke(first)
    await person.change_number("12025550188")
    await person.change_user_id("US.2")

    kinds = [message["type"] for message in messages(callback)]
    assert kinds == ["text", "edit", "reaction", "reaction", "revoke", "system", "system"]
    assert (person.phone, person.bsuid) == ("12025550188", "US.2")


async def test_a_failed_delivery_is_repeated_with_the_same_bytes(
    graph: GraphWorld, line: Line, person: Person, callback: Callback
) -> None:
    """At once, then less often, until 200."""
    callback.answers.extend([503, 500, 404])

    await person.type("hello")
    assert len(callback.bodies) == 2
    await graph.advance(15)
    assert len(callback.bodies) == 3
    await graph.advance(59)
    assert len(callback.bodies) == 3
    await graph.advance(1)

    assert len(callback.bodies) == 4
    assert len(set(callback.bodies)) == 1
    assert [each.status for each in graph.courier.attempts] == [503, 500, 404, 200]


async def test_a_delivery_is_lost_after_seven_days(
    graph: GraphWorld, line: Line, person: Person, callback: Callback
) -> None:
    """Meta gives up then, and says nothing."""
    callback.answers.extend([503] * 50)
    await person.type("hello")
    for _ in range(8):
        await graph.advance(86_400)
    tried = len(callback.bodies)
    callback.answers.clear()

    await graph.advance(30 * 86_400)

    assert len(callback.bodies) == tried


async def test_on_a_no_storage_number_a_loss_is_reported_after_an_hour(
    graph: GraphWorld, line: Line, person: Person, callback: Callback
) -> None:
    """131035 is the only trace that such a message leaves."""
    line.no_storage = True
    callback.answers.extend([503] * 2)
    await person.type("hello")

    await graph.advance(3600)

    (last,) = changes(callback)[2:]
    assert last["value"]["errors"][0]["code"] == 131035


async def test_batches_duplicates_and_disorder(
    graph: GraphWorld, line: Line, person: Person, callback: Callback
) -> None:
    """WhatsApp promises neither order nor single delivery, and may batch."""
    graph.courier.batch = 10
    graph.courier.copies = 2
    graph.courier.disorder = random.Random(7)

    with graph.courier.hold():
        sent = [await person.type(str(n)) for n in range(15)]
    await graph.courier.settle()

    assert len(callback.bodies) == 4
    got = [message["id"] for message in messages(callback)]
    assert sorted(got) == sorted(sent * 2)
    assert list(dict.fromkeys(got)) != sent


async def test_a_url_lapses_after_five_minutes(
    graph: GraphWorld, line: Line, person: Person
) -> None:
    """A slow worker must meet this, or it will meet it in production first."""
    item = person.attach(ogg())
    url = graph.media.link(item, "", graph.clock.now(), "test")

    graph.clock.advance(299)
    assert (await call(graph, line, "GET", url)).status_code == 200
    graph.clock.advance(2)

    assert (await call(graph, line, "GET", url)).status_code == 404


async def test_media_wants_the_token_of_its_line(
    graph: GraphWorld, line: Line, person: Person
) -> None:
    """Metadata and CDN both check the bearer."""
    other = graph.line("12025550101")
    item = person.attach(ogg())
    url = graph.media.link(item, "", graph.clock.now(), "test")

    no_token = {"headers": {"Authorization": ""}}
    assert (await call(graph, line, "GET", url, **no_token)).status_code == 401
    assert (await call(graph, other, "GET", url)).status_code == 401
    assert code(await call(graph, line, "GET", f"/v25.0/{item.id}", **no_token)) == (401, 190)
    assert code(await call(graph, other, "GET", f"/v25.0/{item.id}")) == (400, 100)
    mismatch = f"/v25.0/{item.id}?phone_number_id={other.phone_number_id}"
    assert code(await call(graph, line, "GET", mismatch)) == (400, 100)


@pytest.mark.parametrize(("no_storage", "hours"), [(False, 7 * 24), (True, 1)])
async def test_a_media_id_lapses(
    graph: GraphWorld, line: Line, person: Person, *, no_storage: bool, hours: int
) -> None:
    """7 days, or 1 hour on a No Storage number."""
    line.no_storage = no_storage
    item = person.attach(ogg())

    graph.clock.advance(hours * 3600 - 1)
    assert (await call(graph, line, "GET", f"/v25.0/{item.id}")).status_code == 200
    graph.clock.advance(1)

    assert code(await call(graph, line, "GET", f"/v25.0/{item.id}")) == (400, 100)


async def test_deleted_media_is_gone_with_its_urls(
    graph: GraphWorld, line: Line, person: Person
) -> None:
    """A delete that left the URL alive would be none."""
    item = person.attach(ogg())
    url = graph.media.link(item, "", graph.clock.now(), "test")

    assert (await call(graph, line, "DELETE", f"/v25.0/{item.id}")).json() == {"success": True}

    assert code(await call(graph, line, "GET", f"/v25.0/{item.id}")) == (400, 100)
    assert (await call(graph, line, "GET", url)).status_code == 404


async def test_the_cdn_can_serve_another_type(
    graph: GraphWorld, line: Line, person: Person
) -> None:
    """A receiver must go by bytes, not by this header."""
    item = person.attach(ogg())
    item.trick = Trick.WRONG_TYPE

    url = graph.media.link(item, "", graph.clock.now(), "test")

    answer = await call(graph, line, "GET", url)
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    ("content", "mime", "accepted"),
    [
        (ogg(), OPUS, True),
        (b"\r\n--not the boundary\r\n", "audio/mpeg", True),
        (b"x", "audio/wav", False),
        (bytes(16 * 1024 * 1024 + 1), "audio/mpeg", False),
    ],
    ids=["voice", "any-bytes", "type", "size"],
)
async def test_an_upload_is_checked(
    graph: GraphWorld, line: Line, *, content: bytes, mime: str, accepted: bool
) -> None:
    """Type and size are refused at once, and every byte arrives."""
    answer = await upload(graph, line, content, mime)

    assert (answer.status_code == 200) is accepted
    if accepted:
        assert graph.media.items[answer.json()["id"]].content == content


@pytest.mark.parametrize(
    ("content", "mime"),
    [(ogg(channels=2), OPUS), (ogg(), "audio/ogg"), (ogg(), "audio/opus"), (b"RIFF", OPUS)],
    ids=["stereo", "bare-ogg", "audio-opus", "no-ogg"],
)
async def test_a_voice_that_whatsapp_cannot_send_fails_late(
    graph: GraphWorld, line: Line, person: Person, callback: Callback, *, content: bytes, mime: str
) -> None:
    """The answer is 200 and the failure a status: the text must have been sent already."""
    await person.type("hello")
    media_id = (await upload(graph, line, content, mime)).json()["id"]

    answer = await send(graph, line, type="audio", audio={"id": media_id, "voice": True})
    await graph.courier.settle()

    assert answer.status_code == 200
    (status,) = statuses(callback)
    assert (status["status"], status["errors"][0]["code"]) == ("failed", 131053)
    assert person.inbox == []


async def test_what_became_of_a_message_is_told_with_our_id(
    graph: GraphWorld, line: Line, person: Person, callback: Callback
) -> None:
    """The opaque id is all that a sender in doubt can hold on to."""
    await person.type("hello")
    media_id = (await upload(graph, line, ogg())).json()["id"]

    await send(graph, line)
    await send(graph, line, type="audio", audio={"id": media_id, "voice": True})
    await graph.courier.settle()

    told = [each["status"] for each in statuses(callback)]
    assert told == ["sent", "delivered", "read", "sent", "delivered", "read", "played"]
    assert {each["biz_opaque_callback_data"] for each in statuses(callback)} == {"reply-1"}


async def test_statuses_can_come_late_and_twice(
    graph: GraphWorld, line: Line, person: Person, callback: Callback
) -> None:
    """A reconciler has to live with 119 seconds, with 121, and with both."""
    line.statuses, line.status_delay_s, line.status_copies = ("delivered",), 120, 2
    await person.type("hello")
    await send(graph, line)

    await graph.advance(119)
    assert statuses(callback) == []
    await graph.advance(1)

    assert len(statuses(callback)) == 2


async def test_a_status_can_come_before_the_answer(
    graph: GraphWorld, line: Line, person: Person, callback: Callback
) -> None:
    """The webhook may win the race against the HTTP answer."""
    line.status_first = True
    await person.type("hello")

    await send(graph, line)

    assert len(statuses(callback)) == 3


async def test_an_accepted_message_can_lose_its_answer(
    graph: GraphWorld, line: Line, person: Person
) -> None:
    """This is the case that an outbox exists for."""
    await person.type("hello")
    graph.faults.add("messages", ACCEPT_THEN_DROP)

    with pytest.raises(httpx2.RemoteProtocolError):
        await send(graph, line)

    assert [each.text for each in person.inbox] == ["hi"]
    assert graph.receipts[-1].status is None


async def test_faults_can_be_chosen_per_request(
    graph: GraphWorld, line: Line, person: Person
) -> None:
    """A load test wants one request in ten to fail."""
    await person.type("hello")
    graph.faults.choose = lambda name: Fault(accept=False, status=503) if name == "cdn" else None
    url = graph.media.link(person.attach(ogg()), "", graph.clock.now(), "test")

    assert (await call(graph, line, "GET", url)).status_code == 503
    assert (await send(graph, line)).status_code == 200


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"text": {"body": "x" * 4097}}, (400, 131009)),
        ({"text": {"body": ""}}, (400, 131009)),
        ({"biz_opaque_callback_data": "x" * 513}, (400, 131009)),
        ({"type": "hologram"}, (400, 100)),
        ({"to": None}, (400, 100)),
        ({"messaging_product": "sms"}, (400, 100)),
        ({"type": "audio", "audio": {"id": "1"}}, (400, 100)),
    ],
)
async def test_a_message_beyond_the_limits_is_refused(
    graph: GraphWorld, line: Line, person: Person, *, message: dict[str, Any], expected: Any
) -> None:
    """The simulator must not be kinder than WhatsApp."""
    await person.type("hello")

    assert code(await send(graph, line, **message)) == expected
    assert person.inbox == []


async def test_another_line_s_media_cannot_be_sent(
    graph: GraphWorld, line: Line, person: Person
) -> None:
    """Media ids belong to the number that uploaded them."""
    other = graph.line("12025550101")
    foreign = (await upload(graph, other, ogg())).json()["id"]
    await person.type("hello")

    answer = await send(graph, line, type="audio", audio={"id": foreign, "voice": True})

    assert code(answer) == (400, 100)
    assert person.inbox == []


@pytest.mark.parametrize(
    "replies",
    [
        [],
        [("a", "A")] * 4,
        [("a", "A" * 21)],
        [("a" * 257, "A")],
    ],
    ids=["none", "four", "title", "id"],
)
async def test_buttons_beyond_the_limits_are_refused(
    graph: GraphWorld, line: Line, person: Person, replies: list[tuple[str, str]]
) -> None:
    """Three buttons, 20 characters each."""
    await person.type("hello")
    buttons = [{"type": "reply", "reply": {"id": id_, "title": title}} for id_, title in replies]
    interactive = {"type": "button", "body": {"text": "?"}, "action": {"buttons": buttons}}

    answer = await send(graph, line, type="interactive", interactive=interactive)

    assert code(answer) == (400, 131009)


async def test_the_window_closes_24_hours_after_the_person_wrote(
    graph: GraphWorld, line: Line, person: Person
) -> None:
    """And it was never open for somebody who did not write."""
    assert code(await send(graph, line)) == (400, 131047)
    await person.type("hello")
    graph.clock.advance(86_399)
    assert (await send(graph, line)).status_code == 200
    graph.clock.advance(1)

    assert code(await send(graph, line)) == (400, 131047)


async def test_somebody_unknown_is_undeliverable_later(
    graph: GraphWorld, line: Line, callback: Callback
) -> None:
    """WhatsApp accepts first and looks for the person afterwards."""
    assert (await send(graph, line)).status_code == 200
    await graph.courier.settle()

    assert [each["errors"][0]["code"] for each in statuses(callback)] == [131026]


async def test_rate_limits_bite_when_switched_on(
    graph: GraphWorld, line: Line, person: Person
) -> None:
    """45 to one person at once, then one each 6 seconds; 80 a second for all."""
    line.limited, line.statuses = True, ()
    person.last_wrote = NOW
    graph.clock = Clock(lambda: NOW)

    answers = [await send(graph, line) for _ in range(46)]
    assert code(answers[-1]) == (429, 131056)
    assert {answer.status_code for answer in answers[:-1]} == {200}
    for _ in range(34):
        await send(graph, line, to="12025550199")
    assert code(await send(graph, line)) == (429, 130429)
    graph.clock.advance(6)

    assert (await send(graph, line)).status_code == 200


NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


async def test_a_button_is_pressed_under_the_message_that_shows_it(
    graph: GraphWorld, line: Line, person: Person, callback: Callback
) -> None:
    """Nobody can press what they were not shown."""
    with pytest.raises(KeyError):
        await person.press("yes")
    await person.type("hello")
    reply = {"type": "reply", "reply": {"id": "yes", "title": "Yes"}}
    interactive = {"type": "button", "body": {"text": "?"}, "action": {"buttons": [reply]}}
    await send(graph, line, type="interactive", interactive=interactive)

    await person.press("yes")

    pressed = messages(callback)[-1]
    assert pressed["interactive"]["button_reply"] == {"id": "yes", "title": "Yes"}
    assert pressed["context"]["id"] == person.inbox[0].id


async def test_a_person_can_wait_for_a_message(
    graph: GraphWorld, line: Line, person: Person
) -> None:
    """Stories are told from the person's side."""
    await person.type("hello")
    await send(graph, line)

    found = await person.expect(lambda message: message.text == "hi")

    assert found is person.inbox[0]
    with pytest.raises(TimeoutError):
        await person.expect(lambda message: message.kind == "voice", within_s=0.05)


async def test_settings_are_read_back(graph: GraphWorld, line: Line) -> None:
    """The declared storage mode is evidence only if WhatsApp repeats it."""
    path = f"/v25.0/{line.phone_number_id}/settings"
    wanted = {"storage_configuration": {"status": "NO_STORAGE_ENABLED", "retention_minutes": 60}}

    await call(graph, line, "POST", path, json=wanted)

    assert (await call(graph, line, "GET", path)).json() == wanted


async def test_every_request_leaves_a_receipt_without_personal_data(
    graph: GraphWorld, line: Line, person: Person
) -> None:
    """The audit trail is checked against these: templates and digests, no ids in paths."""
    note = ogg()
    item = person.attach(note)
    await person.type("hello")
    await call(graph, line, "GET", graph.media.link(item, "", graph.clock.now(), "test"))
    await upload(graph, line, note)
    await send(graph, line)
    await call(graph, line, "GET", "/v25.0/123", headers={"Authorization": "Bearer no"})

    seen = [(each.method, each.path, each.bearer_ok, each.status) for each in graph.receipts]
    assert seen == [
        ("GET", "/_cdn/{token}", True, 200),
        ("POST", "/{v}/{number}/media", True, 200),
        ("POST", "/{v}/{number}/messages", True, 200),
        ("GET", "/{v}/{media}", False, 401),
    ]
    digest = hashlib.sha256(note).hexdigest()
    assert [each.content_sha256 for each in graph.receipts] == [digest, digest, "", ""]
    assert PHONE not in repr(graph.receipts)
