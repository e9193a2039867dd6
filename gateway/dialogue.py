"""
The next step of a conversation: one turn and what is remembered in, one reply out. Pure.

- Only an intent understood at or above the tenant's threshold is answered, or one that the
  person confirmed with a plain yes. Below it, never.
- A missing slot is asked for with the tenant's question, one at a time. The next note fills it:
  slots of the same intent are merged, a later value replaces an earlier one. Another intent
  understood with confidence takes over, and starts without slots.
- While a slot is missing, what is not understood asks for that slot again. Else a guess not far
  below the threshold asks "did you mean", by the tenant's own first example; anything less asks
  for other words. Every reply holds at most one question of ours.
- Words heard unclearly: say it again. No speech: record again. Not heard at all: please type.
- A failure is trouble, a turn not understood, a no to "did you mean", or a slot asked for in
  vain. An understood turn sets the count to zero; the third failure in a row goes to a human.
- Who asks for a human gets one at once. From then on a short line confirms each message, and
  nothing is answered until the conversation is given back (`gateway.session`).
- Who says (not types) that they withdraw, or want to be erased, is told how, with a button that
  does it, in human hands too: that is not for this page to carry out, and it must not be lost.
- A redaction placeholder is never read out: "the number you gave".
- Answers and questions are spoken too, if the turn was spoken and became words. What went wrong,
  and a handover, is told in text.
- The language is that of the words, if the tenant speaks it; else the last one; else the
  tenant's first.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import replace as changed
from enum import StrEnum

from msgspec.structs import replace

from gateway import buttons, orders, phrases, session
from gateway.assistant import Assistant
from gateway.buttons import Button
from gateway.orders import Command
from gateway.session import Asked, Memory
from residency.model import Understanding

FAILURES = 3  # in a row, then a human
GUESS = 0.5  # share of the threshold from which a guess is worth a question
TEXT_LIMIT = 4_096  # characters of a WhatsApp text
VALUE_LIMIT = 200  # characters; what is longer is no value of a slot

TOLD_HOW = {
    Command.ERASE: ("erase_how", buttons.ERASE),
    Command.MAYBE_ERASE: ("erase_how", buttons.ERASE),
    Command.MAYBE_WITHDRAW: ("withdraw_how", buttons.WITHDRAW),
    Command.WITHDRAW: ("withdraw_how", buttons.WITHDRAW),
}
"""What is told of what somebody said and did not type, and the button that does it."""

_PLACEHOLDER = re.compile(r"<([A-Z][A-Z_]*)_[0-9]+>")
_NUMBERS = frozenset({"CARD", "NATIONAL_ID", "PHONE"})


class Act(StrEnum):
    """What a reply does; kept sorted."""

    ANSWER = "answer"
    CLARIFY = "clarify"
    HAND_OVER = "hand_over"
    RECOVER = "recover"


class Trouble(StrEnum):
    """Why a turn has no words to act upon; kept sorted."""

    DAMAGED = "damaged"  # cut, or not what it says
    EMPTY = "empty"  # no sound in it at all
    FORMAT = "format"  # a kind of file that is not opened here
    GONE = "gone"  # WhatsApp has it no more
    HEAVY = "heavy"  # it took more memory or time to open than one recording may
    SILENT = "silent"  # no speech in it
    TOO_LARGE = "too_large"
    TOO_LONG = "too_long"
    UNCLEAR = "unclear"  # a transcript of low confidence
    UNFETCHED = "unfetched"  # what WhatsApp handed over was not the recording it announced
    UNHEARD = "unheard"  # speech-to-text failed


_TROUBLES = {
    Trouble.DAMAGED: (Act.RECOVER, "audio_damaged"),
    Trouble.EMPTY: (Act.RECOVER, "audio_empty"),
    Trouble.FORMAT: (Act.RECOVER, "audio_format"),
    Trouble.GONE: (Act.RECOVER, "audio_gone"),
    Trouble.HEAVY: (Act.RECOVER, "audio_heavy"),
    Trouble.SILENT: (Act.RECOVER, "nothing_heard"),
    Trouble.TOO_LARGE: (Act.RECOVER, "audio_too_large"),
    Trouble.TOO_LONG: (Act.RECOVER, "audio_too_long"),
    Trouble.UNCLEAR: (Act.CLARIFY, "not_clear"),
    Trouble.UNFETCHED: (Act.RECOVER, "audio_unfetched"),
    Trouble.UNHEARD: (Act.RECOVER, "please_type"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """
    One note or message as far as we got with it.

    *text* is redacted, None if there are no words. *spoken* tells a voice note from a typed
    message. *language* is a BCP 47 primary tag, *at* epoch seconds.
    """

    text: str | None = field(repr=False)
    language: str
    at: int
    understanding: Understanding | None = None
    trouble: Trouble | None = None
    spoken: bool = True

    def understood(self, found: Understanding) -> "Turn":
        """Return this turn with what was *found* in its words."""
        return changed(self, understanding=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What to say (*speak*: also aloud), and the memory to keep once it is committed."""

    act: Act
    text: str = field(repr=False)
    language: str
    speak: bool
    memory: Memory
    intent: str | None = None
    buttons: tuple[Button, ...] = ()


