"""
What an error means for a job: one table from exception class to outcome.

- RETRY: nothing was decided or sent; the same work may succeed later, a few times.
- WAIT: something else must happen first: a consent, a status, the operator's account at WhatsApp
  being mended, or a part of ours (database, trail, keyring, objects, policy engine) coming back.
  It costs the job no attempt.
- DECLINE: the person is not served here, and is told so; no human is handed anything.
- REFUSE: a final no by law, policy or WhatsApp; the job ends and says so.
- HAND_OVER: what was worth retrying was retried in vain, or a key is lost; a human goes on.
- BURY: a fault of ours or a hostile input; the job goes to the dead letters and to a human.

The nearest class in the exception's MRO counts; what nobody named is buried, never looped.
"""

from enum import StrEnum

from sqlalchemy.exc import SQLAlchemyError

from audit.errors import AppendError, StoreError
from gateway.dialogue import Trouble
from gateway.errors import (
    AccountFaultError,
    AudioBusyError,
    AudioError,
    AudioRefusedError,
    ChannelBusyError,
    ChannelError,
    ChannelRefusedError,
    ChannelUnknownError,
    ConsentNeededError,
    DecisionError,
    DeclinedError,
    DeniedError,
    DoubtError,
    LeaseLostError,
    MediaGoneError,
    MediaRefusedError,
    MisplacedError,
    SilentError,
    UndecidedError,
    WaitingError,
)
from policy.errors import PolicyError
from residency.errors import (
    NoProcessorError,
    ProcessorBusyError,
    ProcessorError,
)
from vault.errors import (
    CustodyError,
    GoneError,
    HeldError,
    KeyLostError,
    KeyringError,
    NotAnalysedError,
    ObjectsError,
)


class Outcome(StrEnum):
    """What happens to a job after an error; kept sorted."""

    ABANDON = "abandon"  # somebody else holds the job: write nothing
    BURY = "bury"
    DECLINE = "decline"  # this person is not served here: they are told so, and nothing else
    HAND_OVER = "hand_over"  # tried often enough: a human goes on
    REFUSE = "refuse"
    RETRY = "retry"
    WAIT = "wait"


TABLE: dict[type[BaseException], Outcome] = {
    AccountFaultError: Outcome.WAIT,
    AppendError: Outcome.WAIT,
    AudioBusyError: Outcome.RETRY,
    ChannelBusyError: Outcome.RETRY,
    ChannelRefusedError: Outcome.REFUSE,
    ChannelUnknownError: Outcome.WAIT,
    ConsentNeededError: Outcome.WAIT,
    CustodyError: Outcome.WAIT,
    DeclinedError: Outcome.DECLINE,
    DeniedError: Outcome.REFUSE,
    DoubtError: Outcome.HAND_OVER,
    Exception: Outcome.BURY,
    GoneError: Outcome.REFUSE,
    HeldError: Outcome.REFUSE,  # as the rules say it: a human is told, and goes on without it
    KeyLostError: Outcome.HAND_OVER,
    KeyringError: Outcome.WAIT,
    LeaseLostError: Outcome.ABANDON,
    MediaGoneError: Outcome.REFUSE,
    MediaRefusedError: Outcome.REFUSE,
    MisplacedError: Outcome.WAIT,
    NotAnalysedError: Outcome.HAND_OVER,
    ObjectsError: Outcome.WAIT,
    OSError: Outcome.WAIT,
    PolicyError: Outcome.WAIT,
    ProcessorBusyError: Outcome.RETRY,
    SQLAlchemyError: Outcome.WAIT,
    StoreError: Outcome.WAIT,
    UndecidedError: Outcome.WAIT,
    WaitingError: Outcome.WAIT,
}

MAX_ATTEMPTS = 5

# What can go wrong with hearing a note, and what the dialogue makes of it: the person is told.
# A code of `CAUSES` says it more exactly than its class.
TROUBLE: dict[type[Exception], Trouble] = {
    AudioRefusedError: Trouble.DAMAGED,
    MediaGoneError: Trouble.GONE,
    MediaRefusedError: Trouble.UNFETCHED,
    NoProcessorError: Trouble.UNHEARD,
    SilentError: Trouble.SILENT,
}
TROUBLES = tuple(TROUBLE)
CAUSES = {
    "audio.empty": Trouble.EMPTY,
    "audio.no_sound": Trouble.EMPTY,
    "audio.polyglot": Trouble.FORMAT,
    "audio.too_large": Trouble.TOO_LARGE,
    "audio.too_long": Trouble.TOO_LONG,
    "audio.unknown_format": Trouble.FORMAT,
    "decode.codec": Trouble.FORMAT,
    "decode.limits": Trouble.HEAVY,
    "media.too_large": Trouble.TOO_LARGE,
    "ogg.chained": Trouble.FORMAT,
    "ogg.multiplexed": Trouble.FORMAT,
    "ogg.not_opus": Trouble.FORMAT,
    "opus.no_audio": Trouble.EMPTY,
    "opus.too_many_packets": Trouble.HEAVY,
}

# What may go wrong with the spoken answer without taking the text back.
SPEECH_OPTIONAL = (
    AudioError,
    ChannelError,
    DecisionError,
    HeldError,
    ProcessorError,
    NoProcessorError,
    ObjectsError,
    WaitingError,
)


def of(exc: BaseException, *, attempts: int = 0) -> Outcome:
    """Return what *exc* means for a job that was tried *attempts* times before."""
    found = next(TABLE[cls] for cls in type(exc).__mro__ if cls in TABLE)
    if found is Outcome.RETRY and attempts + 1 >= MAX_ATTEMPTS:
        return Outcome.HAND_OVER
    return found


def reason(exc: BaseException) -> str:
    """Return a reason code for logs and the trail: the error's own code, or its class name."""
    code = getattr(exc, "code", "")
    return code if isinstance(code, str) and code else type(exc).__name__


def trouble(exc: Exception) -> Trouble:
    """Return what one of `TROUBLES` means to the dialogue."""
    known = CAUSES.get(reason(exc))
    return known or next(TROUBLE[cls] for cls in type(exc).__mro__ if cls in TROUBLE)


def delay_s(attempts: int) -> float:
    """Return the pause before try number *attempts* + 1, in seconds: 2, 6, 18, 54, at most 120."""
    return min(120.0, 2.0 * 3.0**attempts)
