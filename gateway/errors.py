"""
Errors of the gateway, grouped by what the caller can do.

Messages hold identifiers and codes, never content, numbers or message ids. `outcome.py` maps
these classes (and those of the four libraries) to retry, refuse, bury or hand over.
"""

from typing import ClassVar


class GatewayError(Exception):
    """Root of this package's errors."""


class ForwardError(GatewayError):
    """What came from another cell is not an update for us; *code* says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class SettingsError(GatewayError):
    """The settings cannot be used; *faults* lists every one as ``path: fault (fix)``."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class MissingPartError(GatewayError):
    """Something this command needs is not installed or not reachable; the message names the fix."""


class NoNumberError(GatewayError):
    """What was given as a telephone number is none; the message does not repeat it."""


class DoorError(GatewayError):
    """A request the webhook does not accept; *status* is its HTTP answer, *code* its reason."""

    status: ClassVar[int] = 400

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class PayloadError(DoorError):
    """The body is signed but is not a payload we can read."""


class SignatureError(DoorError):
    """No signature, or not one of ours."""

    status: ClassVar[int] = 401


class ForbiddenError(DoorError):
    """The verification request does not carry the tenant's token."""

    status: ClassVar[int] = 403


class UnknownTenantError(DoorError):
    """No such tenant, or a number that is not this tenant's."""

    status: ClassVar[int] = 404


class SlowBodyError(DoorError):
    """The body did not arrive in time."""

    status: ClassVar[int] = 408


class TooLargeError(DoorError):
    """The body is over the cap."""

    status: ClassVar[int] = 413


class EncodingError(DoorError):
    """The body is compressed or of another type than JSON."""

    status: ClassVar[int] = 415


class NotAcceptedError(DoorError):
    """The update could not be made durable: WhatsApp will deliver it again."""

    status: ClassVar[int] = 503


class ApprovalError(GatewayError):
    """A request for approval is not one that can be approved now; *code* says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class ProblemError(GatewayError):
    """
    What the admin API answers in place of what was asked.

    *status* is HTTP's, *code* ours; *field* names the input at fault, *reasons* are the rules'.
    """

    def __init__(
        self, status: int, code: str, *, field: str = "", reasons: tuple[str, ...] = ()
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.field = field
        self.reasons = reasons


class AudioError(GatewayError):
    """Root of what can be wrong with a voice note; *code* is a stable reason code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class AudioRefusedError(AudioError):
    """Not a voice note we decode: wrong container, too long, malformed, hostile."""


class AudioBusyError(AudioError):
    """The decoder could not run now: the same call may work later."""


class SilentError(AudioError):
    """The recording holds no speech: no processor needs to hear it."""


class ChannelError(GatewayError):
    """Root of what can go wrong with WhatsApp; *code* is Graph's error code or our own word."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class ChannelBusyError(ChannelError):
    """Nothing was sent; the same call may work later (*retry_after* seconds, if WhatsApp said)."""

    def __init__(self, code: str, *, retry_after: float = 0.0) -> None:
        super().__init__(code)
        self.retry_after = retry_after


class AccountFaultError(ChannelError):
    """
    WhatsApp, or the way to it, refuses the operator's account or settings, whoever the person is.

    Nothing was done; the same call works once the account is mended, and then not only this one.
    *word* says what is wrong, in letters.
    """

    def __init__(self, code: str, *, word: str = "account") -> None:
        super().__init__(code)
        self.word = word


class ChannelRefusedError(ChannelError):
    """WhatsApp refused for good: a wrong parameter, a closed window."""


class ChannelUnknownError(ChannelError):
    """The request left and no answer came: it may or may not have been carried out."""


class MediaGoneError(ChannelError):
    """The media is not to be had any more."""


class MediaRefusedError(ChannelError):
    """The media is not fetched or not kept: wrong host, too large, wrong length, wrong digest."""


class DecisionError(GatewayError):
    """Root of "the policy did not allow it"; *code* is the first reason, *reasons* are all."""

    def __init__(self, reasons: tuple[str, ...]) -> None:
        self.code = reasons[0] if reasons else "undecided"
        super().__init__(self.code)
        self.reasons = reasons


class ConsentNeededError(DecisionError):
    """Denied only because this person was not asked yet, or the consent ran out: ask."""


class DeclinedError(DecisionError):
    """The rules say that this person is not served here: they are told so, and nothing else."""


class DeniedError(DecisionError):
    """The rules say no: final."""


class MisplacedError(DecisionError):
    """A no that the settings of the cell are to blame for, whoever the person is: it waits."""


class UndecidedError(DecisionError):
    """Nobody said yes: nothing was fetched or sent; ask again later."""


class SuspendedError(UndecidedError):
    """Only a finding that suspends a processor stands in the way: ask again when it is closed."""


class DoubtError(GatewayError):
    """A reply was sent twice and nobody confirmed either: only a human can know."""


class JournalError(GatewayError):
    """The journal of tombstones is damaged, or cannot be written: no erasure may rest on it."""


class LeaseLostError(GatewayError):
    """Another worker holds the job now: this one's results must not be written."""


class MemoryFormatError(GatewayError):
    """What was to be a conversation's memory is not one: it is a fault of ours."""


class WaitingError(GatewayError):
    """The job cannot go on for *seconds*: it waits for a status of a reply already attempted."""

    def __init__(self, seconds: float) -> None:
        super().__init__("waiting")
        self.seconds = seconds
