"""The door of the admin API: who is let in, what is read, and what happens when nobody says yes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from support.admin import JSON, Office, token

from gateway.console import wire
from gateway.schema import erasures as table
from policy.access import Approval, Request, Verdict
from policy.model import Provenance, Undecided

pytestmark = pytest.mark.anyio

PATH = "/admin/v1/erasures"
DPO = f"Bearer {token('dpo')}"
WRONG: dict[str, list[str]] = {
    "none": [],
    "empty": [""],
    "no token": ["Bearer "],
    "another": ["Bearer " + "y" * 40],
    "one more letter": [DPO + "x"],
    "one letter less": [DPO[:-1]],
    "in words of its own": [f"bearer  {token('dpo')}"],
    "another scheme": [f"Basic {token('dpo')}"],
    "another scheme as long": [f"Negoti {token('dpo')}"],
    "bare": [token("dpo")],
    "two": [DPO, DPO],
    "A10 alg none": ["Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJkcG8ifQ."],
    "A10 kid path": ["Bearer eyJhbGciOiJIUzI1NiIsImtpZCI6Ii4uLy4uL2RldiJ9.e30.AA"],
    "a name": ["Bearer dpo"],
}


@pytest.mark.parametrize("name", WRONG)
async def test_without_a_token_everybody_is_a_stranger(office: Office, name: str) -> None:
    """One answer, whatever was tried and wherever: it tells nobody what was nearly right."""
    ident = await office.begun()
    headers = [("authorization", value) for value in WRONG[name]]

    answers = [
        await office.http.request(method, path, headers=headers, content=b"{" * 100_000)
        for method, path in (("POST", PATH), ("GET", PATH), ("GET", f"{PATH}/{ident}"))
    ]

    assert {each.status_code for each in answers} == {401}
    assert {each.content for each in answers} == {
        b'{"type":"about:blank","status":401,"title":"token.unknown"}'
    }
    assert {each.headers["www-authenticate"] for each in answers} == {"Bearer"}
    rendered = office.desk.ports.metrics.render()
    assert b"vocustody_admin_unauthorized_total 3.0" in rendered
    assert office.desk.trail.seen == [], "who is nobody writes nothing"


async def test_the_scheme_may_be_written_small(office: Office) -> None:
    """RFC 9110 11.1: its case does not matter."""
    headers = {"authorization": DPO.replace("Bearer", "bearer")}

    assert (await office.http.get(PATH, headers=headers)).status_code == 200


BODIES: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "form": (b"subject=1", {"content-type": "application/x-www-form-urlencoded"}, 415, "body.type"),
    "no type": (b"{}", {"content-type": ""}, 415, "body.type"),
    "latin": (b"{}", {"content-type": f"{JSON}; charset=latin-1"}, 415, "body.type"),
    "gzip": (b"{}", {"content-encoding": "gzip"}, 415, "body.encoded"),
    "too large": (b" " * (wire.MAX_BODY + 1), {}, 413, "body.too_large"),
    "said to be larger": (b"{}", {"content-length": "9" * 5000}, 413, "body.too_large"),
    "no length": (b"{}", {"content-length": "-1"}, 413, "body.too_large"),
    "twice": (b'{"urgent":true,"urgent":false}', {}, 400, "json.duplicate_key"),
    "no JSON": (b"{", {}, 400, "json.syntax"),
    "no UTF-8": (b'{"because":"\xff"}', {}, 400, "json.utf8"),
    "deep": (b"[" * 40 + b"]" * 40, {}, 400, "json.depth"),
    "NaN": (b'{"urgent":NaN}', {}, 400, "json.number"),
    "a list": (b"[]", {}, 422, "body.no_object"),
    "empty": (b"{}", {}, 422, "field.missing"),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_is_read_narrowly(office: Office, name: str) -> None:
    """Two readers that disagree about one body are a hole; each refusal has its own code."""
    content, headers, status, title = BODIES[name]
    headers = {"content-type": JSON} | headers

    answer = await office.ask("POST", PATH, content=content, headers=headers)

    assert (answer.status_code, answer.json()["title"]) == (status, title)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert await office.desk.rows(table) == []


async def test_a_body_without_a_length_is_cut_off_too(office: Office) -> None:
    """A sender that says nothing of its length must not fill the memory."""
    sent = 0

    async def long() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100:
            sent += 1
            yield b" " * 4096

    answer = await office.ask("POST", PATH, content=long(), headers={"content-type": JSON})

    assert answer.status_code == 413
    assert sent <= wire.MAX_BODY // 4096 + 2


async def test_a_body_that_never_ends_is_not_waited_for(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection is not a place to rest."""
    monkeypatch.setattr(wire, "BODY_DEADLINE_S", 0.01)

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)

    answer = await office.ask("POST", PATH, content=never(), headers={"content-type": JSON})

    assert (answer.status_code, answer.json()["title"]) == (408, "body.slow")


