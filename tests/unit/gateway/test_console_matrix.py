"""
Who may do what over HTTP: every route, by every role, on what is theirs and what is not.

`EXPECTED` is written by hand. A route without a row fails, and so does a row without a route.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import httpx2
import pytest
from sqlalchemy import update
from support.admin import FOREIGN, OTHER, Office
from support.desk import TENANT

from gateway import approvals, erasure
from gateway.console import admin
from gateway.schema import access_requests, erasures
from policy.access import Action, Reading, Request, Role

pytestmark = pytest.mark.anyio

ERASURES, REQUESTS = "/admin/v1/erasures", "/admin/v1/requests"
ANYBODY = (None, *(role.value for role in Role))
OBJECT, DIGEST = f"a_{'1' * 32}", "0" * 64

ERASERS = {"dpo", "tenant_admin", "worker"}
READERS = {"auditor", "dpo", "tenant_admin"}


@dataclass(frozen=True)
class Expected:
    """
    Who is let in, and what they get: *own* by its state, and of what is another tenant's.

    *asker* is let in to what is their own; *other* is None where there is no such thing.
    """

    roles: set[str]
    own: dict[str, int]
    other: int | None
    asker: str = ""


EXPECTED = {
    f"POST {ERASURES}": Expected(ERASERS, {"requested": 202, "certified": 202}, 202),
    f"GET {ERASURES}": Expected(READERS, {"requested": 200, "certified": 200}, None),
    f"GET {ERASURES}/{{ident}}": Expected(READERS, {"requested": 200, "certified": 200}, 404),
    f"GET {ERASURES}/{{ident}}/certificate": Expected(
        READERS, {"requested": 404, "certified": 200}, 404
    ),
    f"POST {REQUESTS}": Expected({"exporter"}, {"pending": 201}, None),
    f"GET {REQUESTS}/{{ident}}": Expected(
        {"approver"}, {"pending": 200, "used": 200, "expired": 200}, 404, asker="exporter"
    ),
    f"POST {REQUESTS}/{{ident}}/approvals": Expected(
        {"approver"}, {"pending": 201, "used": 409, "expired": 409}, 404
    ),
}


def routes() -> Iterator[str]:
    """Yield every route that is served."""
    for endpoint in admin.ENDPOINTS:
        yield f"{endpoint.method} {endpoint.path}"


def test_every_route_has_its_row() -> None:
    """Nobody adds a door without saying whom it lets in."""
    assert sorted(routes()) == sorted(EXPECTED)
    served = {f"{next(iter(r.methods - {'HEAD'}))} {r.path}" for r in admin.routes() if r.methods}
    assert served == set(EXPECTED)


@pytest.mark.parametrize(
    ("route", "state"), [(route, state) for route, row in EXPECTED.items() for state in row.own]
)
async def test_every_cell_is_as_written(office: Office, route: str, state: str) -> None:
    """And every denial is on record, under the name of whoever was denied."""
    expected = EXPECTED[route]
    things = {whose: await _thing(office, route, whose, state) for whose in (TENANT, OTHER, "")}
    for who in ANYBODY:
        for whose, thing in things.items():
            before = len(office.denials())
            answer = await _sent(office, route, who, thing)
            fresh = [event.actor for event in office.denials()[before:]]

            cell = (route, who, whose, state)
            own = whose == TENANT or expected.other is None
            if who is None:
                assert (answer.status_code, fresh) == (401, []), cell
            elif who not in expected.roles and not (own and who == expected.asker):
                assert (answer.status_code, fresh) == (403, [who]), cell
                assert answer.json()["reasons"] == ["role.forbidden"], cell
            elif own:
                assert (answer.status_code, fresh) == (expected.own[state], []), cell
            else:
                assert (answer.status_code, fresh) == (expected.other, [who]), cell


async def test_the_neighbour_sees_their_own(office: Office) -> None:
    """What is a stranger's to one tenant is no stranger's to its own."""
    subject, ident = await _thing(office, f"GET {ERASURES}", OTHER, "certified")

    assert (await office.ask("GET", f"{ERASURES}/{ident}", FOREIGN)).status_code == 200
    listed = (await office.ask("GET", ERASURES, FOREIGN)).json()["erasures"]
    assert [each["subject"] for each in listed] == [subject]
    assert (await office.ask("GET", ERASURES)).json()["erasures"] == []


async def _thing(office: Office, route: str, whose: str, state: str) -> tuple[str, str]:
    """Return what *route* is about, of *whose* (nobody's, if that is empty), and its id."""
    if REQUESTS in route:
        return await _request(office, whose, state) if whose else (DIGEST, f"q_{'0' * 32}")
    return await _erasure(office, whose, state) if whose else (f"s_{'0' * 32}", f"e_{'0' * 32}")


async def _erasure(office: Office, whose: str, state: str) -> tuple[str, str]:
    ident, engine = await office.begun(whose), office.desk.ports.engine
    if state == "certified":
        ended = {"executed_at": 1, "certified_at": 1, "verdict": "complete"}
        await erasure.note(engine, ident, certificate=b"{}", **ended)
    (row,) = [row for row in await office.desk.rows(erasures) if row.id == ident]
    return row.subject, ident


async def _request(office: Office, whose: str, state: str) -> tuple[str, str]:
    wanted = Request(
        actor="exporter" if whose == TENANT else "exporter-foreign",
        role=Role.EXPORTER,
        tenant=whose,
        action=Action.EXPORT,
        object=OBJECT,
        owner=whose,
        purpose=Reading.RIGHTS,
    )
    age = timedelta(hours=25 if state == "expired" else 0)
    asked = await approvals.ask(office.desk.ports.engine, wanted, office.desk.clock() - age)
    mine = access_requests.c.id == asked.id
    async with office.desk.ports.engine.begin() as tx:
        if state == "used":
            await tx.execute(update(access_requests).where(mine).values(used_at=1))
    return asked.digest, asked.id


async def _sent(
    office: Office, route: str, who: str | None, thing: tuple[str, str]
) -> httpx2.Response:
    method, path = route.split()
    what, ident = thing
    bodies = {
        ERASURES: {"subject": what, "because": "DSR-20261119-07"},
        REQUESTS: {"action": "export", "object": OBJECT},
        f"{REQUESTS}/{{ident}}/approvals": {"digest": what},
    }
    given = {"json": bodies[path]} if method == "POST" else {}
    return await office.ask(method, path.replace("{ident}", ident), who, **given)
