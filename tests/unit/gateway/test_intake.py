"""Deliveries as values, with the rows W25 to W38 of the catalogue that concern parsing."""

import base64
import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import intake
from gateway.errors import PayloadError
from gateway.whatsapp.payload import (
    ChannelFault,
    Choice,
    Content,
    Edited,
    Identity,
    Message,
    Reaction,
    Revoked,
    Status,
    System,
    Text,
    Unattributed,
    Unreadable,
    Unsupported,
    VoiceNote,
)

UPDATES = Path(__file__).parents[2] / "corpus" / "webhook" / "updates"
NUMBER = "106540352242922"
PHONE = "12025550123"
BSUID = "US.13491208655302741918"
SENT = 1_697_043_473
DIGEST = sha256(b"a note").digest()


def named_updates() -> Iterator[Any]:
    """Yield every recorded update under its name."""
    for path in sorted(UPDATES.glob("*.json")):
        for name, update in json.loads(path.read_text()).items():
            yield pytest.param(update, id=f"{path.stem}-{name}")


def item(**changes: Any) -> dict[str, Any]:
    """Return a text message with *changes*; a change to None leaves the key out."""
    whole = {
        "from": PHONE,
        "id": "wamid.HBgL",
        "timestamp": str(SENT),
        "type": "text",
        "text": {"body": "hello"},
    } | changes
    return {key: value for key, value in whole.items() if value is not None}


def voice(**changes: Any) -> dict[str, Any]:
    """Return a voice note with *changes* to its ``audio`` section."""
    audio = {
        "mime_type": "audio/ogg; codecs=opus",
        "sha256": base64.b64encode(DIGEST).decode(),
        "id": "1234567890987654321",
        "voice": True,
    } | changes
    return item(type="audio", text=None, audio=audio)


def delivery(*messages: Any, number: Any = NUMBER, **value: Any) -> bytes:
    """Return a delivery of one change."""
    whole = {"metadata": {"phone_number_id": number}, **value}
    if messages:
        whole["messages"] = list(messages)
    return envelope({"field": "messages", "value": whole})


def envelope(*changes: Any) -> bytes:
    """Return a delivery of *changes*."""
    entry = {"id": "102290129340398", "changes": list(changes)}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()


def parsed(body: bytes) -> tuple[tuple[Any, ...], dict[str, int]]:
    """Return what came out of *body* for our number."""
    found = intake.parse(body, phone_number_ids={NUMBER})
    return found.updates, found.dropped


def only(body: bytes) -> Message:
    """Return the single message of *body*."""
    (update,), dropped = parsed(body)
    assert dropped == {}
    assert isinstance(update, Message)
    return update


@pytest.mark.parametrize(
    ("system", "previous"),
    [
        ({"previous_user_id": "US.1", "user_id": "US.2"}, "US.1"),
        ({"user_id": "US.2", "body": "User Ada changed from US.1 to US.2"}, "US.1"),
        (
            {
                "user_id": "US.2",
                "body": "X changed from US.9 to US.2 changed from US.1 to US.2",
            },
            "US.1",
        ),
        ({"user_id": "US.2", "body": "User Ada changed from US.1 to US.3"}, None),
        ({"user_id": "US.2", "body": "User changed from US.1 to US.2 changed her name"}, None),
        ({"user_id": "US.2", "body": 7}, None),
        ({"user_id": "US.2"}, None),
    ],
)
def test_a_system_message_says_which_user_id_it_was(
    system: dict[str, Any], previous: str | None
) -> None:
    """Some say it in their sentence alone, behind a name that the person chose."""
    section = {"type": "user_changed_user_id"} | system

    found = only(delivery(item(type="system", text=None, system=section)))

    assert isinstance(found.content, System)
    assert found.content.new == Identity(bsuid="US.2")
    assert found.content.previous == Identity(phone=PHONE, bsuid=previous)


@pytest.mark.parametrize(
    ("told", "found"),
    [("DF2lS5v2W6x=", "DF2lS5v2W6x="), ("", None), (None, None), (7, None), ({}, None)],
)
def test_the_hash_of_an_identity_key_is_the_contacts(told: object, found: str | None) -> None:
    """It comes where the identity check is switched on; whatever else it is stops nothing."""
    contact = {"wa_id": PHONE, "identity_key_hash": told}
    stranger = {"wa_id": "12025550199", "identity_key_hash": "of somebody else"}

    assert only(delivery(item(), contacts=[contact, stranger])).identity_hash == found
    assert only(delivery(item(), contacts=[stranger, stranger])).identity_hash is None


@pytest.mark.parametrize("update", list(named_updates()))
def test_every_recorded_update_is_handled_or_counted(update: dict[str, Any]) -> None:
    """What WhatsApp really sends must be acknowledged: a refusal is redelivered for a week."""
    value = update["entry"][0]["changes"][0]["value"]
    number = value.get("metadata", {}).get("phone_number_id", NUMBER)
    expected = len(value.get("messages", [])) + len(value.get("statuses", []))

    found = intake.parse(json.dumps(update).encode(), phone_number_ids={number})

    faults = sum(isinstance(each, ChannelFault) for each in found.updates)
    assert len(found.updates) - faults + sum(found.dropped.values()) == max(expected, 1)


