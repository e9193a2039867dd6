"""Rules and data become one value, and only if both are in order."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from support import policy_world
from support.policy_world import asking

from policy import bundle, jurisdictions
from policy.bundle import Bundle
from policy.decide import decide
from policy.embedded import EmbeddedEngine
from policy.errors import BundleError
from policy.model import Allowed, Stage
from residency import registry


def row(**changes: Any) -> dict[str, Any]:
    """Return one row, but for *changes*."""
    return policy_world.row("p1", "speech-to-text", "eu-central") | changes


def test_one_content_one_revision() -> None:
    """The revision is what an auditor replays by: same content, same name, on any machine."""
    assert policy_world.build().revision == policy_world.build().revision


@pytest.mark.parametrize(
    "changes",
    [
        {"processors": [row()]},
        {"tenants": {"acme": {}}},
        {"notices": ["2026-11"]},
    ],
)
def test_other_data_is_another_revision(changes: dict[str, Any]) -> None:
    """A changed fact is a changed law to whoever asks."""
    one, other = policy_world.build(), policy_world.build(**changes)

    assert one.revision != other.revision
    assert one.data_sha256 != other.data_sha256


def test_other_rules_are_another_revision(policy_bundle: Bundle) -> None:
    """Data alone does not make a decision."""
    text = policy_bundle.modules["route/route.rego"]
    other = Bundle(
        modules={**policy_bundle.modules, "route/route.rego": text + "\n"},
        data=policy_bundle.data,
    )

    assert other.revision != policy_bundle.revision
    assert other.data_sha256 == policy_bundle.data_sha256


def test_tests_are_not_loaded() -> None:
    """What mocks a law in a test must not be in force."""
    assert sorted(bundle.load()) == [
        "access/access.rego",
        "consent/consent.rego",
        "explain/explain.rego",
        "law/law.rego",
        "redaction/redaction.rego",
        "residency/residency.rego",
        "retention/retention.rego",
        "route/route.rego",
        "transfer/transfer.rego",
        "whose_law/whose_law.rego",
    ]


def test_a_directory_without_rules_is_refused(tmp_path: Path) -> None:
    """A wrong path must not become an empty law."""
    with pytest.raises(BundleError, match="no rules"):
        bundle.load(tmp_path)


def test_regions_follow_the_country_not_the_name(policy_bundle: Bundle) -> None:
    """eu-zurich is not in the Union."""
    laws = policy_bundle.data["jurisdictions"]

    assert laws["DE"]["regions"] == ["eu-central", "eu-west"]
    assert laws["CH"]["regions"] == ["eu-zurich"]


def test_facts_know_each_stage(policy_bundle: Bundle) -> None:
    """A transcriber that is named for messaging is an unknown processor there."""
    facts = policy_bundle.facts

    assert set(facts.processors) == {stage.value for stage in Stage}
    assert "stt.cell.eu-central" in facts.processors["transcribe"]
    assert "stt.cell.eu-central" not in facts.processors["capture"]
    assert (facts.revision, facts.data_sha256) == (
        policy_bundle.revision,
        policy_bundle.data_sha256,
    )


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([row(), row()], "used before"),
        ([row(id="a b")], "id is malformed"),
        ([row(region="\u0435u-central")], "region is malformed"),  # Cyrillic ie
        ([row(region="global")], "region is malformed"),
        ([row(), row(id="p2", jurisdiction="FR")], "two countries"),
        ([row(languages="de")], "languages"),
        ([row(languages=["de-DE"])], "languages"),
        ([row(stages=["train"])], "stages"),
        ([row(contract_expires=-1)], "contract_expires"),
        ([row(contract_expires="2027-01-01")], "contract_expires"),
        ([row(contract_expires=1.5)], "contract_expires"),
        ([row(options={"a": 1})], "options"),
        ([row(extra=1)], "must have exactly"),
        ([row(review_expires="soon")], "review_expires"),
        ([row(hosts=["a.example"])], "hosts"),
        ([row(contract_expires=0, hosts=["a.example:443"])], "hosts"),
        ([row(transfers=[{"tool": "scc"}])], "transfers"),
        ([row(transfers=[{"expires": 1, "law": "x", "module": "9", "tool": "scc"}])], "transfers"),
    ],
)
def test_a_wrong_row_is_refused(rows: list[dict[str, Any]], fault: str) -> None:
    """A row that rules would misread is worse than none."""
    with pytest.raises(BundleError, match=fault):
        policy_world.build(processors=rows)


@pytest.mark.parametrize(
    ("overlay", "fault"),
    [
        ({"allow": True}, "may only have"),
        ({"retention": {"raw_audio_seconds": 0}}, "raw_audio_seconds"),
        ({"retention": {"raw_audio_seconds": 10**6}}, "raw_audio_seconds"),
        ({"retention": {"video_seconds": 10}}, "retention must have"),
        ({"redact": {"webhook": ["card"]}}, "redact must have"),
        ({"redact": {"log": ["Card"]}}, "redact.log"),
        ({"refused": "stt.first"}, "refused"),
        ({"refused_grounds": ["trust"]}, "refused_grounds"),
        ({"refused_purposes": ["sell"]}, "refused_purposes"),
    ],
)
def test_a_wrong_overlay_is_refused(overlay: dict[str, Any], fault: str) -> None:
    """What a tenant asks for is applied as written or not at all."""
    with pytest.raises(BundleError, match=fault):
        policy_world.build(tenants={"acme": overlay})


def test_a_wrong_tenant_or_notice_is_refused() -> None:
    """Ids reach reason texts and reports: they hold no surprises."""
    with pytest.raises(BundleError, match="tenant"):
        policy_world.build(tenants={"a b": {}})
    with pytest.raises(BundleError, match="notices"):
        policy_world.build(notices="2026-11")
    with pytest.raises(BundleError, match="notices"):
        policy_world.build(notices=["a b"])


def spoil(policy_bundle: Bundle, **changes: Any) -> Bundle:
    """Return the bundle with other data."""
    return Bundle(modules=policy_bundle.modules, data={**policy_bundle.data, **changes})


def test_derived_data_must_follow(policy_bundle: Bundle) -> None:
    """A hand-made index could list a processor where no law admits it."""
    data = policy_bundle.data
    shelves = data["index"]["shelves"]
    wider = {**data["index"], "shelves": {**shelves, "CH": shelves["US"]}}
    kin = {**data["index"], "kin": {**data["index"]["kin"], "CH": "US"}}
    opened = {**data["ways"], "CH": data["ways"]["AT"]}
    moved = {**data["jurisdictions"]["SG"], "regions": ["us-east"]}

    for index in (wider, kin):
        with pytest.raises(BundleError, match="index does not follow"):
            bundle.check(spoil(policy_bundle, index=index))
    with pytest.raises(BundleError, match="ways do not follow"):
        bundle.check(spoil(policy_bundle, ways=opened))
    with pytest.raises(BundleError, match="regions do not follow"):
        bundle.check(spoil(policy_bundle, jurisdictions={**data["jurisdictions"], "SG": moved}))


def test_laws_are_checked_again(policy_bundle: Bundle) -> None:
    """A bundle from a file did not pass through the reader of laws."""
    laws = policy_bundle.data["jurisdictions"]
    loose = {**laws["SG"], "retention": {**laws["SG"]["retention"], "raw_audio_seconds": 10**6}}
    odd = {**laws["SG"], "transfers": "yes"}

    for law, fault in ((loose, "raw_audio_seconds"), (odd, "transfers")):
        with pytest.raises(BundleError, match=fault):
            bundle.check(spoil(policy_bundle, jurisdictions={**laws, "SG": law}))


@pytest.mark.parametrize("rows", [1, [1], [{}], {"a": 1}])
def test_data_of_another_shape_is_our_error(policy_bundle: Bundle, rows: Any) -> None:
    """A reader of bundles handles one error, not every one of Python's."""
    with pytest.raises(BundleError):
        bundle.check(spoil(policy_bundle, processors=rows))
    with pytest.raises(BundleError, match="must have exactly"):
        bundle.check(Bundle(modules=policy_bundle.modules, data={"index": {}}))


