"""The registry: what may not enter it."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.speech import TODAY

from residency import registry
from residency.errors import RegistryError
from residency.model import Service

ROW: dict[str, Any] = {
    "id": "stt.azure.westeurope",
    "vendor": "Microsoft",
    "service": "speech-to-text",
    "product": "Azure Speech",
    "model": "universal",
    "adapter": "azure",
    "region": "nl-west",
    "jurisdiction": "NL",
    "hosts": ["westeurope.stt.speech.microsoft.com:443"],
    "languages": ["en"],
    "options": {"store": "false"},
    "settings": {"vendor_region": "westeurope"},
    "contract": "DPA 7",
    "contract_expires": date(2027, 1, 31),
    "retention": "none",
    "source": "vendor page on regions",
    "as_of": date(2026, 11, 1),
    "reviewed_by": "dpo",
    "review_expires": date(2027, 11, 1),
    "transfers": [],
}


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{k}" = {_toml(v)}' for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value) if isinstance(value, date) else f'"{value}"'


def _file(path: Path, *rows: dict[str, Any], regions: str = 'nl-west = "NL"') -> Path:
    tables = [
        "[[processor]]\n" + "\n".join(f"{k} = {_toml(v)}" for k, v in row.items() if v is not None)
        for row in rows
    ]
    path.write_text(f"[region]\n{regions}\n" + "\n".join(tables), encoding="utf-8")
    return path


def _fault(tmp_path: Path, **changed: Any) -> str:
    path = _file(tmp_path / "own.toml", ROW | changed)
    with pytest.raises(RegistryError) as caught:
        registry.load(path, today=TODAY)
    return str(caught.value)


def test_the_shipped_file_serves_each_cell() -> None:
    """The demonstration has four cells; each needs a channel, ears, a voice and a mind."""
    rows = registry.load(today=TODAY)

    for region in ("ap-singapore", "eu-central", "sa-brazil", "us-east"):
        assert all(len(rows.find(service, region)) == 1 for service in Service)
    assert len(rows) == 16


def test_local_engines_reach_no_host() -> None:
    """In-cell is a claim; the egress broker holds it to an empty list."""
    local = [row for row in registry.load(today=TODAY) if row.vendor == "self-hosted"]

    assert len(local) == 12
    assert {row.hosts for row in local} == {()}


def test_a_good_row_is_taken_beside_the_shipped_ones(tmp_path: Path) -> None:
    """An operator adds vendors without touching our file."""
    rows = registry.load(today=TODAY, extra=_file(tmp_path / "own.toml", ROW))

    assert rows.get("stt.azure.westeurope").hosts == ("westeurope.stt.speech.microsoft.com:443",)
    assert len(rows) == 17


def test_rows_for_the_policy_bundle(tmp_path: Path) -> None:
    """Rego compares integers: a contract holds through its last day, in UTC."""
    (row,) = registry.load(_file(tmp_path / "own.toml", ROW), today=TODAY).rows()

    assert row == {
        "id": "stt.azure.westeurope",
        "service": "speech-to-text",
        "stages": ["transcribe"],
        "region": "nl-west",
        "jurisdiction": "NL",
        "languages": ["en"],
        "contract_expires": 1_801_440_000,  # 2027-02-01T00:00:00Z
        "hosts": ["westeurope.stt.speech.microsoft.com:443"],
        "options": {"store": "false"},
        "review_expires": 1_825_113_600,  # 2027-11-02T00:00:00Z
        "transfers": [],
    }


def test_in_cell_rows_have_no_contract_to_expire() -> None:
    """0 tells the rules that there is none, not that it ended in 1970."""
    rows = registry.load(today=TODAY).rows()

    assert {r["contract_expires"] for r in rows if r["service"] != "messaging"} == {0}


def test_an_expired_contract_stays_in_the_registry(tmp_path: Path) -> None:
    """Policy refuses it with a reason; a vanished row would leave none in the record."""
    path = _file(tmp_path / "own.toml", ROW | {"contract_expires": TODAY - timedelta(days=1)})

    assert len(registry.load(path, today=TODAY)) == 1


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    """Who corrects a registry wants one list, with the row and the fix."""
    path = _file(
        tmp_path / "own.toml", ROW | {"source": ""}, ROW | {"id": "other", "region": "mars"}
    )

    with pytest.raises(RegistryError) as caught:
        registry.load(path, today=TODAY)

    text = str(caught.value)
    assert "own.toml: row 1 (stt.azure.westeurope): source" in text
    assert "own.toml: row 2 (other): region: 'mars' is not in the [region] table" in text


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"id": "STT"}, "id"),
        ({"id": "x"}, "id"),
        ({"service": "astrology"}, "service"),
        ({"source": None}, "source"),
        ({"reviewed_by": ""}, "reviewed_by"),
        ({"as_of": None}, "as_of"),
        ({"as_of": TODAY + timedelta(days=1)}, "as_of: 2026-11-24 is in the future"),
        ({"as_of": TODAY - timedelta(days=401)}, "over 400 days old"),
        ({"languages": []}, "languages is empty"),
        ({"languages": ["English"]}, "languages.0"),
        ({"jurisdiction": "DE"}, "jurisdiction: 'DE', but nl-west lies in NL"),
        ({"contract": ""}, "contract"),
        ({"contract_expires": None}, "contract_expires"),
        ({"score": "9"}, "score"),
        ({"vendor": "Miсrosoft"}, "U+0441 is not a Latin letter"),  # noqa: RUF001 - the point
        ({"hosts": ["wеsteurope.stt.speech.microsoft.com:443"]}, "U+0435"),  # noqa: RUF001 - the point
    ],
)
def test_an_unusable_row_is_refused(tmp_path: Path, changed: dict[str, Any], named: str) -> None:
    """The registry is evidence: a row that is incomplete, old or misspelt is none."""
    assert named in _fault(tmp_path, **changed)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:443",
        "[::1]:443",
        "10.0.0.7:443",
        "2130706433:443",
        "0x7f.1:443",
        "localhost:443",
        "westeurope.stt.speech.microsoft.com",
        "westeurope.stt.speech.microsoft.com:0",
        "westeurope.stt.speech.microsoft.com:65536",
        "westeurope.stt.speech.microsoft.com.:443",
        "https://westeurope.stt.speech.microsoft.com:443",
        "WESTEUROPE.stt.speech.microsoft.com:443",
        "*.speech.microsoft.com:443",
        "westeurope.xn--mcrosoft-tkb.example:443",
    ],
)
def test_a_host_is_a_name_and_a_port(tmp_path: Path, host: str) -> None:
    """Egress admits pairs by name; an address or a look-alike says nothing about who answers."""
    assert "is not name:port" in _fault(tmp_path, hosts=[host])


@pytest.mark.parametrize(
    "host", ["speech.googleapis.com:443", "api.deepgram.com:443", "notwesteurope.example.com:443"]
)
def test_a_host_without_the_region_is_refused(tmp_path: Path, host: str) -> None:
    """A global host answers from anywhere: with the same key, a wrong region stays silent."""
    assert "does not show 'westeurope'" in _fault(tmp_path, hosts=[host])


def test_a_row_may_say_by_what_else_its_region_is_held(tmp_path: Path) -> None:
    """Some vendors pin by key or resource; that is written down, and then a reviewer sees it."""
    row = ROW | {"hosts": ["api.soniox.com:443"], "settings": {"pin": "credential"}}

    rows = registry.load(_file(tmp_path / "own.toml", row), today=TODAY)

    assert rows.get(ROW["id"]).settings["pin"] == "credential"


def test_an_unknown_pin_is_refused(tmp_path: Path) -> None:
    """A misspelt pin would switch the host check off."""
    assert "settings.pin" in _fault(tmp_path, settings={"pin": "hots"})


@pytest.mark.parametrize("place", ["global", "auto", "default"])
def test_global_is_no_place(tmp_path: Path, place: str) -> None:
    """``global-speech...`` shows its region, and it is none."""
    host = f"{place}.stt.speech.microsoft.com:443"

    text = _fault(tmp_path, hosts=[host], settings={"vendor_region": place})

    assert f"settings.vendor_region: '{place}' is not a place" in text


def test_a_cell_is_not_global_either(tmp_path: Path) -> None:
    """Our own name for a region must be somewhere too."""
    path = _file(tmp_path / "own.toml", regions='global = "NL"')

    with pytest.raises(RegistryError, match="region global: not a place"):
        registry.load(path, today=TODAY)


def test_a_region_lies_in_a_country(tmp_path: Path) -> None:
    """A union is no jurisdiction of a court: a region lies in a member state."""
    path = _file(tmp_path / "own.toml", regions='nl-west = "EU"')

    with pytest.raises(RegistryError, match="'EU' is no ISO 3166-1"):
        registry.load(path, today=TODAY)


def test_an_id_names_one_row(tmp_path: Path) -> None:
    """Touches name processors by id, for years; an operator's file may not shadow ours."""
    row = ROW | {"id": "stt.whisper-base.eu-central"}
    path = _file(tmp_path / "own.toml", row)

    with pytest.raises(RegistryError, match=r"already used by processors\.toml: row 2"):
        registry.load(today=TODAY, extra=path)


