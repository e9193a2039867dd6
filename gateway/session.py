"""
What is remembered of one conversation, between one note and the next.

- Redacted words only, and few: the last `KEPT` exchanges, each cut to `WORDS` characters.
- An idle conversation is forgotten, but for its language: what was asked an hour ago is no
  longer what a "yes" means.
- A conversation in human hands stays there until it is given back, or for `HUMAN_S` seconds:
  24 hours, WhatsApp's window in which the person can be answered freely at all.
"""

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec.structs import replace

from gateway.errors import MemoryFormatError

FORMAT = 1
IDLE_S = 1_800
HUMAN_S = 86_400
KEPT = 4  # exchanges
WORDS = 300  # characters

Count = Annotated[int, msgspec.Meta(ge=0)]


class Asked(StrEnum):
    """What the last reply asked for; kept sorted."""

    AGAIN = "again"  # to say or type it once more
    CONFIRM = "confirm"  # whether *guess* is meant
    DETAIL = "detail"  # a slot that *pending* is missing


class Exchange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One turn: what was *heard* (redacted; empty if nothing was) and what we *said*."""

    heard: str
    said: str


class Memory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    One conversation. *slots* belong to *pending* or, if that is None, to *guess*.

    *pending* is the intent that is missing a slot, *guess* the one a person was asked to confirm,
    *failures* the turns in a row that led nowhere. Times are epoch seconds.
    """

    language: str = ""
    pending: str | None = None
    guess: str | None = None
    slots: dict[str, str] = msgspec.field(default_factory=dict)
    failures: Count = 0
    asked: Asked | None = None
    last_at: int = 0
    turns: tuple[Exchange, ...] = ()
    handed_over_at: int | None = None

    def __repr__(self) -> str:
        return f"Memory(failures={self.failures}, handed_over={self.handed_over})"

    @property
    def handed_over(self) -> bool:
        """Whether a human has the conversation."""
        return self.handed_over_at is not None


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    memory: msgspec.Raw


def encode(memory: Memory) -> bytes:
    """Return *memory* as bytes; they hold personal data and are sealed before they are kept."""
    return msgspec.json.encode(_Stored(FORMAT, msgspec.Raw(msgspec.json.encode(memory))))


def decode(raw: bytes) -> Memory:
    """
    Return the memory in *raw*; one of another format is forgotten, for guessing would be worse.

    Raises:
        MemoryFormatError: *raw* is not what `encode` returns.

    """
    try:
        stored = msgspec.json.decode(raw, type=_Stored)
        if stored.format != FORMAT:
            return Memory()
        return msgspec.json.decode(stored.memory, type=Memory)
    except msgspec.DecodeError:
        raise MemoryFormatError("session.unreadable") from None  # its text quotes the input


def fresh(memory: Memory, at: int, *, idle_seconds: int = IDLE_S) -> Memory:
    """Return *memory* as it counts at *at*: without what is too old to go on from."""
    if memory.handed_over_at is not None:
        over = at - memory.handed_over_at >= HUMAN_S
    else:
        over = at - memory.last_at >= idle_seconds
    return Memory(language=memory.language) if over else memory


def handed_over(memory: Memory, at: int) -> Memory:
    """Return *memory* from the moment a human takes the conversation: no question is open."""
    return replace(memory, pending=None, guess=None, slots={}, asked=None, handed_over_at=at)


def given_back(memory: Memory) -> Memory:
    """Return *memory* from the moment the human is done with the conversation."""
    return replace(memory, failures=0, handed_over_at=None)


def exchanged(memory: Memory, at: int, heard: str, said: str) -> Memory:
    """Return *memory* after one more turn; a turn that arrives late does not turn time back."""
    turns = (*memory.turns, Exchange(heard[:WORDS], said[:WORDS]))[-KEPT:]
    return replace(memory, turns=turns, last_at=max(memory.last_at, at))
