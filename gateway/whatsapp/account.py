"""One of a tenant's numbers at the Graph API: where it is reached and with what token."""

from collections.abc import Callable
from dataclasses import dataclass, field

GRAPH = "https://graph.facebook.com/v25.0"
MEDIA_HOSTS = frozenset({"lookaside.fbsbx.com"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """
    What every call for one number needs.

    *graph* is the API's address with its version. *media_hosts* are the exact hosts that a
    media URL may name, ``host`` or ``host:port``. *development* also admits plain http to a
    loopback literal such as ``http://127.0.0.1:8080``: a simulator. *newest* returns the token as
    it is now: one that is replaced counts from the next call on.
    """

    phone_number_id: str
    token: str = field(repr=False)
    graph: str = GRAPH
    media_hosts: frozenset[str] = MEDIA_HOSTS
    development: bool = False
    newest: Callable[[], str] | None = field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every call; media downloads without a User-Agent have failed."""
        token = self.newest() if self.newest else self.token
        return {
            "Authorization": f"Bearer {token}",
            "User-Agent": "vocustody",
            "Accept-Encoding": "identity",
        }