@pytest.mark.parametrize(
    ("file", "name", "content"),
    [
        ("message", "text", Text(body="Body Text")),
        ("message", "reaction", Reaction(message_id="wamid.yzxyzx=", emoji="\U0001f62e")),
        ("message", "unreaction_empty", Reaction(message_id="wamid.yzxyzx=", emoji="")),
        ("message", "unreaction_no_emoji", Reaction(message_id="wamid.yzxyzx=", emoji="")),
        ("message", "image", Unsupported(what="image")),
        ("message", "unsupported", Unsupported(what="unsupported")),
        ("message", "unsupported_with_type", Unsupported(what="unsupported.pool")),
        ("message", "interactive_message_with_err", Unsupported(what="interactive")),
        ("callback_button", "button", Choice(id="callback_data", title="title")),
        ("callback_button", "quick_reply", Choice(id="callback_data", title="title")),
        ("callback_selection", "callback", Choice(id="callback_data", title="title")),
        ("call_permission_update", "accept", Unsupported(what="interactive.call_permission_reply")),
        (
            "edited_message",
            "image",
            Edited(
                original_id="wamid.HBgLMTQxMjU1NTA4MjkVAgASGBQzQUNCNjk5RDUwNUZGMUZEM0VBRAA=",
                body=None,
                caption="Updated image caption",
            ),
        ),
        (
            "system",
            "phone_number_change",
            System(
                what="user_changed_number",
                new=Identity(phone="972912345678"),
                previous=Identity(phone="972987654321"),
            ),
        ),
        (
            "system",
            "identity_change",
            System(
                what="customer_identity_changed", new=None, previous=None, identity_hash="xyzxyz"
            ),
        ),
    ],
)
def test_recorded_content_is_read(file: str, name: str, content: Content) -> None:
    """Each recorded shape has one meaning; a change here changes what a person is told."""
    update = json.loads((UPDATES / f"{file}.json").read_text())[name]
    value = update["entry"][0]["changes"][0]["value"]
    number = value["metadata"]["phone_number_id"]

    found = intake.parse(json.dumps(update).encode(), phone_number_ids={number})

    (message,) = (each for each in found.updates if isinstance(each, Message))
    assert message.content == content


def test_a_recorded_voice_note_is_read_with_both_identities() -> None:
    """Consent and erasure need every alias under which a person is known."""
    update = json.loads((UPDATES / "message.json").read_text())["voice"]

    found = intake.parse(json.dumps(update).encode(), phone_number_ids={"1122334455667"})

    assert found.updates == (
        Message(
            phone_number_id="1122334455667",
            id="wamid.xyzxyz",
            sender=Identity(phone="972987654321", bsuid=BSUID),
            sent_at=SENT,
            content=VoiceNote(
                media_id="1234567890987654321",
                mime_type="audio/ogg; codecs=opus",
                sha256=base64.b64decode("m04pFf2ERdaopTyFkGPA0+bX3i+YY2dYgVFwOgDLSDI="),
                voice=True,
            ),
        ),
    )


@pytest.mark.parametrize(
    ("message", "contacts", "sender"),
    [
        pytest.param(item(), [], Identity(phone=PHONE), id="phone-only"),
        pytest.param(
            item(**{"from": None, "from_user_id": BSUID}),
            [],
            Identity(bsuid=BSUID),
            id="bsuid-only",
        ),
        pytest.param(
            item(from_user_id=BSUID), [], Identity(phone=PHONE, bsuid=BSUID), id="both-in-message"
        ),
        pytest.param(
            item(),
            [{"wa_id": PHONE, "user_id": BSUID}],
            Identity(phone=PHONE, bsuid=BSUID),
            id="bsuid-from-contact",
        ),
        pytest.param(
            item(**{"from": None, "from_user_id": BSUID}),
            [{"wa_id": PHONE, "user_id": BSUID}],
            Identity(phone=PHONE, bsuid=BSUID),
            id="phone-from-contact",
        ),
        pytest.param(
            item(**{"from": None}),
            [{"profile": {"username": "ada"}, "user_id": BSUID}],
            Identity(bsuid=BSUID),
            id="only-contact",
        ),
        pytest.param(
            item(),
            [{"wa_id": "12025550199", "user_id": BSUID}],
            Identity(phone=PHONE),
            id="somebody-else's-contact",
        ),
        pytest.param(
            item(),
            ["no contact", {"wa_id": "x", "user_id": 7}, {"wa_id": PHONE, "user_id": BSUID}],
            Identity(phone=PHONE, bsuid=BSUID),
            id="broken-contacts-beside",
        ),
    ],
)
def test_a_sender_is_known_by_what_came(
    message: dict[str, Any], contacts: list[Any], sender: Identity
) -> None:
    """Users may hide their number; and two people's ids must never be joined."""
    assert only(delivery(message, contacts=contacts)).sender == sender


def test_a_message_from_nobody_is_not_given_to_one_of_two_contacts() -> None:
    """A guess would put one person's words on the other's record."""
    contacts = [{"wa_id": PHONE}, {"wa_id": "12025550199"}]

    assert unattributed(delivery(item(**{"from": None}), contacts=contacts)) == ["sender"]


@pytest.mark.parametrize(
    "spelt",
    [
        bytes.hex,
        lambda digest: base64.b64encode(digest).decode(),
        lambda digest: base64.b64encode(digest).decode().rstrip("="),
        lambda digest: base64.urlsafe_b64encode(digest).decode(),
        lambda digest: base64.urlsafe_b64encode(digest).decode().rstrip("="),
    ],
    ids=["hex", "base64", "base64-unpadded", "url-safe", "url-safe-unpadded"],
)
def test_a_digest_is_read_in_every_spelling(spelt: Callable[[bytes], str]) -> None:
    """One that we cannot read would leave the recording unchecked."""
    digest = b"\xfb\xff" * 16  # "+/v7..." in one alphabet, "-_v7..." in the other

    content = only(delivery(voice(sha256=spelt(digest)))).content

    assert isinstance(content, VoiceNote)
    assert content.sha256 == digest


