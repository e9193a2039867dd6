"""One value, one text."""

from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from policy import canonical

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abcxyz_09", max_size=8), inner),
    max_leaves=10,
)


@given(values)
def test_it_is_rfc_8785_for_our_values(value: Any) -> None:
    """Somebody else's implementation must compute the same digest years from now."""
    assert canonical.encode(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("value", [1.0, {"a": [1.5]}, {1: "a"}, {"a": {1}}, float("nan")])
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    """Engines print floats differently: a digest over one could not be checked."""
    with pytest.raises(TypeError):
        canonical.encode(value)


def test_the_digest_is_sha_256_of_the_text() -> None:
    """The name says which algorithm; the value is the well-known one of two braces."""
    expected = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

    assert canonical.digest({}) == expected
