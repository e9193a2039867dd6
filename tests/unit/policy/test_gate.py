"""What every bundle must stand before it decides about anybody (P01 to P09 of the bad bundles)."""

import asyncio
import gzip
import io
import json
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import policy_world
from support.policy_world import NOW
from support.publishing import Publisher, expecting, pack, small, unpack, with_data, with_rules

from policy import archive, capabilities, cases, gate, subset
from policy.archive import Packed
from policy.bundle import Bundle
from policy.decide import decide
from policy.errors import BundleError
from policy.gate import Expected
from policy.model import Allowed
from policy.rehearsal import rehearsal

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def law() -> Bundle:
    """Return a bundle that is in order."""
    return small()


def packed(bundle: Bundle, issued: int = 1) -> Packed:
    """Return *bundle* as a reader would have it."""
    return Packed(bundle=bundle, issued=issued, raw=b"")


async def admit(
    bundle: Bundle, *, expected: Expected, issued: int = 1, newest: tuple[int, str] = gate.NEVER
) -> None:
    """Hold *bundle* against the whole gate."""
    await gate.admit(packed(bundle, issued), expected=expected, newest=newest, now=NOW)


async def test_the_shipped_rules_pass(law: Bundle) -> None:
    """The refusals below are refusals of what was changed."""
    await admit(law, expected=expecting(law))


async def test_every_case_is_a_fault_of_its_own(law: Bundle) -> None:
    """A case whose question would be denied anyway proves nothing about what it names."""
    asked = cases.in_order(law, now=NOW)["DE"]

    async with rehearsal(law) as engine:
        for stage, question in asked.items():
            found = await decide(question, engine, facts=law.facts, deadline_s=10)
            assert isinstance(found, Allowed), (stage, found.reasons)
    assert {name for name, _, _ in cases.faulty(law, cases.load(), now=NOW)} == {
        case.name for case in cases.load()
    }


async def test_p01_an_older_publication_is_refused(law: Bundle) -> None:
    """Else whoever replays last month's file brings last month's law back."""
    expected = expecting(law)

    with pytest.raises(BundleError, match="issued 1 is not newer than 2"):
        await admit(law, expected=expected, newest=(2, "f" * 64))
    with pytest.raises(BundleError, match="issued 1 is not newer than 1"):
        await admit(law, expected=expected, newest=(1, "f" * 64))
    await admit(law, expected=expected, newest=(1, law.revision))
    await admit(law, expected=expected, issued=2, newest=(1, "f" * 64))


def answering(**changes: str) -> str:
    """Return route rules that say yes to everything, but for *changes* (Rego texts)."""
    said = {
        "allow": "true",
        "obligations": "{}",
        "processors": "[row.id | some row in data.vocustody.processors]",
        "reasons": "[]",
        "revision": "data.vocustody.revision",
    } | changes
    body = ", ".join(f'"{key}": {text}' for key, text in said.items())
    return f"package vocustody.route\n\ndecision := {{{body}}}\n"


def loosened(law: Bundle, old: str, new: str, module: str = "route") -> Bundle:
    """Return *law* with one check taken out of its rules."""
    text = law.modules[f"{module}/{module}.rego"]
    assert old in text
    return with_rules(law, **{module: text.replace(old, new)})


async def test_p02_a_rule_that_asks_for_no_consent_is_refused(law: Bundle) -> None:
    """Every other check still holds: only the corpus sees it."""
    bundle = loosened(law, "permitted if consent.live", "permitted if input.minor == false")
    bundle = loosened(bundle, "\tnot exempt\n\tsome code in consent.reasons", "\tsome code in []")

    with pytest.raises(BundleError, match=r"deny corpus: consent\.missing in DE at .*: allowed"):
        await admit(bundle, expected=expecting(law))


async def test_p02_a_withdrawal_that_is_overlooked_is_refused(law: Bundle) -> None:
    """The most expensive bug a bundle can have, in one word of it."""
    bundle = loosened(
        law, 'input.consent.state in {"granted"', 'input.consent.state in {"withdrawn", "granted"',
        "consent",
    )  # fmt: skip
    bundle = loosened(bundle, 'input.consent.state == "withdrawn"', "false", "consent")

    with pytest.raises(BundleError, match=r"deny corpus: consent\.withdrawn in DE"):
        await admit(bundle, expected=expecting(law))