@dataclass(frozen=True, slots=True)
class _Said:
    text: str
    language: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """One step's inputs, and the one place where a reply is made."""

    turn: Turn
    memory: Memory
    assistant: Assistant

    @property
    def language(self) -> str:
        heard, last = self.turn.language, self.memory.language
        wanted = (heard, last) if self.turn.text is not None else (last, heard)
        spoken = self.assistant.languages
        return next((tag for tag in wanted if tag in spoken), spoken[0])

    def ours(self, key: str, **fields: str) -> _Said:
        """Return a built-in phrase, in the nearest language that we have it in."""
        first = self.assistant.languages[0]
        text = phrases.say(key, self.language, fallback=first, **fields)
        return _Said(text, phrases.spoken(self.language, first))

    def reply(self, act: Act, said: _Said, memory: Memory, intent: str | None = None) -> Reply:
        text = said.text if len(said.text) <= TEXT_LIMIT else said.text[: TEXT_LIMIT - 1] + "…"
        after = session.exchanged(memory, self.turn.at, self.turn.text or "", text)
        heard = self.turn.spoken and self.turn.text is not None
        return Reply(
            act=act,
            text=text,
            language=said.language,
            speak=heard and act in {Act.ANSWER, Act.CLARIFY},
            memory=replace(after, language=self.language),
            intent=intent,
        )


def step(turn: Turn, memory: Memory, assistant: Assistant) -> Reply:
    """Return the reply to *turn*: the same for the same arguments, and one for any of them."""
    scene = _Scene(turn=turn, memory=session.fresh(memory, turn.at), assistant=assistant)
    order = orders.command(turn.text or "", assistant.languages)
    if order in TOLD_HOW:
        return _told_how(scene, *TOLD_HOW[order])
    if scene.memory.handed_over:
        return scene.reply(Act.RECOVER, scene.ours("with_human"), scene.memory)
    if order is Command.HUMAN:
        return _hand_over(scene, scene.memory.failures)
    if turn.trouble:
        act, key = _TROUBLES[turn.trouble]
        return _fail(scene, act, scene.ours(key), replace(scene.memory, asked=Asked.AGAIN))
    if order and (guess := _known(scene.memory.guess, assistant)):
        return _act_on(scene, guess, {}) if order is Command.GRANT else _puzzled(scene)
    return _respond(scene)


def _told_how(scene: _Scene, key: str, ident: str) -> Reply:
    """Tell how to do what was said aloud, with a button that does it."""
    said = scene.ours(key)
    return changed(
        scene.reply(Act.RECOVER, said, scene.memory), buttons=(_pressed(ident, said.language),)
    )


def _pressed(ident: str, language: str) -> Button:
    shown, title = buttons.button(ident, language)
    return (buttons.confirming(language) if ident == buttons.ERASE else shown), title


