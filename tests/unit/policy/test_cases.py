"""Each case of the corpora refuses a bundle that only it would refuse."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from support.policy_world import NOW
from support.publishing import small, with_rules

from policy import access, access_cases, cases, gate, jurisdictions
from policy.access import Permitted
from policy.bundle import Bundle
from policy.decide import decide
from policy.errors import BundleError
from policy.model import GROUNDS, Allowed
from policy.rehearsal import rehearsal

pytestmark = pytest.mark.anyio

Change = tuple[str, str, str]  # module, what it says, what it says instead


@pytest.fixture(scope="module")
def law() -> Bundle:
    """Return a bundle in order over one jurisdiction, with every ground for a transfer."""
    return small(jurisdictions={"DE": jurisdictions.load()["DE"]}, grounds=GROUNDS)


def planted(law: Bundle, *changes: Change) -> Bundle:
    """Return *law* with its rules spoilt."""
    for module, old, new in changes:
        text = law.modules[f"{module}/{module}.rego"]
        assert text.count(old) == 1, (module, old)
        law = with_rules(law, **{module: text.replace(old, new)})
    return law


def without(module: str, line: str) -> Change:
    """Return the change that takes one condition out of *module*."""
    return module, f"\t{line}\n", ""


def forgetting(law: Bundle, when: str, facts: Mapping[str, str], *, found: str = "found") -> Bundle:
    """Return *law* with rules that see *facts* (path to Rego) instead of the truth, if *when*."""
    blind = " ".join(f"with {path} as {value}" for path, value in facts.items())
    inner = law.modules["route/route.rego"].replace("package vocustody.route", "package inner", 1)
    outer = f"""package vocustody.route

import data.inner

