"""Options that a decision obliges us to."""

import pytest

from residency.errors import ProcessorRefusedError
from residency.processors import options

CARRIED = {"model": "short", "location": "eu"}


@pytest.mark.parametrize("wanted", [{}, {"model": "short"}, CARRIED])
def test_what_the_request_carries_is_proven(wanted: dict[str, str]) -> None:
    """A call whose obligations are met goes ahead."""
    options.prove(wanted, CARRIED, "stt.x")


@pytest.mark.parametrize("wanted", [{"model": "long"}, {"data-logging": "off"}, {"": ""}])
def test_what_it_does_not_carry_is_refused(wanted: dict[str, str]) -> None:
    """An option that is only believed to be set is how training data gets out."""
    with pytest.raises(ProcessorRefusedError, match=r"stt\.x: the request does not carry"):
        options.prove(wanted, CARRIED, "stt.x")