def test_an_audio_file_is_no_recorded_voice_note() -> None:
    """A forwarded recording of somebody else is not this person speaking."""
    message = only(delivery(voice(voice=False) | {"context": {"forwarded": True}}))

    assert isinstance(message.content, VoiceNote)
    assert (message.content.voice, message.forwarded) == (False, True)


def test_content_that_whatsapp_could_not_hand_over_keeps_its_codes() -> None:
    """The person must be asked again (131052) rather than be left without an answer."""
    message = only(delivery(item(type="audio", text=None, errors=[{"code": 131052, "title": "x"}])))

    assert (message.content, message.error_codes) == (Unsupported(what="audio"), (131052,))


def test_a_deleted_message_names_the_original() -> None:
    """A revoke starts an erasure, so it must say of what."""
    revoked = item(type="revoke", text=None, revoke={"original_message_id": "wamid.b3Jp"})

    assert only(delivery(revoked)).content == Revoked(original_id="wamid.b3Jp")


def test_an_edited_text_carries_the_new_text() -> None:
    """An edit is a new version: the old one must go and the new one be answered."""
    edit = {
        "original_message_id": "wamid.b3Jp",
        "message": {"type": "text", "text": {"body": "new"}},
    }

    content = only(delivery(item(type="edit", text=None, edit=edit))).content

    assert content == Edited(original_id="wamid.b3Jp", body="new")


@pytest.mark.parametrize("kind", ["image", "video", "document", "audio"])
def test_an_edited_caption_may_say_stop(kind: str) -> None:
    """Under a picture it counts when it is written first: then also when it is written later."""
    edit = {
        "original_message_id": "wamid.b3Jp",
        "message": {"type": kind, kind: {"id": "1", "caption": "STOP"}},
    }

    content = only(delivery(item(type="edit", text=None, edit=edit))).content

    assert content == Edited(original_id="wamid.b3Jp", body=None, caption="STOP")


def test_an_edit_by_somebody_uncertain_takes_back_and_asks_nothing() -> None:
    """Its words are no question of theirs, but a STOP among them is one, as in a text."""
    edit = {"original_message_id": "wamid.b3Jp", "message": {"text": {"body": "STOP"}}}

    message = only(delivery(item(type="edit", text=None, edit=edit, from_user_id="x y")))

    assert message.content == Edited(original_id="wamid.b3Jp", body=None, caption="STOP")


def test_a_changed_user_id_names_both() -> None:
    """An erasure must reach a person under the id they had before."""
    system = {
        "type": "user_changed_user_id",
        "previous_user_id": "US.old1",
        "user_id": "US.new2",
    }

    message = only(delivery(item(**{"from": None}, type="system", text=None, system=system)))

    assert message.sender == Identity(bsuid="US.old1")
    assert message.content == System(
        what="user_changed_user_id",
        new=Identity(bsuid="US.new2"),
        previous=Identity(bsuid="US.old1"),
    )


def test_errors_are_read_in_all_three_places() -> None:
    """131035 is a lost message and 131053 a lost reply: both must reach the record."""
    status: dict[str, Any] = {"id": "wamid.a", "status": "failed", "timestamp": str(SENT)}
    status |= {"biz_opaque_callback_data": "reply-1", "errors": [{"code": 131053}]}
    broken = item(type="unsupported", text=None, errors=[{"code": 131051}])

    updates, dropped = parsed(delivery(broken, statuses=[status], errors=[{"code": 131035}]))

    fault, message, failed = updates
    assert dropped == {}
    assert fault == ChannelFault(phone_number_id=NUMBER, codes=(131035,))
    assert message.error_codes == (131051,)
    assert failed == Status(
        phone_number_id=NUMBER,
        message_id="wamid.a",
        state="failed",
        at=SENT,
        opaque="reply-1",
        error_codes=(131053,),
    )


def test_a_status_that_is_new_to_us_is_kept() -> None:
    """WhatsApp adds states ("played" came in 2026): the set is open."""
    status = {"id": "wamid.a", "status": "savoured", "timestamp": str(SENT)}

    ((update,), dropped) = parsed(delivery(statuses=[status]))

    assert (update.state, dropped) == ("savoured", {})


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[]", id="W25-array"),
        pytest.param(b'"text"', id="W25-string"),
        pytest.param(b"null", id="W25-null"),
        pytest.param(b"{}", id="empty-object"),
        pytest.param(b'{"object":"page","entry":[]}', id="another-product"),
        pytest.param(b'{"object":"whatsapp_business_account"}', id="no-entry"),
        pytest.param(b'{"object":"whatsapp_business_account","entry":{}}', id="entry-object"),
        pytest.param(
            b'{"object":"page","object":"whatsapp_business_account","entry":[]}', id="two-products"
        ),
    ],
)
def test_what_is_no_delivery_is_refused_whole(body: bytes) -> None:
    """Without an envelope nobody can say what was lost, so the sender must hear of it."""
    with pytest.raises(PayloadError, match=r"^envelope$"):
        intake.parse(body, phone_number_ids={NUMBER})


