"""Why each processor is chosen or not, as a person reads it."""

from typing import Any

import pytest
from support.policy_world import QUESTION, asking

from policy.bundle import Bundle
from policy.embedded import EmbeddedEngine
from policy.errors import EngineError
from policy.explain import explain
from policy.model import Facts

pytestmark = pytest.mark.anyio


async def test_the_chosen_come_first_and_the_others_say_why(policy_bundle: Bundle) -> None:
    """Each row of the registry has a rank or a reason, never both, never neither."""
    engine = EmbeddedEngine(policy_bundle)

    rows = await explain(asking(), engine, facts=policy_bundle.facts)

    assert rows[0].processor == "stt.first.eu-west"
    assert [row.rank for row in rows if row.rank] == list(range(1, 8))
    assert [row.ground for row in rows][4:7] == ["scc:2", "adequacy:CH", "adequacy:CH"]
    by_id = {row.processor: row.reasons for row in rows}
    assert by_id["stt.lapsed.eu-central"] == ("processor.contract_expired",)
    assert by_id["stt.unread.eu-central"] == ("processor.review_expired",)
    assert set(by_id) == set(policy_bundle.facts.hosts)
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
    ],
)
async def test_a_row_of_another_shape_is_refused(row: dict[str, Any], code: str) -> None:
    """An explanation that contradicts itself explains nothing."""
    good = await explain(
        QUESTION, Told({"processors": {"a": CHOSEN}, "revision": "r"}), facts=FACTS
    )
    assert good[0].rank == 1

    with pytest.raises(EngineError, match=rf"answer\.{code}"):
        await explain(QUESTION, Told({"processors": {"a": row}, "revision": "r"}), facts=FACTS)
