"""One contract for every `Understander`."""

import asyncio
import tomllib
from collections.abc import Callable, Iterator
from datetime import date

import pytest
from support.speech import CORPUS, a_processor, switchboard

from residency import registry
from residency.model import Service, Understanding
from residency.ports import Understander
from residency.processors.intents import NearestExample
from residency.processors.scripted import ScriptedUnderstander

INTENTS = switchboard()
FORWARD = Understanding(intent="vehicle.forward", confidence=0.9, slots={"metres": "10"})


def _build(name: str) -> Understander:
    if name == "scripted":
        row = a_processor(Service.UNDERSTANDING, "scripted")
        return ScriptedUnderstander(row, [FORWARD], delay_s=0.01)
    row = registry.load(today=date(2026, 11, 23)).get("nlu.local.eu-central")
    return NearestExample(row, meaning=name == "meaning")


MEANING = pytest.param("meaning", marks=pytest.mark.engine)


@pytest.fixture(scope="module")
def built() -> Iterator[Callable[[str], Understander]]:
    """Yield a builder that makes each adapter once: a model learns its examples in seconds."""
    adapters: dict[str, Understander] = {}
    yield lambda name: adapters.setdefault(name, adapters.get(name) or _build(name))
    for adapter in adapters.values():
        asyncio.run(adapter.aclose())


@pytest.fixture(params=["scripted", "words", MEANING])
def any_(request: pytest.FixtureRequest, built: Callable[[str], Understander]) -> Understander:
    """Return each adapter."""
    return built(request.param)


@pytest.fixture(params=["words", MEANING])
def real(request: pytest.FixtureRequest, built: Callable[[str], Understander]) -> Understander:
    """Return each adapter that understands by itself."""
    return built(request.param)


@pytest.fixture
def meaning(built: Callable[[str], Understander]) -> Understander:
    """Return the adapter with the sentence model."""
    return built("meaning")


@pytest.mark.anyio
async def test_a_wish_has_an_intent_and_its_slots(any_: Understander) -> None:
    """The answer depends on both: where to go, and how far."""
    found = await any_.understand("Move forward 10 meters.", language="en", intents=INTENTS)

    assert found.intent == "vehicle.forward"
    assert found.slots == {"metres": "10"}
    assert 0.6 <= found.confidence <= 1.0


@pytest.mark.anyio
async def test_after_a_deadline_the_next_call_works(any_: Understander) -> None:
    """A deadline must cost one answer, never the engine."""
    late = asyncio.ensure_future(any_.understand("Move forward", language="en", intents=INTENTS))
    await asyncio.sleep(0)
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)
    found = await any_.understand("Move forward", language="en", intents=INTENTS)

    assert found.intent == "vehicle.forward"


@pytest.mark.anyio
@pytest.mark.parametrize("text", ["", "   ", "tell me a joke about penguins"])
async def test_what_nobody_offers_has_no_intent(real: Understander, text: str) -> None:
    """A guess would be carried out; None becomes a question to the person."""
    found = await real.understand(text, language="en", intents=INTENTS)

    assert found.intent is None
    assert found.slots == {}


@pytest.mark.anyio
async def test_no_intents_no_answer(real: Understander) -> None:
    """A tenant without an assistant still gets an answer of the right shape."""
    found = await real.understand("Move forward", language="en", intents=())

    assert (found.intent, found.confidence) == (None, 0.0)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("text", "number"),
    [("8, 3, 6, 5, 4, 6, 1, 0, 7, 3.", "8365461073"), ("<PHONE_1>", "<PHONE_1>")],
)
async def test_a_bare_value_continues_the_expected_intent(
    real: Understander, text: str, number: str
) -> None:
    """A second note says only the number that the first one left out, redacted or not."""
    found = await real.understand(text, language="it", intents=INTENTS, expected="block.add")

    assert found.intent == "block.add"
    assert found.slots == {"number": number}


@pytest.mark.anyio
@pytest.mark.parametrize("text", ["8 3 6 5 4 6 1", "three", "twenty"])
async def test_a_bare_value_out_of_the_blue_has_no_intent(real: Understander, text: str) -> None:
    """A number alone asks for nothing, though it stands in examples of cards and metres."""
    found = await real.understand(text, language="en", intents=INTENTS)

    assert found.intent is None


@pytest.mark.anyio
async def test_a_new_wish_is_not_taken_for_a_missing_slot(real: Understander) -> None:
    """People change their minds: "move forward 10 metres" is no number to block."""
    found = await real.understand(
        "Move forward 10 meters", language="en", intents=INTENTS, expected="block.add"
    )

    assert found.intent == "vehicle.forward"


@pytest.mark.engine
@pytest.mark.anyio
async def test_meaning_goes_beyond_words(meaning: Understander) -> None:
    """People do not speak in examples; by its words alone this one is not clear."""
    text = "get rid of that voicemail"

    found = await meaning.understand(text, language="en", intents=INTENTS)
    by_words = await _build("words").understand(text, language="en", intents=INTENTS)

    assert (found.intent, by_words.intent) == ("message.delete", None)


@pytest.mark.engine
@pytest.mark.anyio
async def test_the_published_accuracy_holds(meaning: Understander) -> None:
    """The docstring's figures are a promise: a lesser model or weight must not slip in."""
    assert isinstance(meaning, NearestExample)
    await meaning.warm(INTENTS)
    told = tomllib.loads((CORPUS / "utterances.toml").read_text(encoding="utf-8"))
    said = [(tag, wish, text) for _, tag, wish, text in told["heard"]]
    said += [(tag, wish, text) for tag, wish, text in told["written"]]

    named = []
    for tag, wish, text in said:
        found = await meaning.understand(text, language=tag, intents=INTENTS)
        named += [(found.intent, wish)] if found.intent else []
    right = sum(intent == wish for intent, wish in named)

    assert right / len(named) > 0.9
    assert right / sum(bool(wish) for _, wish, _ in said) > 0.7
    assert all(wish for _, wish in named)
