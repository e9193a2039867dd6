"""The registry: what may not enter it."""

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.speech import TODAY

from residency import registry
from residency.errors import RegistryError
from residency.model import Processor
from residency.registry import Registry

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "docs" / "examples" / "processors.toml"
CORPUS = ROOT / "tests" / "corpus" / "registry" / "bad"
BAD: dict[str, list[str]] = json.loads((CORPUS / "manifest.json").read_text())

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


def _ready(rows: registry.Registry) -> list[Processor]:
    """Return the rows that something is filed for, or that need nothing."""
    return [row for row in rows if row.contract or not row.hosts]


def test_the_shipped_file_serves_each_cell() -> None:
    """The demonstration has four cells; each needs a channel, ears, a voice and a mind."""
    ready = Registry(_ready(registry.load(today=TODAY)))

    for region in ("ap-singapore", "eu-central", "sa-brazil", "us-east"):
        assert all(len(ready.find(service, region)) == 1 for service in registry.STAGES)
    assert len(ready) == 16


def test_a_listed_vendor_is_no_permission() -> None:
    """The seed saves reading vendors' pages; what is signed is for the operator to say."""
    rows = {row["id"]: row for row in registry.load(today=TODAY).rows()}

    listed = [row for row in rows.values() if row["hosts"] and row["service"] != "messaging"]

    assert len(listed) == 84
    assert {row["contract_expires"] for row in listed} == {1}


def test_every_vendor_is_listed() -> None:
    """A vendor that is missing here would be added from memory."""
    rows = registry.load(today=TODAY)

    assert {row.vendor for row in rows} == {
        "Amazon", "AssemblyAI", "Deepgram", "ElevenLabs", "Gladia", "Google", "Meta",
        "Microsoft", "OpenAI", "Soniox", "Speechmatics", "self-hosted",
    }  # fmt: skip


def test_a_row_without_adapter_takes_part_in_no_stage() -> None:
    """Else a note would be fetched because somebody might hear it whom nobody can ask."""
    rows = registry.load(today=TODAY)
    plain = {row["id"]: row for row in rows.rows()}

    unbuilt = [row for row in rows if row.adapter == "none"]

    assert len(unbuilt) == 69
    assert {tuple(plain[row.id]["stages"]) for row in unbuilt} == {()}


def test_whatsapp_says_what_it_does_elsewhere() -> None:
    """Storage in a country is not processing in it: up to an hour may be anywhere."""
    rows = [row for row in registry.load(today=TODAY) if row.vendor == "Meta"]

    assert {row.settings["in_use_elsewhere_minutes"] for row in rows} == {"60"}


def test_an_operator_writes_only_what_is_his(tmp_path: Path) -> None:
    """Hosts, pins and required options come from the template; the contract never does."""
    path = tmp_path / "own.toml"
    path.write_text(
        """
        [[processor]]
        id = "stt.azure.ours"
        template = "azure-stt"
        region = "eu-central"
        settings = { vendor_region = "germanywestcentral", on_drift = "warn" }
        contract = "DPA 7"
        contract_expires = 2027-01-31
        """
    )

    row = registry.load(path, today=TODAY).get("stt.azure.ours")

    assert row.hosts == ("germanywestcentral.stt.speech.microsoft.com:443",)
    assert row.jurisdiction == "DE"
    assert row.settings["credential"] == "key of a Speech resource in germanywestcentral"
    assert row.settings["on_drift"] == "warn"


def test_the_example_names_what_a_cell_rents(tmp_path: Path) -> None:
    """Who holds sealed audio or keys is a processor too, though it takes part in no stage."""
    rows = registry.load(EXAMPLE, today=TODAY)

    rented = [row for row in rows if row.service not in registry.STAGES]

    assert sorted(row.service for row in rented) == [
        "database", "keys", "objects", "policy", "queue"
    ]  # fmt: skip
    assert all(registry.stages(row) == () for row in rented)


