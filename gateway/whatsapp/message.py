"""
One ``messages[]`` item of a webhook as a `Message`, field by field.

- Each field degrades by itself: an optional one that we cannot read is as if left out.
- A type that we do not work on becomes `Unsupported` with its bounded name; of its content only
  the caption is read. So does a known type whose content WhatsApp left out (then *error_codes*
  say why).
- What we do work on and cannot read becomes `Unreadable`: the person is told, and a no that is
  certain all the same is acted on. So does what we could keep and never find again (a message
  without an id of its own cannot be taken back), and what nobody certain said.
- Only an item that names no sender is no message: `PayloadError`.
- Names, user names, advertisement data and quoted messages are never read.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Any

from gateway.errors import PayloadError
from gateway.whatsapp import fields, lenient, sender
from gateway.whatsapp.payload import (
    Choice,
    Content,
    Edited,
    Message,
    Reaction,
    Revoked,
    System,
    Text,
    Unreadable,
    Unsupported,
    VoiceNote,
)
from gateway.whatsapp.sender import Contacts, Sender

MAX_TEXT = 65_536  # characters; WhatsApp's own limit for a person
MAX_ID = 256
MAX_TITLE = 256
MAX_EMOJI = 64
MAX_URL = 2_048
MAX_HASH = 256
MAX_WORDS = 4_096  # of what is unreadable: more than any order that we obey
DERIVED = "derived."

_CHANGED = re.compile(r"changed from (\S{1,160}) to (\S{1,160})\Z")
_REPLIES = ("button_reply", "list_reply")


def read(item: Any, *, phone_number_id: str, contacts: Contacts) -> Message:
    """Return *item* as a value; raise `PayloadError` if it names nobody."""
    found = fields.mapping(item)
    content = _content(found)
    writer = _moved(content, found) or sender.of(found, contacts)
    if writer is None:
        raise PayloadError("sender")
    own_id = fields.message_id(found.get("id"))
    return Message(
        phone_number_id=phone_number_id,
        id=own_id or _derived_id(found, phone_number_id),
        sender=writer.identity,
        sent_at=fields.seconds(found.get("timestamp")),
        content=_reliable(content, found, certain=writer.certain, findable=bool(own_id)),
        forwarded=_forwarded(fields.section(found.get("context"))),
        error_codes=fields.codes(found.get("errors")),
        identity_hash=_hash(writer.contact.get("identity_key_hash")),
        group=found.get("group_id") is not None,
    )


def _content(found: dict[str, Any]) -> Content:
    kind = fields.word(found.get("type"))
    if kind == fields.OTHER:
        return _unreadable(found)
    if fields.absent(found.get(kind)) or kind not in _READERS:
        return Unsupported(what=kind, caption=_caption(fields.section(found.get(kind))))
    try:
        return _READERS[kind](fields.mapping(found[kind]), found)
    except PayloadError:
        return _unreadable(found)


def _voice(section: dict[str, Any], _found: dict[str, Any]) -> VoiceNote:
    return VoiceNote(
        media_id=_needed(fields.object_id(section.get("id"))),
        mime_type=fields.mime(section.get("mime_type")),
        sha256=fields.sha256(section.get("sha256")),
        voice=fields.flag(section.get("voice")),
        url=fields.words(section.get("url"), MAX_URL) or None,
        caption=_caption(section),
    )


def _caption(section: dict[str, Any]) -> str:
    """Return the words beside a medium, which may be a STOP; an odd one is none."""
    found = section.get("caption")
    whole = isinstance(found, str) and len(found) <= MAX_TEXT
    return fields.words(found, MAX_TEXT) if whole else ""


def _text(section: dict[str, Any], _found: dict[str, Any]) -> Text:
    return Text(body=_said(section.get("body"), MAX_TEXT))


def _interactive(section: dict[str, Any], _found: dict[str, Any]) -> Content:
    kind = fields.word(section.get("type"))
    if kind == fields.OTHER:
        raise PayloadError("malformed")
    if kind not in _REPLIES:
        return Unsupported(what=f"interactive.{kind}")
    reply = fields.mapping(section.get(kind))
    return _choice(reply.get("id"), reply.get("title"))


def _button(section: dict[str, Any], _found: dict[str, Any]) -> Choice:
    return _choice(section.get("payload"), section.get("text"))


def _choice(choice_id: Any, title: Any) -> Choice:
    """Return what was pressed; a template's button may come without a payload, or a long one."""
    given = [value for value in (choice_id, title) if not fields.absent(value)]
    if not given or not all(isinstance(value, str) for value in given):
        raise PayloadError("malformed")
    if not fields.absent(choice_id):
        # What had to be mended is not the id of a button of ours: a yes must be one.
        fields.text(choice_id, len(choice_id))
    return Choice(id=fields.words(choice_id, MAX_ID), title=fields.words(title, MAX_TITLE))


