"""
Who wrote a message: from the message itself, and from the contact of the change that it names.

- A number or user id that is left out, null or empty is not there. One that is there and that we
  cannot read is not nothing: somebody is named, and nobody else is put in their place.
- The contact list adds what the message lacks, only where that contact is the sender: joining two
  people's identities would be worse than knowing one alias fewer.
- A sender is *uncertain* where a number came with a user id that we cannot read, where a value
  contradicts itself, or where two contacts claim one id: the number may be another person's by
  now. Of an uncertain sender nothing is opened.
- Names and user names are never read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import PayloadError
from gateway.whatsapp import fields
from gateway.whatsapp.lenient import Odd
from gateway.whatsapp.payload import Identity

Contact = Mapping[str, Any]
NOBODY: Contact = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contacts:
    """The contacts of a change by each (kind, id) of theirs; *only* is the one, if it is one."""

    by_name: Mapping[tuple[str, str], Contact | Odd] = field(default_factory=dict)
    only: Contact = field(default_factory=dict)

    def named(self, kind: str, name: str | None) -> Contact | Odd:
        """Return the contact called *name*, an empty one, or an `Odd` if several are."""
        return self.by_name.get((kind, name or ""), NOBODY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who wrote, whether that is *certain*, and the contact that is theirs (or an empty one)."""

    identity: Identity
    certain: bool = True
    contact: Contact = field(default_factory=dict)


def contacts(value: Any) -> Contacts:
    """Return the ``contacts`` of a change; what is none is left out."""
    listed = value if isinstance(value, list) else []
    whole = [each for each in listed if isinstance(each, dict)]
    by_name: dict[tuple[str, str], Contact | Odd] = {}
    for contact in whole:
        for name in _names(contact):
            same = by_name.get(name, contact) == contact
            by_name[name] = contact if same else Odd(name)
    return Contacts(by_name=by_name, only=whole[0] if len(whole) == len(listed) == 1 else NOBODY)


def of(message: Contact, known: Contacts) -> Sender | None:
    """Return who wrote *message*, or None if it names nobody whom we can read."""
    phone, user = message.get("from"), message.get("from_user_id")
    named = _identity(phone, user)
    if named is None:
        return _by_contact(phone, user, known)
    theirs = known.named("phone", named.phone) or known.named("user", named.bsuid)
    if named.phone and named.bsuid:
        return Sender(identity=named, contact=NOBODY if isinstance(theirs, Odd) else theirs)
    if isinstance(theirs, Odd) or not _certain(phone, user):
        return Sender(identity=named, certain=False)
    return _from(theirs) or Sender(identity=named)


def _by_contact(phone: Any, user: Any, known: Contacts) -> Sender | None:
    if fields.absent(phone) and fields.absent(user):
        return _from(known.only)
    # In a form that we do not know, but perhaps the very form in which a contact has it.
    spelt = (known.named("spelt", each) for each in (phone, user) if isinstance(each, str))
    return next((_from(each) for each in spelt if isinstance(each, dict) and each), None)


def exactly(phone: Any, user: Any) -> Identity | None:
    """Return who *phone* and *user* name; raise `PayloadError` if one is there and unreadable."""
    found = _identity(phone, user) or Identity()
    for value, read in ((phone, found.phone), (user, found.bsuid)):
        if not fields.absent(value) and read is None:
            raise PayloadError("identity")
    return found if found.phone or found.bsuid else None


def _identity(phone: Any, user: Any) -> Identity | None:
    read = Identity(phone=fields.phone(phone) or None, bsuid=fields.user_id(user) or None)
    return read if read.phone or read.bsuid else None


def _from(contact: Contact) -> Sender | None:
    phone, user = contact.get("wa_id"), contact.get("user_id")
    found = _identity(phone, user)
    if found is None:
        return None
    return Sender(identity=found, certain=_certain(phone, user), contact=contact)


def _certain(phone: Any, user: Any) -> bool:
    """Whether a number is not contradicted by a user id beside it, nor either by itself."""
    unread = not fields.absent(user) and not fields.user_id(user)
    return not unread and not isinstance(phone, Odd)


def _names(contact: Contact) -> Iterator[tuple[str, str]]:
    for kind, key, read in (("phone", "wa_id", fields.phone), ("user", "user_id", fields.user_id)):
        spelt = contact.get(key)
        if name := read(spelt):
            yield kind, name
        if isinstance(spelt, str) and spelt:
            yield "spelt", spelt
