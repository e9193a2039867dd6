"""What must not stand in a leaf is found, in any script; ids, times and case numbers are not it."""

from typing import Any

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import SUPPORTED_REGIONS, PhoneNumberFormat
from support.audit import Log, an_event

from audit import personal
from audit.errors import EventError
from audit.personal import WITHHELD, looks_personal, withheld

# The zero of some scripts' digits (Unicode: decimal digits stand in a row from zero to nine).
ZEROS = {"latin": "0", "arabic": "٠", "persian": "۰", "devanagari": "०", "full-width": "０"}  # noqa: RUF001


def numbers() -> list[str]:
    """Return an example number of each country in each form that people write it in."""
    found = [phonenumbers.example_number(region) for region in sorted(SUPPORTED_REGIONS)]
    forms = (PhoneNumberFormat.E164, PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.RFC3966)
    return [phonenumbers.format_number(each, form) for each in found if each for form in forms]


@pytest.mark.parametrize("zero", ZEROS.values(), ids=ZEROS)
def test_every_countrys_number_is_found_in_every_script(zero: str) -> None:
    """One country's grouping or one keyboard's digits must not be the way into the log."""
    in_script = str.maketrans("0123456789", "".join(chr(ord(zero) + n) for n in range(10)))

    assert len(numbers()) > 600
    assert [each for each in numbers() if not looks_personal(each.translate(in_script))] == []


@pytest.mark.parametrize(
    "text",
    [
        "(0151) 123 456 78",
        "0049 151/123.456-78",
        "49\u200b151\u200b12345678",
        "49\u00a0151\u00a012345678",
        "case-4915112345678",
        "HR-4915112345678",
        "DSR-4915112345678",
        "request+4915112345678",
        "x_4915112345678",
        "2026-1234567",
        "1 2 3 4 5 6 7",
        "call4915112345678",
        "subjects-4915112345678-0001",
        "subjects-x4915112345678-0001",
        "wamid.HBgNNDkxNTExMjM0NTY3OBUCABIYFjNFQjA",
        "WAMID.HBgN",
        "+20310401",
        "ada@fernruf.example",
        "ada＠fernruf.example",  # noqa: RUF001
        "⁴⁹¹⁵¹¹²³⁴⁵⁶⁷⁸",
    ],
)
def test_what_somebody_may_try_is_found(text: str) -> None:
    """A prefix, a separator or a sign that nobody sees does not make it a case number."""
    assert looks_personal(text)


@pytest.mark.parametrize(
    "text",
    [
        "request 2026-117",
        "request 2026/00117",
        "Az. 5 C 1234/2026",
        "12 O 345/26",
        "DSR-20261119-07",
        "raw-2026112214",
        "raw-2026112214.destroyed",
        "raw-2026111914-2",
        "txt-202611-2",
        "intake-20261119-12",
        "named-intake-20261119.destroyed",
        "subjects-0007.v12",
        "subjects-clinic-117-0007.v12",
        "case #4711",
        "Art. 17, ticket 123456",
        "GDPR Art. 17(3)(e)",
        "2026-11-19",
        "2026-11-19T14:14:00.123456+00:00",
        "a_" + "1" * 32,
        "e_" + "3" * 32 + ".handover.closed",
        "1" * 64,
        "1f0e2c34-1234-5678-9012-123456789012",
        "stt.example.eu-central",
        "TLSv1.3 stt.example",
        "kept for 3 days, 0:00:00",
        "",
    ],
)
def test_what_a_record_needs_is_left(text: str) -> None:
    """An officer must be able to name the case, and a program its ids and times."""
    assert not looks_personal(text)


@given(st.text(st.characters(codec="utf-8"), max_size=12), st.integers(10**7, 10**15 - 1))
def test_no_text_around_a_number_hides_it(around: str, number: int) -> None:
    """Whatever else is said, a number stands between spaces as people write it."""
    assert looks_personal(f"{around} +{number} {around}")


def test_a_vendors_words_are_withheld_where_they_look_like_a_number() -> None:
    """A vendor's id may be anything; its leaf must be written all the same."""
    assert withheld("req-4915112345678") == WITHHELD
    assert withheld("projects/123456/ops 7") == "projects/123456/ops 7"
    assert withheld("203.0.113.101:8443") == "203.0.113.101:8443"