def _reaction(section: Any, _found: dict[str, Any]) -> Reaction:
    # A reaction that was taken off comes with an empty emoji or without the key.
    return Reaction(
        message_id=fields.message_id(section.get("message_id")),
        emoji=fields.words(section.get("emoji"), MAX_EMOJI),
    )


def _revoked(section: dict[str, Any], _found: dict[str, Any]) -> Revoked:
    return Revoked(original_id=_needed(fields.message_id(section.get("original_message_id"))))


def _edited(section: dict[str, Any], _found: dict[str, Any]) -> Edited:
    text, medium = _rewritten(section)
    return Edited(
        original_id=_needed(fields.message_id(section.get("original_message_id"))),
        body=fields.words(text.get("body"), MAX_TEXT) or None,
        caption=_caption(medium),
    )


def _rewritten(edit: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the new text of *edit*, and the new medium; what it has not is empty."""
    message = fields.section(edit.get("message"))
    kind = fields.word(message.get("type"))
    return fields.section(message.get("text")), fields.section(message.get(kind))


def _unsupported(section: dict[str, Any], _found: dict[str, Any]) -> Unsupported:
    return Unsupported(what=f"unsupported.{fields.word(section.get('type'))}")


def _system(section: dict[str, Any], found: dict[str, Any]) -> System:
    # Whose two names these are must be beyond doubt: the link is what makes two people one.
    new = sender.exactly(section.get("wa_id", section.get("new_wa_id")), section.get("user_id"))
    former = section.get("previous_user_id", _told_before(section) or found.get("from_user_id"))
    return System(
        what=fields.word(section.get("type")),
        new=new,
        previous=sender.exactly(found.get("from"), former) if new else None,
        identity_hash=_hash(fields.section(found.get("identity")).get("hash")),
    )


def _told_before(section: dict[str, Any]) -> str | None:
    """Return the former user id, which some messages name in their sentence alone."""
    # The sentence begins with a name that the person chose: only its end is WhatsApp's.
    told = _CHANGED.search(section["body"]) if isinstance(section.get("body"), str) else None
    return told[1] if told and told[2] == section.get("user_id") else None


def _hash(told: Any) -> str | None:
    return fields.words(told, MAX_HASH) or None


_READERS: dict[str, Callable[[dict[str, Any], dict[str, Any]], Content]] = {
    "audio": _voice,
    "button": _button,
    "edit": _edited,
    "interactive": _interactive,
    "reaction": _reaction,
    "revoke": _revoked,
    "system": _system,
    "text": _text,
    "unsupported": _unsupported,
}


def _moved(content: Content, found: dict[str, Any]) -> Sender | None:
    """Return whom a system message is about: it may come without a sender."""
    if not isinstance(content, System) or any(map(found.get, ("from", "from_user_id"))):
        return None
    about = content.previous or content.new
    return Sender(identity=about) if about else None


def _reliable(content: Content, found: dict[str, Any], *, certain: bool, findable: bool) -> Content:
    match content:
        case Reaction() | Revoked() | Unsupported() | Unreadable():
            return content
        case Edited(original_id=original, body=body, caption=caption) if not certain:
            return Edited(original_id=original, body=None, caption=body or caption)
        case VoiceNote() | Text() if not findable:
            return _unreadable(found)
        case _:
            return content if certain else _unreadable(found)


def _unreadable(found: dict[str, Any]) -> Unreadable:
    """Return what is certain of *found* all the same: one text, one choice, or none."""
    kind = fields.word(found.get("type"))
    text, button, edit, interactive, own = (
        fields.section(found.get(key)) for key in ("text", "button", "edit", "interactive", kind)
    )
    replies = [fields.section(interactive.get(each)) for each in _REPLIES]
    edited, medium = _rewritten(edit)
    captions = (own.get("caption"), medium.get("caption"))
    shown = (reply.get("title") for reply in replies)
    said = (text.get("body"), button.get("text"), edited.get("body"), *captions, *shown)
    chosen = (button.get("payload"), *(reply.get("id") for reply in replies))
    return Unreadable(what=kind, words=_single(said, MAX_WORDS), choice=_single(chosen, MAX_ID))


def _single(values: Iterable[Any], limit: int) -> str:
    """Return the one of *values* that was given, or "" if several or none were."""
    given = [value for value in values if not fields.absent(value)]
    return fields.words(given[0], limit) if len(given) == 1 else ""


def _derived_id(found: dict[str, Any], phone_number_id: str) -> str:
    """Return an id that the same item has again when it is delivered again."""
    content = phone_number_id.encode() + b"\0" + lenient.dumps(found)
    return f"{DERIVED}{hashlib.sha256(content).hexdigest()}"


def _forwarded(context: dict[str, Any]) -> bool:
    return any(fields.flag(context.get(mark)) for mark in ("forwarded", "frequently_forwarded"))


def _said(value: Any, limit: int) -> str:
    if not isinstance(value, str):
        raise PayloadError("malformed")
    return fields.words(value, limit)


def _needed(value: str) -> str:
    if not value:
        raise PayloadError("malformed")
    return value
