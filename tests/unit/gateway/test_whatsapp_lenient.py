"""JSON of a delivery: what nobody can rely on is marked in its place, and nothing else is lost."""

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import PayloadError
from gateway.whatsapp import lenient, strict
from gateway.whatsapp.lenient import Odd

TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        pytest.param(b"1" * 65, Odd(("1" * 65,)), id="W19-65-digits"),
        pytest.param(b"1" * 64, int("1" * 64), id="W19-64-digits"),
        pytest.param(b"1." + b"0" * 100, Odd(("1." + "0" * 100,)), id="long-fraction"),
        pytest.param(b"NaN", Odd(("NaN",)), id="W21-nan"),
        pytest.param(b"-Infinity", Odd(("-Infinity",)), id="W21-infinity"),
        pytest.param(b"1e999", Odd(("1e999",)), id="W21-overflow"),
        pytest.param(b'{"a":1,"a":2}', {"a": Odd((1, 2))}, id="W20-twice"),
        pytest.param(b'{"a":1,"\\u0061":2,"a":1}', {"a": Odd((1, 2, 1))}, id="W20-spelt-otherwise"),
        pytest.param(b'{"a":[1],"a":[1]}', {"a": [1]}, id="W20-the-same-twice"),
        pytest.param(b'{"a":1,"a":true}', {"a": Odd((1, True))}, id="W20-one-and-true"),
        pytest.param(b'{"a":1,"a":2,"b":3}', {"a": Odd((1, 2)), "b": 3}, id="W20-others-stay"),
        pytest.param(b'"\\ud800"', "\ud800", id="W22-lone"),
        pytest.param(b'"\xed\xa0\x80"', "\udced\udca0\udc80", id="W22-raw"),
        pytest.param(b'"a\x00\nb"', "a\0\nb", id="W23-raw-nul"),
        pytest.param(b"\xef\xbb\xbf{}", {}, id="W24-bom"),
        pytest.param(
            b"[" * 33 + b"]" * 33, strict.loads(b"[" * 32 + b"null" + b"]" * 32), id="W18"
        ),
        pytest.param(
            b'{"a":' * 40 + b'"]"' + b"}" * 40,
            strict.loads(b'{"a":' * 32 + b"null" + b"}" * 32),
            id="W18-objects",
        ),
        pytest.param(
            b"[" + b"[" * 40 + b'"\\"]"' + b"]" * 40 + b",1]",
            [strict.loads(b"[" * 31 + b"null" + b"]" * 31), 1],
            id="W18-beside",
        ),
    ],
)
def test_an_odd_value_is_marked_and_the_others_are_read(body: bytes, value: Any) -> None:
    """One of them in a field that nobody reads had everybody's messages refused."""
    assert lenient.loads(body) == value


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"[" + b"[]," * 100_000 + b"[]]", "json.size", id="many-containers"),
        pytest.param("{}".encode("utf-16"), "json.syntax", id="W24-utf-16"),
        pytest.param(b"", "json.syntax", id="empty"),
        pytest.param(b"{", "json.syntax", id="open"),
        pytest.param(b"[" * 99_999, "json.syntax", id="W18-open"),
        pytest.param(b"]" * 40 + b"[" * 50, "json.syntax", id="closed-first"),
        pytest.param(b'"\\', "json.syntax", id="open-escape"),
        pytest.param(b"{}{}", "json.syntax", id="two-values"),
        pytest.param(b"{'a':1}", "json.syntax", id="single-quotes"),
        pytest.param(b"01", "json.syntax", id="leading-zero"),
    ],
)
def test_what_is_no_json_is_refused(body: bytes, code: str) -> None:
    """There is no envelope to find anybody's message in."""
    with pytest.raises(PayloadError) as caught:
        lenient.loads(body)

    assert caught.value.code == code


@pytest.mark.parametrize(
    "body",
    [
        b"{" + b",".join([b'"a":1,"a":2'] * 150_000) + b"}",
        b"1" * 3_000_000,
        b"0." + b"1" * 3_000_000,
        b'"' + b'\\"' * 1_500_000,
        b"[" * 50 + b"]" * 3_000_000,
    ],
    ids=["repeated-keys", "digits", "fraction", "escapes", "closing"],
)
def test_the_worst_body_takes_one_pass(body: bytes) -> None:
    """Whatever it holds, a body of the largest size must not stop the door."""
    began = time.perf_counter()

    with contextlib.suppress(PayloadError):
        lenient.loads(body)

    assert time.perf_counter() - began < 10  # quadratic would be hours


@given(TREES)
def test_whatever_json_writes_is_read_back(tree: Any) -> None:
    """Liberality must change nothing of what an honest sender wrote."""
    written = json.dumps(tree)

    assert lenient.loads(written.encode()) == json.loads(
        written, parse_int=lambda digits: int(digits) if len(digits) <= 64 else Odd((digits,))
    )


@given(st.binary(max_size=64) | st.text(alphabet='[]{}",:\\u0d8019e-.', max_size=64))
def test_any_bytes_are_read_or_refused(body: bytes | str) -> None:
    """Nothing but `PayloadError` may leave the reader: anything else is a 500."""
    raw = body if isinstance(body, bytes) else body.encode()

    try:
        found = lenient.loads(raw)
    except PayloadError:
        return

    assert lenient.dumps(found) == lenient.dumps(lenient.loads(raw)), "the same in, the same out"