def unattributed(body: bytes) -> list[str]:
    """Return why parts of *body* name nobody; nothing of it is anything else."""
    updates, dropped = parsed(body)
    assert dropped == {}
    assert all(isinstance(update, Unattributed) for update in updates)
    return [update.reason for update in updates]


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(item(timestamp="0"), id="W34-zero"),
        pytest.param(item(timestamp="-5"), id="W34-negative"),
        pytest.param(item(timestamp="99999999999999"), id="W34-year-3170843"),
        pytest.param(item(timestamp="9999999999"), id="W34-year-2286"),
        pytest.param(item(timestamp="١٦٩٧٠٤٣٤٧٣"), id="W34-arabic-digits"),
        pytest.param(item(timestamp="1_697_043"), id="W34-underscores"),
        pytest.param(item(timestamp="1697043473\n"), id="W34-newline"),
        pytest.param(item(timestamp="1200000000"), id="W34-year-2008"),
        pytest.param(item(timestamp=None), id="W34-none"),
        pytest.param(item(timestamp={}), id="W34-object"),
        pytest.param(item(timestamp=1e300), id="W34-huge"),
    ],
)
def test_w34_a_message_without_a_time_is_read_and_dated_later(odd: Any) -> None:
    """Nobody is left in silence for a clock of WhatsApp's; 0 has the inbox date it."""
    message = only(delivery(odd))

    assert (message.sent_at, message.content) == (0, Text(body="hello"))


@pytest.mark.parametrize("spelt", [SENT, float(SENT), str(SENT)], ids=["int", "float", "text"])
def test_w34_a_time_is_read_as_number_and_as_text(spelt: Any) -> None:
    """WhatsApp writes call consents' times as numbers, the others as text."""
    assert only(delivery(item(timestamp=spelt))).sent_at == SENT


@pytest.mark.parametrize(
    ("odd", "body"),
    [
        pytest.param({"body": "a\0b"}, "ab", id="W23-nul"),
        pytest.param({"body": "STOP \ud83d"}, "STOP ", id="W22-cut-emoji"),
        pytest.param({"body": "a" * 65_537}, "a" * 65_536, id="too-long"),
        pytest.param({"body": ""}, "", id="empty"),
        pytest.param({"body": "hi", "preview": [1]}, "hi", id="unread-beside"),
    ],
)
def test_a_text_is_read_without_what_no_text_can_hold(odd: Any, body: str) -> None:
    """An emoji that somebody's software cut in half must not cost a person their STOP."""
    assert only(delivery(item(text=odd))).content == Text(body=body)


