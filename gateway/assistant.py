"""
What a tenant's assistant can be asked, and what it answers: ``assistant.toml``.

- Every intent has examples and a reply in each of the tenant's languages; every slot has a
  question for when it is missing. What one language lacks is a fault at start, not a silence.
- A reply answers. What it says was done must have been done: an intent with ``hand_over = true``
  opens a handover with each answer, so that a human acts on it; the dialogue goes on.
- A reply may hold ``{slot}`` for slots of its own intent, and no other braces.
- Every fault is reported at once, as ``path: fault (fix)``.

What the law has a say in (consent, stop, erasure, a human) is not written here.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictFloat, StrictStr, ValidationError

from gateway.errors import SettingsError
from gateway.faults import faults_of
from gateway.sections import Language, Section
from residency.model import Intent

REPLY_LIMIT = 1024  # characters: WhatsApp takes 4,096, a listener far less
EXAMPLE_LIMIT = 200
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_SLOT = re.compile(r"\{([a-z][a-z0-9_]{0,31})\}")


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("must be 1-32 of a-z 0-9 _, a letter first")
    return value


def _line(limit: int) -> AfterValidator:
    def check(value: str) -> str:
        if not value.strip() or len(value) > limit:
            raise ValueError(f"must be 1-{limit} characters")
        return value.strip()

    return AfterValidator(check)


def _option(value: str) -> str:
    if not value.strip() or "|" in value:
        raise ValueError("must be words, without |")
    return value.strip()


Name = Annotated[StrictStr, AfterValidator(_name)]
Says = Annotated[StrictStr, _line(REPLY_LIMIT)]
Example = Annotated[StrictStr, _line(EXAMPLE_LIMIT)]
Option = Annotated[StrictStr, AfterValidator(_option)]
Share = Annotated[StrictFloat, Field(ge=0.0, le=1.0)]


class Thresholds(Section):
    """Confidences below which the assistant asks again, each in [0, 1]."""

    transcript: Share = 0.45
    understanding: Share = 0.6


class SlotTable(Section):
    """One thing an intent needs to know, and the question for it."""

    type: Literal["choice", "digits", "number"]
    prompts: dict[Language, Says]
    choices: dict[Language, Annotated[tuple[Option, ...], Field(min_length=2)]] = Field(
        default_factory=dict
    )


class IntentTable(Section):
    """One thing people ask for."""

    name: Name
    examples: dict[Language, Annotated[tuple[Example, ...], Field(min_length=1)]]
    replies: dict[Language, Says]
    slots: dict[Name, SlotTable] = Field(default_factory=dict)
    hand_over: bool = False  # a human of the tenant's is told of each, and acts on it


class AssistantFile(Section):
    """The whole file."""

    thresholds: Thresholds = Thresholds()
    intents: Annotated[tuple[IntentTable, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assistant:
    """
    One tenant's assistant, in the tenant's *languages* only.

    *replies*: intent -> language -> template. *prompts*: (intent, slot) -> language -> question.
    *handed*: the intents of which a human is told.
    """

    languages: tuple[str, ...]
    intents: tuple[Intent, ...]
    replies: Mapping[str, Mapping[str, str]]
    prompts: Mapping[tuple[str, str], Mapping[str, str]]
    thresholds: Thresholds
    handed: frozenset[str] = frozenset()

    def missing(self, intent: str, slots: Mapping[str, str]) -> str | None:
        """Return the first slot of *intent* that *slots* does not fill, or None."""
        names = next(known.slots for known in self.intents if known.name == intent)
        return next((name for name in names if not slots.get(name)), None)

    def prompt(self, intent: str, slot: str, language: str) -> str:
        """Return the question for *slot*, in *language* or the tenant's first."""
        return self._in(language, self.prompts[intent, slot])

    def reply(self, intent: str, language: str, slots: Mapping[str, str]) -> str:
        """Return the answer to *intent* with *slots* filled in (`KeyError`: one is missing)."""
        template = self._in(language, self.replies[intent])
        return _SLOT.sub(lambda found: slots[found[1]], template)

    def _in(self, language: str, said: Mapping[str, str]) -> str:
        return said.get(language) or said[self.languages[0]]


def load(path: Path | None, *, languages: Sequence[str]) -> Assistant:
    """
    Read the assistant at *path* (None: the one that ships with us) for a tenant's *languages*.

    Raises:
        SettingsError: with every fault of the file, or every language that it lacks.

    """
    where = str(path) if path else "the built-in assistant"
    file = read(path)
    if faults := [f"{where}: {fault}" for fault in _faults(file, languages)]:
        raise SettingsError(faults)
    return _assistant(file, tuple(languages))


