"""Errors of policy. Every one of them means *denied* to whoever asked."""


class PolicyError(Exception):
    """Root of this package's errors. Messages hold codes and ids, never the input."""


class BundleError(PolicyError):
    """The bundle is not one we may enforce; the message names the file and the fault."""


class EngineError(PolicyError):
    """The engine did not answer, or its answer cannot be used; *code* says which, and why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class FetchError(PolicyError):
    """The source of bundles cannot be reached, or sends no bundle: the next poll may work."""


class LedgerError(PolicyError):
    """The ledger of consents cannot be read or written now: the same call may work later."""


class ReceiptError(PolicyError):
    """What was given is not a receipt that this key signed; the message says what is wrong."""


class QuestionError(PolicyError):
    """The question does not fit its schema; the message names the path, *code* its first part."""

    def __init__(self, path: str, fault: str) -> None:
        super().__init__(f"{path or 'question'}: {fault}")
        self.code = f"question.{path.partition('.')[0] or 'shape'}"
