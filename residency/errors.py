"""Errors of residency. Messages hold processor ids and codes, never content."""


class ResidencyError(Exception):
    """Root of this package's errors."""


class NoProcessorError(ResidencyError):
    """No healthy processor is left on the decision's allow-list."""


class ProcessorError(ResidencyError):
    """A processor failed; the audit trail names it."""


class ProcessorBusyError(ProcessorError):
    """Throttled, slow, down or unreachable: the same call may work later."""


class ProcessorRefusedError(ProcessorError):
    """The processor rejected this request itself: retrying cannot help."""


class EngineMissingError(ProcessorRefusedError):
    """An engine or its model is not there, or is not the pinned one; the message says the fix."""


class EgressError(ResidencyError):
    """The egress broker gives no ticket now: nothing can leave the cell."""


class ConnectRefusedError(EgressError):
    """The broker lets this connection not out: *code* says why, *status* is its HTTP answer."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


class RegistryError(ResidencyError):
    """The registry is not usable; the message lists every fault with its row and fix."""
