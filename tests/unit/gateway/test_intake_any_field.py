"""
Whatever is odd about one field of a delivery, nobody who is named is left without an answer.

Every update that WhatsApp really sends is taken, one value anywhere in it is replaced, left out,
repeated or wrapped, and a good message stands beside it.
"""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import intake
from gateway.errors import DoorError
from gateway.whatsapp.payload import Identity, Message, Parsed, Text, Unattributed, Update

UPDATES = Path(__file__).parents[2] / "corpus" / "webhook" / "updates"
BESIDE = {
    "from": "12025550199",
    "id": "wamid.beside",
    "timestamp": "1763560800",
    "type": "text",
    "text": {"body": "I stand beside it"},
}
REPEATED = "\ue000"  # marks a key that is to stand there twice
LEFT_OUT = object()
Path_ = tuple[str | int, ...]


def filled_in(text: str) -> str:
    """Return *text* with an id or a number in place of each <NAME> that its collector put there."""
    text = re.sub("<[A-Z_]*USER_PHONE_NUMBER>", "972987654321", text)
    return re.sub(
        "<[A-Z_]*NUMBER_ID>", "1122334455667", re.sub("<[A-Z_]*MESSAGE_ID>", "wamid.x", text)
    )


def recorded() -> list[tuple[str, dict[str, Any]]]:
    """Return every recorded update of the field we work on, under its name."""
    found = [
        (f"{path.stem}-{name}", update)
        for path in sorted(UPDATES.glob("*.json"))
        for name, update in json.loads(filled_in(path.read_text())).items()
    ]
    return [each for each in found if each[1]["entry"][0]["changes"][0]["field"] == "messages"]


def paths(value: Any, above: Path_ = ()) -> Iterator[Path_]:
    """Yield where each value within *value* stands."""
    if above:
        yield above
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths(inner, (*above, key))


def replaced(whole: Any, where: Path_, new: Any) -> Any:
    """Return *whole* with *new* at *where*."""
    changed = copy.deepcopy(whole)
    inner = changed
    for key in where[:-1]:
        inner = inner[key]
    if new is LEFT_OUT:
        del inner[where[-1]]
    else:
        inner[where[-1]] = new
    return changed


def repeated(whole: Any, where: Path_, new: Any) -> bytes:
    """Return *whole* as JSON, the key at *where* twice in it, with *new* the second time."""
    inner = whole
    for key in where[:-1]:
        inner = inner[key]
    if not isinstance(inner, dict):
        return json.dumps(replaced(whole, where, new)).encode()
    twice = {**inner, f"{where[-1]}{REPEATED}": new}
    written = json.dumps(replaced(whole, where[:-1], twice) if where[:-1] else twice)
    return written.replace(json.dumps(REPEATED)[1:-1], "").encode()


def parsed(body: bytes, number: str) -> Parsed:
    """Return *body* read, and see that whatever was read can be written down."""
    found = intake.parse(body, phone_number_ids={number})
    for update in found.updates:
        assert msgspec.json.decode(msgspec.json.encode(update), type=Update) == update
    return found


ALL = recorded()
# Changed, these make it another field's change, another number's, or one without a message.
NOT_OURS = {
    ("field",),
    ("value", "metadata", "phone_number_id"),
    ("value", "messages"),
    ("value", "messages", 0),
}
ODD = (
    st.sampled_from(
        [LEFT_OUT, None, "", 0, -1, 7, 1.5, 10**30, True, [], {}, [{}], {"a": 1}, "\ud83d", "a\0b"]
    )
    | st.sampled_from(["x" * 600, "12025550143", "US.1", "audio", "+1 202 555 0143", "../..", " "])
    | st.text(max_size=8)
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, dict[str, Any], Path_, Any, bytes]:
    """Draw an update, where it is odd, what stands there, and the body with a message beside it."""
    _, update = draw(st.sampled_from(ALL))
    value = update["entry"][0]["changes"][0]["value"]
    number = value.setdefault("metadata", {}).setdefault("phone_number_id", "1")
    second = {"field": "messages", "value": {"metadata": {"phone_number_id": number}}}
    second["value"] |= {"messages": [BESIDE]}
    where = draw(st.sampled_from(list(paths(update["entry"][0]["changes"][0]))))
    new = draw(ODD)
    whole = copy.deepcopy(update)
    whole["entry"][0]["changes"].append(second)
    there = ("entry", 0, "changes", 0, *where)
    twice = new is not LEFT_OUT and draw(st.booleans())
    body = (
        repeated(whole, there, new) if twice else json.dumps(replaced(whole, there, new)).encode()
    )
    return number, update, where, new, body


