"""Graph's codes as data: each code of the vendor's page stands in the table, under one class."""

from http import HTTPStatus

import pytest

from gateway.metrics import OTHER, Words
from gateway.whatsapp import codes
from gateway.whatsapp.codes import Means

# Meta, "Cloud API error codes": what the page lists, section by section.
PAGE = {
    "authorization": (0, 3, 10, 190, *range(200, 300)),
    "integrity": (368, 130497, 131031),
    "throttling": (4, 80007, 130429, 131048, 131056, 131064, 133016),
    "other": (1, 2, 33, 100, 130472, 131000, 131005, 131008, 131009, 131016, 131021, 131026),
    "more": (131037, 131042, 131045, 131047, 131049, 131050, 131051, 131052, 131053, 131057),
    "templates": (132000, 132001, 132005, 132007, 132012, 132015, 132016, 132068, 132069),
    "registration": (133000, 133004, 133005, 133006, 133008, 133009, 133010, 133015),
    "payments": (134011, 135000),
    "storage": (131035, 131036),
    "graph": (17, 32, 102, 104, 341, 613, 2500),
}


@pytest.mark.parametrize("section", PAGE)
def test_every_code_of_the_vendors_page_has_a_class(section: str) -> None:
    """A code that nobody thought of goes by its status, which says less."""
    assert [code for code in PAGE[section] if code not in codes.CODES] == []


@pytest.mark.parametrize(
    "code",
    [
        *(0, 3, 10, 33, 190, 200, 299, 368, 613, 2500, 131005, 131031, 131037, 131042, 131045),
        *(131048, 133004, 133010),
    ],
)
def test_what_is_wrong_with_the_account_is_wrong_for_nobody_in_particular(code: int) -> None:
    """Whoever wrote meanwhile would be refused for what the operator has to mend."""
    assert codes.meaning(HTTPStatus.BAD_REQUEST, code).means is Means.ACCOUNT


@pytest.mark.parametrize("code", [4, 17, 32, 341, 80007, 80008, 130429, 131016, 131056, 131057, 2])
def test_a_limit_is_a_pause(code: int) -> None:
    """Nothing was done, nothing is wrong: later."""
    assert codes.meaning(HTTPStatus.BAD_REQUEST, code).means is Means.BUSY


@pytest.mark.parametrize("code", [1, 131000])
def test_an_unknown_error_stays_in_doubt(code: int) -> None:
    """It may have been sent."""
    assert codes.meaning(HTTPStatus.INTERNAL_SERVER_ERROR, code).means is Means.UNKNOWN


@pytest.mark.parametrize(
    ("status", "means"),
    [
        (301, Means.ACCOUNT),
        (400, Means.REFUSED),
        (401, Means.ACCOUNT),
        (403, Means.ACCOUNT),
        (404, Means.ACCOUNT),
        (407, Means.ACCOUNT),
        (408, Means.UNKNOWN),
        (413, Means.REFUSED),
        (429, Means.BUSY),
        (500, Means.UNKNOWN),
        (503, Means.UNKNOWN),
        (200, Means.UNKNOWN),
    ],
)
@pytest.mark.parametrize("code", [None, 999_999])
def test_a_code_that_nobody_named_goes_by_its_status(
    status: int, code: int | None, means: Means
) -> None:
    """New codes come without notice: none is retried for ever, and none is taken for the person."""
    assert codes.meaning(status, code).means is means


def test_a_wrong_number_is_told_from_a_wrong_parameter() -> None:
    """Graph says 100 for both; only the subcode tells whose fault it is."""
    assert codes.meaning(400, 100).means is Means.REFUSED
    assert codes.meaning(400, 100, 33).means is Means.ACCOUNT


def test_every_word_can_be_a_label() -> None:
    """Metrics hold no digits: without a word every fault of an account is the same one."""
    found = {meaning.word for meaning in codes.CODES.values()}
    as_label = Words(64)

    assert OTHER not in {as_label(word) for word in found}
