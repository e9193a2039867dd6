"""Whose law holds, from what is known of a person. Numbers are of ranges reserved for fiction."""

import pytest

from residency import jurisdiction
from residency.model import Jurisdiction

GB_UNASSIGNED = "447700900123"
US = "12025550123"


def _locate(**known: str | None) -> Jurisdiction:
    given: dict[str, str | None] = {"declared": None, "phone": None, "bsuid": None}
    return jurisdiction.locate(**(given | known), tenant="DE")  # type: ignore[arg-type]


def test_a_declaration_counts_before_a_number() -> None:
    """Who lives in Brazil with an American SIM is protected by Brazil's law."""
    assert _locate(declared="BR", phone=US) == Jurisdiction(code="BR", evidence="declared")


def test_a_number_counts_before_a_user_id() -> None:
    """The order is fixed, so that the same person always falls under the same law."""
    assert _locate(phone=US, bsuid="IN.1A2b") == Jurisdiction(code="US", evidence="number")


@pytest.mark.parametrize("bsuid", ["IN.1A2b", "IN.ENT.1A2b"])
def test_a_hidden_number_leaves_the_user_id(bsuid: str) -> None:
    """People with a username may write without showing a number."""
    assert _locate(bsuid=bsuid) == Jurisdiction(code="IN", evidence="bsuid")


@pytest.mark.parametrize("bsuid", ["ZZ.1A2b", "in.1A2b", "IN.", "IN.1A2b\n", "IN1A2b", "IN.a_b"])
def test_a_user_id_of_another_form_is_no_evidence(bsuid: str) -> None:
    """A prefix is read only where the whole is what WhatsApp documents."""
    assert _locate(bsuid=bsuid) == Jurisdiction(code="ZZ", evidence="none")


def test_several_candidates_stay_together() -> None:
    """A range nobody was given may be of four islands: the strictest of them must count."""
    assert _locate(phone=GB_UNASSIGNED) == Jurisdiction(code="GB+GG+IM+JE", evidence="number")


def test_shared_ranges_are_not_settled_by_a_guess() -> None:
    """The library names one country for +39 mobiles; the Vatican has them too."""
    assert _locate(phone="393123456789").code == "IT+VA"


def test_the_tenants_own_country_settles_candidates() -> None:
    """A British shop's customer with an unlisted British number is most likely British."""
    found = jurisdiction.locate(declared=None, phone=GB_UNASSIGNED, bsuid=None, tenant="GB")

    assert found == Jurisdiction(code="GB", evidence="number")


@pytest.mark.parametrize(("phone", "code"), [("5215512345678", "MX"), ("551187654321", "BR")])
def test_old_forms_of_numbers_are_still_numbers(phone: str, code: str) -> None:
    """WhatsApp keeps accounts under numbers that today's plan no longer lists."""
    assert _locate(phone=phone).code == code


@pytest.mark.parametrize(
    "phone",
    ["5512345", "999123456", "882161234567", "1", "+12025550123", "1202555x123", "٤٤٧٧٠٠٩٠٠١٢٣"],
)
def test_garbage_is_no_evidence(phone: str) -> None:
    """A short test id parses as Brazil: unknown must not become somebody's law."""
    assert _locate(phone=phone) == Jurisdiction(code="ZZ", evidence="none")


def test_garbage_leaves_the_next_evidence() -> None:
    """An unreadable number does not spoil a readable user id."""
    assert _locate(phone="5512345", bsuid="IN.1A2b").evidence == "bsuid"


@pytest.mark.parametrize("declared", ["", "de", "EU", "XX", "DE+FR"])
def test_an_unreadable_declaration_is_not_passed_over(declared: str) -> None:
    """Somebody said where they live: weaker evidence must not overrule what we cannot read."""
    assert _locate(declared=declared, phone=US) == Jurisdiction(code="ZZ", evidence="declared")


def test_whom_nothing_locates_is_of_no_country() -> None:
    """The strictest ceilings hold: the controller's country is no guess at theirs."""
    assert _locate() == Jurisdiction(code="ZZ", evidence="none")


def test_every_country_is_known_and_nowhere_is_not() -> None:
    """A declaration of ``ZZ`` must not look like a country."""
    assert jurisdiction.known("CH")
    assert not jurisdiction.known(jurisdiction.NOWHERE)
