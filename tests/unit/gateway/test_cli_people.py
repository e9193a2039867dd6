"""The commands about one person, and about who has their conversation."""

import io
import json
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncEngine
from support.settings import Configure

from gateway import cli, db, migrations, persons, settings
from gateway.compose import access, stores
from gateway.jobs import micros
from gateway.schema import aliases, handovers, subjects
from gateway.whatsapp.payload import Identity
from policy.consents.sql import SqlConsents
from policy.model import Consent, ConsentState

AT = datetime(2026, 11, 19, 14, 14, tzinfo=UTC)
SUBJECT = "s_" + "1" * 32
OTHER_SUBJECT = "s_" + "4" * 32
DIGITS = "4915112345678"
JOB = "j_" + "2" * 32
OTHER = "j_" + "3" * 32


def within(config: Path, act: Callable[[AsyncEngine], Coroutine[Any, Any, Any]]) -> Any:
    """Return what *act* returns with the cell's database."""

    async def run() -> Any:
        engine = db.connect(stores.database_url(settings.load(config)))
        try:
            return await act(engine)
        finally:
            await engine.dispose()

    return anyio.run(run)


async def populate(engine: AsyncEngine) -> None:
    """Have one person, one consent, and two handovers of their conversation."""
    await migrations.upgrade(engine)
    row = Consent(
        id="c_1", tenant="clinic", subject=SUBJECT, purpose="transcribe_and_answer",
        state=ConsentState.GRANTED, at=1_763_000_000, expires_at=1_794_000_000,
        notice_version="1", notice_sha256="0" * 64, language="en", channel="whatsapp",
        evidence="",
    )  # fmt: skip
    await SqlConsents(engine).record(row)
    open_ = {"tenant": "clinic", "conversation": "c", "subject": SUBJECT, "at": micros(AT)}
    async with engine.begin() as tx:
        alias = {"alias": "k", "tenant": "clinic", "subject": SUBJECT}
        await tx.execute(insert(aliases).values(**alias))
        for job in (JOB, OTHER):
            row_ = open_ | {"job": job, "reason": "person.asked"}
            await tx.execute(insert(handovers).values(**row_))


@pytest.fixture
def cell(configure: Configure) -> Path:
    """Return the settings of a cell that is not running."""
    config = configure()
    settings.load(config).cell.data.mkdir(mode=0o700)
    within(config, populate)
    return config


