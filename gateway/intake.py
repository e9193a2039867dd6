"""
One signed delivery of the WhatsApp Cloud API as values: pure, and total over its input.

- The envelope must be whole (``entry[] x changes[] x {messages, statuses, errors}``), or the
  delivery is refused: `PayloadError`.
- Within it, one malformed item is counted as ``malformed`` and dropped: a delivery holds up to
  1,000 updates of other people, and refusing it would have WhatsApp send the same again for
  seven days.
- Changes for numbers that are not the tenant's are counted as ``other_number`` and dropped.
- Webhook fields other than ``messages`` are counted by name and dropped unread: nothing is kept
  that we did not set out to process (GDPR Art. 5(1)(c)). Names outside Meta's list count as
  ``field:other``, so that counters keep a bounded set of labels.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from gateway.errors import PayloadError
from gateway.whatsapp import fields, message, strict
from gateway.whatsapp.payload import ChannelFault, Parsed, Status, Update

MAX_OPAQUE = 512
KNOWN_FIELDS = frozenset(
    {
        "account_alerts",
        "account_review_update",
        "account_settings_update",
        "account_update",
        "automatic_events",
        "business_capability_update",
        "business_status_update",
        "calls",
        "flows",
        "group_lifecycle_update",
        "group_participants_update",
        "group_settings_update",
        "group_status_update",
        "history",
        "message_echoes",
        "message_template_components_update",
        "message_template_quality_update",
        "message_template_status_update",
        "messaging_handovers",
        "partner_solutions",
        "payment_configuration_update",
        "phone_number_name_update",
        "phone_number_quality_update",
        "security",
        "smb_app_state_sync",
        "smb_message_echoes",
        "standby",
        "template_category_update",
        "tracking_events",
        "user_id_update",
        "user_preferences",
    }
)


def parse(body: bytes, *, phone_number_ids: Collection[str]) -> Parsed:
    """
    Return all updates of *body* that are for *phone_number_ids*, in order of arrival.

    Raises:
        PayloadError: not strict JSON (``json.*``), or not a webhook envelope (``envelope``).
    """
    updates: list[Update] = []
    dropped: Counter[str] = Counter()
    for field, value in _changes(strict.loads(body)):
        if field != "messages":
            dropped[f"field:{field if field in KNOWN_FIELDS else fields.OTHER}"] += 1
            continue
        try:
            _read_change(value, phone_number_ids, updates, dropped)
        except PayloadError:
            dropped["malformed"] += 1
    return Parsed(updates=tuple(updates), dropped=dict(dropped))


def _changes(payload: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    match payload:
        case {"object": "whatsapp_business_account", "entry": [*entries]}:
            pass
        case _:
            raise PayloadError("envelope")
    for entry in entries:
        match entry:
            case {"changes": [*changes]}:
                yield from map(_change, changes)
            case _:
                raise PayloadError("envelope")


def _change(change: Any) -> tuple[str, dict[str, Any]]:
    match change:
        case {"field": str() as field, "value": dict() as value}:
            return field, value
        case _:
            raise PayloadError("envelope")


def _read_change(
    value: dict[str, Any],
    phone_number_ids: Collection[str],
    updates: list[Update],
    dropped: Counter[str],
) -> None:
    number = fields.text(fields.mapping(value.get("metadata")).get("phone_number_id"), 64)
    contacts, messages, statuses = (
        fields.items(value.get(key)) for key in ("contacts", "messages", "statuses")
    )
    if number not in phone_number_ids:
        dropped["other_number"] += max(1, len(messages) + len(statuses))
        return
    if codes := fields.codes(value.get("errors")):
        updates.append(ChannelFault(phone_number_id=number, codes=codes))
    known = message.directory(contacts)
    for item in messages:
        try:
            updates.append(message.read(item, phone_number_id=number, contacts=known))
        except PayloadError:
            dropped["malformed"] += 1
    for item in statuses:
        try:
            _read_status(item, number, updates, dropped)
        except PayloadError:
            dropped["malformed"] += 1


def _read_status(item: Any, number: str, updates: list[Update], dropped: Counter[str]) -> None:
    found = fields.mapping(item)
    if found.get("type", "message") != "message":
        dropped["status:call" if found["type"] == "call" else "status:other"] += 1
        return
    updates.append(
        Status(
            phone_number_id=number,
            message_id=fields.wamid(found.get("id")),
            state=fields.word(found.get("status")),
            at=fields.seconds(found.get("timestamp")),
            opaque=fields.text(found.get("biz_opaque_callback_data", ""), MAX_OPAQUE),
            error_codes=fields.codes(found.get("errors")),
        )
    )
