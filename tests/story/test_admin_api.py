"""A DPO asks a running cell over HTTP to forget a person."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from support.admin import token
from support.cell import NOTE, Town
from support.stage import ADMIN, agree, get, metrics, received, secret, staged, until

from gateway.demo.graph import GraphWorld
from gateway.erasure import STEPS

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

PATH = "/admin/v1/erasures"
PEOPLE = """
[[admin.people]]
name = "d-one"
role = "dpo"
tenant = "fernruf"
token_file = "d-one"

[[admin.people]]
name = "a-two"
role = "agent"
tenant = "fernruf"
token_file = "a-two"
"""


@pytest.fixture
async def town(tmp_path: Path, graph: GraphWorld) -> AsyncIterator[Town]:
    """Yield a running cell that knows two people of the tenant."""
    for name in ("d-one", "a-two"):
        secret(tmp_path / "cell", name, token(name))
    town = staged(tmp_path / "cell", graph, more=PEOPLE)
    await town.cell.start()
    yield town
    await town.cell.kill()


async def asked(town: Town, subject: str, who: str) -> httpx2.Response:
    """Ask for the erasure of *subject* by *who*, again while the rules are too slow to answer."""
    headers = {"authorization": f"Bearer {token(who)}"}
    body = {"subject": subject, "because": "DSR-20261119-07", "urgent": True}

    async def answered() -> httpx2.Response | None:
        async with httpx2.AsyncClient(trust_env=False, timeout=20) as http:
            answer = await http.post(f"{town.cell.url}{PATH}", json=body, headers=headers)
        return answer if answer.status_code != httpx2.codes.SERVICE_UNAVAILABLE else None

    found: httpx2.Response = await until(answered)
    return found


async def certified(town: Town, status: str) -> bytes | None:
    """Return the certificate of the erasure at *status*, once there is one."""
    path = f"{status}/certificate"
    answer = await get(town, path, authorization=f"Bearer {token('d-one')}")
    return answer.content if answer.status_code == httpx2.codes.OK else None


async def test_a_person_is_erased_by_request_over_http(town: Town) -> None:
    """From the request to the certificate; and whoever may not ask is on record."""
    await agree(town, NOTE.read_bytes())
    await received(town, "text")
    subject = next(leaf["subject"] for leaf in await town.leaves() if leaf.get("subject"))

    denied = await asked(town, subject, "a-two")
    begun = await asked(town, subject, "d-one")
    status = await get(town, begun.json()["status"], authorization=f"Bearer {token('d-one')}")
    strange = await get(town, PATH, authorization=f"Bearer {ADMIN}")
    certificate = await until(lambda: certified(town, begun.json()["status"]))
    done = await get(town, begun.json()["status"], authorization=f"Bearer {token('d-one')}")

    assert done.json()["done"]
    assert json.loads(certificate)["certificate"]["verdict"]["verdict"] == done.json()["verdict"]
    assert [each["step"] for each in done.json()["steps"]] == list(STEPS)
    assert (denied.status_code, denied.json()["reasons"]) == (403, ["role.forbidden"])
    assert begun.status_code == httpx2.codes.ACCEPTED
    assert status.json()["subject"] == subject
    assert (status.json()["by"], status.json()["urgent"]) == ("d-one", True)
    assert strange.status_code == httpx2.codes.UNAUTHORIZED
    assert "vocustody_admin_unauthorized_total 1.0" in await metrics(town)
    (leaf,) = [leaf for leaf in await town.leaves() if leaf["type"] == "access.denied"]
    assert (leaf["actor"], leaf["detail"]["object"]) == ("a-two", subject)
    assert all(token(name) not in town.cell.log for name in ("d-one", "a-two"))


async def test_where_nobody_is_named_nothing_is_served(tmp_path: Path, graph: GraphWorld) -> None:
    """An API that nobody may use is no API."""
    town = staged(tmp_path / "cell", graph)
    try:
        await town.cell.start()
        answer = await get(town, PATH, authorization=f"Bearer {ADMIN}")
    finally:
        await town.cell.kill()

    assert answer.status_code == httpx2.codes.NOT_FOUND