def test_loopback_is_for_development(tmp_path: Path) -> None:
    """Simulated vendors listen here; production refuses the same row."""
    path = _file(tmp_path / "own.toml", ROW | {"hosts": ["127.0.0.1:8443", "localhost:1"]})

    assert len(registry.load(path, today=TODAY, development=True)) == 1
    with pytest.raises(RegistryError):
        registry.load(path, today=TODAY)


def test_development_admits_no_other_address(tmp_path: Path) -> None:
    """A laptop on a train must not dial a literal address either."""
    path = _file(tmp_path / "own.toml", ROW | {"hosts": ["10.0.0.7:443"]})

    with pytest.raises(RegistryError):
        registry.load(path, today=TODAY, development=True)


@pytest.mark.parametrize("content", [b"processor = 7", b"[[processor", b"\xff", b"[colour]\na = 1"])
def test_an_unreadable_file_is_one_fault(tmp_path: Path, content: bytes) -> None:
    """People edit this file: what they get back is a sentence, not a traceback."""
    path = tmp_path / "own.toml"
    path.write_bytes(content)

    with pytest.raises(RegistryError, match=r"own\.toml: "):
        registry.load(path, today=TODAY)


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    """A configured file that is not there must not mean "no further processors"."""
    with pytest.raises(RegistryError, match=r"own\.toml: FileNotFoundError"):
        registry.load(today=TODAY, extra=tmp_path / "own.toml")


def test_an_unknown_id_is_an_error() -> None:
    """A decision may name a row that another revision had."""
    with pytest.raises(RegistryError, match=r"no processor 'stt\.nobody'"):
        registry.load(today=TODAY).get("stt.nobody")