@settings(max_examples=300)
@given(cases())
def test_one_odd_field_costs_nobody_an_answer(
    case: tuple[str, dict[str, Any], Path_, Any, bytes],
) -> None:
    """One odd field dropped the whole message behind a 200: no answer, no job, no log line."""
    number, update, where, _, body = case

    found = parsed(body, number)

    beside = [each for each in found.updates if getattr(each, "id", "") == BESIDE["id"]]
    assert [each.content for each in beside] == [Text(body="I stand beside it")]
    assert beside[0].sender == Identity(phone="12025550199")
    messages = update["entry"][0]["changes"][0]["value"].get("messages", [])
    if messages and where not in NOT_OURS:
        others = [each for each in found.updates if each not in beside]
        assert [each for each in others if isinstance(each, Message | Unattributed)]


WHO = {"from", "messages", "value", "metadata", "phone_number_id", "field"}


@settings(max_examples=300)
@given(cases())
def test_a_message_that_still_names_its_sender_is_an_update(
    case: tuple[str, dict[str, Any], Path_, Any, bytes],
) -> None:
    """Only what says who wrote may decide whether somebody can be answered."""
    number, update, where, _, body = case
    sender = update["entry"][0]["changes"][0]["value"].get("messages", [{}])[0].get("from")
    last = where[-1] if isinstance(where[-1], str) else where[-2]
    if sender is None or last in WHO:
        return

    found = parsed(body, number)

    theirs = [each for each in found.updates if isinstance(each, Message)]
    assert sender in {each.sender.phone for each in theirs}
    assert not [each for each in found.updates if isinstance(each, Unattributed)]


@settings(max_examples=300)
@given(cases())
def test_nobody_becomes_somebody_who_was_not_named(
    case: tuple[str, dict[str, Any], Path_, Any, bytes],
) -> None:
    """Liberal reading must never put one person's words on another's record."""
    number, _, _, _, body = case
    text = body.decode()

    for update in parsed(body, number).updates:
        if isinstance(update, Message):
            for name in (update.sender.phone, update.sender.bsuid):
                assert name is None or name in text


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tail: bytes) -> None:
    """Nothing but a `DoorError` may leave the parser: anything else is a 500."""
    body = json.dumps(ALL[0][1]).encode()
    for each in (tail, body[: len(tail)] + tail, body + tail, body[:-40] + tail):
        try:
            parsed(each, "1")
        except DoorError:
            continue


@pytest.mark.parametrize(("name", "update"), ALL, ids=[name for name, _ in ALL])
def test_each_value_of_each_recorded_update_may_be_anything(
    name: str, update: dict[str, Any]
) -> None:
    """All places, not only those that chance finds: null and an object in each."""
    number = update["entry"][0]["changes"][0]["value"].get("metadata", {}).get("phone_number_id")
    for where in paths(update):
        for odd in (None, {}, 7, "\ud83d"):
            body = json.dumps(replaced(update, where, odd)).encode()
            try:
                found = parsed(body, number or "1")
            except DoorError:
                assert where in {("object",), ("entry",)}, (name, where)
            else:
                assert found.updates or found.dropped or where[-1] in {"messages", "statuses"}