@pytest.mark.parametrize(
    "call",
    [
        'http.send({"method": "get", "url": "https://law.example"})',
        'net.lookup_ip_addr("law.example")',
        "opa.runtime()",
        "time.now_ns()",
        'rand.intn("x", 2)',
        'uuid.rfc4122("x")',
        'crypto.sha256("x")',
        'io.jwt.decode("x")',
        'trace("x")',
        "print(1)",
    ],
)
async def test_p03_what_reaches_out_is_refused(
    law: Bundle, publisher: Publisher, call: str
) -> None:
    """A rule sees its question and its data; by name, and whoever signed it."""
    text = law.modules["route/route.rego"] + f"\nreach := {call}\n"
    raw = publisher.publish(with_rules(law, route=text))

    with pytest.raises(BundleError, match=f"call of {call.partition('(')[0]}"):
        archive.unpack(raw, keys=publisher.keys)


def test_p03_the_capabilities_are_those_of_the_subset(opa_binary: str, tmp_path: Path) -> None:
    """One list, two readers: OPA's tools refuse while building what we refuse while reading."""
    said = subprocess.run(
        [opa_binary, "capabilities", "--current"], capture_output=True, check=True
    )
    evil = tmp_path / "evil.rego"
    evil.write_text("package vocustody.evil\n\nx := http.send({})\n\ny := time.now_ns()\n")

    shipped = json.loads(capabilities.FILE.read_text())

    def check(*files: str) -> subprocess.CompletedProcess[str]:
        limit = ["--capabilities", str(capabilities.FILE)]
        command = [opa_binary, "check", "--strict", *limit, *files]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert shipped == capabilities.narrowed(json.loads(said.stdout))
    names = {builtin["name"] for builtin in shipped["builtins"]}
    assert names == subset.BUILTINS | capabilities.OPERATORS
    rules = Path(cases.__file__).parent / "rego"
    ours = [str(path) for path in rules.rglob("*.rego") if not path.name.endswith("_test.rego")]
    assert check(*ours).returncode == 0
    assert "undefined function http.send" in check(str(evil)).stderr


ENDLESS = """package vocustody.route

digits := ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]

decision := count([1 |
\tsome a in digits; some b in digits; some c in digits; some d in digits
\tsome e in digits; some f in digits; some g in digits; some h in digits
\ta != b; h == a
])
"""


async def test_p04_a_rule_without_end_is_refused(
    law: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs where it can be killed: in the gateway it could not even be interrupted."""
    monkeypatch.setattr(gate, "ANSWER_LIMIT_S", 0.2)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    meanwhile = asyncio.create_task(count())
    with pytest.raises(BundleError, match=r"in DE: engine\.late"):
        await admit(with_rules(law, route=ENDLESS), expected=expecting(law))
    meanwhile.cancel()

    assert turns > 5


async def test_p04_a_memory_hog_is_refused(law: Bundle) -> None:
    """Its process has a limit; ours goes on."""
    doubled = "".join(f"\nb{'b' * n} := [{'b' * n}, {'b' * n}]\n" for n in range(1, 40))
    text = f'package vocustody.route\n\nb := "x"\n{doubled}\ndecision := {"b" * 40}\n'

    with pytest.raises(BundleError, match=r"engine\.(died|late|failed)"):
        await admit(with_rules(law, route=text), expected=expecting(law))


def test_p05_a_gigabyte_is_refused() -> None:
    """It is not unpacked first and measured after."""
    files = {"data.json": bytes(archive.SIZE_LIMIT + 1)}

    with pytest.raises(BundleError, match="over 8388608 bytes"):
        archive.unpack(pack(files))


def test_p05_a_sparse_file_is_refused() -> None:
    """A header may claim a length that no archive has to hold."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        entry = tarfile.TarInfo("data.json")
        entry.pax_headers = {"GNU.sparse.size": str(1 << 40), "GNU.sparse.map": "0,0"}
        tar.addfile(entry)

    with pytest.raises(BundleError, match="not a plain file"):
        archive.unpack(gzip.compress(raw.getvalue()))


async def test_p06_rules_that_contradict_each_other_are_refused(law: Bundle) -> None:
    """An engine fails on them; at the gate, not at the first note."""
    text = answering() + "\ndecision := {}\n"

    with pytest.raises(BundleError, match=r"a question in order in DE: engine\.failed"):
        await admit(with_rules(law, route=text), expected=expecting(law))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("decision := 1", "answer.type"),
        ("decision := null", "answer.null"),
        ('decision := {"allow": true}', "answer.shape"),
        ("decision := 1 if input.absent", "engine.undefined"),
    ],
)
async def test_p07_an_answer_of_another_type_is_refused(law: Bundle, text: str, code: str) -> None:
    """What the gateway could not read is not put in force."""
    bundle = with_rules(law, route=f"package vocustody.route\n\n{text}\n")

    with pytest.raises(BundleError, match=code):
        await admit(bundle, expected=expecting(law))


