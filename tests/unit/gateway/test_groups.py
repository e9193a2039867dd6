"""A group is no conversation with us alone: nothing of it is asked, opened or answered."""

import json
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs
from support.desk import TENANT, Desk

from gateway import groups, intake, turns
from gateway.groups import Doorkeeper
from gateway.jobs import State
from gateway.metrics import Metrics
from gateway.note import SPOKEN, Note
from gateway.schema import aliases, handovers, inbox, jobs
from gateway.sections import Groups
from gateway.whatsapp.payload import (
    Choice,
    Content,
    Identity,
    Message,
    Parsed,
    Revoked,
    System,
    Text,
)
from policy.model import ConsentState

GROUP = "Y2FwaV9ncm91cDoxMjAyNTU1MDEwMDoxMjAzNjM0MDQ2OTQyMzM4MjAZD"
NUMBER = "106540352242922"


def item(**more: Any) -> dict[str, Any]:
    """Return a message as WhatsApp sends it."""
    return {
        "from": "12025550123",
        "id": "wamid.HBgL",
        "timestamp": "1697043473",
        "type": "text",
        "text": {"body": "What do you all think about this?"},
    } | more


def read(message: dict[str, Any]) -> Message:
    """Return *message* as the door reads it."""
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": NUMBER},
        "messages": [message],
    }
    change = {"field": "messages", "value": value}
    body = {
        "object": "whatsapp_business_account",
        "entry": [{"id": "1", "changes": [change]}],
    }
    [found] = intake.parse(json.dumps(body).encode(), phone_number_ids={NUMBER}).updates
    assert isinstance(found, Message)
    return found


def doorkeeper(desk: Desk) -> Doorkeeper:
    """Return the doorkeeper of *desk*'s tenants."""
    return Doorkeeper(tenants=desk.ports.tenants, metrics=desk.ports.metrics, now=desk.clock)


def hand_over(desk: Desk) -> None:
    """Have the tenant want to hear of groups."""
    tenant = desk.ports.tenants[TENANT].model_copy(update={"groups": Groups.HAND_OVER})
    desk.with_ports(tenants={TENANT: tenant})


def message(desk: Desk, content: Content, *, group: bool = True) -> Message:
    """Return what ada says in a group."""
    return Message(
        phone_number_id=desk.line.phone_number_id,
        id=f"wamid.group.{next(desk._numbers)}",
        sender=Identity(phone=desk.ada.phone),
        sent_at=int(desk.clock().timestamp()),
        content=content,
        group=group,
    )


async def accepted(desk: Desk, content: Content) -> list[str]:
    """Let ada say *content* in a group, at the door; return the jobs that follow."""
    desk.inbox._admits = doorkeeper(desk).admits
    return await desk.inbox.accept(TENANT, Parsed(updates=(message(desk, content),), dropped={}))


async def acted(desk: Desk, content: Content) -> Note:
    """Let ada say *content* in a group, and act on it as the worker does."""
    [job] = await accepted(desk, content)
    note = await desk.claim(job)
    await turns.act(note, desk.ports)
    await desk.ports.jobs.end(note.job, State.DONE, "answered")
    return note


@pytest.mark.parametrize("told", [GROUP, "", 7])
def test_a_message_that_names_a_group_is_one_of_a_group(told: object) -> None:
    """In whatever form the group's id comes: what is said in front of others stays unheard."""
    assert read(item(group_id=told)).group
    assert not read(item()).group
    assert not read(item(group_id=None)).group


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["voice", "text", "yes", "deleted"])
async def test_nothing_of_a_group_is_kept_asked_fetched_or_answered(desk: Desk, kind: str) -> None:
    """The others in the group did not write to us, and would read what we say."""
    contents: dict[str, Content] = {
        "voice": desk.recording(),
        "text": Text(body="Hello"),
        "yes": Choice(id="consent.grant", title="I agree"),
        "deleted": Revoked(original_id="wamid.1"),
    }

    assert await accepted(desk, contents[kind]) == []

    for table in (inbox, jobs, aliases):
        assert await desk.rows(table) == []
    assert desk.ada.inbox == []
    assert desk.fetched() == []
    assert _count(desk.ports.metrics, "ignore") == 1


@pytest.mark.anyio
async def test_a_private_message_is_taken_in(desk: Desk) -> None:
    """The doorkeeper is about groups alone."""
    keeper = doorkeeper(desk)

    assert keeper.admits(TENANT, message(desk, Text(body="Hello"), group=False))
    assert _count(desk.ports.metrics, "ignore") == 0


@pytest.mark.anyio
async def test_what_whatsapp_says_of_a_person_counts_wherever_it_comes(desk: Desk) -> None:
    """A change of number keeps identity true; it is nothing that was said in front of others."""
    changed = System(
        what="user_changed_number",
        new=Identity(phone="4915112345679"),
        previous=Identity(phone=desk.ada.phone),
    )
    old = await desk.subject()

    await acted(desk, changed)

    assert {row.subject for row in await desk.rows(aliases)} == {old}
    assert len(await desk.rows(aliases)) == 2


@pytest.mark.anyio
async def test_a_group_is_told_once_a_day_for_each_number(desk: Desk) -> None:
    """An operator learns of it; a lively group does not fill their log."""
    keeper = doorkeeper(desk)
    said = message(desk, Text(body="Hello"))
    other = msgspec.structs.replace(said, phone_number_id="1")

    with capture_logs() as told:
        for each in (said, said, other, other):
            keeper.admits(TENANT, each)
        desk.clock.move(86_400)
        keeper.admits(TENANT, said)

    assert [line["event"] for line in told] == ["group.message"] * 3
    assert {(line["tenant"], line["outcome"]) for line in told} == {(TENANT, "ignore")}
    assert _count(desk.ports.metrics, "ignore") == 5


@pytest.mark.anyio
async def test_a_tenant_may_have_a_human_told(desk: Desk) -> None:
    """By setting; even then nothing is fetched or answered, and the dialogue keeps its own."""
    hand_over(desk)

    await acted(desk, desk.recording())

    [row] = await desk.rows(handovers)
    assert (row.reason, row.taken) == (groups.REASON, False)
    assert desk.ada.inbox == []
    assert desk.fetched() == []


@pytest.mark.anyio
@pytest.mark.parametrize("setting", list(Groups))
async def test_a_stop_in_a_group_withdraws_and_says_nothing(desk: Desk, setting: Groups) -> None:
    """If they meant somebody else they are asked once more; if they meant us it is their right."""
    if setting is Groups.HAND_OVER:
        hand_over(desk)
    await desk.consents()
    desk.clock.move(1)

    note = await acted(desk, Text(body="STOP"))

    row = await desk.ports.consents.newest(TENANT, note.subject, SPOKEN)
    assert row is not None
    assert row.state is ConsentState.WITHDRAWN
    assert desk.types("consent.withdrawn") == ["consent.withdrawn"]
    assert desk.ada.inbox == []
    assert _count(desk.ports.metrics, "withdrawal") == 1


def _count(metrics: Metrics, outcome: str) -> int:
    """Return how many messages in groups were counted as *outcome*."""
    name = f'vocustody_group_messages_total{{outcome="{outcome}",tenant="{TENANT}"}}'
    lines = metrics.render().decode().splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith(name))