@pytest.mark.parametrize("context", [[], "x", {"forwarded": "yes"}, {"forwarded": 1}, 7])
def test_an_odd_context_is_none(context: Any) -> None:
    """Whether a text was forwarded decides nothing that would be worth losing it."""
    message = only(delivery(item(context=context)))

    assert (message.content, message.forwarded) == (Text(body="hello"), False)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"id": 1234567890987654321}, {}, id="media-id-number"),
        pytest.param({"id": "A1b2-c_3.x="}, {"media_id": "A1b2-c_3.x="}, id="media-id-opaque"),
        pytest.param({"sha256": None}, {"sha256": None}, id="digest-none"),
        pytest.param({"sha256": "4654+8g="}, {"sha256": None}, id="digest-short"),
        pytest.param({"sha256": DIGEST.hex()[:-1] + "g"}, {"sha256": None}, id="digest-no-hex"),
        pytest.param({"sha256": 7}, {"sha256": None}, id="digest-number"),
        pytest.param({"mime_type": 'Audio/OGG; Codecs="opus"'}, {}, id="mime-quotes-capitals"),
        pytest.param({"mime_type": "audio/ogg;codecs='opus'"}, {}, id="mime-single-quotes"),
        pytest.param(
            {"mime_type": "audio/ogg ; codecs=opus; rate=48000"},
            {"mime_type": "audio/ogg; codecs=opus; rate=48000"},
            id="mime-two-parameters",
        ),
        pytest.param({"mime_type": "audio/ogg; codecs=opus; \x00"}, {}, id="mime-odd-parameter"),
        pytest.param({"mime_type": "audio/ogg;"}, {"mime_type": "audio/ogg"}, id="mime-open-end"),
        pytest.param({"mime_type": "audio/ogg\r\nx: y"}, {"mime_type": ""}, id="mime-two-lines"),
        pytest.param({"mime_type": None}, {"mime_type": ""}, id="mime-none"),
        pytest.param({"mime_type": ["x"]}, {"mime_type": ""}, id="mime-array"),
        pytest.param({"voice": "true"}, {}, id="voice-text"),
        pytest.param({"voice": None}, {"voice": False}, id="voice-none"),
        pytest.param({"url": 7}, {}, id="url-number"),
        pytest.param({"caption": {}}, {}, id="caption-object"),
    ],
)
def test_each_field_of_a_voice_note_degrades_by_itself(
    changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    """One odd field dropped the whole note behind a 200, and nobody was answered."""
    usual = only(delivery(voice())).content

    content = only(delivery(voice(**changes))).content

    assert content == msgspec.structs.replace(usual, **expected)


@pytest.mark.parametrize(
    "own_id", ["wamid.A+b/c==", "wamid.HBg_-L", "HBgLMTIwMjU1NTAxMjM", "wacid.x", 123456789]
)
def test_an_id_is_an_opaque_string(own_id: Any) -> None:
    """What WhatsApp calls a message is its own affair, as long as it can do no harm."""
    message = only(delivery(item(id=own_id)))

    assert (message.id, message.content) == (str(own_id), Text(body="hello"))


@pytest.mark.parametrize(
    ("odd", "sender"),
    [
        pytest.param({"from": 12025550123}, Identity(phone=PHONE), id="phone-number"),
        pytest.param({"from": "+12025550123"}, Identity(phone=PHONE), id="phone-plus"),
        pytest.param({"from": "+1 202-555-0123"}, Identity(phone=PHONE), id="phone-spaced"),
        pytest.param({"from": "1 (202) 555.0123"}, Identity(phone=PHONE), id="phone-grouped"),
        pytest.param({"from_user_id": ""}, Identity(phone=PHONE), id="user-id-empty"),
        pytest.param(
            {"from_user_id": "US.ENT.11815799212886844830"},
            Identity(phone=PHONE, bsuid="US.ENT.11815799212886844830"),
            id="user-id-parent-form",
        ),
        pytest.param(
            {"from_user_id": "usa:1_2-3"}, Identity(phone=PHONE, bsuid="usa:1_2-3"), id="form"
        ),
        pytest.param({"from_user_id": 7}, Identity(phone=PHONE, bsuid="7"), id="user-id-number"),
        pytest.param({"from": "", "from_user_id": BSUID}, Identity(bsuid=BSUID), id="phone-empty"),
        pytest.param(
            {"from": "1234567890123456", "from_user_id": BSUID},
            Identity(bsuid=BSUID),
            id="phone-16-digits",
        ),
    ],
)
def test_a_sender_is_read_in_every_form(odd: dict[str, Any], sender: Identity) -> None:
    """A user id in another form beside a good number was seen in production: both count."""
    message = only(delivery(item(**odd)))

    assert (message.sender, message.content) == (sender, Text(body="hello"))


@pytest.mark.parametrize(
    ("message", "contacts", "sender"),
    [
        pytest.param(item(from_user_id={}), [], Identity(phone=PHONE), id="user-id-object"),
        pytest.param(item(from_user_id="U S"), [], Identity(phone=PHONE), id="user-id-blank"),
        pytest.param(item(from_user_id="x" * 257), [], Identity(phone=PHONE), id="user-id-long"),
        pytest.param(
            item(),
            [{"wa_id": PHONE, "user_id": ["US.1"]}],
            Identity(phone=PHONE),
            id="contact-user-id-array",
        ),
        pytest.param(
            item(),
            [{"wa_id": PHONE, "user_id": "US.1"}, {"wa_id": PHONE, "user_id": "US.2"}],
            Identity(phone=PHONE),
            id="two-contacts-claim-the-number",
        ),
    ],
)
def test_who_is_uncertain_is_answered_and_not_worked_for(
    message: dict[str, Any], contacts: list[Any], sender: Identity
) -> None:
    """A number that comes with a user id nobody can read may be another person's by now."""
    found = only(delivery(message, contacts=contacts))

    assert (found.sender, found.content) == (sender, Unreadable(what="text", words="hello"))


def test_a_number_is_not_mistaken_for_somebody_s_user_id() -> None:
    """Two kinds of ids may look alike; joined, they would make two people one."""
    contact = {"wa_id": "12025550199", "user_id": PHONE}

    assert only(delivery(item(), contacts=[contact])).sender == Identity(phone=PHONE)


@pytest.mark.parametrize(
    ("odd", "unreadable"),
    [
        pytest.param(item(id="wamid." + "a" * 10_240), ("text", "hello", ""), id="W33-10-KB"),
        pytest.param(item(id="wamid.a\n"), ("text", "hello", ""), id="W33-newline"),
        pytest.param(item(id="../../x"), ("text", "hello", ""), id="W33-path"),
        pytest.param(item(id="wamid.a\0"), ("text", "hello", ""), id="W23-nul-in-id"),
        pytest.param(item(id=None), ("text", "hello", ""), id="no-id"),
        pytest.param(item(text={"body": 7}), ("text", "", ""), id="text-number"),
        pytest.param(item(text=[]), ("text", "", ""), id="text-array"),
        pytest.param(item(text="STOP"), ("text", "", ""), id="text-text"),
        pytest.param(item(type=None), ("other", "hello", ""), id="no-type"),
        pytest.param(item(type=7), ("other", "hello", ""), id="type-number"),
        pytest.param(item(type="Line\nbreak"), ("other", "hello", ""), id="type-two-lines"),
        pytest.param(item(type="x" * 41), ("other", "hello", ""), id="type-long"),
        pytest.param(
            item(type=7, button={"text": "Yes"}), ("other", "", ""), id="two-texts-are-none"
        ),
        pytest.param(voice(id="12/../3"), ("audio", "", ""), id="media-id-path"),
        pytest.param(voice(id=".."), ("audio", "", ""), id="media-id-dots"),
        pytest.param(voice(id=""), ("audio", "", ""), id="media-id-empty"),
        pytest.param(voice(id=None, caption="STOP"), ("audio", "STOP", ""), id="media-caption"),
        pytest.param(
            item(type="revoke", text=None, revoke={"original_message_id": "x y"}),
            ("revoke", "", ""),
            id="revoke-id",
        ),
        pytest.param(
            item(type="edit", text=None, edit={"message": {"text": {"body": "STOP"}}}),
            ("edit", "STOP", ""),
            id="edit-without-original",
        ),
        pytest.param(
            item(
                type="edit",
                text=None,
                edit={"message": {"type": "image", "image": {"caption": "STOP"}}},
            ),
            ("edit", "STOP", ""),
            id="edited-caption-without-original",
        ),
        pytest.param(
            item(type="button", text=None, button={"payload": {}, "text": "STOP"}),
            ("button", "STOP", ""),
            id="button-payload-object",
        ),
        pytest.param(
            item(type="button", text=None, button={"payload": "consent.grant\0", "text": "x"}),
            ("button", "x", "consent.grant"),
            id="button-payload-nul",
        ),
        pytest.param(
            item(
                type="interactive",
                text=None,
                interactive={"type": 7, "button_reply": {"id": "consent.refuse", "title": "No"}},
            ),
            ("interactive", "No", "consent.refuse"),
            id="interactive-type",
        ),
        pytest.param(
            item(type="system", text=None, system={"type": "user_changed_number", "wa_id": "x"}),
            ("system", "", ""),
            id="system-new-number",
        ),
    ],
)
def test_what_cannot_be_read_but_names_its_sender_is_an_update(
    odd: dict[str, Any], unreadable: tuple[str, str, str]
) -> None:
    """The person is told to type, and a STOP that is certain all the same is one."""
    what, words, choice = unreadable

    message = only(delivery(odd))

    assert message.sender == Identity(phone=PHONE)
    assert message.content == Unreadable(what=what, words=words, choice=choice)


def test_a_message_without_an_id_is_the_same_when_it_comes_again() -> None:
    """WhatsApp delivers again for seven days; the person would be told to type each time."""
    first, again, other = (
        only(delivery(each)) for each in (item(id=None), item(id=None), item(id=7.5))
    )

    assert first.id == again.id != other.id
    assert first.id.startswith("derived.")


@pytest.mark.parametrize(
    ("button", "choice"),
    [
        ({"text": "Yes"}, Choice(id="", title="Yes")),
        ({"payload": "", "text": "Yes"}, Choice(id="", title="Yes")),
        ({"payload": "p" * 2_000, "text": "Yes"}, Choice(id="p" * 256, title="Yes")),
        ({"payload": "order.yes"}, Choice(id="order.yes", title="")),
        ({"payload": "order.yes", "text": "y" * 300}, Choice(id="order.yes", title="y" * 256)),
    ],
    ids=["none", "empty", "long", "no-text", "long-text"],
)
def test_a_template_button_needs_no_payload(button: Any, choice: Choice) -> None:
    """Buttons of templates come without a payload, or with one of thousands of characters."""
    assert only(delivery(item(type="button", text=None, button=button))).content == choice


def test_the_sound_and_words_of_a_message_that_could_not_be_taken_back_are_not_kept() -> None:
    """Without its id a revoke would find nothing to destroy."""
    assert only(delivery(voice() | {"id": None})).content == Unreadable(what="audio")


@pytest.mark.parametrize("kind", ["contacts", "location", "image", "order", "sticker", "hologram"])
@pytest.mark.parametrize("value", [[{"name": "x"}], {"latitude": 1}, "x", 7, True])
def test_content_that_we_do_not_work_on_may_be_anything(kind: str, value: Any) -> None:
    """A contact card is an array; its sender was left without an answer."""
    message = only(delivery(item(type=kind, text=None, **{kind: value})))

    assert message.content == Unsupported(what=kind)


@pytest.mark.parametrize(
    "odd", [{"message_id": 7, "emoji": 7}, {"emoji": "x" * 99}, {"message_id": "a b"}]
)
def test_an_odd_reaction_is_a_reaction(odd: Any) -> None:
    """Nobody is told to type because of a thumb."""
    assert isinstance(
        only(delivery(item(type="reaction", text=None, reaction=odd))).content, Reaction
    )


@pytest.mark.parametrize(
    "nobody",
    [
        pytest.param(item(**{"from": None}), id="nobody"),
        pytest.param(item(**{"from": "1234567890123456"}), id="phone-16-digits"),
        pytest.param(item(**{"from": True}), id="phone-true"),
        pytest.param(item(**{"from": {"wa_id": PHONE}}), id="phone-object"),
        pytest.param("message", id="no-object"),
        pytest.param(7, id="number"),
    ],
)
def test_w30_what_names_nobody_is_kept_apart_and_spares_the_others(nobody: Any) -> None:
    """One poisoned message must not have 999 other people's messages redelivered for a week."""
    updates, dropped = parsed(delivery(item(id="wamid.1"), nobody, item(id="wamid.2")))

    first, apart, second = updates
    assert (first.id, second.id, dropped) == ("wamid.1", "wamid.2", {})
    assert (apart.phone_number_id, apart.reason) == (NUMBER, "sender")
    assert json.loads(apart.raw) == nobody


def test_an_unreadable_number_is_not_replaced_by_the_only_contact_s() -> None:
    """Somebody is named, and it may be somebody else."""
    odd = item(**{"from": "somebody"})

    assert unattributed(delivery(odd, contacts=[{"wa_id": PHONE}])) == ["sender"]


def test_a_number_in_the_very_form_of_a_contact_names_that_contact() -> None:
    """Whatever form WhatsApp invents, equal is equal."""
    contact = {"wa_id": "12025550123@form.invalid", "user_id": BSUID}

    assert only(
        delivery(item(**{"from": contact["wa_id"]}), contacts=[contact])
    ).sender == Identity(bsuid=BSUID)


def test_w30_a_batch_of_a_thousand_loses_none() -> None:
    """The size of a batch must not change what a poisoned message does."""
    batch = [item(id=f"wamid.{n}") for n in range(999)]

    updates, dropped = parsed(delivery(*batch[:700], item(**{"from": "x"}), *batch[700:]))

    assert sum(isinstance(update, Message) for update in updates) == 999
    assert (len(updates), dropped) == (1_000, {})


def test_a_delivery_of_nothing_but_nobody_is_bounded() -> None:
    """One body may hold a million of them: as many as a delivery has updates are kept."""
    updates, dropped = parsed(delivery(*[7] * 5_000))

    assert (len(updates), dropped) == (1_000, {"malformed": 4_000})


def test_what_is_kept_of_a_part_that_names_nobody_is_bounded() -> None:
    """It must fit into a row, and into what is handed to another cell."""
    (apart,), _ = parsed(delivery({"text": {"body": "x" * 100_000}}))

    assert len(apart.raw) == intake.MAX_RAW


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"timestamp": "0"}, {"at": 0}, id="W34-timestamp"),
        pytest.param({"timestamp": SENT}, {}, id="W34-number"),
        pytest.param({"id": None}, {"message_id": ""}, id="no-id"),
        pytest.param({"id": "a b"}, {"message_id": ""}, id="id"),
        pytest.param({"status": 7}, {"state": "other"}, id="state"),
        pytest.param({"errors": {"code": 1}}, {}, id="errors-object"),
        pytest.param({"errors": [7, {"code": "131053"}]}, {"error_codes": (131053,)}, id="code"),
        pytest.param({"biz_opaque_callback_data": "o" * 513}, {"opaque": ""}, id="opaque-long"),
        pytest.param({"biz_opaque_callback_data": "r\0"}, {"opaque": ""}, id="opaque-nul"),
        pytest.param({"pricing": "free", "recipient_id": []}, {}, id="unread"),
    ],
)
def test_each_field_of_a_status_degrades_by_itself(
    changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    """A failure that is told with one odd field is still a failure."""
    whole = {"id": "wamid.a", "status": "failed", "timestamp": str(SENT)}
    whole |= {"biz_opaque_callback_data": "r_1"}
    usual = Status(
        phone_number_id=NUMBER, message_id="wamid.a", state="failed", at=SENT, opaque="r_1"
    )

    updates, dropped = parsed(delivery(statuses=[whole | changes]))

    assert (updates, dropped) == ((msgspec.structs.replace(usual, **expected),), {})


@pytest.mark.parametrize("status", [7, {}, {"id": "", "status": "sent"}])
def test_a_status_of_nothing_is_counted_and_spares_the_others(status: Any) -> None:
    """Statuses come in the same batches as messages."""
    good = {"id": "wamid.b", "status": "read", "timestamp": str(SENT)}

    updates, dropped = parsed(delivery(item(), statuses=[status, good]))

    assert [type(update) for update in updates] == [Message, Status]
    assert dropped == {"malformed": 1}


@pytest.mark.parametrize("odd", [{}, "x", 7, True])
@pytest.mark.parametrize("key", ["contacts", "statuses", "errors"])
def test_an_odd_list_costs_no_message_beside_it(key: str, odd: Any) -> None:
    """What comes beside the messages is another matter."""
    updates, dropped = parsed(delivery(item(), **{key: odd}))

    assert [type(update) for update in updates] == [Message]
    assert dropped == ({"malformed": 1} if key == "statuses" else {})


GOOD = {"metadata": {"phone_number_id": NUMBER}, "messages": [item()]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"field": "messages", "value": {}}, "change", id="no-metadata"),
        pytest.param(
            {"field": "messages", "value": GOOD | {"metadata": {"phone_number_id": "a/b"}}},
            "change",
            id="number-id",
        ),
        pytest.param(
            {"field": "messages", "value": GOOD | {"messages": {"0": item()}}},
            "messages",
            id="messages-object",
        ),
        pytest.param({"field": "messages"}, "change", id="no-value"),
        pytest.param({"field": "messages", "value": []}, "change", id="value-array"),
        pytest.param({"field": 7, "value": GOOD}, "change", id="field-number"),
        pytest.param({"value": GOOD}, "change", id="no-field"),
        pytest.param("change", "change", id="change-text"),
    ],
)
def test_a_change_that_cannot_be_read_is_kept_and_spares_the_others(
    change: Any, reason: str
) -> None:
    """The changes of one delivery belong to different numbers."""
    updates, dropped = parsed(envelope(change, {"field": "messages", "value": GOOD}))

    apart, good = updates
    assert (type(apart), apart.reason, type(good)) == (Unattributed, reason, Message)
    assert dropped == {}


