"""Only a complete, bounded, well-typed question reaches an engine."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from support.policy_world import CONSENT, QUESTION

from policy.errors import QuestionError
from policy.model import Consent, ConsentState, Question, Stage
from policy.question import SCHEMA, as_input, check

Change = Callable[[dict[str, Any]], object]


def test_a_question_fits_its_schema() -> None:
    """The usual question passes, with a consent and without."""
    check(as_input(QUESTION))
    check(as_input(replace(QUESTION, consent=None)))


def test_no_consent_is_a_word_not_a_hole() -> None:
    """Rules over an absent key vanish; rules over the word "none" deny."""
    asked = as_input(replace(QUESTION, consent=None))

    assert asked["consent"]["state"] == "none"
    assert asked["consent"].keys() == as_input(QUESTION)["consent"].keys()
    assert "null" not in json.dumps(asked)


def test_every_fact_is_in_the_input() -> None:
    """A fact that is not in the input cannot be decided on, nor replayed."""
    assert as_input(QUESTION).keys() == {field.name for field in fields(Question)}


def test_nobody_is_in_the_input() -> None:
    """Engines log their input: who it is about stays here."""
    left_out = {"subject", "language", "channel", "evidence", "expressed", "shown"}

    names = {field.name for field in fields(Consent)} - left_out

    assert as_input(QUESTION)["consent"].keys() == names
    assert CONSENT.subject not in json.dumps(as_input(QUESTION))


def test_schema_knows_the_words_of_the_model() -> None:
    """A stage or state added in one place only would be refused at run time."""
    words = SCHEMA["properties"]

    assert set(words["stage"]["enum"]) == {stage.value for stage in Stage}
    states = {state.value for state in ConsentState} | {"none"}
    assert set(words["consent"]["properties"]["state"]["enum"]) == states


WRONG: list[tuple[str, Change]] = [
    ("consent", lambda q: q.pop("consent")),
    ("consent", lambda q: q.update(consent=None)),
    ("consent", lambda q: q["consent"].pop("at")),
    ("consent", lambda q: q["consent"].update(extra=1)),
    ("consent", lambda q: q["consent"].update(state="yes")),
    ("consent", lambda q: q["consent"].update(expires_at="2027-01-01")),
    ("consent", lambda q: q["consent"].update(at=-1)),
    ("consent", lambda q: q["consent"].update(id="x y")),
    ("held", lambda q: q.update(held=0)),
    ("jurisdiction", lambda q: q.update(jurisdiction="D\u0415")),  # Cyrillic Ie
    ("jurisdiction", lambda q: q.update(jurisdiction="DE\n")),
    ("jurisdiction", lambda q: q.update(jurisdiction="+".join(["DE"] * 33))),
    ("jurisdiction", lambda q: q.update(jurisdiction="")),
    ("languages", lambda q: q.update(languages=[])),
    ("languages", lambda q: q.update(languages=["de"] * 17)),
    ("languages", lambda q: q.update(languages=["de", None])),
    ("languages", lambda q: q.update(languages="de")),
    ("minor", lambda q: q.update(minor="false")),
    ("now", lambda q: q.update(now=1.5)),
    ("now", lambda q: q.update(now=True)),
    ("now", lambda q: q.update(now=10**10)),
    ("purpose", lambda q: q.update(purpose="x" * 65)),
    ("region", lambda q: q.update(region="\u0435u-central")),  # Cyrillic ie
    ("region", lambda q: q.update(region="global")),
    ("shape", lambda q: q.update(extra=1)),
    ("stage", lambda q: q.update(stage="train")),
    ("bundle_age", lambda q: q.update(bundle_age=-1)),
    ("data_class", lambda q: q.update(data_class="video")),
    ("suspended", lambda q: q.update(suspended=["p"] * 65)),
    ("suspended", lambda q: q.update(suspended=None)),
    ("transfer_consent", lambda q: q.update(transfer_consent=None)),
    ("tenant", lambda q: q.update(tenant='x", "allow": true, "z":"')),
]


@pytest.mark.parametrize(("where", "change"), WRONG)
def test_a_wrong_question_is_refused(where: str, change: Change) -> None:
    """What an engine would silently take for undefined, or for true, is refused by name."""
    asked = as_input(QUESTION)
    change(asked)

    with pytest.raises(QuestionError) as caught:
        check(asked)

    assert caught.value.code == f"question.{where}"


def test_the_message_does_not_repeat_the_value() -> None:
    """A value in the wrong field may be a person's."""
    asked = as_input(QUESTION) | {"tenant": "+1 202 555 0123"}

    with pytest.raises(QuestionError) as caught:
        check(asked)

    assert "0123" not in str(caught.value)


def test_a_schema_word_that_is_not_applied_is_refused() -> None:
    """A rule of the schema that this reader skipped would look like a guard."""
    with pytest.raises(KeyError, match="format"):
        check("x", {"type": "string", "format": "date"})
    with pytest.raises(ValueError, match="additionalProperties"):
        check({}, {"type": "object", "properties": {}, "additionalProperties": True})


def test_every_object_of_the_schema_is_closed_and_complete() -> None:
    """No unknown key, and one that may be absent: a question kept from before it was a fact."""
    for schema, later in ((SCHEMA, {"controller"}), (SCHEMA["properties"]["consent"], set())):
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) == set(schema["properties"]) - later