NUMBER = "4915112345678"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"actor": NUMBER}, "actor"),
        ({"tenant": NUMBER}, "tenant"),
        ({"subject": f"s_{NUMBER}"}, "subject"),
        ({"artifact": NUMBER}, "artifact"),
        ({"job": NUMBER}, "job"),
        ({"outcome": NUMBER}, "outcome"),
        ({"processor": f"stt.{NUMBER}"}, "processor"),
        ({"id": f"j_1.{NUMBER}"}, "id"),
        ({"detail": {"why": f"of {NUMBER}"}}, "detail.why"),
        ({"detail": {"people": {"by": NUMBER}}}, "detail.people.by"),
        ({"detail": {"said": ["fine", [f"+{NUMBER}"]]}}, "detail.said"),
        ({"detail": {NUMBER: "fine"}}, "detail"),
        ({"detail": {"why": "203.0.113.101"}}, "detail.why"),
        ({"detail": {"peer": NUMBER}}, "detail.peer"),
        ({"detail": {"host": "wamid.HBgNNDkx"}}, "detail.host"),
        ({"detail": {"host": "ada@fernruf.example"}}, "detail.host"),
        ({"detail": {"refused": [f"stt.example {NUMBER}"]}}, "detail.refused"),
        ({"detail": {"why": "tenant-1234567.example"}}, "detail.why"),
    ],
)
async def test_no_string_of_a_leaf_holds_a_number(
    log: Log, fields: dict[str, Any], path: str
) -> None:
    """The check is the log's own: whoever writes a new kind of leaf cannot forget it."""
    with pytest.raises(EventError, match=f"^{path}: looks like a phone number"):
        await log.append(an_event(**fields))


@pytest.mark.anyio
async def test_addresses_of_a_connection_may_stand(log: Log) -> None:
    """They are what was observed, and look like numbers."""
    seen = {"peer": "203.0.113.101", "hosts": ["203.0.113.101:8443"], "peers": ["198.51.100.100"]}

    await log.append(an_event(detail=seen | {"declared": {"hosts": ["203.0.113.101:443"]}}))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "address",
    ["2001:db8:1450:4001:81b::200a", "2001:db8:1:2:3:4:5:6", "[2001:db8:1450:4001::10]:443"],
)
async def test_the_end_of_a_touch_by_ipv6_can_be_written(log: Log, address: str) -> None:
    """A vendor that answers from such an address must not lose the touch, nor bury the note."""
    seen = {"peer": address, "peers": [address], "refused": [f"stt.example {address} closed"]}

    await log.append(an_event(detail=seen))

    assert withheld(address) == address


@pytest.mark.anyio
@pytest.mark.parametrize(
    "host", ["clinic20261119.stt.example:443", "tenant-1234567.example", "a1.12345678.stt.example"]
)
async def test_a_host_of_the_registry_may_have_digits(log: Log, host: str) -> None:
    """Vendors name endpoints after accounts: no touch could begin, and each note was buried."""
    said = {"refused": [f"{host} timeout"], "tls": f"TLSv1.3 *.{host}"}

    await log.append(an_event(detail=said | {"host": host, "declared": {"hosts": [host]}}))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "said", ["4915:1112:3456:78", "+49:151:1234:5678", "::4915112345678", "49.151.1234567"]
)
async def test_colons_do_not_make_a_number_an_address(log: Log, said: str) -> None:
    """What is no whole IPv6 address is looked at like everything else."""
    with pytest.raises(EventError, match="looks like a phone number"):
        await log.append(an_event(detail={"peer": said}))


@pytest.mark.anyio
async def test_a_keys_thumbprint_may_hold_digits_in_a_row(log: Log) -> None:
    """It is random: one in thousands would never be certified with, and nobody knew why."""
    thumbprint = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCT1-2345678"

    await log.append(an_event(detail={"key": thumbprint}))

    with pytest.raises(EventError, match=r"^detail\.why"):
        await log.append(an_event(detail={"why": thumbprint}))


def test_a_path_is_named_and_never_the_text() -> None:
    """The error is logged and shown."""
    assert personal.fault({"a": {"b": ["x", f"+{NUMBER}"]}}) == "a.b"
    assert personal.fault({"a": {"b": ["x"]}}) is None
