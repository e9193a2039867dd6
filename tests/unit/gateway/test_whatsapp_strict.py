"""Strict JSON: what lenient readers disagree on is refused before anything is read."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import PayloadError
from gateway.whatsapp import strict

TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"[" * 100_000, "json.depth", id="W18-depth-100000"),
        pytest.param(b'{"a":' * 33 + b"1" + b"}" * 33, "json.depth", id="W18-depth-33"),
        pytest.param(b"[" + b"[]," * 100_000 + b"[]]", "json.size", id="many-containers"),
        pytest.param(b"1" * 5_000, "json.number", id="W19-5000-digits"),
        pytest.param(b"[12345678901234567890]", "json.number", id="W19-20-digits"),
        pytest.param(b'{"from":"1","from":"2"}', "json.duplicate_key", id="W20-twice"),
        pytest.param(
            b'[{"a":{"b":1,"\\u0062":2}}]', "json.duplicate_key", id="W20-spelt-otherwise"
        ),
        pytest.param(b"[NaN]", "json.number", id="W21-nan"),
        pytest.param(b"[-Infinity]", "json.number", id="W21-infinity"),
        pytest.param(b"[1e999]", "json.number", id="W21-overflow"),
        pytest.param(b'["\\ud800"]', "json.surrogate", id="W22-lone"),
        pytest.param(b'["\\ude00\\ud83d"]', "json.surrogate", id="W22-swapped"),
        pytest.param(b'{"\\uDC00":1}', "json.surrogate", id="W22-in-a-key"),
        pytest.param(b'["\xed\xa0\x80"]', "json.utf8", id="W22-raw"),
        pytest.param(b'["\x00"]', "json.syntax", id="W23-raw-nul"),
        pytest.param(b"\xef\xbb\xbf{}", "json.bom", id="W24-bom"),
        pytest.param("{}".encode("utf-16"), "json.utf8", id="W24-utf-16"),
        pytest.param("{}".encode("utf-16-le"), "json.syntax", id="W24-utf-16-without-bom"),
        pytest.param(b"", "json.syntax", id="empty"),
        pytest.param(b"{", "json.syntax", id="open"),
        pytest.param(b'"\\', "json.syntax", id="open-escape"),
        pytest.param(b"{}{}", "json.syntax", id="two-values"),
        pytest.param(b"{'a':1}", "json.syntax", id="single-quotes"),
    ],
)
def test_what_readers_disagree_on_is_refused(body: bytes, code: str) -> None:
    """A body that two readers understand differently lets one of them be fooled."""
    with pytest.raises(PayloadError) as caught:
        strict.loads(body)

    assert (caught.value.code, caught.value.status) == (code, 400)


def test_brackets_within_strings_do_not_count_as_depth() -> None:
    """People write brackets and quotes; they must not be refused for it."""
    said = "[" * 100 + '"\\{' * 100

    assert strict.loads(json.dumps([said]).encode()) == [said]


def test_the_deepest_allowed_body_is_read() -> None:
    """The cap is where the documentation says it is."""
    assert strict.loads(b"[" * 32 + b"]" * 32) is not None


@pytest.mark.parametrize("number", [10**19 - 1, 1 - 10**19])
def test_the_longest_allowed_number_is_read(number: int) -> None:
    """A sign is no digit: both ends of the range are as long."""
    assert strict.loads(f"[{number}]".encode()) == [number]


def test_paired_surrogates_are_an_emoji() -> None:
    """Meta escapes every emoji as a pair: only lone halves are refused."""
    assert strict.loads(b'["\\ud83d\\ude00 \\\\ud800"]') == ["\U0001f600 \\ud800"]


def test_an_unterminated_string_full_of_escapes_takes_one_pass() -> None:
    """The measuring pattern must stay linear, or 3 MiB of quotes would stop the door."""
    with pytest.raises(PayloadError, match=r"json\.syntax"):
        strict.loads(b'"' + b'\\"' * 1_500_000)


@given(TREES)
def test_whatever_json_writes_is_read_back(tree: Any) -> None:
    """Strictness must cost no honest sender anything."""
    assert strict.loads(json.dumps(tree).encode()) == tree


@given(st.binary(max_size=64) | st.text(alphabet='[]{}",:\\u0d8019e-.', max_size=64))
def test_any_bytes_are_read_or_refused(body: bytes | str) -> None:
    """Nothing but `PayloadError` may leave the reader: anything else is a 500."""
    raw = body if isinstance(body, bytes) else body.encode()

    try:
        found = strict.loads(raw)
    except PayloadError:
        return

    assert found == json.loads(raw)
