"""Errors of custody. Messages hold identifiers, never content."""


class VaultError(Exception):
    """Root of this package's errors."""


class CustodyError(VaultError):
    """The artifact could not be kept or read now: the same call may work later."""


class GoneError(VaultError):
    """The artifact was destroyed; it is unreadable by design, not by fault."""


class KeyringError(VaultError):
    """The keyring is sealed, unreachable or refused: the same call may work later."""


class BootstrapError(KeyringError):
    """The wrapped secret id was opened before us, or is another's: an incident, until explained."""


class KeyLostError(KeyringError):
    """A key that nobody destroyed cannot be unwrapped any more: a fault, never an erasure."""

    code = "key.lost"


class HeldError(VaultError):
    """The artifact is under a legal hold: closed to every processor until it is released."""

    code = "hold.active"  # as the rules call it


class HoldError(VaultError):
    """A legal hold cannot be proposed, placed, ended or used; the message says why."""


class LabelError(VaultError):
    """The label or due time is not acceptable; the message names the field."""


class NotAnalysedError(VaultError):
    """Text was not analysed, so nothing may be said about what it holds: release none of it."""


class ObjectsError(VaultError):
    """The object store failed: the same call may work later."""


class TamperedError(VaultError):
    """The container does not authenticate: truncated, altered, or under another label or key."""


class UnfitBucketError(ObjectsError):
    """The bucket is not one to keep recordings in, for each of *faults*."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults
