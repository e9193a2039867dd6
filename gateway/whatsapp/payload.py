"""
Updates as values: what one delivery of the WhatsApp Cloud API said, one value per update.

Every field here is personal data or may be: updates are sealed before they are written, and
none of their fields reaches a log, metric, queue or URL.
"""

import msgspec


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """
    Who wrote: at least one of *phone* (E.164 digits without "+") and *bsuid* is set.

    A user with a username may come without a phone number (BSUID only).
    """

    phone: str | None = None
    bsuid: str | None = None


class VoiceNote(msgspec.Struct, frozen=True, kw_only=True, tag="voice"):
    """
    An audio message; *voice* tells a recorded note from an audio file.

    *mime_type* may be empty, and *sha256* (raw bytes) None: WhatsApp did not say, or not so that
    we understand it. *caption* is what was typed beside it.
    """

    media_id: str
    mime_type: str = ""
    sha256: bytes | None = None
    voice: bool = False
    url: str | None = None
    caption: str = ""


class Text(msgspec.Struct, frozen=True, kw_only=True, tag="text"):
    """A typed message."""

    body: str


class Choice(msgspec.Struct, frozen=True, kw_only=True, tag="choice"):
    """A pressed reply button, a chosen list row, or a template's quick reply; one may be empty."""

    id: str
    title: str


class Reaction(msgspec.Struct, frozen=True, kw_only=True, tag="reaction"):
    """An emoji put on (or, when empty, taken off) a message; its id may be unknown (empty)."""

    message_id: str
    emoji: str


class Revoked(msgspec.Struct, frozen=True, kw_only=True, tag="revoked"):
    """The person deleted an earlier message: its audio and transcripts must go."""

    original_id: str


class Edited(msgspec.Struct, frozen=True, kw_only=True, tag="edited"):
    """
    The person changed an earlier message; *body* is the new text, if it is text.

    *caption* is what now stands beside a medium, or what somebody uncertain wrote: no turn of a
    conversation, but a right may be taken back by it.
    """

    original_id: str
    body: str | None
    caption: str = ""


class System(msgspec.Struct, frozen=True, kw_only=True, tag="system"):
    """A number, user-id or identity change; *what* is WhatsApp's word for it."""

    what: str
    new: Identity | None
    previous: Identity | None
    identity_hash: str | None = None


class Unsupported(msgspec.Struct, frozen=True, kw_only=True, tag="unsupported"):
    """
    A message of a type we do not work on (*what* is its type name, bounded and checked).

    *caption* is what was typed beside a picture, a video or a document.
    """

    what: str
    caption: str = ""


class Undelivered(msgspec.Struct, frozen=True, kw_only=True, tag="undelivered"):
    """
    Not written by the person: what we said to them, and WhatsApp did not deliver. To be sent again.

    *kind* and *purpose* are the message's and the first job's; *tries* counts the earlier ones.
    """

    text: str
    language: str
    kind: str
    purpose: str
    tries: int


class Unreadable(msgspec.Struct, frozen=True, kw_only=True, tag="unreadable"):
    """
    A message that we do work on (*what* is its type) and cannot read as one.

    *words* and *choice* are what can be read of it for certain (what was typed or is on the
    pressed button; that button's id): only what takes a right back from us may be acted on.
    """

    what: str
    words: str = ""
    choice: str = ""


Content = (
    VoiceNote
    | Text
    | Choice
    | Reaction
    | Revoked
    | Edited
    | System
    | Unsupported
    | Unreadable
    | Undelivered
)


def written(content: Content) -> str:
    """Return the words in *content*, wherever they stand: a body, an edit, a title, a caption."""
    match content:
        case Text(body=words) | Edited(body=str(words)) | Choice(title=words):
            return words
        case VoiceNote(caption=words) | Unsupported(caption=words) | Edited(caption=words):
            return words
        case Unreadable(words=words):
            return words
        case _:
            return ""


class Message(msgspec.Struct, frozen=True, kw_only=True, tag="message"):
    """
    One message from a person to one of the tenant's numbers.

    *sent_at* is epoch seconds; 0: WhatsApp did not say when, so the inbox dates it. *id* is
    WhatsApp's, or made of what came (``derived.``) where that has none.
    *error_codes* are Graph's, when WhatsApp could not hand the content over (131051, 131052).
    *identity_hash* is of the key by which WhatsApp knows this person's account, where it is told.
    *group* says that it was written to a group, not to us alone.
    """

    phone_number_id: str
    id: str
    sender: Identity
    sent_at: int
    content: Content
    forwarded: bool = False
    error_codes: tuple[int, ...] = ()
    identity_hash: str | None = None
    group: bool = False


class Status(msgspec.Struct, frozen=True, kw_only=True, tag="status"):
    """
    What became of a message we sent; *opaque* is our ``biz_opaque_callback_data`` or empty.

    *state* is an open set: ``sent``, ``delivered``, ``read``, ``played``, ``failed``, ...
    *at* is epoch seconds; 0: WhatsApp did not say when. *message_id* may be empty.
    """

    phone_number_id: str
    message_id: str
    state: str
    at: int
    opaque: str
    error_codes: tuple[int, ...] = ()


class ChannelFault(msgspec.Struct, frozen=True, kw_only=True, tag="fault"):
    """A system-level error WhatsApp reported, such as 131035 (an inbound message was lost)."""

    phone_number_id: str
    codes: tuple[int, ...]


class Unattributed(msgspec.Struct, frozen=True, kw_only=True, tag="unattributed"):
    """
    A part of a delivery that names no sender we can read; *raw* is that part, cut to a bound.

    *reason* says what it lacks; *phone_number_id* is empty where that is what it lacks.
    """

    phone_number_id: str
    reason: str
    raw: bytes


Update = Message | Status | ChannelFault | Unattributed


class Parsed(msgspec.Struct, frozen=True, kw_only=True):
    """All updates of one delivery, and what was counted and dropped (field name -> count)."""

    updates: tuple[Update, ...]
    dropped: dict[str, int]