def test_history_is_told_as_text_and_json(cell: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a DPO shows an authority, and what their script reads."""
    assert cli.main(["consent", "history", SUBJECT, "--config", str(cell)]) == 0
    text = capsys.readouterr().out
    assert cli.main(["consent", "history", SUBJECT, "--json", "--config", str(cell)]) == 0

    [row] = json.loads(capsys.readouterr().out)
    assert (row["purpose"], row["state"]) == ("transcribe_and_answer", "granted")
    assert f"notice_sha256={'0' * 64}" in text


def test_what_is_declared_is_printed_and_kept(
    cell: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It adds to what was declared before; the running cell puts it on the trail."""
    for option in (["--residence", "FR"], ["--minor"]):
        assert cli.main(["subject", "declare", SUBJECT, *option, "--config", str(cell)]) == 0

    async def kept(engine: AsyncEngine) -> Any:
        async with engine.connect() as tx:
            return (await tx.execute(select(subjects))).one()

    row = within(cell, kept)
    assert (row.residence, row.minor, row.recorded_at) == ("FR", True, None)
    assert "residence=FR  minor=True" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("consent", "history", "s_nobody"), "no such subject"),
        (("consent", "receipt", "s_nobody"), "no such subject"),
        (("consent", "receipt", SUBJECT, "--purpose", "all"), "transcribe_and_answer"),
        (("subject", "declare", SUBJECT), "nothing to declare"),
        (("subject", "declare", SUBJECT, "--residence", "Germany"), "country code"),
        (("handovers", "close", JOB), "by"),
        (("handovers", "close", JOB, "--by", " "), "--by"),
        (("handovers", "close", "j_0", "--by", "dpo"), "no open handover"),
    ],
)
def test_what_cannot_be_done_exits_2(
    cell: Path, command: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And says what was wrong with it."""
    assert cli.main([*command, "--config", str(cell)]) == 2

    said = capsys.readouterr()
    assert says in said.err
    assert said.out == ""


HOLD = ("--case", "2026-117", "--ground", "GDPR Art. 17(3)(e)", "--until", "2027-01-01T00:00Z")
NAMING = (
    ("erase", SUBJECT, "--because", "request 2026-117"),
    ("erasures", "contract-end", "clinic", "--because", "contract 2026-117"),
    ("findings", "close", "f_1", "--why", "looked at"),
    ("handovers", "close", JOB),
    ("hold", "approve", "h_1"),
    ("hold", "propose", *HOLD, "--subject", SUBJECT),
    ("hold", "release", "h_1"),
    ("subject", "export", SUBJECT, "report.zip"),
)


@pytest.mark.parametrize(
    "by", ["+49 151 12345678", "\uff14\uff19\uff11\uff15\uff11", "Grace Hopper", ""]
)
@pytest.mark.parametrize("command", NAMING, ids=lambda command: " ".join(command[:2]))
def test_who_asks_is_somebody_of_the_settings(
    cell: Path, command: tuple[str, ...], by: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name stays in the log for good: it is chosen once, by who writes the settings."""
    assert cli.main([*command, "--by", by, "--config", str(cell)]) == 2

    said = capsys.readouterr().err
    assert "--by: nobody of the settings (one of dpo, p_1, p_2" in said
    assert not by or by not in said


def test_where_nobody_is_named_the_fix_is(cell: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty set would otherwise read like a broken command."""
    cell.write_text(cell.read_text().replace('names = ["dpo", "p_1", "p_2"]', "names = []"))

    assert cli.main(["handovers", "close", JOB, "--by", "dpo", "--config", str(cell)]) == 2

    assert "operators.names" in capsys.readouterr().err


NUMBER = "of +49 151 12345678"


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (("erase", SUBJECT, "--because", NUMBER), "because"),
        (("erasures", "contract-end", "clinic", "--because", NUMBER), "because"),
        (("findings", "close", "f_1", "--why", NUMBER), "--why"),
    ],
)
def test_a_reason_with_a_number_is_refused_where_it_is_typed(
    cell: Path, command: tuple[str, ...], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log would refuse it later, when nobody is there to say it better."""
    assert cli.main([*command, "--by", "dpo", "--config", str(cell)]) == 2

    said = capsys.readouterr().err
    assert f"{option}: " in said
    assert "looks like a number" in said
    assert "12345678" not in said


def test_a_handover_is_closed_once_and_the_others_are_told(
    cell: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who closes one of two must know that the bot is still silent."""
    close = ["--by", "dpo", "--config", str(cell)]

    assert cli.main(["handovers", "close", JOB, *close]) == 0
    assert "1 more of this conversation" in capsys.readouterr().out
    assert cli.main(["handovers", "close", JOB, *close]) == 2
    capsys.readouterr()
    assert cli.main(["handovers", "list", "--json", "--config", str(cell)]) == 0

    assert [row["job"] for row in json.loads(capsys.readouterr().out)] == [OTHER]
    assert cli.main(["handovers", "close", OTHER, *close]) == 0
    assert capsys.readouterr().out == f"{OTHER}: closed by dpo\n"


def found(cell: Path, monkeypatch: pytest.MonkeyPatch, written: str, tenant: str = "clinic") -> int:
    """Ask whose the number *written* is; return the exit status."""
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{written}\n"))
    return cli.main(["subject", "find", tenant, "--config", str(cell)])


async def linked(config: Path, *links: dict[str, Any]) -> None:
    """Have the number lead where *links* say."""
    async with access.opened(settings.load(config)) as place:
        who = Identity(phone=DIGITS)
        seen = await persons.sighting(who, "clinic", place.keys, at=0)
        async with place.engine.begin() as tx:
            for each in links:
                row = {"alias": seen.number, "tenant": "clinic"} | each
                await tx.execute(insert(aliases).values(**row))


@pytest.mark.parametrize("written", ["+49 151 12345678", "0151 12345678", "(0151)-1234 5678"])
def test_a_person_is_found_by_a_number_as_people_write_it(
    cell: Path, written: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a country code it is of the tenant's country; the pseudonym alone is printed."""
    anyio.run(linked, cell, {"subject": SUBJECT})

    assert found(cell, monkeypatch, written) == 0
    assert capsys.readouterr().out == f"{SUBJECT}\n"


def test_of_a_number_that_changed_hands_all_holders_are_listed_with_their_times(
    cell: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whom a request is about only the person can say: nobody is erased by a guess."""
    later = {"subject": OTHER_SUBJECT, "since": 1_795_000_000, "seen": 20_780}
    anyio.run(linked, cell, {"subject": SUBJECT, "seen": 20_000}, later | {"why": "user_id.other"})

    assert found(cell, monkeypatch, "+49 151 12345678") == 1
    newer, older = capsys.readouterr().out.splitlines()
    assert newer.startswith(f"{OTHER_SUBJECT}  since 2026-11-18T")
    assert "(user_id.other)" in newer
    assert older.startswith(f"{SUBJECT}  from the beginning  last message 2024-10-04")


@pytest.mark.parametrize(
    ("written", "tenant", "says"),
    [
        ("+49 151 12345678", "nobody", "works for nobody of that name"),
        ("Ada Lovelace", "nobody", "works for nobody of that name"),
        ("+49 151 87654321", "clinic", "nobody known writes"),
        ("DE.1349012345678901234", "clinic", "nobody known writes"),
        ("Ada Lovelace", "clinic", "no telephone number"),
        ("0151", "clinic", "no telephone number"),
    ],
)
def test_who_cannot_be_found_is_told_apart_and_not_repeated(
    cell: Path,
    written: str,
    tenant: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A slip in the tenant's name must not read as "we know nothing of this person"."""
    anyio.run(linked, cell, {"subject": SUBJECT})
    capsys.readouterr()

    assert found(cell, monkeypatch, written, tenant) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert not any(word in said.err + said.out for word in written.split())


@pytest.mark.parametrize(
    "command",
    [
        ("erase", "+4915112345678", "--because", "request", "--by", "dpo"),
        ("subject", "export", "4915112345678", "x.zip", "--by", "dpo"),
        ("subject", "declare", "004915112345678", "--minor"),
        ("consent", "history", "+4915112345678"),
        ("consent", "receipt", "+4915112345678"),
        (
            "hold", "propose", "--case", "c-1", "--ground", "law", "--until",
            "2027-01-01T00:00:00Z", "--by", "dpo", "--subject", "+4915112345678",
        ),
    ],
)  # fmt: skip
def test_a_number_where_a_pseudonym_belongs_is_refused_and_not_repeated(
    cell: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is in the shell's history already; it need not be on the screen and in a log as well."""
    assert cli.main([*command, "--config", str(cell)]) == 2

    said = capsys.readouterr()
    assert "vocustody subject find" in said.err
    assert "151" not in said.err + said.out
