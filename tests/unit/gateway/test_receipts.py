"""Receipts: signed, in the log before they exist, sent as a file, and free of personal data."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.desk import CONTROLLER, PHONE, TENANT, Desk

from audit.errors import AppendError
from audit.model import EventType
from gateway import phrases, receipts, turns
from gateway.demo.graph import ACCEPT_THEN_DROP
from gateway.errors import ChannelUnknownError
from gateway.note import SPOKEN
from gateway.whatsapp.payload import Text
from policy import receipt


async def asked(desk: Desk) -> None:
    """Have ada ask for her receipt."""
    await turns.act(await desk.note(Text(body="consent receipt")), desk.ports)


@pytest.mark.anyio
async def test_a_receipt_comes_as_a_file_that_verifies_and_is_in_the_log(desk: Desk) -> None:
    """Art. 7(1) for the person: what they agreed to, in their hands, with its place in the log."""
    await desk.consents()

    await asked(desk)

    [message] = desk.ada.inbox
    key = Ed25519PrivateKey.from_private_bytes(await desk.ports.keys.named(receipts.KEY))
    found = receipt.verify(message.text.encode(), receipt.thumbprint(key.public_key()))
    [issued] = [e for e in desk.trail.seen if e.type is EventType.RECEIPT_ISSUED]
    [leaf] = [
        leaf
        for leaf in await desk.trail.inner.leaves(job=issued.job)
        if leaf.event.type is EventType.RECEIPT_ISSUED
    ]
    assert (message.kind, message.filename) == ("document", "consent-receipt.json")
    assert found["vc:evidence"]["vc:logIndex"] == leaf.index
    assert found["vc:evidence"]["vc:recordSha256"] == issued.detail["record_sha256"]
    assert issued.detail["key"] == receipt.thumbprint(key.public_key())


@pytest.mark.anyio
async def test_a_receipt_names_the_controller_the_law_and_who_may_serve(desk: Desk) -> None:
    """Every processor that this cell reaches, each region, each period; none that it does not."""
    await desk.consents()

    await asked(desk)

    [message] = desk.ada.inbox
    record = json.loads(message.text)["receipt"]["vc:record"]
    [main] = record["dpv:hasProcess"]
    assert record["dpv:hasDataController"]["dpv:hasName"] == CONTROLLER
    assert record["dpv:hasJurisdiction"] == ["DE"]
    assert main["dpv:hasPurpose"]["dct:identifier"] == SPOKEN
    named = [each["dpv:hasIdentifier"] for each in main["dpv:hasRecipient"]]
    assert named == ["msg.here", "nlu.one", "stt.one", "stt.two", "tts.one"]
    periods = {
        each["dct:identifier"]: each["dpv:hasStorageCondition"][0]["dpv:hasDuration"]
        for each in main["dpv:hasPersonalData"]
    }
    assert periods["raw_audio"] == "PT3600S"
    assert set(periods) == {"raw_audio", "redacted_transcript", "reply_audio", "transcript"}


@pytest.mark.anyio
async def test_a_receipt_holds_nothing_that_identifies_a_person(desk: Desk) -> None:
    """It may be forwarded: pseudonym and keyed hashes only."""
    await desk.consents()

    await asked(desk)

    [message] = desk.ada.inbox
    assert PHONE not in message.text
    assert "wamid" not in message.text
    assert await desk.subject() in message.text


@pytest.mark.anyio
async def test_its_upload_and_its_sending_are_touches_under_the_notice_stage(desk: Desk) -> None:
    """WhatsApp handles it: that is on record like any other handling."""
    await desk.consents()

    await asked(desk)

    assert desk.types("policy.decided", "touch.began", "receipt.issued") == [
        "policy.decided notice",
        "receipt.issued",
        "touch.began upload-receipt",
        "touch.began send-receipt",
    ]


@pytest.mark.anyio
async def test_without_a_leaf_there_is_no_receipt(desk: Desk) -> None:
    """A receipt that the log does not know is worth nothing."""
    await desk.consents()
    desk.trail.refuses = lambda event: event.type is EventType.RECEIPT_ISSUED

    with pytest.raises(AppendError):
        await asked(desk)

    assert desk.ada.inbox == []


@pytest.mark.anyio
async def test_who_never_said_anything_has_nothing_to_show(desk: Desk) -> None:
    """An empty receipt would look like one."""
    await asked(desk)

    assert desk.texts() == [phrases.say("no_receipt", "en")]
    assert desk.types("receipt.issued") == []


@pytest.mark.anyio
async def test_a_receipt_in_doubt_is_not_sent_again(desk: Desk) -> None:
    """One request, one receipt, one leaf: a second try goes on with the same file."""
    await desk.consents()
    note = await desk.note(Text(body="consent receipt"))
    desk.world.faults.add("messages", ACCEPT_THEN_DROP)
    with pytest.raises(ChannelUnknownError):
        await turns.act(note, desk.ports)

    await turns.act(note, desk.ports)

    assert [message.kind for message in desk.ada.inbox] == ["document"]
    assert desk.types("receipt.issued") == ["receipt.issued"]


@pytest.mark.anyio
async def test_a_file_is_found_in_the_ledger_of_its_tenant_only(desk: Desk) -> None:
    """Another controller's consents are none of this one's business."""
    await desk.consents()
    subject = await desk.subject()

    assert await desk.ports.consents.history("other", subject) == []
    assert len(await desk.ports.consents.history(TENANT, subject)) == 1