@pytest.mark.parametrize("entry", [7, None, {}, {"changes": {}}, []])
def test_an_entry_that_cannot_be_read_is_kept_and_spares_the_others(entry: Any) -> None:
    """The entries of one delivery belong to different accounts."""
    whole = json.loads(delivery(item()))
    whole["entry"].insert(0, entry)

    updates, dropped = parsed(json.dumps(whole).encode())

    apart, good = updates
    assert (type(apart), apart.reason, type(good)) == (Unattributed, "entry", Message)
    assert dropped == {}


def test_a_number_that_is_a_number_is_the_tenant_s() -> None:
    """A phone number id is digits, with or without quotation marks."""
    assert only(delivery(item(), number=int(NUMBER))).phone_number_id == NUMBER


def repeated(body: bytes, once: str, twice: str) -> bytes:
    """Return *body* with *twice* in place of *once*."""
    assert body.count(once.encode()) == 1
    return body.replace(once.encode(), twice.encode())


@pytest.mark.parametrize(
    ("once", "twice"),
    [
        pytest.param('"name": "Ada"', '"name": "A", "name": "B"', id="W20-repeated"),
        pytest.param('"name": "Ada"', '"name": "\\ud83d"', id="W22-cut-emoji"),
        pytest.param('"name": "Ada"', '"name": "\xff"', id="no-utf-8"),
        pytest.param('"name": "Ada"', '"name": "\x01\x00"', id="W23-control-characters"),
        pytest.param('"name": "Ada"', '"name": ' + "1" * 5_000, id="W19-long-integer"),
        pytest.param('"name": "Ada"', '"name": NaN', id="W21-nan"),
        pytest.param('"name": "Ada"', '"name": -Infinity', id="W21-infinity"),
        pytest.param('"name": "Ada"', '"name": 1e99999', id="W21-exponent"),
        pytest.param('"name": "Ada"', '"name": ' + "[" * 500 + "]" * 500, id="W18-depth"),
        pytest.param('"type": "text"', '"type": "text", "type": "text"', id="W20-said-twice"),
    ],
)
def test_unread_fields_never_refuse_a_delivery(once: str, twice: str) -> None:
    """A profile name that was cut inside an emoji had a thousand people's messages refused."""
    body = delivery(item(), contacts=[{"wa_id": PHONE, "profile": {"name": "Ada"}}])

    message = only(body.replace(once.encode(), twice.encode("latin-1")))

    assert (message.sender, message.content) == (Identity(phone=PHONE), Text(body="hello"))


