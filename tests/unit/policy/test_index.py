"""What is worked out once must say what the rules would have said of each row."""

from typing import Any

import pytest
from support import policy_world
from support.policy_world import DAY, NOW, REGIONS, STAGES

from policy import index
from policy.bundle import Bundle
from policy.model import GROUNDS


def shelf(bundle: Bundle, code: str, region: str, stage: str) -> dict[str, set[str]]:
    """Return the ids at home and abroad, whatever they speak."""
    found = bundle.data["index"]
    parts = found["shelves"][found["kin"][code]][region][stage]
    return {
        part: {found["rows"][n]["id"] for numbers in spoken.values() for n in numbers}
        for part, spoken in parts.items()
    }


def test_home_and_abroad(policy_bundle: Bundle) -> None:
    """A row is abroad only if there is a way to it; else it is on no shelf."""
    germany = shelf(policy_bundle, "DE", "eu-central", "speak")
    america = shelf(policy_bundle, "US", "eu-central", "speak")

    assert germany["home"] == {"text.eu-central", "text.eu-west"}
    assert "text.eu-zurich" in germany["abroad"]
    assert america == {"home": {"text.eu-central"}, "abroad": set()}


def test_a_foreign_cell_has_no_shelf(policy_bundle: Bundle) -> None:
    """Where transfers are restricted, a cell abroad serves nobody; where free, it does."""
    found = policy_bundle.data["index"]

    assert set(found["shelves"][found["kin"]["SG"]]) == {"ap-singapore"}
    assert set(found["shelves"][found["kin"]["US"]]) == set(REGIONS)


def test_messages_and_what_has_no_contract_stay_in_their_cell(policy_bundle: Bundle) -> None:
    """A WhatsApp number keeps its messages in one place; what is ours runs where it runs."""
    replies = shelf(policy_bundle, "DE", "eu-central", "reply")
    west = shelf(policy_bundle, "DE", "eu-west", "transcribe")
    central = shelf(policy_bundle, "DE", "eu-central", "transcribe")

    assert replies == {"home": {"mess.eu-central"}, "abroad": set()}
    assert "stt.cell.eu-central" in central["home"]
    assert "stt.cell.eu-central" not in west["home"] | west["abroad"]


@pytest.mark.parametrize(
    ("changes", "until"),
    [
        ({"contract_expires": NOW + 1, "review_expires": NOW + 2}, NOW + 1),
        ({"contract_expires": NOW + 2, "review_expires": NOW + 1}, NOW + 1),
        ({"contract_expires": 0, "review_expires": NOW + 2}, NOW + 2),
    ],
)
def test_whatever_ends_first_ends_it(changes: dict[str, int], until: int) -> None:
    """An agreement outlives no review; what needs none is still to be looked at."""
    bundle = policy_world.build(
        processors=[policy_world.row("p1", "speech-to-text", "eu-central", **changes)]
    )

    assert bundle.data["index"]["rows"][0]["until"] == until


def test_the_strongest_way_comes_first(policy_bundle: Bundle) -> None:
    """Adequacy needs no filed tool, and a filed tool needs nobody's consent."""
    ways = policy_bundle.data["ways"][policy_bundle.data["index"]["kin"]["DE"]]

    found = [(way["label"], way["expires"]) for way in ways["voice"]["stt.clauses.eu-zurich"]]

    ranks = [GROUNDS.index(label.partition(":")[0]) for label, _ in found]
    assert ranks == sorted(ranks)
    assert ("adequacy:CH", index.NEVER) in found
    assert ("scc:2", NOW + 9 * DAY) in found


def test_kin_share_what_follows(policy_bundle: Bundle) -> None:
    """Thirty countries under one law need one shelf; another law needs its own."""
    kin = policy_bundle.data["index"]["kin"]

    assert kin["DE"] == kin["FR"] == "AT"
    assert kin["CH"] == "CH"
    assert set(policy_bundle.data["index"]["shelves"]) == set(kin.values())


def test_laws_that_differ_in_a_ground_are_no_kin() -> None:
    """The same regions, but one of them lets less go: they must not share a shelf."""
    laws = policy_world.build(grounds=GROUNDS).data["jurisdictions"]
    narrow = {**laws["FR"], "adequate": []}

    derived = index.derive(
        policy_world.rows(), {"DE": laws["DE"], "FR": narrow}, grounds=["adequacy"]
    )

    assert derived.index["kin"] == {"DE": "DE", "FR": "FR"}
    assert derived.ways["FR"]["voice"] == {}


def test_serving_is_every_cells_shelf(policy_bundle: Bundle) -> None:
    """Who may serve somewhere is who is on some shelf."""
    found = policy_bundle.data["index"]
    for code in ("BR", "CH", "DE", "SG", "US"):
        served = index.serving(policy_bundle.data, code)
        for stage in (stage for stages in STAGES.values() for stage in stages):
            listed: set[str] = set()
            for region, stages in found["shelves"][found["kin"][code]].items():
                if stage in stages:
                    listed |= set().union(*shelf(policy_bundle, code, region, stage).values())

            assert {row["id"] for row in served[stage]} == listed, (code, stage)


def test_only_what_is_spoken_is_listed(policy_bundle: Bundle) -> None:
    """A question touches the rows of its languages; what speaks none serves all."""
    found: dict[str, Any] = policy_bundle.data["index"]
    stages = found["shelves"]["AT"]["eu-central"]

    french = [found["rows"][n]["id"] for n in stages["transcribe"]["home"]["fr"]]

    assert french == ["stt.french.eu-central"]
    assert set(stages["reply"]["home"]) == {index.ANY}
