"""Erasures over HTTP: begun by whoever may, seen by their own tenant, and told to no other."""

import pytest
from sqlalchemy import insert
from support.admin import FOREIGN, OTHER, Office
from support.desk import TENANT

from gateway import erasure
from gateway.erasure import Facts
from gateway.schema import erasures as table
from gateway.schema import merges

pytestmark = pytest.mark.anyio

PATH = "/admin/v1/erasures"
UNKNOWN = f"s_{'0' * 32}"


async def test_an_erasure_is_asked_for_and_followed(office: Office) -> None:
    """202: it is begun; the rest happens step by step, and can be looked at."""
    subject = await office.somebody()

    answer = await office.erase(subject, urgent=True, trigger="withdrawal")
    shown = (await office.ask("GET", answer.json()["status"], "auditor")).json()

    assert answer.status_code == 202
    assert answer.headers["location"] == answer.json()["status"]
    assert answer.json()["status"] == f"{PATH}/{answer.json()['erasure']}"
    (row,) = await office.desk.rows(table)
    assert (row.id, row.subject, row.tenant) == (answer.json()["erasure"], subject, TENANT)
    assert (row.asked_by, row.trigger, row.urgent) == ("dpo", "withdrawal", True)
    assert shown["subject"] == subject
    assert (shown["step"], shown["verdict"], shown["done"]) == ("requested", None, False)
    assert shown["steps"] == []


async def test_asking_twice_is_asking_once(office: Office) -> None:
    """A client that did not hear the answer asks again."""
    subject = await office.somebody()

    first, second = await office.erase(subject), await office.erase(subject)

    assert first.json() == second.json()
    assert len(await office.desk.rows(table)) == 1


async def test_a_former_pseudonym_is_the_person_of_today(office: Office) -> None:
    """Two names turned out to be one person; old exports still hold the other one."""
    subject = await office.somebody()
    row = {"subject": UNKNOWN, "into": subject, "tenant": TENANT}
    async with office.desk.ports.engine.begin() as tx:
        await tx.execute(insert(merges).values(row))

    await office.erase(UNKNOWN)

    (found,) = await office.desk.rows(table)
    assert found.subject == subject


async def test_a_stranger_looks_like_anybody(office: Office) -> None:
    """A12: the answer does not tell whether a pseudonym is known, here or to another tenant."""
    known = await office.erase(await office.somebody())
    unknown = await office.erase(UNKNOWN)
    foreign = await office.erase(await office.somebody(OTHER))

    for answer in (known, unknown, foreign):
        assert answer.status_code == 202
        assert sorted(answer.json()) == ["erasure", "status"]
        assert len(answer.json()["erasure"]) == len(known.json()["erasure"])
        assert sorted(answer.headers) == sorted(known.headers)
    assert len(office.rests) == 3, "none is answered before its time"
    assert all(0 < rest <= 0.25 for rest in office.rests)
    assert len(await office.desk.rows(table)) == 1, "of nobody else anything is begun"
    first, second = [(await office.ask("GET", a.json()["status"])) for a in (unknown, foreign)]
    assert (first.status_code, first.json()) == (second.status_code, second.json())
    assert first.status_code == 404


async def test_where_the_record_tells_no_tenant_of_another(office: Office) -> None:
    """An auditor of one tenant must not learn from their own leaves whom the other one knows."""
    await office.erase(UNKNOWN)
    await office.erase(await office.somebody(OTHER))
    await office.erase(UNKNOWN, "agent")
    await office.erase(await office.somebody(OTHER), "agent")

    found = office.denials()

    assert [event.tenant for event in found] == ["platform"] * 4
    assert [event.detail["reasons"] for event in found] == [
        ["object.unknown"],
        ["tenant.foreign"],
        ["object.unknown", "role.forbidden"],
        ["role.forbidden", "tenant.foreign"],
    ]
    assert {event.detail["tenant"] for event in found} == {TENANT}


async def test_another_tenants_erasure_is_unknown(office: Office) -> None:
    """A01: 404, in the words of one that never was; and its own people see it."""
    ident = await office.begun(OTHER)

    for path in (f"{PATH}/{ident}", f"{PATH}/{ident}/certificate"):
        theirs, none = [
            await office.ask("GET", path.replace(ident, each)) for each in (ident, f"e_{'0' * 32}")
        ]
        assert (theirs.status_code, theirs.json()) == (none.status_code, none.json())
        assert theirs.status_code == 404
    assert (await office.ask("GET", f"{PATH}/{ident}", FOREIGN)).status_code == 200


@pytest.mark.parametrize(
    "ident", ["e_1' OR '1'='1", "e_%25", "e_" + "_" * 32, "..%2f..%2fhealthz", "e_" + "g" * 32]
)
async def test_an_id_is_a_value_and_no_pattern(office: Office, ident: str) -> None:
    """A07: SQL, wildcards and paths are ids that nobody has."""
    await office.begun()

    answer = await office.ask("GET", f"{PATH}/{ident}")

    assert answer.status_code == 404
    assert b"OR" not in answer.content


async def test_the_steps_and_the_verdict_are_shown(office: Office) -> None:
    """Only a verdict that may be shown as done looks done."""
    ident, ports = await office.begun(), office.desk.ports
    at = ports.now()
    facts = Facts(steps=(("stopped", at),))
    await erasure.note(
        ports.engine, ident, facts=facts, step="stopped", certified_at=1, verdict="failed"
    )

    failed = (await office.ask("GET", f"{PATH}/{ident}")).json()
    await erasure.note(ports.engine, ident, verdict="complete")
    complete = (await office.ask("GET", f"{PATH}/{ident}")).json()

    assert failed["steps"] == [{"step": "stopped", "at": at.isoformat()}]
    assert (failed["step"], failed["verdict"], failed["done"]) == ("stopped", "failed", False)
    assert (complete["verdict"], complete["done"]) == ("complete", True)


