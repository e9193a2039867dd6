"""What a simulated vendor saw: joined to our trail, in both directions."""

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """
    One call as the vendor met it.

    *connection* names the connection (the peer's address and port); *audio_bytes* and *sha256*
    are of the content that arrived; *region* is where it arrived; *auth* a fingerprint.
    """

    connection: str
    request_id: str
    region: str
    audio_bytes: int
    sha256: str
    auth: str
    outcome: str = "done"


@dataclass(slots=True)
class ReceiptLog:
    """Receipts in order of arrival."""

    receipts: list[Receipt] = field(default_factory=list)

    def add(self, receipt: Receipt) -> None:
        """Note *receipt*."""
        self.receipts.append(receipt)

    def by_request(self) -> dict[str, Receipt]:
        """Return the receipts by request id."""
        return {receipt.request_id: receipt for receipt in self.receipts}


def fingerprint(secret: str) -> str:
    """Return a short digest of *secret*, which a log may hold."""
    return hashlib.sha256(secret.encode()).hexdigest()[:16]
