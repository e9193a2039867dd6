"""Errors of the audit trail. Messages hold identifiers and positions, never content."""


class AuditError(Exception):
    """Root of this package's errors."""


class AppendError(AuditError):
    """The event could not be made durable: the touch it announces must not happen."""


class EventError(AuditError):
    """The event is not one the log accepts; the message names the field and the fix."""


class ForkError(AuditError):
    """The stored log is not the one this log last signed: refuse to sign another history."""


class NoteError(AuditError):
    """A note, checkpoint or key is malformed, or not signed by the key it should be."""


class NotInLogError(AuditError):
    """No leaf of the log speaks of this identifier."""


class SignerError(AuditError):
    """The signing key is missing, exposed to others, or of another kind: fix it, then start."""


class StoreError(AuditError):
    """The log's storage failed or holds what this version cannot read."""


class LockedError(StoreError):
    """Another writer holds this log: two writers would fork it."""


class VerifyError(AuditError):
    """The thing to verify could not be read at all (a finding about content is a `Verdict`)."""
