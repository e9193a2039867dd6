"""
One ``messages[]`` item of a webhook as a `Message`, field by field.

- A type that we do not work on becomes `Unsupported` with its bounded name; of its content only
  the caption is read. So does a known type whose content WhatsApp left out (then *error_codes*
  say why).
- A field that is there and wrong makes the whole item malformed: `PayloadError`.
- The sender's user id is taken from the contact list only where that contact is the sender:
  joining two people's identities would be worse than knowing one alias fewer.
- Names, user names, advertisement data and quoted messages are never read.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.errors import PayloadError
from gateway.whatsapp import fields
from gateway.whatsapp.payload import (
    Choice,
    Content,
    Edited,
    Identity,
    Message,
    Reaction,
    Revoked,
    System,
    Text,
    Unsupported,
    VoiceNote,
)

MAX_TEXT = 65_536  # characters; WhatsApp's own limit for a person
MAX_ID = 256
MAX_TITLE = 256
MAX_EMOJI = 64
MAX_URL = 2_048
MAX_HASH = 256

Directory = Mapping[str, tuple[Any, Any, Any]]
_ONLY = ""
_CHANGED = re.compile(r"changed from (\S{1,160}) to (\S{1,160})\Z")


def directory(contacts: Sequence[Any]) -> Directory:
    """Return (phone, user id, identity key hash) of *contacts*, as they came, under each id."""
    entries = [
        (contact.get("wa_id"), contact.get("user_id"), contact.get("identity_key_hash"))
        for contact in contacts
        if isinstance(contact, dict)
    ]
    found = {key: entry for entry in entries for key in entry[:2] if isinstance(key, str)}
    return found | {_ONLY: entries[0]} if len(entries) == 1 else found


def read(item: Any, *, phone_number_id: str, contacts: Directory) -> Message:
    """Return *item* as a value; raise `PayloadError` when a field of it is malformed."""
    found = fields.mapping(item)
    kind = fields.word(found.get("type"))
    content = _content(kind, found)
    context = fields.mapping(found.get("context", {}))
    sender = _sender(found, contacts, content)
    return Message(
        phone_number_id=phone_number_id,
        id=fields.wamid(found.get("id")),
        sender=sender,
        sent_at=fields.seconds(found.get("timestamp")),
        content=content,
        forwarded=any(
            fields.flag(context.get(mark)) for mark in ("forwarded", "frequently_forwarded")
        ),
        error_codes=fields.codes(found.get("errors")),
        identity_hash=_identity_hash(sender, contacts),
        group=found.get("group_id") is not None,
    )


def _content(kind: str, found: dict[str, Any]) -> Content:
    if kind not in found:
        return Unsupported(what=kind)
    section = fields.mapping(found[kind])
    if kind == "system":
        return _system(section, found)
    reader = _READERS.get(kind)
    return reader(section) if reader else Unsupported(what=kind, caption=_caption(section))


def _voice(section: dict[str, Any]) -> VoiceNote:
    url = section.get("url")
    return VoiceNote(
        media_id=fields.number_id(section.get("id")),
        mime_type=fields.mime(section.get("mime_type")),
        sha256=fields.sha256(section.get("sha256")),
        voice=fields.flag(section.get("voice")),
        url=None if url is None else fields.text(url, MAX_URL),
        caption=_caption(section),
    )


def _caption(section: dict[str, Any]) -> str:
    """Return the words beside a medium, which may be a STOP; an odd one is none."""
    found = section.get("caption")
    return found if isinstance(found, str) and len(found) <= MAX_TEXT else ""


def _text(section: dict[str, Any]) -> Text:
    return Text(body=fields.text(section.get("body"), MAX_TEXT))


def _interactive(section: dict[str, Any]) -> Content:
    kind = fields.word(section.get("type"))
    if kind not in ("button_reply", "list_reply"):
        return Unsupported(what=f"interactive.{kind}")
    reply = fields.mapping(section.get(kind))
    return _choice(reply.get("id"), reply.get("title"))


def _button(section: dict[str, Any]) -> Choice:
    return _choice(section.get("payload"), section.get("text"))


def _choice(choice_id: Any, title: Any) -> Choice:
    return Choice(id=fields.text(choice_id, MAX_ID), title=fields.text(title, MAX_TITLE))


def _reaction(section: dict[str, Any]) -> Reaction:
    # A reaction that was taken off comes with an empty emoji or without the key.
    return Reaction(
        message_id=fields.wamid(section.get("message_id")),
        emoji=fields.text(section.get("emoji", ""), MAX_EMOJI),
    )


def _revoked(section: dict[str, Any]) -> Revoked:
    return Revoked(original_id=fields.wamid(section.get("original_message_id")))


def _edited(section: dict[str, Any]) -> Edited:
    message = fields.mapping(section.get("message", {}))
    return Edited(
        original_id=fields.wamid(section.get("original_message_id")),
        body=_text(fields.mapping(message["text"])).body if "text" in message else None,
    )


def _unsupported(section: dict[str, Any]) -> Unsupported:
    return Unsupported(what=f"unsupported.{fields.word(section.get('type'))}")


def _system(section: dict[str, Any], found: dict[str, Any]) -> System:
    new = _identity(section.get("wa_id", section.get("new_wa_id")), section.get("user_id"))
    former = section.get("previous_user_id", _told_before(section) or found.get("from_user_id"))
    previous = _identity(found.get("from"), former) if new else None
    told = found.get("identity")
    return System(
        what=fields.word(section.get("type")),
        new=new,
        previous=previous,
        identity_hash=_hash(told.get("hash")) if isinstance(told, dict) else None,
    )


def _told_before(section: dict[str, Any]) -> str | None:
    """Return the former user id, which some messages name in their sentence alone."""
    # The sentence begins with a name that the person chose: only its end is WhatsApp's.
    told = _CHANGED.search(section["body"]) if isinstance(section.get("body"), str) else None
    return told[1] if told and told[2] == section.get("user_id") else None


_READERS: dict[str, Callable[[dict[str, Any]], Content]] = {
    "audio": _voice,
    "button": _button,
    "edit": _edited,
    "interactive": _interactive,
    "reaction": _reaction,
    "revoke": _revoked,
    "text": _text,
    "unsupported": _unsupported,
}


def _sender(found: dict[str, Any], contacts: Directory, content: Content) -> Identity:
    sender = _identity(found.get("from"), found.get("from_user_id"))
    if sender is None and isinstance(content, System):
        sender = content.previous or content.new
    if sender is None:
        sender = _identity(*contacts.get(_ONLY, (None, None, None))[:2])
    if sender is None:
        raise PayloadError("malformed")
    if sender.phone and sender.bsuid:
        return sender
    return _identity(*_entry(sender, contacts)[:2]) or sender


def _entry(sender: Identity, contacts: Directory) -> tuple[Any, Any, Any]:
    return contacts.get(sender.phone or sender.bsuid or "", (None, None, None))


def _identity_hash(sender: Identity, contacts: Directory) -> str | None:
    return _hash(_entry(sender, contacts)[2])


def _hash(told: Any) -> str | None:
    return told[:MAX_HASH] if isinstance(told, str) and told else None


def _identity(phone: Any, bsuid: Any) -> Identity | None:
    if phone is None and bsuid is None:
        return None
    return Identity(
        phone=None if phone is None else fields.phone(phone),
        bsuid=None if bsuid is None else fields.bsuid(bsuid),
    )
