"""Deliveries as values, with the rows W25 to W38 of the catalogue that concern parsing."""

import base64
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

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

    assert parsed(delivery(item(**{"from": None}), contacts=contacts)) == ((), {"malformed": 1})


@pytest.mark.parametrize("spelt", [base64.b64encode(DIGEST).decode(), DIGEST.hex()])
def test_a_digest_is_read_in_both_spellings(spelt: str) -> None:
    """Webhooks say base64, metadata says hexadecimal: both are the same 32 bytes."""
    content = only(delivery(voice(sha256=spelt))).content

    assert isinstance(content, VoiceNote)
    assert content.sha256 == DIGEST


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
        pytest.param(b'{"object":"whatsapp_business_account","entry":[7]}', id="entry-number"),
        pytest.param(envelope("change"), id="change-text"),
        pytest.param(envelope({"field": "messages"}), id="no-value"),
        pytest.param(envelope({"field": 7, "value": {}}), id="field-number"),
        pytest.param(envelope({"field": "messages", "value": []}), id="value-array"),
    ],
)
def test_what_is_no_delivery_is_refused_whole(body: bytes) -> None:
    """Without an envelope nobody can say what was lost, so the sender must hear of it."""
    with pytest.raises(PayloadError, match=r"^envelope$"):
        intake.parse(body, phone_number_ids={NUMBER})


@pytest.mark.parametrize(
    "poison",
    [
        pytest.param(item(id="wamid." + "a" * 10_240), id="W33-10-KB"),
        pytest.param(item(id="wamid.a\n"), id="W33-newline"),
        pytest.param(item(id="../../x"), id="W33-path"),
        pytest.param(item(id="wamid.a\0"), id="W23-nul-in-id"),
        pytest.param(item(id=7), id="id-number"),
        pytest.param(item(id=None), id="no-id"),
        pytest.param(item(text={"body": "a\0b"}), id="W23-nul-in-text"),
        pytest.param(item(text={"body": 7}), id="text-number"),
        pytest.param(item(text=[]), id="text-array"),
        pytest.param(item(text={"body": "a" * 65_537}), id="text-too-long"),
        pytest.param(item(timestamp="0"), id="W34-zero"),
        pytest.param(item(timestamp="-5"), id="W34-negative"),
        pytest.param(item(timestamp="99999999999999"), id="W34-year-3170843"),
        pytest.param(item(timestamp="9999999999"), id="W34-year-2286"),
        pytest.param(item(timestamp="١٦٩٧٠٤٣٤٧٣"), id="W34-arabic-digits"),
        pytest.param(item(timestamp="1_697_043"), id="W34-underscores"),
        pytest.param(item(timestamp=SENT), id="W34-number"),
        pytest.param(item(timestamp="1697043473\n"), id="W34-newline"),
        pytest.param(item(timestamp="1200000000"), id="W34-year-2008"),
        pytest.param(item(**{"from": None}), id="nobody"),
        pytest.param(item(**{"from": "+12025550123"}), id="phone-plus"),
        pytest.param(item(**{"from": "1234567890123456"}), id="phone-16-digits"),
        pytest.param(item(from_user_id="usa.1"), id="bsuid-form"),
        pytest.param(item(context={"forwarded": "yes"}), id="forwarded-text"),
        pytest.param(item(context=[]), id="context-array"),
        pytest.param(voice(id="12/../3"), id="media-id-path"),
        pytest.param(voice(id=""), id="media-id-empty"),
        pytest.param(voice(sha256="4654+8g="), id="digest-short"),
        pytest.param(voice(sha256=None), id="digest-none"),
        pytest.param(voice(sha256=DIGEST.hex()[:-1] + "g"), id="digest-no-hex"),
        pytest.param(voice(mime_type="audio/ogg\r\nx: y"), id="mime-two-lines"),
        pytest.param(voice(voice="true"), id="voice-text"),
        pytest.param(voice(url="u" * 2_049), id="url-long"),
        pytest.param("message", id="no-object"),
        pytest.param(
            item(type="revoke", text=None, revoke={"original_message_id": "x"}), id="revoke-id"
        ),
    ],
)
def test_w30_a_malformed_message_is_counted_and_spares_the_others(poison: Any) -> None:
    """One poisoned message must not have 999 other people's messages redelivered for a week."""
    updates, dropped = parsed(delivery(item(id="wamid.1"), poison, item(id="wamid.2")))

    assert [update.id for update in updates] == ["wamid.1", "wamid.2"]
    assert dropped == {"malformed": 1}


def test_w30_a_batch_of_a_thousand_loses_one() -> None:
    """The size of a batch must not change what a poisoned message does."""
    batch = [item(id=f"wamid.{n}") for n in range(999)]

    updates, dropped = parsed(delivery(*batch[:700], item(id="bad"), *batch[700:]))

    assert (len(updates), dropped) == (999, {"malformed": 1})


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({"id": "x", "status": "sent", "timestamp": str(SENT)}, id="id"),
        pytest.param({"id": "wamid.a", "status": "sent", "timestamp": "0"}, id="W34-timestamp"),
        pytest.param(
            {
                "id": "wamid.a",
                "status": "sent",
                "timestamp": str(SENT),
                "biz_opaque_callback_data": "o" * 513,
            },
            id="opaque",
        ),
        pytest.param(7, id="no-object"),
    ],
)
def test_a_malformed_status_is_counted_and_spares_the_others(status: Any) -> None:
    """Statuses come in the same batches as messages."""
    good = {"id": "wamid.b", "status": "read", "timestamp": str(SENT)}

    updates, dropped = parsed(delivery(item(), statuses=[status, good]))

    assert [type(update) for update in updates] == [Message, Status]
    assert dropped == {"malformed": 1}


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({}, id="no-metadata"),
        pytest.param({"metadata": {"phone_number_id": 7}}, id="number-id-number"),
        pytest.param({"metadata": {"phone_number_id": NUMBER}, "messages": {}}, id="messages"),
    ],
)
def test_a_malformed_change_is_counted_and_spares_the_others(value: dict[str, Any]) -> None:
    """The changes of one delivery belong to different numbers."""
    good = {"metadata": {"phone_number_id": NUMBER}, "messages": [item()]}

    updates, dropped = parsed(
        envelope({"field": "messages", "value": value}, {"field": "messages", "value": good})
    )

    assert (len(updates), dropped) == (1, {"malformed": 1})


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


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("hologram", "hologram"),
        ("Line\nbreak", "other"),
        ("x" * 41, "other"),
        (7, "other"),
        (None, "other"),
    ],
)
def test_w29_a_message_of_a_new_type_is_kept_as_unsupported(kind: Any, what: str) -> None:
    """The person deserves an answer even when we cannot read what they sent."""
    message = item(type=kind, text=None, hologram={"secret": "not read"})

    assert only(delivery(message)).content == Unsupported(what=what)


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
