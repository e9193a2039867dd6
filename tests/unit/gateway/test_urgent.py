"""What only takes a right back from us does not wait in line (GDPR Art. 7(3))."""

import pytest

from gateway.turns import urgent
from gateway.whatsapp.payload import (
    Choice,
    Content,
    Edited,
    Identity,
    Message,
    Revoked,
    System,
    Text,
)


def message(content: Content) -> Message:
    """Return a message with *content*."""
    sender = Identity(phone="12025550143")
    return Message(phone_number_id="1", id="wamid.1", sender=sender, sent_at=1, content=content)


@pytest.mark.parametrize(
    "content",
    [
        Revoked(original_id="wamid.0"),
        Edited(original_id="wamid.0", body=None),
        Edited(original_id="wamid.0", body="Good morning"),
        System(what="user_changed_number", new=None, previous=None),
        Choice(id="consent.refuse", title="No"),
        Choice(id="consent.refuse.training", title="No"),
        Text(body="stop"),
        Text(body="stop training"),
    ],
)
def test_a_no_passes_earlier_turns(content: Content) -> None:
    """An earlier note that waits for a slow processor must not hold it up."""
    assert urgent(message(content), ("en",))


@pytest.mark.parametrize(
    "content",
    [
        Choice(id="consent.grant", title="Yes"),
        Choice(id="consent.refuse.other", title="No"),
        Text(body="the bus stop"),
        Text(body="hello"),
    ],
)
def test_anything_else_keeps_its_place(content: Content) -> None:
    """Turns that pass one another would answer a question before it was asked."""
    assert not urgent(message(content), ("en",))