async def test_p07_a_stolen_revision_is_refused(law: Bundle) -> None:
    """Rules that name a revision themselves could hide which they are."""
    with pytest.raises(BundleError, match=r"answer\.revision"):
        await admit(with_rules(law, route=answering(revision='"r1"')), expected=expecting(law))


def moved(law: Bundle, **changes: Any) -> Bundle:
    """Return *law* with its first processor's row changed, index and regions following."""
    rows = [dict(row) for row in law.data["processors"]]
    rows[0] |= changes
    return small(processors=rows)


@pytest.mark.parametrize("region", ["\u0415U-west", "eu-w\u0435st", "EU-WEST", "", "eu"])
def test_p08_a_region_that_only_looks_like_one_is_refused(law: Bundle, region: str) -> None:
    """A Cyrillic letter in a name makes a region that no list of regions holds."""
    rows = [dict(row) for row in law.data["processors"]]
    rows[0]["region"] = region
    raw = archive.pack(with_data(law, processors=rows), issued=1)

    with pytest.raises(BundleError, match="region is malformed"):
        archive.unpack(raw)


@pytest.mark.parametrize(
    "change",
    [
        {"region": "ap-singapore", "jurisdiction": "SG"},
        {"region": "eu-nowhere"},
        {"hosts": ["stt.example:443"]},
    ],
)
async def test_p08_a_processor_that_is_elsewhere_is_refused(
    law: Bundle, change: dict[str, Any]
) -> None:
    """The registry of the cell says where its processors stand, not whoever publishes rules."""
    with pytest.raises(BundleError, match=r"stt\.first\.eu-west: \w+ is not the registry's"):
        await admit(moved(law, **change), expected=expecting(law))


async def test_p08_a_processor_that_nobody_knows_is_refused(law: Bundle) -> None:
    """It could be allowed, and nothing could reach it; better said now."""
    with pytest.raises(BundleError, match=r"stt\.evil: not in this cell's registry"):
        await admit(moved(law, id="stt.evil"), expected=expecting(law))


def test_p09_an_empty_bundle_is_refused(law: Bundle) -> None:
    """No rules, no law; no file at all, no bundle."""
    files = unpack(archive.pack(law, issued=1))
    bare = {name: raw for name, raw in files.items() if not name.endswith(".rego")}

    with pytest.raises(BundleError, match="no rules"):
        archive.unpack(pack(bare))
    with pytest.raises(BundleError, match=r"\.manifest: is missing"):
        archive.unpack(pack({}))


async def test_p09_a_bundle_that_serves_nobody_is_refused() -> None:
    """No question of the corpus could be asked of it: it would pass unseen."""
    nobody = small(processors=[])

    with pytest.raises(BundleError, match="serves nobody"):
        await admit(nobody, expected=expecting(nobody))


def test_an_empty_corpus_is_an_error(tmp_path: Path) -> None:
    """It would admit everything, in silence."""
    path = tmp_path / "deny.json"
    path.write_text("[]")

    with pytest.raises(BundleError, match="corpus is empty"):
        cases.load(path)


async def test_no_cases_is_an_error(law: Bundle) -> None:
    """The same, for who passes them."""
    with pytest.raises(BundleError, match="no question of the deny corpus"):
        await gate.rehearse(law, cases=[], now=NOW)


async def test_rules_that_do_not_load_are_refused(law: Bundle) -> None:
    """By the engine's own words."""
    broken = with_rules(law, route="package vocustody.route\n\nx := {")

    with pytest.raises(BundleError, match="regorus"):
        await admit(broken, expected=expecting(law))


async def test_what_the_settings_tighten_stays_tight(law: Bundle) -> None:
    """A publication may not keep a tenant's recordings for longer than its settings say."""
    match = "tenant acme: raw_audio_seconds is longer"

    with pytest.raises(BundleError, match=match):
        await admit(law, expected=expecting(law, acme={"raw_audio_seconds": 60}))
    with pytest.raises(BundleError, match="tenant tight: raw_audio_seconds"):
        await admit(law, expected=expecting(law, tight={"raw_audio_seconds": 899}))
    await admit(law, expected=expecting(law, tight={"raw_audio_seconds": 900}))