def test_rules_outside_the_subset_are_refused() -> None:
    """The check belongs to every bundle, not to those who remember it."""
    with pytest.raises(BundleError, match=r"http\.send"):
        bundle.build(
            {"route/route.rego": 'package vocustody.route\n\nx := http.send({"url": "u"})\n'},
            processors=[],
            jurisdictions={},
            tenants={},
            notices=[],
        )


def test_a_bundle_from_before_the_controllers_law_counted_is_still_one(
    policy_bundle: Bundle,
) -> None:
    """What was decided under it is replayed; what its data says has to follow as ever."""
    data = {name: value for name, value in policy_bundle.data.items() if name != "strictest"}
    laws = {
        code: {name: value for name, value in law.items() if name != "localises"}
        for code, law in data["jurisdictions"].items()
    }

    bundle.check(Bundle(modules=policy_bundle.modules, data=data | {"jurisdictions": laws}))


def test_a_made_up_strictest_is_refused(policy_bundle: Bundle) -> None:
    """A ceiling that no law of the table says would be the publisher's own."""
    loose = policy_bundle.data["strictest"] | {"minor_consent": True}

    with pytest.raises(BundleError, match="strictest does not follow"):
        bundle.check(
            Bundle(modules=policy_bundle.modules, data={**policy_bundle.data, "strictest": loose})
        )


