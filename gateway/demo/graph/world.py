"""
The simulated world: business lines, people, media, time, and a receipt of every request.

The receipts are the world's own account of what was asked of it, to be joined with the audit
trail of whoever asked.
"""

import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx2

from gateway.demo.graph import wire
from gateway.demo.graph.clock import Bucket, Clock
from gateway.demo.graph.delivery import Courier
from gateway.demo.graph.faults import Faults, Outage
from gateway.demo.graph.media import MediaStore
from gateway.demo.graph.person import Person

THROUGHPUT_PER_S = 80.0
PAIR_PER_S = 1 / 6
PAIR_BURST = 45.0


@dataclass(slots=True, kw_only=True)
class Line:
    """
    One business number, and where and how its webhooks are delivered.

    *statuses* are what becomes of an accepted message, in order, each *status_delay_s* of the
    world's time after the answer (*status_first*: before it), *status_copies* times. A voice
    message is ``played`` too. *limited* switches WhatsApp's rate limits on. *outage* is what every
    request meets while it is set. *undeliverable* are the codes with which the next accepted
    messages fail later, by status.
    """

    phone_number_id: str
    display: str
    token: str = field(repr=False)
    app_secret: bytes = field(repr=False)
    verify_token: str = field(repr=False)
    waba_id: str
    callback_url: str = ""
    no_storage: bool = False
    limited: bool = False
    statuses: tuple[str, ...] = ("sent", "delivered", "read")
    status_delay_s: float = 0.0
    status_first: bool = False
    status_copies: int = 1
    outage: Outage | None = None
    undeliverable: deque[int] = field(default_factory=deque)
    settings: dict[str, Any] = field(default_factory=dict)
    throughput: Bucket = field(
        default_factory=lambda: Bucket(per_second=THROUGHPUT_PER_S, burst=THROUGHPUT_PER_S)
    )
    pairs: dict[str, Bucket] = field(default_factory=dict)

    def value(self, **content: Any) -> dict[str, Any]:
        """Return a webhook value of this number with *content*."""
        metadata = {
            "display_phone_number": self.display,
            "phone_number_id": self.phone_number_id,
        }
        return {"messaging_product": "whatsapp", "metadata": metadata, **content}

    def fault(self, code: int, title: str) -> dict[str, Any]:
        """Return a webhook value that reports a system-level error."""
        return self.value(errors=[wire.failure(code, title)])

    def pair(self, who: str) -> Bucket:
        """Return the rate limit between this number and *who*."""
        return self.pairs.setdefault(who, Bucket(per_second=PAIR_PER_S, burst=PAIR_BURST))


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """
    One request as the world saw it: *path* is the route's template, never the path itself.

    *content_sha256* and *content_bytes* are of the media that went out (a download) or came in
    (an upload); *sent_bytes* counts the whole answer's body.
    """

    at: datetime
    method: str
    path: str
    phone_number_id: str
    bearer_ok: bool
    status: int | None
    sent_bytes: int = 0
    content_bytes: int = 0
    content_sha256: str = ""


class GraphWorld:
    """
    WhatsApp, its Cloud API and the people on it.

    *now* is the base of `clock`. `url` is set while `serve` runs. Knobs: `faults`, each
    `Line`'s fields, the `courier`'s, and a media item's `Stored.trick`.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.clock = Clock(now)
        self.courier = Courier(self.clock)
        self.faults = Faults()
        self.media = MediaStore()
        self.lines: dict[str, Line] = {}
        self.people: list[Person] = []
        self.receipts: deque[Receipt] = deque(maxlen=100_000)
        self.url = ""

    def line(self, display: str = "12025550100", **settings: Any) -> Line:
        """Add a business number with fresh ids and secrets; *settings* are `Line` fields."""
        fresh: dict[str, Any] = {
            "phone_number_id": wire.number(15),
            "waba_id": wire.number(15),
            "token": "EAA" + secrets.token_urlsafe(32),
            "app_secret": secrets.token_hex(16).encode(),
            "verify_token": secrets.token_urlsafe(16),
        }
        line = Line(**(fresh | {"display": display} | settings))
        self.lines[line.phone_number_id] = line
        return line

    def person(
        self,
        phone: str | None = None,
        *,
        bsuid: str | None = None,
        name: str = "Ada Example",
        line: Line | None = None,
    ) -> Person:
        """Add a person who writes to *line* (by default, the first one)."""
        chosen = line or next(iter(self.lines.values()))
        person = Person(self, chosen, phone=phone, bsuid=bsuid, name=name)
        self.people.append(person)
        return person

    def find(self, line: Line, who: str) -> Person | None:
        """Return the person whom *line* may reach under a number or user id."""
        for person in self.people:
            if person.line is line and who in (person.phone, person.bsuid):
                return person
        return None

    async def advance(self, seconds: float) -> None:
        """Move the world's clock, and deliver what came due."""
        self.clock.advance(seconds)
        await self.courier.settle()

    async def verify_callback(self, line: Line) -> bool:
        """Run the verification handshake; return whether the callback answered as it must."""
        challenge = wire.number(10)
        params = {
            "hub.mode": "subscribe",
            "hub.challenge": challenge,
            "hub.verify_token": line.verify_token,
        }
        async with httpx2.AsyncClient(trust_env=False) as http:
            answer = await http.get(line.callback_url, params=params)
        return answer.status_code == httpx2.codes.OK and answer.text == challenge
