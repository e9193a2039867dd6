"""Assistants: complete in every language of their tenant, or refused with every fault."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import assistant, claims
from gateway.errors import SettingsError

SAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "assistant.toml"
DEMO = Path(assistant.__file__).parent / "demo" / "assistant.toml"
BUILT_IN = ("de", "en", "es", "fr", "it", "pt")

TEXT = """
[[intents]]
name = "order"
[intents.examples]
de = ["Wo ist mein Paket?"]
en = ["Where is my parcel?"]
[intents.replies]
de = "Sendung {number} kommt am {when}."
en = "Parcel {number} arrives in the {when}."
[intents.slots.number]
type = "digits"
prompts = { de = "Welche Nummer?", en = "Which number?" }
[intents.slots.when]
type = "choice"
prompts = { de = "Wann?", en = "When?" }
choices = { de = ["Vormittag", "Abend"], en = ["morning", "evening"] }
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes an assistant file."""

    def write(text: str) -> Path:
        path = tmp_path / "assistant.toml"
        path.write_text(text)
        return path

    return write


def faults(path: Path, *languages: str) -> list[str]:
    """Return what `load` says is wrong, without the file's name."""
    with pytest.raises(SettingsError) as caught:
        assistant.load(path, languages=languages or ("de", "en"))
    assert all(fault.startswith(f"{path}: ") for fault in caught.value.faults)
    return [fault.removeprefix(f"{path}: ") for fault in caught.value.faults]


def test_the_sample_is_a_working_assistant() -> None:
    """The sample in the documentation is what people start from."""
    loaded = assistant.load(SAMPLE, languages=["de", "en"])

    assert [intent.name for intent in loaded.intents] == [
        "opening_hours",
        "cancel_appointment",
        "book_appointment",
    ]
    assert loaded.intents[2].slots == {
        "time": {"de": "choice:Vormittag|Nachmittag", "en": "choice:morning|afternoon"},
        "people": {"de": "number", "en": "number"},
    }


@pytest.mark.parametrize("language", BUILT_IN)
def test_a_tenant_without_an_assistant_has_one(language: str) -> None:
    """A new tenant's first note must be answered, not met with a stack of faults."""
    loaded = assistant.load(None, languages=[language])

    for intent in loaded.intents:
        assert len(intent.examples[language]) >= 5
        assert loaded.reply(intent.name, language, {})


def test_the_built_in_assistant_says_which_language_it_lacks() -> None:
    """Answering in another language than the tenant promised would be found by a customer."""
    with pytest.raises(SettingsError, match=r"built-in assistant: .*the tenant speaks zh"):
        assistant.load(None, languages=["zh"])


def test_only_the_tenants_languages_are_kept(write: Write) -> None:
    """An example in a language that nobody speaks there can only be matched by mistake."""
    loaded = assistant.load(write(TEXT), languages=["en"])

    assert loaded.languages == ("en",)
    assert set(loaded.intents[0].examples) == {"en"}
    assert loaded.intents[0].slots["when"] == {"en": "choice:morning|evening"}


def test_replies_are_filled_with_slots(write: Write) -> None:
    """A slot's value is what the person said: it is put in as it is, once."""
    loaded = assistant.load(write(TEXT), languages=["de", "en"])

    said = loaded.reply("order", "en", {"number": "{when}", "when": "morning"})

    assert said == "Parcel {when} arrives in the morning."


def test_missing_slots_are_asked_for_in_order(write: Write) -> None:
    """Asking for two things at once gets an answer to neither."""
    loaded = assistant.load(write(TEXT), languages=["de", "en"])

    assert loaded.missing("order", {}) == "number"
    assert loaded.missing("order", {"number": "", "when": "Abend"}) == "number"
    assert loaded.missing("order", {"number": "7"}) == "when"
    assert loaded.missing("order", {"number": "7", "when": "Abend"}) is None
    assert loaded.prompt("order", "when", "de") == "Wann?"


def test_another_language_gets_the_tenants_first(write: Write) -> None:
    """Speech recognition may name a language that the tenant does not speak."""
    loaded = assistant.load(write(TEXT), languages=["de", "en"])

    assert loaded.prompt("order", "number", "nl") == "Welche Nummer?"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('de = ["Wo ist mein Paket?"]\n', "", "intents[0].examples.de: is missing"),
        ('["Wo ist mein Paket?"]', "[]", "intents[0].examples.de: "),
        ('["Wo ist mein Paket?"]', '[" "]', "intents[0].examples.de[0]: must be 1-200"),
        (
            'en = "Parcel {number} arrives in the {when}."\n',
            "",
            "intents[0].replies.en: is missing",
        ),
        ("Parcel {number}", "Parcel {parcel}", "intents[0].replies.en: {parcel} is not a slot"),
        ("Parcel {number}", "Parcel {number!r}", "intents[0].replies.en: has a brace"),
        ("Parcel {number}", "Parcel {0}", "intents[0].replies.en: has a brace"),
        ("Parcel {number}", "Parcel }", "intents[0].replies.en: has a brace"),
        ('type = "digits"', 'type = "date"', "intents[0].slots.number.type: must be"),
        ('type = "digits"', 'type = "choice"', "intents[0].slots.number.choices.de: is missing"),
        ('type = "choice"', 'type = "number"', "intents[0].slots.when.choices: are for type"),
        ('de = "Wann?", ', "", "intents[0].slots.when.prompts.de: is missing"),
        ('"Vormittag", "Abend"', '"Abend"', "intents[0].slots.when.choices.de: "),
        ('"Vormittag"', '"vor|mittag"', "intents[0].slots.when.choices.de[0]: must be words"),
        ('name = "order"', 'name = "Order"', "intents[0].name: must be 1-32"),
        (
            'name = "order"',
            'nam = "order"',
            "intents[0].nam: is not a setting (did you mean name?)",
        ),
        ('type = "digits"', 'type = "digits"\nkind = 1', "intents[0].slots.number.kind: is not"),
        ("[[intents]]", "[thresholds]\ntranscript = 1.5\n[[intents]]", "thresholds.transcript: "),
    ],
)
def test_each_fault_is_named_with_its_path(write: Write, old: str, new: str, fault: str) -> None:
    """What is wrong in one language is noticed at start, or by a customer."""
    assert old in TEXT

    found = faults(write(TEXT.replace(old, new, 1)))

    assert any(told.startswith(fault) for told in found), found


def test_all_faults_are_reported_at_once(write: Write) -> None:
    """Translators work through a list; they do not restart servers."""
    path = write(TEXT + TEXT)

    found = faults(path, "de", "es")

    assert "intents[1].name: is an earlier intent's too (rename one)" in found
    for index in (0, 1):
        for place in ("examples", "replies", "slots.number.prompts", "slots.when.choices"):
            assert f"intents[{index}].{place}.es: is missing (the tenant speaks es)" in found


def test_one_example_means_one_intent(write: Write) -> None:
    """Two intents with the same sentence would be told apart by chance."""
    path = write(TEXT + TEXT.replace('name = "order"', 'name = "parcel"'))

    found = faults(path)

    assert found == [
        f"intents[1].examples.{tag}: one is order's too (it can mean one intent)"
        for tag in ("de", "en")
    ]


@pytest.mark.parametrize("content", [b"[[intents", b"\xff"])
def test_a_file_that_is_not_toml_is_one_fault(write: Write, content: bytes) -> None:
    """A typing mistake must read as one."""
    path = write("")
    path.write_bytes(content)

    assert [fault.startswith("is not") for fault in faults(path)] == [True]


CLAIMS = {
    "de": "Ich habe Ihren Termin storniert.",
    "en": "I've noted that you want to cancel.",
    "es": "He anotado que quiere cancelar.",
    "fr": "J'ai bien noté votre demande.",
    "it": "Ho annotato la sua richiesta.",
    "pt": "Anotei que você quer cancelar.",
}
HONEST = {
    "de": "Wir haben montags geöffnet.",
    "en": "We are here from Monday to Friday.",
    "es": "Abrimos de lunes a viernes.",
    "fr": "Nous sommes ouverts du lundi au vendredi.",
    "it": "Siamo aperti dal lunedì al venerdì.",
    "pt": "Abrimos de segunda a sexta.",
}


def saying(replies: dict[str, str], **changed: bool) -> assistant.AssistantFile:
    """Return the file of an assistant that says *replies*."""
    examples = dict.fromkeys(replies, ("x",))
    intent = {"name": "wish", "examples": examples, "replies": replies} | changed
    return assistant.AssistantFile.model_validate({"intents": (intent,)})


@pytest.mark.parametrize("tag", BUILT_IN)
def test_a_reply_that_says_something_was_done_is_found(tag: str) -> None:
    """Who reads "I noted it" relies on it, and nobody noted anything."""
    assert [*claims.unfounded(saying({tag: CLAIMS[tag]}))] == [f"intents[0].replies.{tag}"]
    assert not [*claims.unfounded(saying({tag: HONEST[tag]}))]
    assert not [*claims.unfounded(saying({tag: CLAIMS[tag]}, hand_over=True))]


@pytest.mark.parametrize("path", [None, SAMPLE, DEMO], ids=["built-in", "sample", "demo"])
def test_what_we_ship_claims_only_what_happens(path: Path | None) -> None:
    """People start from these."""
    assert not [*claims.unfounded(assistant.read(path))]


def test_the_sample_tells_a_human_of_what_it_says_it_told_them() -> None:
    """Its replies say "our team": each such wish is among the handovers."""
    loaded = assistant.load(SAMPLE, languages=["de", "en"])

    assert loaded.handed == {"cancel_appointment", "book_appointment"}
    for name, replies in loaded.replies.items():
        assert ("our team" in replies["en"]) == (name in loaded.handed), name