@pytest.mark.parametrize(
    ("once", "twice", "found"),
    [
        pytest.param(
            '"from": "12025550123"',
            '"from": "12025550123", "from": "12025550199"',
            None,
            id="from",
        ),
        pytest.param(
            '"from": "12025550123"',
            '"from": "12025550123", "from_user_id": "US.1", "from_user_id": "US.2"',
            Unreadable(what="text", words="hello"),
            id="user-id",
        ),
        pytest.param(
            '"id": "wamid.HBgL"',
            '"id": "wamid.1", "id": "wamid.2"',
            Unreadable(what="text", words="hello"),
            id="id",
        ),
        pytest.param(
            '{"body": "hello"}', '{"body": "yes", "body": "no"}', Unreadable(what="text"), id="body"
        ),
        pytest.param(
            '"text": {"body": "hello"}',
            '"text": {"body": "yes"}, "text": {"body": "no"}',
            Unreadable(what="text"),
            id="text",
        ),
        pytest.param(
            '"type": "text"',
            '"type": "text", "type": "reaction"',
            Unreadable(what="other", words="hello"),
            id="type",
        ),
    ],
)
def test_w20_of_two_values_nobody_chooses_one(once: str, twice: str, found: Content | None) -> None:
    """Which one counts is how a reader is shown another message than the next: neither does."""
    body = repeated(delivery(item(), contacts=[{"wa_id": PHONE}]), once, twice)

    updates, dropped = parsed(body)

    contents = [getattr(update, "content", None) for update in updates]
    assert (contents, dropped) == ([found], {})


