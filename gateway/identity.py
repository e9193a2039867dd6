"""
Who writes: known names and one sighting with its time in, a person out. Pure.

- A user id names one person. A number is only lent: it leads to whoever held it when a message was
  *written*, however late the message comes.
- A number that comes with another user id than it came with before is another person's, until a
  system message names both. What the former holder has stays theirs; their user id finds it.
- A number without a user id that was silent for longer than carriers wait before they assign a
  number again may be anybody's: who writes from it is asked anew.
- Where the identity key of a number changed, the account is somebody else's until shown otherwise:
  all names of that account lead to somebody new from then on.
- A number and a user id that meet in one message are one person, where neither rule above objects.
- In doubt two people stay two: asking once too often costs a moment, joining two costs a secret.

Names are keyed hashes; nothing here knows a number.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

DAY_S = 86_400


class Why(StrEnum):
    """Why a name leads to somebody since a time, and what a merge or a split rests on; sorted."""

    ENDED = "name.ended"  # its holder moved to another number, as a system message said
    FIRST = "first"  # nobody had been known by it
    IDENTITY_CHANGED = "identity.changed"
    MET = "number.with_user_id"  # the two came in one message
    NUMBER_CHANGED = "number.changed"  # a system message names the old and the new
    OTHER_USER_ID = "user_id.other"
    SILENT = "number.silent"
    USER_ID_CHANGED = "user_id.changed"  # a system message names the old and the new


TAKEN_UP = frozenset({Why.ENDED, Why.SILENT})
"""After these a number is taken up by somebody of whom its former holder says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """
    The name *alias* leads to *subject*, *since* then and before *until* (epoch seconds).

    *seen* is the last day it came with a message (days since the epoch). A number keeps the
    *user_id* it last came with, and either keeps the *device*, the identity key's hash.
    """

    alias: str
    subject: str
    since: int
    seen: int
    until: int | None = None
    user_id: str = ""
    device: str = ""
    why: Why = Why.FIRST


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """The names that one update gives its author, written *at* that second; one may be empty."""

    at: int
    number: str = ""
    user_id: str = ""
    device: str = ""

    @property
    def day(self) -> int:
        """Return the day it was written, since the epoch."""
        return self.at // DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    It is *subject*, because *why*; *links* are to be written, by (alias, since).

    *left* had one of the names before and keeps all else; *joined* became *subject* now.
    """

    subject: str
    why: Why
    links: tuple[Link, ...] = ()
    left: str = ""
    joined: tuple[str, ...] = ()


def holding(known: Sequence[Link], alias: str, at: int) -> Link | None:
    """Return the link that *alias* had at that time; the first one ever also counts before it."""
    mine = sorted((link for link in known if link.alias == alias), key=lambda link: link.since)
    before = [link for link in mine if link.since <= at]
    if before:
        return before[-1]
    return mine[0] if mine and mine[0].why is Why.FIRST else None


def recognize(who: Sighting, known: Sequence[Link], *, fresh: str, silent_days: int) -> Answer:
    """Say who wrote *who*; *fresh* is the name for somebody new."""
    number, named = holding(known, who.number, who.at), holding(known, who.user_id, who.at)
    doubts = _doubt(number, who, silent_days), _doubt(named, who, silent_days)
    if Why.IDENTITY_CHANGED in doubts:
        return identity_changed(who, known, fresh=fresh, silent_days=silent_days)
    by_number = number.subject if number and doubts[0] is None else ""
    by_id = named.subject if named and doubts[1] is None else ""
    why = doubts[0] or doubts[1] or Why.FIRST
    joined: tuple[str, ...] = ()
    if named and by_id and _renewed_since(named, who, known):
        by_id, why = by_number or fresh, Why.IDENTITY_CHANGED
    elif number and by_number and by_id and by_number != by_id:
        if not number.user_id:
            joined, why = (by_number,), Why.MET
        else:
            why = Why.OTHER_USER_ID
    subject = by_id or by_number or _next(who, known, doubts[0], silent_days) or fresh
    links = _links(who, known, subject, joined, why)
    return Answer(
        subject=subject,
        why=why,
        left=_left((number, named), who.at, {subject, *joined}),
        joined=joined,
        links=links,
    )


def changed(
    old: Sighting, new: Sighting, known: Sequence[Link], *, fresh: str, silent_days: int
) -> Answer:
    """
    Say who it is that a system message says became *new*, from *old*.

    Two names of one kind are evidence that two are one. A system message that names less says no
    more than a message that came with what it names.
    """
    numbers = bool(old.number and new.number and old.number != new.number)
    if not (old.user_id and new.user_id) and not numbers:
        both = replace(new, number=new.number or old.number, user_id=new.user_id or old.user_id)
        return recognize(both, known, fresh=fresh, silent_days=silent_days)
    why = Why.USER_ID_CHANGED if old.user_id and new.user_id else Why.NUMBER_CHANGED
    before = _known_as(old, new, known)
    first = recognize(before, known, fresh=fresh, silent_days=silent_days)
    known = written(known, first)
    joined = _became(new, known, first.subject, silent_days)
    then = _links(new, known, first.subject, joined, why)
    then += _links(replace(old, number=""), known, first.subject, joined, why)
    if numbers:
        then += _given_up(old, written(known, replace(first, links=then)), first.subject)
    former = (holding(known, new.number, new.at),)
    others = {first.subject, *joined, *first.joined}
    return Answer(
        subject=first.subject,
        why=why,
        left=_left(former, new.at, others) if first.left in {"", *others} else first.left,
        joined=(*first.joined, *joined),
        links=(*first.links, *then),
    )


def identity_changed(
    who: Sighting, known: Sequence[Link], *, fresh: str, silent_days: int
) -> Answer:
    """Say who has the account of *who* from that time on, when its identity key changed."""
    number = holding(known, who.number, who.at)
    theirs = number if _doubt(number, who, silent_days) not in TAKEN_UP else None
    user_id = who.user_id or (theirs.user_id if theirs else "")
    names = [alias for alias in (who.number, user_id) if alias]
    mine = [link for link in known if link.alias in names]
    same = next((link.subject for link in mine if _is_after(link, who)), "")
    before = [link for alias in names if (link := holding(known, alias, who.at))]
    left = {link.subject for link in before} - {same}
    if same and not left:
        return Answer(subject=same, why=Why.IDENTITY_CHANGED)
    subject = same or fresh
    links: list[Link] = []
    for alias in names:
        link = Link(
            alias=alias,
            subject=subject,
            since=who.at,
            seen=who.day,
            user_id=user_id if alias == who.number else "",
            device=who.device,
            why=Why.IDENTITY_CHANGED,
        )
        links += _put(known, link)
    # What was written later, and was worked on before we knew, was somebody else's by then.
    links += [
        replace(link, subject=subject)
        for link in mine
        if link.since > who.at and link.subject in left
    ]
    return Answer(
        subject=subject,
        why=Why.IDENTITY_CHANGED,
        left=_left(before, who.at, {subject}),
        links=tuple(links),
    )


def written(known: Sequence[Link], answer: Answer) -> tuple[Link, ...]:
    """Return *known* as it is once *answer* is written."""
    rows = {(link.alias, link.since): link for link in known}
    rows |= {(link.alias, link.since): link for link in answer.links}
    return tuple(
        replace(link, subject=answer.subject) if link.subject in answer.joined else link
        for link in rows.values()
    )


def _doubt(link: Link | None, who: Sighting, silent_days: int) -> Why | None:
    """Return why *link* no longer says who writes, or None if it does."""
    if link is None:
        return None
    if _ended(link, who.at):
        return Why.ENDED
    if who.device and link.device and who.device != link.device:
        return Why.IDENTITY_CHANGED
    if link.alias == who.user_id:
        return None
    if who.user_id and link.user_id:
        return None if who.user_id == link.user_id else Why.OTHER_USER_ID
    return Why.SILENT if _silent(link, who, silent_days) else None


def _silent(link: Link, who: Sighting, silent_days: int) -> bool:
    return who.day - link.seen > silent_days


def _renewed_since(named: Link, who: Sighting, known: Sequence[Link]) -> bool:
    """Whether the account of *who* changed hands before we knew that this user id was its."""
    return any(
        link.alias == who.number
        and link.why is Why.IDENTITY_CHANGED
        and named.since < link.since <= who.at
        and link.subject != named.subject
        for link in known
    )


def _left(links: Sequence[Link | None], at: int, others: set[str]) -> str:
    """Return who had one of the names until that time, if that is none of *others*."""
    held = [link.subject for link in links if link is not None and link.since <= at]
    return next((subject for subject in held if subject not in others), "")


def _next(who: Sighting, known: Sequence[Link], doubt: Why | None, silent_days: int) -> str:
    """Return who took the number up, if a later message of theirs was worked on before *who*."""
    later = [link for link in known if link.alias == who.number and link.since > who.at]
    if doubt not in TAKEN_UP or not later:
        return ""
    link = min(later, key=lambda each: each.since)
    near = link.since // DAY_S - who.day <= silent_days and link.why in TAKEN_UP
    return link.subject if near and not (who.user_id and link.user_id) else ""


def _known_as(old: Sighting, new: Sighting, known: Sequence[Link]) -> Sighting:
    """Return *old*, with the new user id where only that one is known yet."""
    late = not holding(known, old.user_id, old.at) and holding(known, new.user_id, new.at)
    return replace(old, user_id=new.user_id) if old.user_id and late else old


def _given_up(old: Sighting, known: Sequence[Link], subject: str) -> tuple[Link, ...]:
    """Return the link that ends: *subject* has another number now."""
    held = holding(known, old.number, old.at)
    mine = held is not None and held.subject == subject and held.until is None
    return (replace(held, until=old.at + 1),) if held and mine else ()


def _became(
    new: Sighting, known: Sequence[Link], subject: str, silent_days: int
) -> tuple[str, ...]:
    """Return the others that are *subject*, as whom a system message names *new*."""
    found = []
    if named := holding(known, new.user_id, new.at):
        found.append(named.subject)
    number = holding(known, new.number, new.at)
    if number and number.subject != subject:
        later = [link for link in known if link.alias == new.number and link.since >= new.at]
        after = min(later, key=lambda link: link.since, default=None)
        if after and not (new.user_id and after.user_id and new.user_id != after.user_id):
            found.append(after.subject)  # who took the number up where the other one's move ended
        elif (
            number.since < new.at
            and not number.user_id
            and _doubt(number, new, silent_days) is None
        ):
            found.append(number.subject)
    return tuple(dict.fromkeys(each for each in found if each != subject))


def _links(
    who: Sighting, known: Sequence[Link], subject: str, joined: tuple[str, ...], why: Why
) -> tuple[Link, ...]:
    """Return what is to be written so that the names of *who* lead to *subject*."""
    found: list[Link] = []
    for alias in filter(None, (who.number, who.user_id)):
        link = holding(known, alias, who.at)
        user_id = who.user_id if alias == who.number else ""
        if link is None or _ended(link, who.at) or link.subject not in {subject, *joined}:
            taken = Link(
                alias=alias,
                subject=subject,
                since=who.at,
                seen=who.day,
                user_id=user_id,
                device=who.device,
                why=why if link else Why.FIRST,
            )
            found += _put(known, taken)
            continue
        newest = user_id and (not link.user_id or who.day >= link.seen)
        newer = replace(
            link,
            subject=subject,
            seen=max(link.seen, who.day),
            user_id=user_id if newest else link.user_id,
            device=link.device or who.device,
        )
        found += [newer] if newer != link else []
    return tuple(found)


def _put(known: Sequence[Link], link: Link) -> list[Link]:
    """Return *link* to be written, and whom it finds at the very second, a second earlier."""
    taken = {each.since: each for each in known if each.alias == link.alias}
    there = taken.get(link.since)
    if there is None or there.subject == link.subject:
        return [link]
    before = link.since - 1
    while before in taken:
        before -= 1
    return [replace(there, since=before), link]


def _ended(link: Link, at: int) -> bool:
    return link.until is not None and at >= link.until


def _is_after(link: Link, who: Sighting) -> bool:
    """Whether *link* is of the time after that very change of the identity key."""
    if link.why is not Why.IDENTITY_CHANGED or link.since < who.at:
        return False
    return link.since == who.at or bool(who.device and link.device == who.device)