def _respond(scene: _Scene) -> Reply:
    found = scene.turn.understanding or Understanding(intent=None, confidence=0.0, slots={})
    intent = _known(found.intent, scene.assistant)
    enough = scene.assistant.thresholds.understanding
    if intent and found.confidence >= enough:
        return _act_on(scene, intent, found.slots)
    if question := _open_question(scene):
        return _fail(scene, Act.CLARIFY, question, replace(scene.memory, asked=Asked.DETAIL))
    if intent and found.confidence >= enough * GUESS:
        return _guess(scene, intent, found.slots)
    return _puzzled(scene)


def _act_on(scene: _Scene, intent: str, slots: Mapping[str, str]) -> Reply:
    memory, assistant = scene.memory, scene.assistant
    before = _clean(memory.slots) if intent in {memory.pending, memory.guess} else {}
    merged = before | _clean(slots)
    if slot := assistant.missing(intent, merged):
        said = _Said(assistant.prompt(intent, slot, scene.language), scene.language)
        after = _asking(memory, Asked.DETAIL, pending=intent, slots=merged)
        if intent == memory.pending and merged == before:
            return _fail(scene, Act.CLARIFY, said, after)
        return scene.reply(Act.CLARIFY, said, replace(after, failures=0), intent)
    shown = {name: _shown(value, scene) for name, value in merged.items()}
    said = _Said(assistant.reply(intent, scene.language, shown), scene.language)
    return scene.reply(Act.ANSWER, said, replace(_asking(memory, None), failures=0), intent)


def _guess(scene: _Scene, intent: str, slots: Mapping[str, str]) -> Reply:
    known = next(known for known in scene.assistant.intents if known.name == intent)
    texts = known.examples.get(scene.language) or next(iter(known.examples.values()))
    said = scene.ours("confirm", example=texts[0].strip("¿?!¡. "))
    after = _asking(scene.memory, Asked.CONFIRM, guess=intent, slots=_clean(slots))
    return _fail(scene, Act.CLARIFY, said, after)


def _puzzled(scene: _Scene) -> Reply:
    after = _asking(scene.memory, Asked.AGAIN)
    return _fail(scene, Act.RECOVER, scene.ours("not_understood"), after)


def _asking(
    memory: Memory,
    asked: Asked | None,
    *,
    pending: str | None = None,
    guess: str | None = None,
    slots: Mapping[str, str] | None = None,
) -> Memory:
    return replace(memory, asked=asked, pending=pending, guess=guess, slots=dict(slots or {}))


def _fail(scene: _Scene, act: Act, said: _Said, after: Memory) -> Reply:
    count = scene.memory.failures + 1
    if count >= FAILURES:
        return _hand_over(scene, count)
    return scene.reply(act, said, replace(after, failures=count))


def _hand_over(scene: _Scene, failures: int) -> Reply:
    after = session.handed_over(replace(scene.memory, failures=failures), scene.turn.at)
    return scene.reply(Act.HAND_OVER, scene.ours("handover"), after)


def _open_question(scene: _Scene) -> _Said | None:
    pending = _known(scene.memory.pending, scene.assistant)
    slot = pending and scene.assistant.missing(pending, _clean(scene.memory.slots))
    if not pending or not slot:
        return None
    return _Said(scene.assistant.prompt(pending, slot, scene.language), scene.language)


def _known(intent: str | None, assistant: Assistant) -> str | None:
    """Return *intent* if the assistant has it: settings change, and vendors name what they like."""
    return next((known.name for known in assistant.intents if known.name == intent), None)


def _clean(slots: Mapping[str, str]) -> dict[str, str]:
    stripped = {name: value.strip() for name, value in slots.items()}
    return {name: value for name, value in stripped.items() if 0 < len(value) <= VALUE_LIMIT}


def _shown(value: str, scene: _Scene) -> str:
    return _PLACEHOLDER.sub(lambda found: scene.ours(_given(found[1])).text, value)


def _given(kind: str) -> str:
    if kind in _NUMBERS:
        return "given_number"
    return "given_address" if "ADDRESS" in kind else "given_detail"