def test_w20_a_repeated_list_of_messages_is_kept_whole() -> None:
    """Neither list is thrown away, and neither is believed."""
    body = repeated(delivery(item()), '"messages": [', '"messages": [7], "messages": [')

    assert unattributed(body) == ["messages"]


def test_w31_another_tenant_s_number_is_counted_and_dropped() -> None:
    """A delivery signed by one app may speak only for that tenant's numbers."""
    updates, dropped = parsed(delivery(item(), item(), number="999"))

    assert (updates, dropped) == ((), {"other_number": 2})


@pytest.mark.parametrize("content", [{"messages": []}, {}], ids=["W32-empty", "absent"])
def test_a_change_without_messages_is_nothing(content: dict[str, Any]) -> None:
    """WhatsApp sends stubs: they are acknowledged and leave nothing."""
    assert parsed(delivery(**content)) == ((), {})


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("calls", "field:calls"),
        ("smb_message_echoes", "field:smb_message_echoes"),
        ("invented_" + "x" * 5_000, "field:other"),
        ("+12025550123", "field:other"),
    ],
)
def test_w29_an_unknown_field_is_counted_by_a_bounded_name(field: str, name: str) -> None:
    """What we did not set out to process is not read; and nobody may write our labels."""
    assert parsed(envelope({"field": field, "value": {"messages": [item()]}})) == ((), {name: 1})


def test_w29_a_message_of_a_new_type_is_kept_as_unsupported() -> None:
    """The person deserves an answer even when we cannot read what they sent."""
    message = item(type="hologram", text=None, hologram={"secret": "not read"})

    assert only(delivery(message)).content == Unsupported(what="hologram")


def test_statuses_of_calls_are_counted_apart() -> None:
    """A ringing call is no message of ours, and not malformed either."""
    calls = [{"id": "wacid.a", "type": "call"}, {"id": "x", "type": "x" * 99}]

    assert parsed(delivery(statuses=calls)) == ((), {"status:call": 1, "status:other": 1})


@pytest.mark.parametrize(
    "name",
    ["\u202eada\u0338\u0336\U0001f469\u200d\U0001f680", "ada\r\n2026-01-01 ERROR forged"],
    ids=["W37-right-to-left-zalgo-emoji", "W38-forged-log-line"],
)
def test_names_are_never_read(name: str) -> None:
    """A name that is not kept can neither leak nor forge a log line."""
    contact = {"wa_id": PHONE, "profile": {"name": name, "username": name}}

    found = intake.parse(delivery(item(), contacts=[contact]), phone_number_ids={NUMBER})

    assert "ada" not in repr(found)


TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.sampled_from([PHONE, "text", "wamid.a", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "audio", "id", "body", "from", "timestamp", "system"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(TREES, TREES, TREES)
def test_any_content_is_read_or_counted(message: Any, contact: Any, status: Any) -> None:
    """Nothing within a good envelope may raise: it would poison the whole delivery."""
    body = delivery(message, contacts=[contact], statuses=[status])

    updates, dropped = parsed(body)

    assert len(updates) + sum(dropped.values()) == 2


@pytest.mark.parametrize(
    ("caption", "words"),
    [("STOP", "STOP"), (None, ""), (7, ""), ("x" * 65_537, "")],
)
@pytest.mark.parametrize("kind", ["image", "video", "document"])
def test_a_caption_is_read_and_an_odd_one_is_none(kind: str, caption: Any, words: str) -> None:
    """A STOP under a picture is a STOP; nothing about a caption may lose the message."""
    message = item(type=kind, text=None, **{kind: {"id": "1", "caption": caption}})

    assert only(delivery(message)).content == Unsupported(what=kind, caption=words)
