"""Why each processor is chosen or not, as a person reads it."""

from typing import Any

import pytest
from support.policy_world import QUESTION, asking

from policy.bundle import Bundle
from policy.embedded import EmbeddedEngine
from policy.errors import EngineError
from policy.explain import Part, explain
from policy.model import Facts

pytestmark = pytest.mark.anyio


async def test_the_chosen_come_first_and_the_others_say_why(policy_bundle: Bundle) -> None:
    """Each row of the registry has a rank or a reason, never both, never neither."""
    engine = EmbeddedEngine(policy_bundle)

    found = await explain(asking(), engine, facts=policy_bundle.facts)
    rows = found.processors

    assert rows[0].processor == "stt.first.eu-west"
    assert [row.rank for row in rows if row.rank] == list(range(1, 8))
    assert [row.ground for row in rows][4:7] == ["scc:2", "adequacy:CH", "adequacy:CH"]
    by_id = {row.processor: row.reasons for row in rows}
    assert by_id["stt.lapsed.eu-central"] == ("processor.contract_expired",)
    assert by_id["stt.unread.eu-central"] == ("processor.review_expired",)
    assert set(by_id) == set(policy_bundle.facts.hosts)
    await engine.aclose()


async def test_whose_law_held_is_told_with_who_said_it(policy_bundle: Bundle) -> None:
    """A Turkish number at a German cell: which law, and why these ceilings and this region."""
    engine = EmbeddedEngine(policy_bundle)

    law = (await explain(asking(jurisdiction="TR"), engine, facts=policy_bundle.facts)).law

    assert law is not None
    assert (law.controller, law.person, law.unlisted) == ({"DE": "GDPR"}, {"TR": ""}, ("TR",))
    assert law.parts["places"] == Part(value=["eu-central"], by=("DE",))
    assert law.parts["withdrawal.erases"] == Part(value=True, by=("DE", "strictest"))
    assert law.parts["retention.raw_audio"].value == 86_340
    await engine.aclose()


class Told:
    """An engine with one answer."""

    name = "told"

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def evaluate(self, _entrypoint: str, _question: Any) -> Any:
        """Return the answer."""
        return self.answer


FACTS = Facts(revision="r", data_sha256="d", processors={}, hosts={"a": ()})
CHOSEN: dict[str, Any] = {"ground": "domestic", "rank": 1, "reasons": []}


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (CHOSEN | {"rank": True}, "rank"),
        (CHOSEN | {"rank": 2}, "rank"),
        (CHOSEN | {"ground": "because"}, "ground"),
        (CHOSEN | {"reasons": ["a.b"]}, "contradiction"),
        ({"ground": "", "rank": 0, "reasons": []}, "contradiction"),
        ({"ground": "", "rank": 0, "reasons": ["free text"]}, "reasons"),
        ({"rank": 0, "reasons": []}, "shape"),
        (None, "processors"),
    ],
)
async def test_a_row_of_another_shape_is_refused(row: dict[str, Any] | None, code: str) -> None:
    """An explanation that contradicts itself explains nothing."""
    good = await explain(
        QUESTION, Told({"processors": {"a": CHOSEN}, "revision": "r"}), facts=FACTS
    )
    assert good.law is None
    assert good.processors[0].rank == 1

    rows = {} if row is None else {"a": row}
    with pytest.raises(EngineError, match=rf"answer\.{code}"):
        await explain(QUESTION, Told({"processors": rows, "revision": "r"}), facts=FACTS)


HELD: dict[str, Any] = {
    "controller": {"DE": "GDPR"},
    "localising": {},
    "parts": {"places": {"by": ["DE"], "value": []}},
    "person": {"CH": "FADP"},
    "unlisted": [],
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"controller": {"DE": 1}},
        {"parts": []},
        {"parts": {"places": {"by": ["DE"]}}},
        {"parts": {"places": {"by": ["free text"], "value": 1}}},
        {"unlisted": "ZZ"},
        {"more": 1},
    ],
)
async def test_a_law_of_another_shape_is_refused(wrong: dict[str, Any]) -> None:
    """What a person reads as the law has the form that the rules give it, or is no answer."""
    told = {"law": HELD, "processors": {"a": CHOSEN}, "revision": "r"}
    good = await explain(QUESTION, Told(told), facts=FACTS)
    assert good.law is not None

    with pytest.raises(EngineError, match=r"answer\.law"):
        await explain(QUESTION, Told(told | {"law": HELD | wrong}), facts=FACTS)
