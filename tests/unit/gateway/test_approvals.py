"""Two people approve exactly one thing, within a day, and it is used once."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine
from support.admin import Office
from support.agreeing import agreed
from support.desk import TENANT, Desk

from gateway import approvals
from gateway.approvals import Asked
from gateway.errors import ApprovalError
from gateway.schema import access_approvals, access_requests
from policy.access import Action, Permitted, Reading, Request, Role
from policy.model import Denied

pytestmark = pytest.mark.anyio

PATH = "/admin/v1/requests"
OBJECT = f"a_{'1' * 32}"
EXPORT = Request(
    actor="exporter",
    role=Role.EXPORTER,
    tenant=TENANT,
    action=Action.EXPORT,
    object=OBJECT,
    owner=TENANT,
    purpose=Reading.RIGHTS,
)


async def asked(desk: Desk, request: Request = EXPORT) -> Asked:
    """Return *request*, kept for others to approve."""
    return await approvals.ask(desk.ports.engine, request, desk.clock())


async def approved(desk: Desk, one: Asked, *who: str) -> Asked:
    """Let *who* approve *one*, each as an approver of its tenant."""
    for name in who:
        await approvals.approve(desk.ports.engine, one, name, Role.APPROVER, TENANT, desk.clock())
    return one


async def test_two_others_are_needed_and_it_is_used_once(desk: Desk) -> None:
    """A06: an approval that could be used again would be a standing permission."""
    one = await approved(desk, await asked(desk), "approver")
    alone = await approvals.use(EXPORT, desk.ports)
    await approved(desk, one, "approver-two")

    first = await approvals.use(EXPORT, desk.ports)
    second = await approvals.use(EXPORT, desk.ports)

    assert isinstance(alone, Denied)
    assert isinstance(first, Permitted)
    assert set(first.approvers) == {"approver", "approver-two"}
    assert isinstance(second, Denied)
    assert second.reasons == ("approval.missing",)
    (used,) = [event for event in desk.trail.seen if event.type == "access.used"]
    assert used.detail["approvers"] == ["approver", "approver-two"]
    assert used.detail["request"] == one.id


async def test_of_many_at_once_one_counts(desk: Desk, each_db: AsyncEngine) -> None:
    """A11: a person counts once; two workers that carry out one approved export are two exports."""
    desk.with_ports(engine=each_db)
    one = await approved(desk, await asked(desk), "approver")

    votes = [approved(desk, one, "approver-two") for _ in range(20)]
    counted = await asyncio.gather(*votes, return_exceptions=True)
    found = await asyncio.gather(*(approvals.use(EXPORT, desk.ports) for _ in range(20)))

    assert sum(isinstance(each, Asked) for each in counted) == 1
    assert sum(isinstance(each, ApprovalError) for each in counted) == 19
    assert sum(isinstance(each, Permitted) for each in found) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"object": f"a_{'2' * 32}"},
        {"actor": "exporter-two"},
        {"owner": "nachbar", "tenant": "nachbar"},
        {"purpose": Reading.TRAINING},
    ],
)
async def test_an_approval_is_of_nothing_else(desk: Desk, other: dict[str, object]) -> None:
    """What was approved is the whole request: who, what, whose, why."""
    await approved(desk, await asked(desk), "approver", "approver-two")

    found = await approvals.use(replace(EXPORT, **other), desk.ports)  # type: ignore[arg-type]

    assert isinstance(found, Denied)
    assert "approval.missing" in found.reasons


async def test_after_a_day_it_must_be_asked_for_again(desk: Desk) -> None:
    """A yes of last week is not about today."""
    one = await approved(desk, await asked(desk), "approver", "approver-two")
    desk.clock.move(timedelta(hours=24).total_seconds())

    found = await approvals.use(EXPORT, desk.ports)

    assert isinstance(found, Denied)
    with pytest.raises(ApprovalError, match=r"request\.expired"):
        await approved(desk, one, "approver-three")


async def test_an_old_request_is_not_revived_by_a_fresh_approval(desk: Desk) -> None:
    """The rules look at when somebody approved; when it was asked for, only we know."""
    one = await asked(desk)
    desk.clock.move(timedelta(hours=24).total_seconds())
    at = int(desk.clock().timestamp() * 1_000_000)
    rows = [
        {"request": one.id, "approver": name, "role": "approver", "tenant": TENANT, "at": at}
        for name in ("approver", "approver-two")
    ]
    async with desk.ports.engine.begin() as tx:
        await tx.execute(insert(access_approvals), rows)

    assert isinstance(await approvals.use(EXPORT, desk.ports), Denied)


async def test_what_the_log_refuses_is_not_used(desk: Desk) -> None:
    """Evidence first, and a use that failed is still there to be used."""
    await approved(desk, await asked(desk), "approver", "approver-two")
    desk.trail.refuses = lambda event: event.type == "access.used"

    with pytest.raises(Exception, match="told to refuse"):
        await approvals.use(EXPORT, desk.ports)
    desk.trail.refuses = lambda _event: False

    assert isinstance(await approvals.use(EXPORT, desk.ports), Permitted)


async def test_what_ended_long_ago_is_forgotten(desk: Desk) -> None:
    """The log has it; the table is no archive of who wanted what."""
    await approved(desk, await asked(desk), "approver")
    desk.clock.move(timedelta(days=31).total_seconds() - 1)
    await approvals.forget(desk.ports.engine, agreed(desk.clock()))
    kept = len(await desk.rows(access_requests))
    desk.clock.move(2)
    fresh = await approved(desk, await asked(desk), "approver-two")

    await approvals.forget(desk.ports.engine, agreed(desk.clock()))

    assert kept == 1
    assert [row.id for row in await desk.rows(access_requests)] == [fresh.id]
    assert [row.request for row in await desk.rows(access_approvals)] == [fresh.id]


async def begun(office: Office) -> dict[str, str]:
    """Return an export that the exporter asked for over HTTP."""
    body = {"action": "export", "object": OBJECT}
    answer = await office.ask("POST", PATH, "exporter", json=body)
    assert answer.status_code == 201
    found: dict[str, str] = answer.json()
    return found


async def test_it_is_asked_for_seen_and_approved_over_http(office: Office) -> None:
    """Whoever approves sees what it is; whoever asked sees how it stands."""
    one = await begun(office)
    approve = {"json": {"digest": one["digest"]}}

    seen = (await office.ask("GET", one["status"], "approver")).json()
    first = await office.ask("POST", f"{one['status']}/approvals", "approver", **approve)
    second = await office.ask("POST", f"{one['status']}/approvals", "approver-two", **approve)
    after = (await office.ask("GET", one["status"], "exporter")).json()

    assert (seen["object"], seen["action"], seen["by"]) == (OBJECT, "export", "exporter")
    assert (one["state"], seen["state"]) == ("pending", "pending")
    assert (first.status_code, first.json()["state"]) == (201, "pending")
    assert (second.status_code, second.json()["state"]) == (201, "approved")
    assert after["approvals"] == ["approver", "approver-two"]
    assert office.desk.types("access.asked", "access.approved") == [
        "access.asked export",
        "access.approved export",
        "access.approved export",
    ]
    assert isinstance(await approvals.use(EXPORT, office.desk.ports), Permitted)
    assert (await office.ask("GET", one["status"], "exporter")).json()["state"] == "used"


async def test_nobody_approves_their_own_request(office: Office) -> None:
    """A05: not even whoever has become an approver since they asked."""
    own = replace(EXPORT, actor="approver")
    one = await asked(office.desk, own)

    answer = await office.ask(
        "POST", f"{PATH}/{one.id}/approvals", "approver", json={"digest": one.digest}
    )

    assert (answer.status_code, answer.json()["reasons"]) == (403, ["approval.self"])
    assert [event.detail["reasons"] for event in office.denials()] == [["approval.self"]]
    assert await office.desk.rows(access_approvals) == []


async def test_of_many_approvals_by_one_person_one_counts(office: Office) -> None:
    """A11: a hundred clicks are one person."""
    one = await begun(office)
    path, body = f"{one['status']}/approvals", {"digest": one["digest"]}

    answers = await asyncio.gather(
        *(office.ask("POST", path, "approver", json=body) for _ in range(100))
    )

    codes = sorted(each.status_code for each in answers)
    assert codes == [201, *[409] * 99]
    assert {each.json()["title"] for each in answers if each.status_code == 409} == {
        "approval.given"
    }
    assert len(await office.desk.rows(access_approvals)) == 1
    leaves = [event for event in office.desk.trail.seen if event.type == "access.approved"]
    assert len({event.id for event in leaves}) == 1


async def test_another_text_is_not_what_was_asked_for(office: Office) -> None:
    """A06: whoever was shown another digest approved something else."""
    one = await begun(office)

    answer = await office.ask(
        "POST", f"{one['status']}/approvals", "approver", json={"digest": "0" * 64}
    )

    assert (answer.status_code, answer.json()["title"]) == (409, "request.changed")
    assert await office.desk.rows(access_approvals) == []


async def test_what_needs_nobody_else_is_not_kept(office: Office) -> None:
    """A queue of things that anybody may do hides the ones that matter."""
    body = {"action": "erase", "object": f"s_{'0' * 32}"}

    answer = await office.ask("POST", PATH, "dpo", json=body)

    assert (answer.status_code, answer.json()["title"]) == (422, "approval.needless")
    assert await office.desk.rows(access_requests) == []


async def test_consent_is_asked_for_before_people_are(office: Office) -> None:
    """An export for training needs the person's own yes; nobody approves in their place."""
    body = {"action": "export", "object": OBJECT, "purpose": "training"}

    answer = await office.ask("POST", PATH, "exporter", json=body)

    assert (answer.status_code, answer.json()["reasons"]) == (403, ["consent.missing"])
    assert await office.desk.rows(access_requests) == []


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"action": "approve"}, "action"),
        ({"action": "rob"}, "action"),
        ({"object": "4915112345678"}, "object"),
        ({"object": "a_1' OR '1'='1"}, "object"),
        ({"purpose": "fun"}, "purpose"),
        ({"owner": "nachbar"}, "owner"),
        ({"approvals": []}, "approvals"),
    ],
)
async def test_a_field_at_fault_is_named(
    office: Office, changed: dict[str, object], field: str
) -> None:
    """A02: nobody approves themselves by a field, and no number is an object."""
    body = {"action": "export", "object": OBJECT} | changed

    answer = await office.ask("POST", PATH, "exporter", json=body)

    assert (answer.status_code, answer.json()["field"]) == (422, field)
