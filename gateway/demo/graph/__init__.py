"""
A simulator of WhatsApp and its Cloud API, for the demonstration and for tests.

It plays Meta's side of the contract: signed webhooks with retries, media behind short-lived
URLs, sending with its limits and late failures. People are played through `Person`. Time is a
`Clock` that can be moved, so that minutes and days pass at once. It is no adapter: the gateway
reaches it over HTTP only.

Source: Meta's WhatsApp Cloud API pages, and updates recorded by the pywa project (MIT).
"""

from gateway.demo.graph.app import serve
from gateway.demo.graph.clock import Clock
from gateway.demo.graph.delivery import Attempt, Signing
from gateway.demo.graph.faults import (
    ACCEPT_THEN_500,
    ACCEPT_THEN_DROP,
    DROP,
    OUTAGES,
    Fault,
    Outage,
    refusal,
)
from gateway.demo.graph.media import Stored, Trick
from gateway.demo.graph.person import Person, Received
from gateway.demo.graph.serving import listen
from gateway.demo.graph.world import GraphWorld, Line, Receipt

__all__ = [
    "ACCEPT_THEN_500",
    "ACCEPT_THEN_DROP",
    "DROP",
    "OUTAGES",
    "Attempt",
    "Clock",
    "Fault",
    "GraphWorld",
    "Line",
    "Outage",
    "Person",
    "Receipt",
    "Received",
    "Signing",
    "Stored",
    "Trick",
    "listen",
    "refusal",
    "serve",
]
