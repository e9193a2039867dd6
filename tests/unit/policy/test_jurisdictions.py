"""The laws: what ships, and what a file must say."""

import re
from pathlib import Path

import pytest

from policy import jurisdictions
from policy.errors import BundleError
from policy.model import KINDS, SINKS
from vault import recognise

GOOD = """
[[law]]
law = "A law"
countries = ["SG"]
transfers = "restricted"
articles = { retention = "s. 25" }
source = "An act"
as_of = 2026-11-22
redact = { analytics = ["card"], log = ["card"], understand = ["card"] }
[law.retention]
raw_audio_seconds = 10
transcript_seconds = 20
redacted_seconds = 30
reply_audio_seconds = 5
"""


def write(tmp_path: Path, text: str) -> Path:
    """Return a file that holds *text*."""
    path = tmp_path / "laws.toml"
    path.write_text(text)
    return path


def test_what_ships() -> None:
    """The four cells of the demonstration, and the neighbours whose numbers look alike."""
    laws = jurisdictions.load()

    assert {"DE", "SG", "BR", "US", "GB", "GG", "IM", "JE", "IN", "AE", "CH"} <= set(laws)
    assert "XX" not in laws
    assert [code for code, law in laws.items() if law["transfers"] == "free"] == ["US"]
    for code, law in laws.items():
        assert set(law["retention"]) == set(KINDS), code
        assert set(law["redact"]) == set(SINKS), code
        assert law["articles"]["retention"], code
        assert law["source"], code


def test_shipped_audio_has_under_a_day() -> None:
    """A clock of exactly a day is one that custody refuses, or not, by the microsecond."""
    clocks = [law["retention"] for law in jurisdictions.load().values()]

    assert {clock["raw_audio_seconds"] for clock in clocks} == {86_340}
    assert {clock["reply_audio_seconds"] for clock in clocks} == {86_340}


def test_every_class_can_be_found() -> None:
    """A class that no recogniser knows would leave every text unanalysed, and so unused."""
    for code, law in jurisdictions.load().items():
        for classes in law["redact"].values():
            assert recognise.CLASSES.issuperset(classes), code


def test_where_a_withdrawal_erases_the_law_is_named() -> None:
    """GDPR Art. 17(1)(b) and its likes; where a law is silent, the tenant says."""
    laws = jurisdictions.load()

    erasing = {code for code in laws if jurisdictions.erases([code], laws)}

    assert {"DE", "FR", "GB", "BR", "IN", "AE"} <= erasing
    assert erasing.isdisjoint({"US", "SG", "CH"})
    assert all(laws[code]["articles"]["withdrawal"] for code in erasing)
    assert jurisdictions.erases(["CH", "DE"], laws)
    assert not jurisdictions.erases(["CH", "US"], laws)
    assert jurisdictions.erases(["CH", "TR"], laws)


def test_a_law_that_localises_says_by_what_article() -> None:
    """Only such a law of a person's says where a cell may stand; none of the shipped ones does."""
    laws = jurisdictions.load()

    assert {law["localises"] for law in laws.values()} == {""}
    assert list(jurisdictions.law_faults(laws["DE"] | {"localises": "Art. 18(5)"})) == []
    assert list(jurisdictions.law_faults(laws["DE"] | {"localises": True})) != []


def test_europe_is_europe() -> None:
    """A region may be called eu-something and stand in London or Zurich: countries count."""
    within = set(jurisdictions.load()["DE"]["within"])

    assert {"DE", "FR", "IE", "NO"} <= within
    assert not within & {"CH", "GB", "US"}


def test_within_defaults_to_the_laws_own_countries(tmp_path: Path) -> None:
    """The default is to stay at home."""
    laws = jurisdictions.load(write(tmp_path, GOOD))

    assert laws["SG"]["within"] == ["SG"]
    assert laws["SG"]["as_of"] == "2026-11-22"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('countries = ["sg"]', "alpha-2"),
        ('countries = ["SG", "SG"]', "repeated"),
        ("countries = []", "alpha-2"),
        ('countries = ["SG"]\nwithin = ["*"]', "alpha-2"),
        ('countries = ["\u0405G"]', "alpha-2"),  # Cyrillic Dze
        ('transfers = "maybe"', "free or restricted"),
        ('as_of = "soon"', "how we know"),
        ('source = ""', "how we know"),
        ("articles = {}", "how we know"),
        ('source = "s"\nminor_consent = 1', "minor_consent"),
        ('source = "s"\nwithdrawal_erases = 1', "withdrawal_erases must be"),
        ('source = "s"\nwithdrawal_erases = true', r"articles\.withdrawal"),
        ('source = "s"\nbarred = ["*"]', "barred"),
        ('source = "s"\nadequate = [{ country = "CH", as_of = 2026-01-01 }]', "adequate"),
        (
            'source = "s"\nadequate = [{ country = "CH", reference = "r", as_of = "x" }]',
            "adequate",
        ),
        (
            'source = "s"\nadequate = [{ country = "C", reference = "r", as_of = 2026-01-01 }]',
            "adequate",
        ),
        ('source = "s"\ntools = { video = ["scc"] }', "tools"),
        ('source = "s"\ntools = { voice = ["trust"] }', "tools.voice"),
        ('redact = { log = ["card"], understand = ["card"] }', "redact must have"),
        ('redact = { analytics = [], log = ["card"], understand = ["card"] }', "redact.analytics"),
        ('redact = { analytics = ["Card"], log = ["card"], understand = ["card"] }', "lower-case"),
        ("transcript_seconds = -1", "retention.transcript_seconds"),
        ('law = "A law"\nextra = 1', "must have exactly"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, line: str, fault: str) -> None:
    """A law that is half written would be half applied."""
    field = line.split(" ", maxsplit=1)[0]
    text = re.sub(rf"^{field} = .*$", line, GOOD, flags=re.MULTILINE)

    with pytest.raises(BundleError, match=fault):
        jurisdictions.load(write(tmp_path, text))


@pytest.mark.parametrize("change", [("reply_audio_seconds = 5", ""), ("reply_audio", "video")])
def test_every_kind_has_a_clock(tmp_path: Path, change: tuple[str, str]) -> None:
    """What has no clock is kept for ever."""
    with pytest.raises(BundleError, match="retention must have"):
        jurisdictions.load(write(tmp_path, GOOD.replace(*change)))


@pytest.mark.parametrize("clock", ["0", "-1", "86341", "true", '"10"', "1.5"])
def test_raw_audio_never_outlives_a_day(tmp_path: Path, clock: str) -> None:
    """No clock, a negative one or a text would keep a voice for ever."""
    text = GOOD.replace("raw_audio_seconds = 10", f"raw_audio_seconds = {clock}")

    with pytest.raises(BundleError, match="raw_audio_seconds"):
        jurisdictions.load(write(tmp_path, text))


@pytest.mark.parametrize("text", ["", "law = 1", "[[law]]\nx = 1", "][", GOOD + GOOD])
def test_a_wrong_file_is_refused(tmp_path: Path, text: str) -> None:
    """Every fault is our error, and names the file."""
    with pytest.raises(BundleError, match=r"laws\.toml"):
        jurisdictions.load(write(tmp_path, text))


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    """Nothing falls back to the shipped laws silently."""
    with pytest.raises(BundleError, match=r"none\.toml"):
        jurisdictions.load(tmp_path / "none.toml")