decision := {found} if {{
	{when}
	found := inner.decision {blind}
}} else := inner.decision
"""
    return Bundle(modules={**law.modules, "inner.rego": inner, "route/route.rego": outer},
                  data=law.data)  # fmt: skip


MAIN = '"transcribe_and_answer"'
GIVEN = {
    "input.consent.at": "input.now",
    "input.consent.expires_at": "input.now + 1",
    "input.consent.notice_version": "data.vocustody.notices[0]",
    "input.consent.purpose": "input.purpose",
    "input.consent.state": '"granted"',
    "input.consent.tenant": "input.tenant",
}
"""A consent in order: what a rule that forgot to look at one takes for granted."""


def given(*names: str) -> dict[str, str]:
    """Return the facts of a consent that a rule takes for granted."""
    return {f"input.consent.{name}": GIVEN[f"input.consent.{name}"] for name in names}


DECLINING = 'data.vocustody.tenants[input.tenant].abroad == "decline"'

DENIED: dict[str, tuple[str, Mapping[str, str]]] = {
    "consent.missing": ('input.consent.state == "none"', GIVEN),
    "consent.refused": ('input.consent.state == "refused"', given("state")),
    "consent.withdrawn": ('input.consent.state == "withdrawn"', given("state")),
    "consent.expired": ('input.consent.state == "expired"', given("state")),
    "consent.lapsed": ("input.consent.expires_at <= input.now", given("expires_at")),
    "consent.from_the_future": ("input.consent.at > input.now", given("at")),
    "consent.for_another_purpose": ("true", given("purpose")),
    "consent.of_another_tenant": ('input.tenant != "nobody-we-know"', given("tenant")),
    "notice.unknown": ("true", given("notice_version")),
    "purpose.unknown": (
        'input.purpose == "sell"',
        {"input.purpose": MAIN, "input.consent.purpose": MAIN},
    ),
    "purpose.not_consented": ('input.purpose == "training"', {"input.purpose": MAIN}),
    "tenant.unknown": (
        'input.tenant == "nobody-we-know"',
        {"input.tenant": '"acme"', "input.consent.tenant": '"acme"'},
    ),
    "controller.law_missing": ('input.jurisdiction != "ZZ"', {"input.controller": '"DE"'}),
    "controller.law_missing_for_nobody_known": (
        'input.jurisdiction == "ZZ"',
        {"input.controller": '"DE"'},
    ),
    "person.declined": (
        f'{DECLINING}; input.jurisdiction == "ZZ"',
        {"data.vocustody.tenants": "{input.tenant: {}}"},
    ),
    "person.half_declined": (
        f'{DECLINING}; input.jurisdiction != "ZZ"',
        {"data.vocustody.tenants": "{input.tenant: {}}"},
    ),
    "law.localises": (
        'input.jurisdiction == "QQ"',
        {"input.jurisdiction": '"DE"'},
    ),
    "law.unlisted_beyond_the_region": (
        'count(input.suspended) > 0; input.jurisdiction == "ZZ"',
        {"input.jurisdiction": '"DE"'},
    ),
    "law.half_unlisted_beyond_the_region": (
        'count(input.suspended) > 0; input.jurisdiction != "ZZ"',
        {"input.jurisdiction": 'split(input.jurisdiction, "+")[0]'},
    ),
    "region.nowhere": ("true", {"input.region": '"eu-west"'}),
    "language.unknown": ("true", {"input.languages": '["de"]'}),
    "hold.active": ("true", {"input.held": "false"}),
    "minor.protected": ("true", {"input.minor": "false"}),
    "data_class.too_little_known": (
        'input.data_class == "message"',
        {"input.data_class": '"voice"'},  # at capture
    ),
    "data_class.too_much": (
        'input.stage == "notice"',
        {"input.data_class": '"message"'},
    ),
    "processor.suspended": ('input.stage == "capture"', {"input.suspended": "[]"}),
    "transfer.stale": ("true", {"input.bundle_age": "0"}),
    "processor.review_expired": (
        "data.vocustody.processors[0].review_expires == input.now",
        {"input.now": "input.now - 1"},
    ),
    "processor.contract_expired": (
        "data.vocustody.processors[0].contract_expires == 1",
        {"input.now": "0", "input.consent.at": "0"},
    ),
    "purpose.refused_by_tenant": (
        f"data.vocustody.tenants[input.tenant].refused_purposes == [{MAIN}]",
        {"data.vocustody.tenants": "{input.tenant: {}}"},
    ),
}
"""When a rule is blind, and what it sees instead of what the case says."""

GUARDED = {"processor.suspended": "answer.suspended", "transfer.stale": "answer.transfers"}
"""What is not left to the rules: their yes is no answer at all."""


def granting(role: str, action: str) -> list[Change]:
    """Return the change that gives *role* an action more."""
    return [("access", f'"{role}": {{', f'"{role}": {{"{action}", ')]


def also(rule: str) -> list[Change]:
    """Return the change that adds *rule*."""
    return [("access", "ours if input.tenant", f"{rule}\n\nours if input.tenant")]


PERMITTED: dict[str, Sequence[Change]] = {
    "operator.reads_a_transcript": granting("operator", "read_transcript"),
    "operator.plays_audio": granting("operator", "play_audio"),
    "auditor.reads_a_transcript": granting("auditor", "read_transcript"),
    "auditor.plays_audio": granting("auditor", "play_audio"),
    "tenant_admin.reads_a_transcript": granting("tenant_admin", "read_transcript"),
    "worker.plays_audio": granting("worker", "play_audio"),
    "role.unknown": also('granted if input.role == "root"'),
    "action.unknown": also('granted if input.action == "copy_everything"'),
    "purpose.unknown": [("access", '\t"rights": false',
                         '\t"curiosity": false,\n\t"rights": false')],
    "tenant.foreign": also('ours if input.action == "read_transcript"'),
    "tenant.foreign_export": also('ours if input.action == "export"'),
    "review.without_consent": also('agreed if input.consent.state == "none"'),
    "review.withdrawn": also('agreed if input.consent.state == "withdrawn"'),
    "review.expired": also("agreed if input.consent.expires_at == input.now"),
    "review.for_another_purpose": also('agreed if input.consent.purpose == "analytics"'),
    "review.of_a_minor": [without("access", "input.minor == false")],
    "approval.none": [("access", '"export": 2', '"export": 0')],
    "approval.one": [("access", '"export": 2', '"export": 1')],
    "approval.one_twice": [("access", "approved if count(approvers)",
                            "approved if count(input.approvals)")],
    "approval.own": [without("access", "approval.approver != input.actor")],
    "approval.by_another_role": [without("access", 'approval.role == "approver"')],
    "approval.of_another_tenant": [without("access", "approval.tenant == input.owner")],
    "approval.stale": [without("access", "approval.at > input.now - 86400")],
    "approval.from_the_future": [without("access", "approval.at <= input.now")],
    "approval.of_another_request": [
        without("access", "approval.request_digest == input.request_digest")
    ],
    "hold.placed_by_one": [("access", '"place_hold": 1', '"place_hold": 0')],
    "hold.released_by_one": [("access", '"release_hold": 1', '"release_hold": 0')],
    "hold.opened_by_an_operator": granting("operator", "open_held"),
    "bundle.activated_by_one": [("access", '"activate_bundle": 2', '"activate_bundle": 1')],
}  # fmt: skip


async def refused(bundle: Bundle) -> str:
    """Return why the gate refuses *bundle*."""
    with pytest.raises(BundleError) as caught:
        await gate.rehearse(bundle, cases=cases.load(), now=NOW)
    return str(caught.value)


def test_every_case_has_a_bundle_that_it_refuses() -> None:
    """A case that nothing fails on is a comment."""
    assert {case.name for case in cases.load()} == set(DENIED)
    assert {case.name for case in access_cases.load()} == set(PERMITTED)


@pytest.mark.parametrize("name", DENIED)
async def test_a_rule_that_forgot_a_check_is_refused(law: Bundle, name: str) -> None:
    """By the case of that name: every other check still holds."""
    said = await refused(forgetting(law, *DENIED[name]))

    assert said.startswith(f"deny corpus: {name} in DE at "), said
    assert said.endswith(f": {GUARDED.get(name, 'allowed')}"), said


async def test_rules_that_call_what_is_abroad_domestic_are_refused(law: Bundle) -> None:
    """The one lie about a transfer that no shape of an answer shows."""
    home = '{"transfers": {name: "domestic" | some name in found.processors}}'
    lie = f'object.union(found, {{"obligations": {home}}})'

    said = await refused(forgetting(law, *DENIED["transfer.stale"], found=lie))

    assert said.startswith("deny corpus: transfer.stale in DE at "), said
    assert said.endswith(": allowed")


@pytest.mark.parametrize("name", PERMITTED)
async def test_a_rule_that_admits_too_many_is_refused(law: Bundle, name: str) -> None:
    """Who may listen is law as much as who may process."""
    assert await refused(planted(law, *PERMITTED[name])) == f"access corpus: {name}: permitted"


async def test_a_bundle_without_access_rules_is_refused(law: Bundle) -> None:
    """Nobody could be let in, and nobody would know why."""
    bare = {name: text for name, text in law.modules.items() if not name.startswith("access/")}

    said = await refused(Bundle(modules=bare, data=law.data))

    assert said.startswith("a request in order: engine.")


async def test_what_is_in_order_is_permitted(law: Bundle) -> None:
    """Each refusal of the access corpus is one of what its case changes."""
    async with rehearsal(law) as engine:
        for asking in access_cases.in_order(law, now=NOW):
            found = await access.verdict(
                asking.request,
                engine,
                facts=law.facts,
                now=NOW,
                approvals=asking.approvals,
                deadline_s=10,
            )
            assert isinstance(found, Permitted), found


async def test_a_world_denies_for_its_change_alone(law: Bundle) -> None:
    """The few processors of a world serve as the whole registry does, until they are changed."""
    world = cases.altered(law, {}, now=NOW)

    async with rehearsal(world) as engine:
        for stage, question in cases.in_order(world, now=NOW)["DE"].items():
            found = await decide(question, engine, facts=world.facts, deadline_s=10)
            assert isinstance(found, Allowed), (stage, found.reasons)
        [stale] = [case for case in cases.load() if case.name == "transfer.stale"]
        [(_, _, asked)] = cases.faulty(world, [stale], now=NOW)
        fresh = cases.changed(asked, {"bundle_age": 86_400})
        abroad = await decide(fresh, engine, facts=world.facts, deadline_s=10)
        assert isinstance(abroad, Allowed)
        assert set(abroad.obligations.transfers.values()) != {"domestic"}


def test_an_empty_corpus_is_an_error(tmp_path: Path) -> None:
    """It would admit everything, in silence."""
    path = tmp_path / "corpus.json"
    path.write_text("[]")

    with pytest.raises(BundleError, match="deny corpus is empty"):
        cases.load(path)
    with pytest.raises(BundleError, match="access corpus is empty"):
        access_cases.load(path)