def read(path: Path | None) -> AssistantFile:
    """Return the file at *path*, or the one that ships with us; raises `SettingsError`."""
    where = str(path) if path else "the built-in assistant"
    text = path.read_bytes() if path else _built_in()
    try:
        return AssistantFile.model_validate(tomllib.loads(text.decode()))
    except UnicodeDecodeError:
        raise SettingsError([f"{where}: is not UTF-8 (TOML is)"]) from None
    except tomllib.TOMLDecodeError as exc:
        raise SettingsError([f"{where}: is not TOML: {exc}"]) from None
    except ValidationError as exc:
        found = faults_of(exc, AssistantFile)
        raise SettingsError([f"{where}: {fault}" for fault in found]) from None


def _built_in() -> bytes:
    return resources.files("gateway").joinpath("assistant.toml").read_bytes()


def _faults(file: AssistantFile, languages: Sequence[str]) -> Iterator[str]:
    owner: dict[tuple[str, str], str] = {}
    for index, intent in enumerate(file.intents):
        at = f"intents[{index}]"
        if intent.name in {other.name for other in file.intents[:index]}:
            yield f"{at}.name: is an earlier intent's too (rename one)"
        yield from _intent_faults(intent, at, languages)
        for key in ((tag, e.casefold()) for tag, all_ in intent.examples.items() for e in all_):
            if owner.setdefault(key, intent.name) != intent.name:
                yield f"{at}.examples.{key[0]}: one is {owner[key]}'s too (it can mean one intent)"


def _intent_faults(intent: IntentTable, at: str, languages: Sequence[str]) -> Iterator[str]:
    for tag in languages:
        if tag not in intent.examples:
            yield f"{at}.examples.{tag}: is missing (the tenant speaks {tag})"
        if tag not in intent.replies:
            yield f"{at}.replies.{tag}: is missing (the tenant speaks {tag})"
    for tag, template in intent.replies.items():
        yield from (f"{at}.replies.{tag}: {fault}" for fault in _template_faults(template, intent))
    for name, slot in intent.slots.items():
        yield from _slot_faults(slot, f"{at}.slots.{name}", languages)


def _template_faults(template: str, intent: IntentTable) -> Iterator[str]:
    unknown = sorted(set(_SLOT.findall(template)) - set(intent.slots))
    yield from (f"{{{name}}} is not a slot of this intent (add the slot)" for name in unknown)
    if set("{}") & set(_SLOT.sub("", template)):
        yield "has a brace that is not a {slot} (remove it)"


def _slot_faults(slot: SlotTable, at: str, languages: Sequence[str]) -> Iterator[str]:
    for tag in languages:
        if tag not in slot.prompts:
            yield f"{at}.prompts.{tag}: is missing (the tenant speaks {tag})"
        if slot.type == "choice" and tag not in slot.choices:
            yield f"{at}.choices.{tag}: is missing (the tenant speaks {tag})"
    if slot.choices and slot.type != "choice":
        yield f'{at}.choices: are for type "choice" (change the type, or remove them)'


def _assistant(file: AssistantFile, languages: tuple[str, ...]) -> Assistant:
    return Assistant(
        languages=languages,
        intents=tuple(_intent(intent, languages) for intent in file.intents),
        replies={i.name: {tag: i.replies[tag] for tag in languages} for i in file.intents},
        prompts={
            (intent.name, name): {tag: slot.prompts[tag] for tag in languages}
            for intent in file.intents
            for name, slot in intent.slots.items()
        },
        thresholds=file.thresholds,
        handed=frozenset(intent.name for intent in file.intents if intent.hand_over),
    )


def _intent(intent: IntentTable, languages: tuple[str, ...]) -> Intent:
    return Intent(
        name=intent.name,
        examples={tag: intent.examples[tag] for tag in languages},
        slots={name: _types(slot, languages) for name, slot in intent.slots.items()},
    )


def _types(slot: SlotTable, languages: tuple[str, ...]) -> dict[str, str]:
    """Return a slot's type per language, in the words of `residency.model.Intent`."""
    if slot.type == "choice":
        return {tag: f"choice:{'|'.join(slot.choices[tag])}" for tag in languages}
    return dict.fromkeys(languages, slot.type)
