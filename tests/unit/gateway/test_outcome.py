"""What an error means for a job, class by class."""

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from audit.errors import AppendError, ForkError, LockedError, StoreError
from gateway import errors, outcome
from gateway.dialogue import Trouble
from gateway.outcome import MAX_ATTEMPTS, Outcome
from policy.errors import LedgerError
from residency.errors import NoProcessorError, ProcessorBusyError
from vault.errors import (
    CustodyError,
    GoneError,
    HeldError,
    KeyLostError,
    KeyringError,
    LabelError,
    NotAnalysedError,
    ObjectsError,
    TamperedError,
)

MEANS: dict[BaseException, Outcome] = {
    AppendError(): Outcome.WAIT,
    StoreError(): Outcome.WAIT,
    LockedError(): Outcome.WAIT,
    OperationalError("", None, Exception()): Outcome.WAIT,
    LedgerError(): Outcome.WAIT,
    KeyringError(): Outcome.WAIT,
    KeyLostError(): Outcome.HAND_OVER,
    ObjectsError(): Outcome.WAIT,
    CustodyError(): Outcome.WAIT,
    ProcessorBusyError(): Outcome.RETRY,
    errors.AudioBusyError("a"): Outcome.RETRY,
    errors.AccountFaultError("190"): Outcome.WAIT,
    errors.ChannelBusyError("a"): Outcome.RETRY,
    errors.UndecidedError(("engine.late",)): Outcome.WAIT,
    errors.ConsentNeededError(("consent.missing",)): Outcome.WAIT,
    errors.ChannelUnknownError("a"): Outcome.WAIT,
    errors.WaitingError(3): Outcome.WAIT,
    errors.DeclinedError(("person.declined",)): Outcome.DECLINE,
    errors.MisplacedError(("region.foreign",)): Outcome.WAIT,
    errors.DeniedError(("region.unknown",)): Outcome.REFUSE,
    errors.ChannelRefusedError("131047"): Outcome.REFUSE,
    errors.MediaGoneError("a"): Outcome.REFUSE,
    errors.MediaRefusedError("a"): Outcome.REFUSE,
    GoneError(): Outcome.REFUSE,
    HeldError(): Outcome.REFUSE,
    errors.DoubtError(): Outcome.HAND_OVER,
    NotAnalysedError(): Outcome.HAND_OVER,
    errors.LeaseLostError(): Outcome.ABANDON,
    TamperedError(): Outcome.BURY,
    LabelError(): Outcome.BURY,
    ForkError(): Outcome.BURY,
    IntegrityError("", None, Exception()): Outcome.WAIT,
    ConnectionRefusedError(): Outcome.WAIT,
    KeyError(): Outcome.BURY,
    errors.MemoryFormatError(): Outcome.BURY,
}


@pytest.mark.parametrize("exc", MEANS, ids=lambda exc: type(exc).__name__)
def test_every_class_has_one_meaning(exc: BaseException) -> None:
    """Retrying what is final loops; refusing what is passing loses a note."""
    assert outcome.of(exc) is MEANS[exc]


def test_every_row_of_the_table_is_held_to_its_meaning() -> None:
    """A row that nobody checks can be changed by a slip."""
    held = {next(cls for cls in type(exc).__mro__ if cls in outcome.TABLE) for exc in MEANS}

    assert held == set(outcome.TABLE)


def test_what_nobody_named_is_buried_not_looped() -> None:
    """An unknown fault is ours: a human looks at it."""

    class SurpriseError(Exception):
        """Nobody named it."""

    assert outcome.of(SurpriseError()) is Outcome.BURY


def test_a_subclass_means_what_its_nearest_named_class_means() -> None:
    """A new kind of refusal is a refusal."""

    class NarrowError(errors.ChannelRefusedError):
        """More exact."""

    assert outcome.of(NarrowError("a")) is Outcome.REFUSE


def test_only_what_is_retried_runs_out_of_tries() -> None:
    """What was tried often enough goes to a human; an outage of ours costs nobody their note."""
    busy, waits = errors.ChannelBusyError("a"), KeyringError("sealed")

    assert outcome.of(busy, attempts=MAX_ATTEMPTS - 2) is Outcome.RETRY
    assert outcome.of(busy, attempts=MAX_ATTEMPTS - 1) is Outcome.HAND_OVER
    assert outcome.of(waits, attempts=100) is Outcome.WAIT


def test_pauses_grow_and_are_bounded() -> None:
    """A vendor that is down must not be hammered; a person must not wait for an hour."""
    assert [outcome.delay_s(n) for n in range(6)] == [2, 6, 18, 54, 120, 120]


def test_a_reason_is_a_code_and_never_a_message() -> None:
    """Reasons go to logs and the trail: an exception's text may quote a person."""
    assert outcome.reason(errors.ChannelBusyError("130429")) == "130429"
    assert outcome.reason(errors.DeniedError(("region.unknown", "x.y"))) == "region.unknown"
    assert outcome.reason(ValueError("4915112345678 said hello")) == "ValueError"


@pytest.mark.parametrize(
    ("exc", "trouble"),
    [
        (errors.AudioRefusedError("ogg.truncated"), Trouble.DAMAGED),
        (errors.AudioRefusedError("decode.failed"), Trouble.DAMAGED),
        (errors.AudioRefusedError("decode.limits"), Trouble.HEAVY),
        (errors.AudioRefusedError("decode.codec"), Trouble.FORMAT),
        (errors.AudioRefusedError("audio.empty"), Trouble.EMPTY),
        (errors.AudioRefusedError("opus.no_audio"), Trouble.EMPTY),
        (errors.AudioRefusedError("audio.too_large"), Trouble.TOO_LARGE),
        (errors.AudioRefusedError("audio.too_long"), Trouble.TOO_LONG),
        (errors.AudioRefusedError("audio.unknown_format"), Trouble.FORMAT),
        (errors.MediaGoneError("http.404"), Trouble.GONE),
        (errors.MediaRefusedError("media.too_large"), Trouble.TOO_LARGE),
        (errors.MediaRefusedError("media.digest"), Trouble.UNFETCHED),
        (errors.MediaRefusedError("media.metadata"), Trouble.UNFETCHED),
        (NoProcessorError(), Trouble.UNHEARD),
        (errors.SilentError("audio.silent"), Trouble.SILENT),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, Exception) else "",
)
def test_what_cannot_be_heard_is_told_to_the_person(exc: Exception, trouble: Trouble) -> None:
    """A note that ends in silence looks ignored."""
    assert isinstance(exc, outcome.TROUBLES)
    assert outcome.trouble(exc) is trouble
