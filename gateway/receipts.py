"""
Consent receipts: what a person agreed to, signed, with its place in the log; sent when asked for.

- The record is built from the ledger; the log gets its digest first, and the receipt says where.
- The key is the cell's own, wrapped by the keyring like its other keys; its thumbprint is in the
  log beside the digest, so that the log's signature vouches for it.
- The file carries no name of a person and no number, in its name or its content.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.model import Event, EventType
from gateway import outbox, phrases, rights
from gateway.note import Note
from gateway.outbox import Body, Kind
from gateway.passage import leaving
from gateway.permit import permitted
from gateway.ports import Ports
from gateway.settings import Tenant
from policy import canonical, receipt
from policy.model import Allowed, Consent, Obligations, Stage
from policy.receipt import Circumstances, Evidence, Party, Recipient
from residency.model import Passage, Service

KEY = "receipt-signing"
FILE = "consent-receipt.json"
UPLOAD_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Whose receipt it is, whose law holds, in which *language*, and which *job* asked, if any."""

    tenant: Tenant
    subject: str
    jurisdiction: str
    language: str
    job: str | None = None
    actor: str = "gateway"


async def send(note: Note, ports: Ports) -> None:
    """Send this person a receipt of what they agreed to, refused and took back; or say: nothing."""
    body = await outbox.intended(note, Kind.RECEIPT, ports)
    if body is None and not await ports.consents.history(note.tenant.id, note.subject):
        await rights.tell(note, "no_receipt", ports)
        return
    allowed = await permitted(note, Stage.NOTICE, ports)
    body = body or await _intended(note, allowed, ports)
    if not await outbox.pending(note, Kind.RECEIPT, ports):
        return  # sent, refused or in doubt: a second file would only add to it
    media = await _uploaded(note, body.text.encode(), allowed, ports)
    graph, to = ports.graphs[note.message.phone_number_id], note.message.sender

    async def document(opaque: str, passage: Passage) -> str:
        return await graph.document(to, media, FILE, opaque=opaque, passage=passage)

    await outbox.deliver(note, Kind.RECEIPT, allowed, document, ports)


async def issue(
    holder: Holder, rows: Sequence[Consent], obligations: Obligations, ports: Ports
) -> bytes:
    """Return a signed receipt of *rows*; the log holds the digest of its record before it is."""
    made = receipt.record(rows, circumstances(holder, obligations, ports))
    key = Ed25519PrivateKey.from_private_bytes(await ports.keys.named(KEY))
    ident = f"rc_{secrets.token_hex(16)}"
    leaf = await ports.trail.append(
        Event(
            id=f"{ident}.issued",
            type=EventType.RECEIPT_ISSUED,
            at=ports.now(),
            tenant=holder.tenant.id,
            subject=holder.subject,
            job=holder.job,
            actor=holder.actor,
            detail={
                "key": receipt.thumbprint(key.public_key()),
                "receipt": ident,
                "record_sha256": canonical.digest(made),
            },
        )
    )
    evidence = Evidence(origin=leaf.origin, index=leaf.index, leaf_sha256=leaf.leaf_hash)
    return receipt.sign(receipt.receipt(made, evidence, receipt_id=ident, at=ports.now()), key)


def circumstances(holder: Holder, obligations: Obligations, ports: Ports) -> Circumstances:
    """Return what a record says of this cell, its tenant and the law that holds for *holder*."""
    tenant = holder.tenant
    return Circumstances(
        subject=holder.subject,
        controller=Party(
            id=tenant.id,
            name=tenant.controller,
            role="dpv:DataController",
            address=tenant.address or "",
            contact=tenant.contact or "",
        ),
        jurisdiction=holder.jurisdiction,
        language=holder.language,
        storage=[ports.region],
        kept={
            "raw_audio": obligations.raw_audio_seconds,
            "redacted_transcript": obligations.redacted_seconds,
            "reply_audio": obligations.reply_audio_seconds,
            "transcript": obligations.transcript_seconds,
        },
        recipients=recipients(ports),
        withdrawal=phrases.say("withdraw_how", holder.language, fallback=tenant.languages[0]),
    )


def recipients(ports: Ports) -> list[Recipient]:
    """Return the registry rows that may serve: those this cell reaches, and WhatsApp itself."""
    reached = {*ports.hearing, *ports.speaking, *ports.understanding}
    return [
        Recipient(
            id=row.id,
            vendor=row.vendor,
            service=row.service.value,
            region=row.region,
            jurisdiction=row.jurisdiction,
        )
        for row in sorted(ports.processors.values(), key=lambda row: row.id)
        if row.id in reached or (row.service is Service.MESSAGING and row.region == ports.region)
    ]


async def _intended(note: Note, allowed: Allowed, ports: Ports) -> Body:
    holder = Holder(
        tenant=note.tenant,
        subject=note.subject,
        jurisdiction=note.jurisdiction.code,
        language=await rights.language_of(note, ports),
        job=note.job.id,
    )
    rows = await ports.consents.history(note.tenant.id, note.subject)
    document = await issue(holder, rows, allowed.obligations, ports)
    body = Body(text=document.decode(), language=note.tenant.languages[0])
    sealed = await outbox.sealed(note, Kind.RECEIPT, body, ports)
    async with ports.engine.begin() as tx:
        await ports.jobs.hold(tx, note.job)
        await outbox.intend(tx, note, Kind.RECEIPT, sealed, ports)
    return body


async def _uploaded(note: Note, content: bytes, allowed: Allowed, ports: Ports) -> str:
    processor = ports.processors[allowed.processors[0]]
    graph = ports.graphs[note.message.phone_number_id]
    async with leaving(
        note, processor, "upload-receipt", note.job.artifact, allowed, ports, deadline_s=UPLOAD_S
    ) as (_, passage):
        return await graph.upload_text(content, passage=passage)
