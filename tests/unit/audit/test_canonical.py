"""Canonical JSON."""

from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from audit import canonical
from audit.errors import EventError

_text = st.text(st.characters(codec="utf-8"), max_size=20)
_key = st.text(st.characters(max_codepoint=127), max_size=8)
_atom = st.none() | st.booleans() | _text | st.integers(-canonical.MAX_INT, canonical.MAX_INT)
_value = st.recursive(
    _atom, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_key, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
_object = st.dictionaries(_key, _value, max_size=6)


@given(_object)
def test_is_byte_identical_to_rfc_8785(value: dict[str, Any]) -> None:
    """A stranger's verifier re-encodes with any RFC 8785 library and must get our bytes."""
    try:
        data = canonical.encode(value)
    except EventError as exc:
        assert "nested" in str(exc)  # noqa: PT017 - the only refusal these values may meet
        return

    assert data == rfc8785.dumps(value)
    assert canonical.decode(data) == value


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"a": {"b": 1.0}}, "$.a.b"),
        ({"a": [0, 2**53]}, "$.a[1]"),
        ({"a": -(2**53)}, "$.a"),
        ({"ä": 1}, "$"),
        ({1: 1}, "$"),
        ({"a": b"x"}, "$.a"),
        ({"a": "\ud800"}, "$"),
        ({"a": "x" * 4096}, "$"),
        ({"a": [[[[[[[[[1]]]]]]]]]}, "$.a[0][0]"),
    ],
)
def test_what_others_might_read_differently_is_refused(value: dict[Any, Any], field: str) -> None:
    """Floats, big integers and exotic keys differ between parsers; the error names the place."""
    with pytest.raises(EventError) as caught:
        canonical.encode(value)

    assert str(caught.value).startswith(field)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"b":1,"a":1}',
        b'{"a": 1}',
        b'{"a":1}\n',
        b'{"a":1.0}',
        b'{"a":-0}',
        b'{"a":"\\u0041"}',
        b'{"a":"\\/"}',
        b'{"a":9007199254740993}',
        b'{"a":"\xff"}',
        b"[]",
        b"",
        b"[" * 4000,
        b'{"a":"' + b"x" * 4096 + b'"}',
    ],
)
def test_only_the_one_canonical_spelling_is_read(data: bytes) -> None:
    """Two spellings of one leaf would let two people read two things under one signature."""
    with pytest.raises(EventError):
        canonical.decode(data)
