"""
One signed delivery of the WhatsApp Cloud API as values: pure, and total over its input.

- A delivery is refused (`PayloadError`) only if it is no envelope: no JSON object of
  ``whatsapp_business_account`` with an array of entries. Refused, it comes again for seven days,
  with up to 1,000 updates of other people.
- Within it, each part stands for itself. A message that names its sender is an update, readable
  or not (`gateway.whatsapp.message`). A part that names none, though there may be a message in
  it, becomes an `Unattributed`, at most `MOST_UNATTRIBUTED` in one delivery; what is beyond, and
  statuses that cannot be read, is counted as ``malformed``.
- Changes for numbers that are not the tenant's are counted as ``other_number`` and dropped.
- Webhook fields other than ``messages`` are counted by name and dropped unread: nothing is kept
  that we did not set out to process (GDPR Art. 5(1)(c)). Names outside Meta's list count as
  ``field:other``, so that counters keep a bounded set of labels.
"""

import re
from collections import Counter
from collections.abc import Collection
from typing import Any

from gateway.errors import PayloadError
from gateway.whatsapp import fields, lenient, message, sender
from gateway.whatsapp.payload import ChannelFault, Parsed, Status, Unattributed, Update

MAX_RAW = 32 * 1024  # bytes kept of a part that names nobody
MOST_UNATTRIBUTED = 1_000  # in one delivery: as many as WhatsApp puts updates into it
_NUMBER = "phone_number_id"
_OPAQUE = re.compile(r"[!-~]{1,512}")
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
        PayloadError: not JSON (``json.*``), or not a webhook envelope (``envelope``).
    """
    found = _Found()
    for entry in _entries(lenient.loads(body)):
        changes = entry.get("changes") if isinstance(entry, dict) else None
        if isinstance(changes, list):
            for change in changes:
                _read_change(change, phone_number_ids, found)
        else:
            found.unattributed("", "entry", entry)
    return Parsed(updates=tuple(found.updates), dropped=dict(found.dropped))


class _Found:
    """What one delivery was found to hold, so far."""

    def __init__(self) -> None:
        self.updates: list[Update] = []
        self.dropped: Counter[str] = Counter()
        self._room = MOST_UNATTRIBUTED

    def unattributed(self, number: str, reason: str, part: Any) -> None:
        """Keep *part*, which names nobody, as long as there is room for it."""
        if not self._room:
            self.dropped["malformed"] += 1
            return
        self._room -= 1
        raw = lenient.dumps(part)[:MAX_RAW]
        self.updates.append(Unattributed(phone_number_id=number, reason=reason, raw=raw))


def _entries(payload: Any) -> list[Any]:
    match payload:
        case {"object": "whatsapp_business_account", "entry": [*entries]}:
            return entries
        case _:
            raise PayloadError("envelope")


def _read_change(change: Any, phone_number_ids: Collection[str], found: _Found) -> None:
    whole = fields.section(change)
    name = whole.get("field")
    if isinstance(name, str) and name != "messages":
        found.dropped[f"field:{name if name in KNOWN_FIELDS else fields.OTHER}"] += 1
        return
    value = whole.get("value")
    number = fields.object_id(fields.section(fields.section(value).get("metadata")).get(_NUMBER))
    if name != "messages" or not number:
        found.unattributed("", "change", change)
    else:
        _read_value(fields.section(value), number, phone_number_ids, found)


def _read_value(
    value: dict[str, Any], number: str, phone_number_ids: Collection[str], found: _Found
) -> None:
    messages, statuses = value.get("messages"), value.get("statuses")
    if number not in phone_number_ids:
        lists = (each for each in (messages, statuses) if isinstance(each, list))
        found.dropped["other_number"] += max(1, sum(map(len, lists)))
        return
    if codes := fields.codes(value.get("errors")):
        found.updates.append(ChannelFault(phone_number_id=number, codes=codes))
    _read_messages(messages, value, number, found)
    for item in statuses if isinstance(statuses, list) else []:
        _read_status(item, number, found)
    if not isinstance(statuses, list | None):
        found.dropped["malformed"] += 1


def _read_messages(messages: Any, value: dict[str, Any], number: str, found: _Found) -> None:
    if not isinstance(messages, list | None):
        found.unattributed(number, "messages", messages)
        return
    known = sender.contacts(value.get("contacts"))
    for item in messages or []:
        try:
            found.updates.append(message.read(item, phone_number_id=number, contacts=known))
        except PayloadError:
            found.unattributed(number, "sender", item)


def _read_status(item: Any, number: str, found: _Found) -> None:
    told = fields.section(item)
    if (kind := told.get("type", "message")) != "message":
        found.dropped["status:call" if kind == "call" else "status:other"] += 1
        return
    ours = told.get("biz_opaque_callback_data")
    status = Status(
        phone_number_id=number,
        message_id=fields.message_id(told.get("id")),
        state=fields.word(told.get("status")),
        at=fields.seconds(told.get("timestamp")),
        opaque=ours if isinstance(ours, str) and _OPAQUE.fullmatch(ours) else "",
        error_codes=fields.codes(told.get("errors")),
    )
    if status.message_id or status.opaque:
        found.updates.append(status)
    else:
        found.dropped["malformed"] += 1