@pytest.mark.parametrize("abroad", ["route", "", True])
def test_what_to_do_about_people_abroad_is_one_of_two(abroad: object) -> None:
    """A word that no rule reads would look like a choice and be none."""
    with pytest.raises(BundleError, match="abroad must be one of"):
        policy_world.build(tenants={"acme": {"abroad": abroad}})


def test_a_bundle_without_rules_is_refused(policy_bundle: Bundle) -> None:
    """No rules decide nothing, and nothing must not pass for a law."""
    with pytest.raises(BundleError, match="no rules"):
        bundle.check(Bundle(modules={}, data=policy_bundle.data))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("country", "region"),
    [("DE", "eu-central"), ("SG", "ap-singapore"), ("BR", "sa-brazil"), ("US", "us-east")],
)
async def test_the_shipped_registry_serves_the_shipped_laws(country: str, region: str) -> None:
    """Each cell of the demonstration can do every step at home, and only there."""
    shipped = registry.load(today=date(2026, 11, 22))
    whole = bundle.build(
        bundle.load(),
        processors=shipped.rows(),
        jurisdictions=jurisdictions.load(),
        tenants={"acme": {}},
        notices=[policy_world.NOTICE],
    )
    engine = EmbeddedEngine(whole)

    for stage in Stage:
        question = asking(
            stage=stage,
            controller=country,
            jurisdiction=country,
            region=region,
            languages=("en",),
        )
        decision = await decide(question, engine, facts=whole.facts, deadline_s=10)

        assert isinstance(decision, Allowed), (stage, decision.reasons)
        assert {shipped.get(name).region for name in decision.processors} == {region}
    await engine.aclose()


def test_nothing_leaves_unless_the_deployment_says_so() -> None:
    """The law alone sends nothing anywhere: whoever runs this has to name the ground."""
    silent, named = policy_world.build(), policy_world.build(grounds=["adequacy"])

    found = named.data["ways"][named.data["index"]["kin"]["DE"]]["voice"]["spee.eu-zurich"]
    assert not any(ways for classes in silent.data["ways"].values() for ways in classes.values())
    assert [way["label"] for way in found] == ["adequacy:CH"]
    assert not named.facts.asks_transfer_consent
    assert policy_world.build(grounds=["explicit-consent"]).facts.asks_transfer_consent
    with pytest.raises(BundleError, match="grounds must be among"):
        policy_world.build(grounds=["trust"])
