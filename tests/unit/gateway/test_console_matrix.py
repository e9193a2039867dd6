"""
Who may do what over HTTP: every route, by every role, on what is theirs and what is not.

`EXPECTED` is written by hand. A route without a row fails, and so does a row without a route.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import update
from support.admin import FOREIGN, OTHER, Office
from support.desk import TENANT

from gateway.console import admin
from gateway.schema import erasures
from policy.access import Role

pytestmark = pytest.mark.anyio

PATH = "/admin/v1/erasures"
ANYBODY = (None, *(role.value for role in Role))
STATES = ("requested", "certified")
UNKNOWN_SUBJECT, UNKNOWN_ERASURE = f"s_{'0' * 32}", f"e_{'0' * 32}"

ERASERS = {"dpo", "tenant_admin", "worker"}
READERS = {"auditor", "dpo", "tenant_admin"}


@dataclass(frozen=True)
class Expected:
    """Who is let in, and what they get: *own* by state, and of what is another tenant's."""

    roles: set[str]
    own: dict[str, int]
    other: int


EXPECTED = {
    f"POST {PATH}": Expected(ERASERS, {"requested": 202, "certified": 202}, 202),
    f"GET {PATH}": Expected(READERS, {"requested": 200, "certified": 200}, 200),
    f"GET {PATH}/{{ident}}": Expected(READERS, {"requested": 200, "certified": 200}, 404),
    f"GET {PATH}/{{ident}}/certificate": Expected(
        READERS, {"requested": 404, "certified": 200}, 404
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


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("route", sorted(EXPECTED))
async def test_every_cell_is_as_written(office: Office, route: str, state: str) -> None:
    """And every denial is on record, under the name of whoever was denied."""
    expected = EXPECTED[route]
    targets = {whose: await _target(office, whose, state) for whose in (TENANT, OTHER, "")}
    for who in ANYBODY:
        for whose, (subject, erasure) in targets.items():
            before = len(office.denials())
            answer = await _sent(office, route, who, subject, erasure)
            fresh = office.denials()[before:]

            cell = (route, who, whose, state)
            listing = route == f"GET {PATH}"
            if who is None:
                assert (answer.status_code, fresh) == (401, []), cell
            elif who not in expected.roles:
                assert answer.status_code == 403, cell
                assert answer.json()["reasons"] == ["role.forbidden"], cell
                assert [event.actor for event in fresh] == [who], cell
            elif whose == TENANT or listing:
                assert (answer.status_code, fresh) == (expected.own[state], []), cell
            else:
                assert answer.status_code == expected.other, cell
                assert [event.actor for event in fresh] == [who], cell


async def test_the_neighbour_sees_their_own(office: Office) -> None:
    """What is a stranger's to one tenant is no stranger's to its own."""
    subject, erasure = await _target(office, OTHER, "certified")

    assert (await office.ask("GET", f"{PATH}/{erasure}", FOREIGN)).status_code == 200
    listed = (await office.ask("GET", PATH, FOREIGN)).json()["erasures"]
    assert [each["subject"] for each in listed] == [subject]
    assert (await office.ask("GET", PATH)).json()["erasures"] == []


async def _target(office: Office, whose: str, state: str) -> tuple[str, str]:
    """Return a subject and an erasure of *whose*, in *state*; of nobody, for an empty one."""
    if not whose:
        return UNKNOWN_SUBJECT, UNKNOWN_ERASURE
    ident = await office.begun(whose)
    values = {"executed_at": 1, "certified_at": 1, "verdict": "complete", "certificate": b"{}"}
    mine = erasures.c.id == ident
    async with office.desk.ports.engine.begin() as tx:
        if state == "certified":
            await tx.execute(update(erasures).where(mine).values(**values))
    (row,) = [row for row in await office.desk.rows(erasures) if row.id == ident]
    return row.subject, ident


async def _sent(office: Office, route: str, who: str | None, subject: str, erasure: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
    method, path = route.split()
    if method == "POST":
        return await office.erase(subject, who)
    return await office.ask(method, path.replace("{ident}", erasure), who)
