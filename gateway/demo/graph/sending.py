"""
What WhatsApp does with ``POST /{number}/messages``: check, accept, hand over, report.

- A 200 means accepted. What becomes of the message comes later, by status webhooks; audio that
  is no mono Opus fails only there (131053).
- Outside 24 hours after the person last wrote, the message is refused (131047).
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from gateway.demo.graph import wire
from gateway.demo.graph.media import DOCUMENT_TYPES, Stored, is_voice
from gateway.demo.graph.person import Person, Received
from gateway.demo.graph.wire import GraphError

if TYPE_CHECKING:
    from gateway.demo.graph.world import GraphWorld, Line

WINDOW = timedelta(hours=24)
MAX_TEXT = 4_096
MAX_BUTTONS_TEXT = 1_024
MAX_BUTTONS = 3
MAX_TITLE = 20
MAX_ID = 256
MAX_OPAQUE = 512


def mark_read(world: "GraphWorld", line: "Line", request: dict[str, Any]) -> None:
    """Note a read receipt, and the typing sign if one was asked for."""
    message_id = _text(request, "message_id", MAX_OPAQUE)
    person = world.find(line, wire.owner(message_id))
    if person is None:
        raise GraphError(100, 400, "Invalid parameter")
    person.read.append(message_id)
    if request.get("typing_indicator") == {"type": "text"}:
        person.typing.append(world.clock.now())


def accept(world: "GraphWorld", line: "Line", request: dict[str, Any]) -> dict[str, Any]:
    """Carry out one message; return the answer's body, or raise `GraphError`."""
    who = request.get("to") or request.get("recipient")
    if request.get("messaging_product") != "whatsapp" or not isinstance(who, str):
        raise GraphError(100, 400, "Invalid parameter")
    now = world.clock.now()
    message, item = _read(world, line, request, now, wire.wamid(who))
    person = world.find(line, who)
    _check_rates(line, who, now)
    if person is not None:
        _check_window(person, now)
    if failed := _failure(line, person, item):
        _report(world, line, message, who, "failed", failed=failed)
    elif person is not None:
        person.receive(message)
        for state in line.statuses + (("played",) if item else ()):
            _report(world, line, message, who, state)
    return {
        "messaging_product": "whatsapp",
        "contacts": [{"input": who, "wa_id": who}],
        "messages": [{"id": message.id, "message_status": "accepted"}],
    }


def _read(
    world: "GraphWorld", line: "Line", request: dict[str, Any], now: datetime, wamid: str
) -> tuple[Received, Stored | None]:
    common: dict[str, Any] = {
        "id": wamid,
        "at": now,
        "opaque": _text(request, "biz_opaque_callback_data", MAX_OPAQUE, least=0),
        "reply_to": request.get("context", {}).get("message_id"),
    }
    match request:
        case {"type": "text", "text": dict() as text}:
            return Received(kind="text", text=_text(text, "body", MAX_TEXT), **common), None
        case {"type": "interactive", "interactive": {"type": "button", "body": dict() as body}}:
            text_ = _text(body, "text", MAX_BUTTONS_TEXT)
            buttons = _buttons(request["interactive"])
            return Received(kind="buttons", text=text_, buttons=buttons, **common), None
        case {"type": "audio", "audio": {"id": str() as media_id}}:
            item = world.media.find(media_id, line.phone_number_id, now)
            return Received(kind="voice", audio=item.content, **common), item
        case {"type": "document", "document": {"id": str() as media_id, "filename": str() as name}}:
            item = world.media.find(media_id, line.phone_number_id, now)
            if item.mime not in DOCUMENT_TYPES:
                raise GraphError(131053, 400, "Media upload error")
            told = item.content.decode()
            return Received(kind="document", text=told, filename=name, **common), None
        case _:
            raise GraphError(100, 400, "Invalid parameter")


def _buttons(interactive: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    shown = interactive.get("action", {}).get("buttons", [])
    found = [button["reply"] for button in shown if button.get("type") == "reply"]
    if not 0 < len(found) <= MAX_BUTTONS:
        raise GraphError(131009, 400, "Parameter value is not valid: buttons")
    return tuple((_text(each, "id", MAX_ID), _text(each, "title", MAX_TITLE)) for each in found)


def _text(found: dict[str, Any], key: str, most: int, *, least: int = 1) -> str:
    value = found.get(key, "")
    if not isinstance(value, str) or not least <= len(value) <= most:
        raise GraphError(131009, 400, f"Parameter value is not valid: {key} = {value}")
    return value


def _check_rates(line: "Line", who: str, now: datetime) -> None:
    if not line.limited:
        return
    if not line.throughput.take(now):
        raise GraphError(130429, 429, "Cloud API message throughput has been reached.")
    if not line.pair(who).take(now):
        raise GraphError(131056, 429, f"(Business Account, Consumer Account) pair: {who}")


def _check_window(person: Person, now: datetime) -> None:
    if person.last_wrote is None or now - person.last_wrote >= WINDOW:
        raise GraphError(131047, 400, f"More than 24 hours since {person.phone} last replied")


def _failure(line: "Line", person: Person | None, item: Stored | None) -> dict[str, Any] | None:
    if line.undeliverable:
        return wire.failure(line.undeliverable.popleft(), "Message failed to send")
    if person is None:
        return wire.failure(131026, "Message undeliverable")
    if item is not None and not is_voice(item):
        return wire.failure(131053, "Media upload error")
    return None


def _report(
    world: "GraphWorld",
    line: "Line",
    message: Received,
    who: str,
    state: str,
    *,
    failed: dict[str, Any] | None = None,
) -> None:
    status: dict[str, Any] = {"id": message.id, "status": state}
    status |= {"timestamp": str(int(message.at.timestamp())), "recipient_id": who}
    if message.opaque:
        status["biz_opaque_callback_data"] = message.opaque
    if failed:
        status["errors"] = [failed]
    delay_s = 0.0 if line.status_first else line.status_delay_s
    for _ in range(line.status_copies):
        world.courier.post(line, "messages", line.value(statuses=[status]), delay_s=delay_s)
