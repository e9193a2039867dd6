"""Nobody is met with silence: every calling code, at a cell in each region that ships."""

import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import anyio.from_thread
import phonenumbers
import pytest
from support import policy_world
from support.asker import Asker, embedded_asker
from support.policy_world import asking

from gateway.permit import DECLINED
from policy import bundle, jurisdictions
from policy.model import Question, Stage
from residency import registry
from residency.jurisdiction import locate

TABLE = Path(__file__).parents[1] / "corpus" / "calling-codes.toml"
CODES: dict[str, list[str]] = tomllib.loads(TABLE.read_text(encoding="utf-8"))["codes"]
CELLS = [("DE", "eu-central"), ("SG", "ap-singapore"), ("BR", "sa-brazil"), ("US", "us-east")]
TYPED = (Stage.NOTICE, Stage.UNDERSTAND, Stage.REPLY)


@pytest.fixture(scope="module")
def ask(portal: anyio.from_thread.BlockingPortal) -> Iterator[Asker]:
    """Yield the embedded engine over all that ships, with a tenant that serves and one that not."""
    shipped = bundle.build(
        bundle.load(),
        processors=registry.load(today=date(2026, 11, 22)).rows(),
        jurisdictions=jurisdictions.load(),
        tenants={"acme": {}, "homely": {"abroad": "decline"}},
        notices=[policy_world.NOTICE],
    )
    with embedded_asker(shipped, portal) as asker:
        yield asker


def numbers() -> list[tuple[str, str]]:
    """Return a number of every country and network, and one per code that no plan lists."""
    found = []
    for code, countries in CODES.items():
        examples = [phonenumbers.example_number(country) for country in countries] or [
            phonenumbers.example_number_for_non_geo_entity(int(code))
        ]
        found += [(code, f"{code}{one.national_number}") for one in examples if one is not None]
        found.append((code, code + "0" * (11 - len(code))))
    return found


def test_the_table_of_calling_codes_is_whole() -> None:
    """A code that the table lacks would be a country that nobody tried."""
    plan = {
        str(code): sorted(set(countries) - {"001"})
        for code, countries in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items()
    }

    assert plan == CODES
    assert {code for code, _ in numbers()} == set(CODES)
    assert len(numbers()) > len(CODES) + 240


def test_the_cells_are_those_of_the_registry() -> None:
    """A region that ships and is not tried here could refuse everybody."""
    rows = registry.load(today=date(2026, 11, 22)).rows()
    complete = {"capture", "reply", "speak", "transcribe", "understand"}
    served = {
        region
        for region in {row["region"] for row in rows}
        if complete <= {stage for row in rows if row["region"] == region for stage in row["stages"]}
    }

    assert {region for _, region in CELLS} == served


def people(
    country: str, region: str, tenant: str, *stages: Stage
) -> Iterator[tuple[str, Question]]:
    """Yield a question per stage for everybody that the numbers tell apart, as the gateway asks."""
    told_apart = {
        locate(declared=None, phone=phone, bsuid=None, tenant=country).code: code
        for code, phone in numbers()
    }
    for jurisdiction, code in told_apart.items():
        for stage in stages:
            asked = asking(
                stage=stage,
                tenant=tenant,
                controller=country,
                jurisdiction=jurisdiction,
                region=region,
                languages=("en",),
            )
            yield code, asked


@pytest.mark.parametrize(("country", "region"), CELLS)
def test_everybody_is_served_in_the_cells_own_places(ask: Asker, country: str, region: str) -> None:
    """A Turkish "Hello" to a German cell was answered with silence; 0 such refusals are left."""
    asked = 0

    for code, question in people(country, region, "acme", *Stage):
        found = ask(question)
        assert found["allow"], (code, question.jurisdiction, question.stage, found["reasons"])
        assert all(name.endswith(region) for name in found["processors"]), code
        asked += 1

    assert asked > 240 * len(Stage)


@pytest.mark.parametrize(("country", "region"), CELLS)
def test_who_is_declined_can_be_told_so(ask: Asker, country: str, region: str) -> None:
    """Where a tenant serves its own law's people alone, others get a sentence, never nothing."""
    declined, served = set(), set()

    for code, question in people(country, region, "homely", Stage.CAPTURE, *TYPED):
        found = ask(question)
        if question.stage is Stage.NOTICE:
            assert found["allow"], (code, found["reasons"])
        elif not found["allow"]:
            assert not DECLINED.isdisjoint(found["reasons"]), (code, found["reasons"])
            declined.add(question.jurisdiction)
        else:
            served.add(question.jurisdiction)

    assert country in served
    assert {"TR", "ZZ"} <= declined
    assert declined.isdisjoint(served)