def test_local_engines_reach_no_host() -> None:
    """In-cell is a claim; the egress broker holds it to an empty list."""
    local = [row for row in registry.load(today=TODAY) if row.vendor == "self-hosted"]

    assert len(local) == 12
    assert {row.hosts for row in local} == {()}


def test_a_good_row_is_taken_beside_the_shipped_ones(tmp_path: Path) -> None:
    """An operator adds vendors without touching our file."""
    rows = registry.load(today=TODAY, extra=_file(tmp_path / "own.toml", ROW))

    assert rows.get("stt.azure.westeurope").hosts == ("westeurope.stt.speech.microsoft.com:443",)
    assert len(rows) == len(registry.load(today=TODAY)) + 1


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

    assert {r["contract_expires"] for r in rows if not r["hosts"]} == {0}


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
        ({"as_of": TODAY - timedelta(days=401)}, "over 366 days after as_of"),
        ({"review_expires": date(2026, 11, 1)}, "is not after as_of"),
        ({"model": "latest_long"}, "model: 'latest_long' floats"),
        ({"model": "Auto"}, "model: 'Auto' floats"),
        ({"languages": []}, "languages is empty"),
        ({"languages": ["English"]}, "languages.0"),
        ({"jurisdiction": "DE"}, "jurisdiction: 'DE', but nl-west lies in NL"),
        ({"contract": ""}, "contract and contract_expires stand together"),
        ({"contract_expires": None}, "contract and contract_expires stand together"),
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


@pytest.mark.parametrize("host", ["speech.vendor.example:443", "notwesteurope.example.com:443"])
def test_a_host_without_the_region_is_refused(tmp_path: Path, host: str) -> None:
    """A global host answers from anywhere: with the same key, a wrong region stays silent."""
    assert "does not show 'westeurope'" in _fault(tmp_path, hosts=[host])


@pytest.mark.parametrize("pin", ["host", "credential"])
def test_a_default_host_is_refused_however_it_is_pinned(tmp_path: Path, pin: str) -> None:
    """Where a client goes when nobody says where is not a place, whatever the key is bound to."""
    settings = {"pin": pin, "credential": "a project in the EU"}

    text = _fault(tmp_path, hosts=["speech.googleapis.com:443"], settings=settings)

    assert "is the vendor's default and answers from anywhere" in text


def test_a_row_may_say_by_what_else_its_region_is_held(tmp_path: Path) -> None:
    """Some vendors pin by key or resource; that is written down, and then a reviewer sees it."""
    row = ROW | {
        "hosts": ["api.soniox.com:443"],
        "settings": {"pin": "credential", "credential": "eu"},
    }

    rows = registry.load(_file(tmp_path / "own.toml", row), today=TODAY)

    assert rows.get(ROW["id"]).settings["pin"] == "credential"


def test_an_unknown_pin_is_refused(tmp_path: Path) -> None:
    """A misspelt pin would switch the host check off."""
    assert "settings.pin" in _fault(tmp_path, settings={"pin": "hots"})


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"pin": "path", "path": "locations/europe-west3x/recognizers"}, "settings.path: must"),
        ({"pin": "query", "query.region": "us-west"}, 'settings."query.NAME": none is'),
        ({"pin": "query", "query.": "westeurope"}, 'settings."query.NAME": none is'),
        ({"pin": "credential"}, "settings.credential: must say"),
        ({"pin": "resource"}, "settings.resource: must say"),
        ({"pin": "none+host"}, "settings.pin: 'none+host'"),
        ({"pin": "query+query", "query.region": "westeurope"}, "settings.pin: 'query+query'"),
        ({"on_drift": "ignore"}, "settings.on_drift: must be suspend or warn"),
        ({"addresses": "192.0.2.0/24|"}, "addresses: '' is no CIDR block"),
        ({"addresses": "192.0.2.0/24|10.0.0.1/8"}, "addresses: '10.0.0.1/8' is no CIDR block"),
        ({"in_use_elsewhere_minutes": "-1"}, "in_use_elsewhere_minutes: '-1' is no whole number"),
        ({"max_concurrent": "lots"}, "settings.max_concurrent: 'lots' is no whole number"),
        ({"max_concurrent": "0"}, "settings.max_concurrent: '0' is no whole number of 1 or more"),
        ({"per_minute": "nan"}, "settings.per_minute: 'nan' is no whole number of 1 or more"),
        ({"per_minute": "-5"}, "settings.per_minute: '-5' is no whole number of 1 or more"),
        ({"per_minute": "1.5"}, "settings.per_minute: '1.5' is no whole number of 1 or more"),
    ],
)
def test_a_pin_says_enough_to_be_checked(
    tmp_path: Path, settings: dict[str, str], named: str
) -> None:
    """An adapter can prove a query it is told; it cannot prove "by query"."""
    settings = {"vendor_region": "westeurope"} | settings

    assert named in _fault(tmp_path, settings=settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"pin": "host+path", "path": "locations/westeurope/recognizers"},
        {"pin": "query", "query.region": "westeurope"},
        {"pin": "host+credential", "credential": "key of westeurope"},
        {"pin": "none"},
    ],
)
def test_pins_that_can_be_checked_are_taken(tmp_path: Path, settings: dict[str, str]) -> None:
    """Several means may hold one row: each is then checked."""
    row = ROW | {"settings": {"vendor_region": "westeurope"} | settings}

    assert len(registry.load(_file(tmp_path / "own.toml", row), today=TODAY)) == 1