async def test_the_certificate_is_given_as_it_was_signed(office: Office) -> None:
    """Every byte counts to whoever verifies it; before there is one, there is none."""
    ident = await office.begun()
    before = await office.ask("GET", f"{PATH}/{ident}/certificate")
    engine = office.desk.ports.engine
    await erasure.note(engine, ident, certificate=b'{"signed":true}')
    draft = await office.ask("GET", f"{PATH}/{ident}/certificate")
    await erasure.note(engine, ident, certified_at=1)

    after = await office.ask("GET", f"{PATH}/{ident}/certificate", "auditor")

    for none in (before, draft):
        assert (none.status_code, none.json()["title"]) == (404, "certificate.none")
    assert (after.status_code, after.content) == (200, b'{"signed":true}')
    assert after.headers["content-type"] == "application/json"
    assert after.headers["cache-control"] == "no-store"


async def test_a_list_is_of_the_own_tenant_newest_first(office: Office) -> None:
    """Page by page, and what comes meanwhile shifts nothing."""
    mine = []
    for _ in range(5):
        mine.append(await office.begun())
        await office.begun(OTHER)
    office.desk.clock.move(1)
    mine.append(await office.begun())

    first = (await office.ask("GET", f"{PATH}?limit=4")).json()
    await office.begun()
    second = (await office.ask("GET", f"{PATH}?limit=4&cursor={first['next']}")).json()

    shown = [each["erasure"] for each in (*first["erasures"], *second["erasures"])]
    assert sorted(shown) == sorted(mine)
    assert shown[0] == mine[-1]
    assert len(first["erasures"]) == 4
    assert second["next"] is None


async def test_a_cursor_is_its_persons_alone(office: Office) -> None:
    """A04: it is no way to another tenant's rows, nor to a place that nobody was shown."""
    for _ in range(2):
        await office.begun()
        await office.begun(OTHER)
    given = (await office.ask("GET", f"{PATH}?limit=1")).json()["next"]
    ends = [given[:-1] + last for last in "ABCDEFGH" if last != given[-1]]
    spoilt = [*ends, f"A{given[1:]}", given[4:], f"{given}=", "", "x", "%00", "=" * 8]

    for cursor in (each for each in spoilt if each != given):
        answer = await office.ask("GET", f"{PATH}?cursor={cursor}")
        assert (answer.status_code, answer.json()["title"]) == (400, "cursor.invalid"), cursor
    for person in ("auditor", FOREIGN):
        assert (await office.ask("GET", f"{PATH}?cursor={given}", person)).status_code == 400
    assert (await office.ask("GET", f"{PATH}?cursor={given}")).status_code == 200


@pytest.mark.parametrize("limit", ["0", "-1", "101", "1000000000", "1e2", "", "x", "٣", "1.0"])
async def test_a_page_has_a_size(office: Office, limit: str) -> None:
    """A09: nobody has a page of everything."""
    answer = await office.ask("GET", PATH, params={"limit": limit})

    assert (answer.status_code, answer.json()["field"]) == (422, "limit")


NUMBERS = [
    "+49 30 23125777",
    "call 4915112345678",
    "(030) 2312-5777",
    "wamid.HBgNNDk",
    "ada@fernruf.example",
]


@pytest.mark.parametrize("because", ["", " ", "x" * 65, "two\nlines", 7, None, [], *NUMBERS])
async def test_a_reason_is_a_line_without_a_number(office: Office, because: object) -> None:
    """It goes into the log, where nothing of a person may be."""
    answer = await office.erase(await office.somebody(), because=because)

    assert (answer.status_code, answer.json()["field"]) == (422, "because")
    assert await office.desk.rows(table) == []
    if isinstance(because, str) and because.strip():
        assert because not in answer.text


@pytest.mark.parametrize(
    "because", ["DSR-20261119-07", "case #4711", "Art. 17, ticket 123456", "'; DROP TABLE jobs --"]
)
async def test_a_case_has_a_number(office: Office, because: str) -> None:
    """A08: a reference is kept as it is written, and means nothing to the database."""
    answer = await office.erase(await office.somebody(), because=because)

    assert answer.status_code == 202
    (row,) = await office.desk.rows(table)
    assert row.because == because


FAULTS = [
    ({"legal_hold": False}, "legal_hold"),
    ({"tenant": OTHER}, "tenant"),
    ({"by": "somebody"}, "by"),
    ({"retention_hours": -1}, "retention_hours"),
    ({"+4915112345678": 1}, "?"),
    ({"subject": "+4915112345678"}, "subject"),
    ({"subject": "4915112345678"}, "subject"),
    ({"subject": ["s_1"]}, "subject"),
    ({"subject": f"s_{'0' * 32}\n"}, "subject"),
    ({"trigger": "restore"}, "trigger"),
    ({"trigger": "whim"}, "trigger"),
    ({"urgent": "yes"}, "urgent"),
    ({"urgent": 1}, "urgent"),
    ({"urgent": None}, "urgent"),
]


@pytest.mark.parametrize(("changed", "field"), FAULTS)
async def test_a_field_at_fault_is_named(
    office: Office, changed: dict[str, object], field: str
) -> None:
    """A02: what the endpoint does not take is refused, not ignored; what was sent is not quoted."""
    answer = await office.erase(await office.somebody(), **changed)

    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert "4915112345678" not in answer.text
    assert await office.desk.rows(table) == []