@pytest.mark.parametrize(
    ("query", "title"),
    [("tenant=x", "field.unknown"), ("limit=1&limit=2", "field.repeated")],
)
async def test_a_query_is_read_narrowly(office: Office, query: str, title: str) -> None:
    """A parameter that nobody reads is a misunderstanding."""
    answer = await office.ask("GET", f"{PATH}?{query}")

    assert (answer.status_code, answer.json()["title"]) == (422, title)


async def test_when_the_rules_do_not_answer_nothing_happens(office: Office) -> None:
    """Fail closed: nobody said yes."""
    proof = Provenance(id="d_1", engine="e", revision="r", data_sha256="", input_sha256="")

    async def silent(_request: Request, _approvals: Sequence[Approval] = ()) -> Verdict:
        return Undecided(reasons=("engine.late",), provenance=proof)

    subject, ident = await office.somebody(), await office.begun()
    office.desk.with_ports(ask_access=silent)

    answers = [
        await office.erase(subject),
        await office.ask("GET", PATH),
        await office.ask("GET", f"{PATH}/{ident}"),
    ]

    assert {each.status_code for each in answers} == {503}
    assert {each.json()["title"] for each in answers} == {"access.undecided"}
    assert len(await office.desk.rows(table)) == 1


async def test_a_denial_that_cannot_be_put_on_record_is_no_answer(office: Office) -> None:
    """Evidence first: else a probe would leave no trace while the log is down."""
    office.desk.trail.refuses = lambda _event: True
    subject = await office.somebody()

    denied = await office.erase(subject, "auditor")

    assert (denied.status_code, denied.json()["title"]) == (503, "record.unavailable")


async def test_a_database_that_does_not_answer_is_said_so(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 and no detail: the driver's text may hold an address."""

    async def gone(*_: Any) -> None:
        raise OperationalError("select", None, Exception("db.example"))

    monkeypatch.setattr("gateway.console.erasures._page", gone)

    answer = await office.ask("GET", PATH)

    assert (answer.status_code, answer.json()["title"]) == (503, "record.unavailable")
    assert "db.example" not in answer.text


async def test_a_denial_names_who_what_and_why(office: Office) -> None:
    """The leaf is what an incident is worked up from; it holds ids, and no number."""
    subject = await office.somebody()

    answer = await office.erase(subject, "auditor")

    assert answer.status_code == 403
    assert answer.json()["reasons"] == ["role.forbidden"]
    (event,) = office.denials()
    assert (event.actor, event.action, event.outcome) == ("auditor", "erase", "denied")
    assert event.detail["object"] == subject
    assert event.detail["reasons"] == ["role.forbidden"]
    assert event.detail["role"] == "auditor"
    assert event.decision is not None


@pytest.mark.parametrize("kinds", [[], [JSON, "text/plain"]])
async def test_a_body_has_one_type(office: Office, kinds: list[str]) -> None:
    """Of two, a proxy may have looked at the other one."""
    headers = [("authorization", DPO), *(("content-type", kind) for kind in kinds)]

    answer = await office.http.post(PATH, headers=headers, content=b"{}")

    assert (answer.status_code, answer.json()["title"]) == (415, "body.type")