def test_a_template_that_nobody_wrote_is_a_fault(tmp_path: Path) -> None:
    """A misspelt template would leave the row without its pins."""
    assert "template: there is no 'azure'" in _fault(tmp_path, template="azure")


def test_an_offer_needs_places(tmp_path: Path) -> None:
    """An offer of nothing would vanish without a word."""
    path = tmp_path / "own.toml"
    path.write_text('[[offer]]\nid = "stt.x"\ntemplate = "azure-stt"\n')

    with pytest.raises(RegistryError, match=r"row 1 \(stt\.x\): places: no such key"):
        registry.load(path, today=TODAY)


def test_a_region_is_not_moved(tmp_path: Path) -> None:
    """Our name of a region stands in years of touches: it cannot mean another country here."""
    path = _file(tmp_path / "own.toml", regions='eu-central = "US"')

    with pytest.raises(RegistryError, match="region eu-central: 'US', but it lies in DE"):
        registry.load(path, today=TODAY)


@pytest.mark.parametrize(
    ("transfer", "named"),
    [
        ({"law": "GDPR of Atlantis"}, "transfers: no law 'GDPR of Atlantis'"),
        ({"module": ""}, "only scc, has a module"),
        ({"tool": "bcr"}, "only scc, has a module"),
    ],
)
def test_a_transfer_is_filed_under_a_law(
    tmp_path: Path, transfer: dict[str, str], named: str
) -> None:
    """A tool filed under no law of ours would lift nothing, or the wrong thing."""
    filed = {"tool": "scc", "module": "2", "law": "GDPR", "reference": "C-1"} | transfer
    row = ROW | {"transfers": [filed | {"expires": date(2027, 1, 1)}]}
    path = _file(tmp_path / "own.toml", row)

    with pytest.raises(RegistryError, match=named):
        registry.load(path, today=TODAY, laws={"GDPR"})


@pytest.mark.parametrize("fault", sorted(BAD), ids=lambda name: name.removesuffix(".toml"))
def test_the_bad_ones_are_named(fault: str) -> None:
    """Every file of the corpus has one fault; the message says where it is and what to do."""
    with pytest.raises(RegistryError) as caught:
        registry.load(CORPUS / fault, today=TODAY, laws={"GDPR"})

    faults = str(caught.value).split("; ")
    assert len(faults) == 1, faults
    assert all(word in faults[0] for word in (fault, *BAD[fault])), faults


def test_the_corpus_and_its_manifest_agree() -> None:
    """A file without expected words would be tested for nothing."""
    assert sorted(BAD) == sorted(path.name for path in CORPUS.glob("*.toml"))


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
    path = _file(tmp_path / "own.toml", regions='eu-any = "EU"')

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