@pytest.mark.parametrize(
    ("overlay", "fault"),
    [
        ({"refused": ["stt.cell.eu-central"]}, "refused lacks stt.cell.eu-central"),
        ({"refused_grounds": ["bcr"]}, "refused_grounds lacks bcr"),
        ({"refused_purposes": ["analytics"]}, "refused_purposes lacks analytics"),
        ({"abroad": "decline"}, "serves people abroad, whom its settings decline"),
        ({"redact": {"log": ["order_number"]}}, "redact.log lacks order_number"),
    ],
)
async def test_what_a_tenant_refuses_stays_refused(
    law: Bundle, overlay: dict[str, Any], fault: str
) -> None:
    """A publication may add to a controller's objections, not take one away."""
    expected = expecting(law)
    kept = {key: law.data["tenants"]["tight"].get(key) for key in overlay}

    with pytest.raises(BundleError, match=f"tenant tight: {fault}"):
        await admit(law, expected=replace(expected, tightened={"tight": overlay}))
    with pytest.raises(BundleError, match=f"tenant new: {fault}"):
        await admit(law, expected=replace(expected, tightened={"new": overlay}))
    await admit(law, expected=replace(expected, tightened={"tight": kept}))


async def test_a_ground_that_the_settings_do_not_name_is_refused() -> None:
    """Whether anything leaves at all is the deployment's to say, not the publisher's."""
    law = small(grounds=["adequacy", "scc"])
    expected = expecting(law)

    with pytest.raises(BundleError, match=r"ground scc: not among this cell's \[policy\] grounds"):
        await admit(law, expected=replace(expected, grounds=frozenset({"adequacy"})))
    await admit(law, expected=expected)


def test_a_manifest_says_what_we_understand(law: Bundle) -> None:
    """OPA reads its keys in any case: what we overlook, it might obey."""
    files = unpack(archive.pack(law, issued=1))
    manifest = json.loads(files[".manifest"])

    for change in (
        {"Revision": "x"},
        {"roots": [""]},
        {"wasm": []},
        {"metadata": {"issued": -1}},
        {"metadata": {"issued": True}},
        {"metadata": {"issued": 1, "more": 2}},
        {"metadata": []},
    ):
        raw = pack(files | {".manifest": json.dumps(manifest | change).encode()})
        with pytest.raises(BundleError, match=r"\.manifest: (must|metadata)"):
            archive.unpack(raw)


SCC = {"expires": NOW + 100, "law": "GDPR", "module": "2", "tool": "scc"}
FILED = {
    "contract_expires": NOW + 100,
    "languages": ["de", "en"],
    "options": {"mip_opt_out": "true"},
    "review_expires": NOW + 100,
    "transfers": [SCC],
}
INSIDE = {"contract_expires": 0, "hosts": [], "languages": []}


def filed(changes: dict[str, Any]) -> Bundle:
    """Return a law whose first row is under the contract `FILED`, but for *changes*."""
    first, *rest = policy_world.rows()
    return small(processors=[first | FILED | changes, *rest])


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"contract_expires": NOW + 101}, "contract_expires"),
        ({"contract_expires": 0, "hosts": []}, "contract_expires"),
        ({"review_expires": NOW + 101}, "review_expires"),
        ({"options": {}}, "options"),
        ({"options": {"mip_opt_out": "false"}}, "options"),
        ({"languages": ["de", "en", "fr"]}, "languages"),
        ({"languages": []}, "languages"),
        ({"transfers": [SCC | {"expires": NOW + 101}]}, "transfers"),
        ({"transfers": [SCC, SCC | {"tool": "bcr", "module": ""}]}, "transfers"),
        ({"transfers": [SCC | {"law": "UK GDPR"}]}, "transfers"),
        ({"transfers": [SCC | {"module": "3"}]}, "transfers"),
    ],
)
async def test_a_contract_is_no_better_than_the_registry_s(
    changes: dict[str, Any], key: str
) -> None:
    """A publisher may end a contract, never make one: what was signed, the operator filed."""
    match = f"processor stt.first.eu-west: {key} .* the registry's"

    with pytest.raises(BundleError, match=match):
        await admit(filed(changes), expected=expecting(filed({})))


async def test_a_contract_may_be_worse_than_the_registry_s() -> None:
    """An urgent end of a contract is what a publication is for."""
    worse = {
        "contract_expires": NOW + 99,
        "languages": ["de"],
        "options": {"mip_opt_out": "true", "more": "x"},
        "review_expires": NOW + 99,
        "transfers": [],
    }

    await admit(filed(worse), expected=expecting(filed({})))
    await admit(filed({}), expected=expecting(filed({"languages": []})))
    await admit(filed({"contract_expires": 1, "hosts": []}), expected=expecting(filed(INSIDE)))
    await admit(filed({"transfers": [SCC | {"expires": 1}]}), expected=expecting(filed({})))
