"""Transfer impact records: what is one, what is in it, and what stays unknown."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from support.speech import a_processor

from residency import transfers
from residency.model import Service, Transfer
from residency.transfers import Record, Seen

AT = datetime(2026, 11, 22, 14, 15, tzinfo=UTC)
ROW = a_processor(
    Service.SPEECH_TO_TEXT,
    "azure-speech",
    id="stt.vendor.us-east",
    vendor="Vendor",
    region="us-east",
    jurisdiction="US",
    hosts=("us-east.vendor.example:443",),
    contract="DPA 7",
    contract_expires=date(2027, 1, 31),
    options={"train": "false"},
    transfers=(
        Transfer(tool="scc", module="2", law="GDPR", reference="C-1", expires=date(2027, 1, 1)),
    ),
)
SEEN = Seen(
    processor=ROW.id,
    origin="DE",
    action="transcribe",
    ground="scc:2",
    at=AT,
    host="us-east.vendor.example:443",
    peers=("192.0.2.1",),
)


def records(*seen: Seen, row: Any = ROW, findings: tuple[str, ...] = ()) -> list[Record]:
    """Return the records of a cell in Germany."""
    said = {ROW.id: findings} if findings else {}
    return transfers.records([row], seen, exporter="eu-1", country="DE", findings=said)


def test_a_record_says_what_was_seen_and_on_which_ground() -> None:
    """First and last touch, the ground each decision used, the paper that is filed for it."""
    later = replace(SEEN, at=AT + timedelta(hours=2), peers=("192.0.2.2",))

    (record,) = records(later, SEEN)

    assert (record.origin, record.destination, record.importer) == ("DE", "US", "Vendor")
    assert (record.touches, record.first_observed, record.last_observed) == (2, AT, later.at)
    assert record.data_classes == ("raw audio",)
    assert record.grounds == ("scc:2",)
    assert record.tools == ("scc module 2 under GDPR until 2027-01-01 (C-1)",)
    assert record.observation.peers == ("192.0.2.1", "192.0.2.2")
    assert record.contradictions == ()


def test_what_nobody_recorded_is_unknown() -> None:
    """A blank would be read as "none", and an assessment that nobody made as done."""
    (record,) = records(SEEN)

    assert record.conclusion == record.approver == record.onward == "unknown"
    assert record.law_and_practice.startswith("unknown")
    assert record.measures["TLS"] == "unknown"


def test_tls_is_verified_where_our_own_client_saw_it() -> None:
    """A measure in a contract is not a measure that runs."""
    (record,) = records(replace(SEEN, tls="TLSv1.3 us-east.vendor.example"))

    assert record.measures["TLS"] == "verified by our own client"


def test_each_law_has_its_own_record() -> None:
    """Two people under two laws are two transfers, with two assessments."""
    found = records(SEEN, replace(SEEN, origin="BR"))

    assert [record.origin for record in found] == ["BR", "DE"]


@pytest.mark.parametrize(
    ("changed", "origin", "is_one"),
    [
        ({"jurisdiction": "DE"}, "DE", False),
        ({"jurisdiction": "DE"}, "GB", True),
        ({"jurisdiction": "GB"}, "GB+JE", True),
        ({"jurisdiction": "ZZ"}, "DE", True),
        ({"jurisdiction": "DE", "settings": {"in_use_elsewhere_minutes": "60"}}, "DE", True),
        ({"hosts": ()}, "DE", False),
        ({"contract": ""}, "DE", True),
    ],
)
def test_what_is_a_transfer(changed: dict[str, Any], origin: str, is_one: bool) -> None:  # noqa: FBT001
    """At home is none, unless it says that it works elsewhere; no country is never home."""
    found = records(replace(SEEN, origin=origin), row=replace(ROW, **changed))

    assert bool(found) is is_one


def test_a_filed_row_is_a_transfer_before_its_first_touch() -> None:
    """EDPB step one is to know one's transfers, not to find out."""
    (record,) = records()

    assert (record.origin, record.touches, record.first_observed) == ("DE", 0, None)


def test_a_listed_row_transfers_nothing() -> None:
    """The seed lists vendors by the dozen: none of them is a recipient."""
    assert records(row=replace(ROW, contract="")) == []


def test_no_country_is_unknown() -> None:
    """ZZ is our mark; in the record it has to be a word."""
    (record,) = records(SEEN, row=replace(ROW, jurisdiction="ZZ"))

    assert record.destination == "unknown"


def test_work_elsewhere_is_an_onward_transfer() -> None:
    """Up to an hour in other countries: stated, so repeated."""
    row = replace(ROW, settings={"in_use_elsewhere_minutes": "60"})

    (record,) = records(SEEN, row=row)

    assert record.onward == "in use up to 60 minutes in other countries"


@pytest.mark.parametrize(
    ("seen", "changed", "said"),
    [
        (SEEN, {"contract": ""}, "touched without an agreement on file"),
        (replace(SEEN, ground=""), {}, "touched abroad, and no decision named a ground"),
    ],
)
def test_contradictions_are_said(seen: Seen, changed: dict[str, Any], said: str) -> None:
    """The record is evidence against us too."""
    (record,) = records(seen, row=replace(ROW, **changed))

    assert said in record.contradictions


def test_open_findings_are_contradictions() -> None:
    """A vendor that says another region contradicts the destination written above."""
    (record,) = records(SEEN, findings=("region: eastus (f_1)",))

    assert record.contradictions == ("region: eastus (f_1)",)


def test_no_ground_is_needed_at_home() -> None:
    """WhatsApp's hour elsewhere is listed; that its number is at home needs no tool."""
    row = replace(ROW, jurisdiction="DE", settings={"in_use_elsewhere_minutes": "60"})

    (record,) = records(replace(SEEN, ground=""), row=row)

    assert record.grounds == ("none named",)
    assert record.contradictions == ()
