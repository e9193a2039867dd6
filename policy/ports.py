"""What policy needs from outside: an engine that evaluates, and a ledger of consents."""

from collections.abc import Mapping
from typing import Any, Protocol

from policy.model import Consent


class PolicyEngine(Protocol):
    """
    Evaluates one entrypoint of the bundle.

    Returns whatever the rule produced, unchecked: `decide.decide` checks it. Does not retry.
    Raises `EngineError` with a distinct reason code when there is no answer (refused, late,
    undefined, malformed, panicked). Calls may overlap; *timeout* is kept by the caller.
    """

    name: str

    async def evaluate(self, entrypoint: str, question: Mapping[str, Any]) -> Any:
        """Return the value of *entrypoint*, such as ``vocustody/route/decision``."""
        ...


class Consents(Protocol):
    """
    The ledger of consents: rows are added, never changed.

    `record` is durable once it returns and is idempotent by ``consent.id``; the newest row
    (by *at*; of one second a no; then insertion) counts. Raises `PolicyError`.
    """

    async def record(self, consent: Consent) -> None:
        """Add one row."""
        ...

    async def newest(self, tenant: str, subject: str, purpose: str) -> Consent | None:
        """Return the row that counts now, or None if the person was never asked."""
        ...

    async def history(self, tenant: str, subject: str) -> list[Consent]:
        """Return every row of the person, of every purpose, oldest first."""
        ...

    async def due(self, now: int, limit: int) -> list[Consent]:
        """Return up to *limit* rows that count, say yes and ended by *now*; oldest end first."""
        ...
