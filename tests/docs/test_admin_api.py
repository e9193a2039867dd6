"""The page of the admin API names every route, field and code there is, and no other."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.admin import Office
from support.desk import TENANT

from gateway.console import admin, requests, wire

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "admin-api.md").read_text()
SECTIONS = dict(re.findall(r"^### `(\w+ /\S+)`\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL))
ENDPOINTS = {f"{each.method} {each.path}": each for each in admin.ENDPOINTS}


def rows(text: str) -> list[str]:
    """Return what the tables of *text* name."""
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


def test_every_route_has_its_section_and_no_other() -> None:
    """A door that is not on the page is found by those who look for doors."""
    assert sorted(SECTIONS) == sorted(ENDPOINTS)


TAKEN = {name: {**each.body, **each.query} for name, each in ENDPOINTS.items()}


@pytest.mark.parametrize("route", sorted(name for name, fields in TAKEN.items() if fields))
def test_what_is_taken_is_listed_with_its_default(route: str) -> None:
    """Whoever copies the page must not be refused."""
    text, fields = SECTIONS[route], TAKEN[route]

    assert rows(text) == list(fields)
    for name, field in fields.items():
        (default,) = re.findall(rf"^\| `{name}` \| (.*?) \|", text, re.MULTILINE)
        if field.default is wire.REQUIRED:
            assert default == "required", name
        elif field.default is None:
            assert default == "none", name
        else:
            assert default.strip('`"').lower() == str(field.default).lower(), name


@pytest.mark.anyio
async def test_what_is_answered_is_listed(office: Office) -> None:
    """A client is written after the page."""
    ident = await office.begun(TENANT)

    one = (await office.ask("GET", f"/admin/v1/erasures/{ident}")).json()
    begun = (await office.erase(await office.somebody())).json()
    listed = (await office.ask("GET", "/admin/v1/erasures")).json()

    assert rows(SECTIONS["GET /admin/v1/erasures/{ident}"]) == list(one)
    assert set(listed["erasures"][0]) == set(one) - {"steps"}
    for section, answer in (("POST", begun), ("GET", listed)):
        for name in answer:
            assert f"`{name}`" in SECTIONS[f"{section} /admin/v1/erasures"], name


@pytest.mark.anyio
async def test_what_a_request_answers_is_listed(office: Office) -> None:
    """Who approves must find every part of what they approve on the page."""
    body = {"action": "export", "object": f"a_{'1' * 32}"}

    begun = (await office.ask("POST", "/admin/v1/requests", "exporter", json=body)).json()
    one = (await office.ask("GET", begun["status"], "approver")).json()

    assert rows(SECTIONS["GET /admin/v1/requests/{ident}"]) == list(one)
    assert set(begun) == {*one, "status"}
    for action in requests.ACTIONS:
        assert f'`"{action}"`' in SECTIONS["POST /admin/v1/requests"], action


def _problems() -> Iterator[tuple[str, str]]:
    """Yield every status and code that the console's modules raise."""
    for path in sorted((ROOT / "gateway" / "console").glob("*.py")):
        yield from re.findall(r'ProblemError\(\s*(\d{3}), "([a-z_.]+)"', path.read_text())
    store = (ROOT / "gateway" / "approvals.py").read_text()
    yield from (("409", code) for code in re.findall(r'ApprovalError\("([a-z_.]+)"', store))


def test_every_code_is_listed_under_its_status() -> None:
    """What to do about an answer depends on its code."""
    listed = {
        (status, code)
        for status, codes in re.findall(r"^\| (\d{3}) \| (.*) \|$", TEXT, re.MULTILINE)
        for code in re.findall(r"`([a-z_.*]+)`", codes)
    }

    assert set(_problems()) == listed - {("400", "json.*")}
