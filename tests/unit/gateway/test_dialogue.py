"""Dialogue: one turn and a memory in, one reply out, and never a confident wrong answer."""

from dataclasses import replace as changed

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway import dialogue, orders, phrases, session
from gateway.assistant import Assistant, Thresholds
from gateway.dialogue import FAILURES, GUESS, TEXT_LIMIT, Act, Reply, Trouble, Turn
from gateway.orders import Command
from gateway.session import HUMAN_S, IDLE_S, Asked, Exchange, Memory
from residency.model import Intent, Understanding

AT = 1_767_225_600
ENOUGH = 0.6
FRESH = Memory(language="en", last_at=AT)

ASSISTANT = Assistant(
    languages=("de", "en"),
    intents=(
        Intent(
            name="order_status",
            examples={"de": ("Wo ist meine Bestellung?",), "en": ("Where is my order?",)},
            slots={"order": {"*": "digits"}},
        ),
        Intent(
            name="callback",
            examples={"de": ("Bitte rufen Sie mich an",), "en": ("Please call me back",)},
            slots={"phone": {"*": "digits"}, "day": {"*": "choice:monday|friday"}},
        ),
        Intent(
            name="hours",
            examples={"de": ("Wann haben Sie auf?",), "en": ("When are you open?",)},
            slots={},
        ),
    ),
    replies={
        "order_status": {"de": "Bestellung {order} ist da.", "en": "Order {order} is here."},
        "callback": {
            "de": "Wir rufen {phone} am {day} an.",
            "en": "We call {phone} on {day}.",
        },
        "hours": {"de": "Von 9 bis 17 Uhr.", "en": "From 9 to 5."},
    },
    prompts={
        ("order_status", "order"): {"de": "Welche Bestellung?", "en": "Which order?"},
        ("callback", "phone"): {"de": "Welche Nummer?", "en": "Which number?"},
        ("callback", "day"): {"de": "An welchem Tag?", "en": "On which day?"},
    },
    thresholds=Thresholds(transcript=0.45, understanding=ENOUGH),
)


def said(
    text: str | None = "some words",
    intent: str | None = None,
    confidence: float = 0.9,
    *,
    language: str = "en",
    trouble: Trouble | None = None,
    at: int = AT + 8,
    **slots: str,
) -> Turn:
    """Return a turn of these words, understood as *intent* with *slots*."""
    found = Understanding(intent=intent, confidence=confidence, slots=slots)
    turn = Turn(text=text, language=language, at=at, trouble=trouble)
    return turn if trouble or text is None else turn.understood(found)


def step(turn: Turn, memory: Memory = FRESH) -> Reply:
    """Return the reply of `ASSISTANT`."""
    return dialogue.step(turn, memory, ASSISTANT)


# What a person asks for


def test_a_complete_request_is_answered() -> None:
    """The main job: understood with confidence and complete, it gets the tenant's answer."""
    reply = step(said("where is order 4471", "order_status", order="4471"))

    assert (reply.act, reply.text) == (Act.ANSWER, "Order 4471 is here.")
    assert (reply.intent, reply.language, reply.speak) == ("order_status", "en", True)
    assert reply.memory.turns[-1] == Exchange("where is order 4471", "Order 4471 is here.")


def test_a_second_note_completes_the_first() -> None:
    """People speak in pieces: the number eight seconds later belongs to the same request."""
    first = step(said("where is my order", "order_status"))
    second = step(said("4471", "order_status", 1.0, order="4471", at=AT + 16), first.memory)

    assert (first.act, first.text) == (Act.CLARIFY, "Which order?")
    assert (first.memory.pending, first.memory.asked) == ("order_status", Asked.DETAIL)
    assert (second.act, second.text) == (Act.ANSWER, "Order 4471 is here.")
    assert (second.memory.pending, second.memory.slots) == (None, {})


def test_slots_of_several_notes_are_merged() -> None:
    """Nobody should have to say the number again because the day was missing."""
    first = step(said("call me back on friday", "callback", day="friday"))
    second = step(said("1-2-3", "callback", phone="123"), first.memory)

    assert first.text == "Which number?"
    assert second.text == "We call 123 on friday."


def test_a_later_value_corrects_an_earlier_one() -> None:
    """Who says "no, friday" means friday: the last word counts."""
    first = step(said("call me back on monday", "callback", day="monday"))
    second = step(said("123, no, friday", "callback", phone="123", day="friday"), first.memory)

    assert second.text == "We call 123 on friday."


def test_a_blank_value_does_not_erase_an_earlier_one() -> None:
    """A processor that finds nothing may say so with an empty value."""
    first = step(said("call me back, 123", "callback", phone="123"))
    second = step(said("on friday", "callback", phone=" ", day="friday"), first.memory)

    assert second.text == "We call 123 on friday."


def test_another_request_takes_over_without_the_slots_of_the_first() -> None:
    """A value given for one thing must not turn up in the answer to another."""
    first = step(said("call me back, 123", "callback", phone="123"))
    second = step(said("where is my order", "order_status"), first.memory)

    assert first.text == "On which day?"
    assert second.text == "Which order?"
    assert (second.memory.pending, second.memory.slots) == ("order_status", {})


def test_a_request_after_a_long_pause_starts_anew() -> None:
    """Half an hour later a number is not the answer to a forgotten question."""
    first = step(said("where is my order", "order_status"))
    second = step(said("4471", None, 0.0, at=AT + 8 + IDLE_S), first.memory)

    assert second.act is Act.RECOVER
    assert second.memory.pending is None


@pytest.mark.parametrize("value", ["", "   ", "9" * 201])
def test_a_blank_or_endless_value_fills_no_slot(value: str) -> None:
    """An answer about order "" would be a confident wrong answer."""
    assert step(said("order", "order_status", order=value)).text == "Which order?"


@pytest.mark.parametrize(
    ("value", "language", "text"),
    [
        ("<PHONE_1>", "en", "Order the number you gave is here."),
        ("<NATIONAL_ID_12>", "en", "Order the number you gave is here."),
        ("<ADDRESS_1>", "en", "Order the address you gave is here."),
        ("<HEALTH_1>", "en", "Order the details you gave is here."),
        ("to <CARD_1>", "de", "Bestellung to die angegebene Nummer ist da."),
    ],
)
def test_a_placeholder_is_never_read_out(value: str, language: str, text: str) -> None:
    """What was redacted is not ours to repeat, and "less than phone one" is no answer."""
    turn = said("x", "order_status", language=language, order=value)

    assert step(turn).text == text


def test_a_value_is_no_template() -> None:
    """What a person says must not be filled in once more."""
    reply = step(said("x", "order_status", order="{phone} {0}"))

    assert reply.text == "Order {phone} {0} is here."


# What is not certain


def test_below_the_threshold_a_guess_is_a_question() -> None:
    """A wrong answer given with confidence is worse than one short question."""
    reply = step(said("my order thing", "order_status", ENOUGH - 0.01, order="4471"))

    assert reply.act is Act.CLARIFY
    assert reply.text == phrases.say("confirm", "en", example="Where is my order")
    assert (reply.memory.guess, reply.memory.asked) == ("order_status", Asked.CONFIRM)


def test_a_yes_confirms_the_guess() -> None:
    """Who said yes need not say it all again."""
    asked = step(said("my order thing", "order_status", 0.5, order="4471"))
    reply = step(said("Yes, please.", "hours", 0.99), asked.memory)

    assert (reply.act, reply.text) == (Act.ANSWER, "Order 4471 is here.")
    assert (reply.memory.failures, reply.memory.guess) == (0, None)


def test_a_yes_to_a_guess_that_lacks_a_slot_asks_for_it() -> None:
    """Confirmed is not complete."""
    asked = step(said("my order thing", "order_status", 0.5))
    reply = step(said("yes"), asked.memory)

    assert (reply.act, reply.text, reply.memory.failures) == (Act.CLARIFY, "Which order?", 0)


def test_a_no_drops_the_guess() -> None:
    """A guess denied must not be confirmed by a later yes."""
    asked = step(said("my order thing", "order_status", 0.5, order="4471"))
    denied = step(said("no", "order_status", 0.99), asked.memory)
    later = step(said("yes"), denied.memory)

    assert denied.text == phrases.say("not_understood", "en")
    assert (denied.memory.guess, denied.memory.slots) == (None, {})
    assert later.act is not Act.ANSWER


def test_a_yes_to_nothing_confirms_nothing() -> None:
    """A yes without a question is not an order."""
    assert step(said("yes")).act is Act.RECOVER


def test_a_wild_guess_is_not_worth_a_question() -> None:
    """To ask "did you mean" something far off sounds deaf: ask for other words."""
    reply = step(said("blue", "order_status", ENOUGH * GUESS - 0.01))

    assert (reply.act, reply.text) == (Act.RECOVER, phrases.say("not_understood", "en"))


def test_while_a_slot_is_missing_that_question_is_repeated() -> None:
    """The person is in the middle of an answer: another guess would lead away from it."""
    first = step(said("where is my order", "order_status"))
    second = step(said("the blue one", "hours", 0.5), first.memory)

    assert (second.act, second.text) == (Act.CLARIFY, "Which order?")
    assert (second.memory.pending, second.memory.failures) == ("order_status", 1)


def test_an_intent_that_the_assistant_does_not_have_is_not_understood() -> None:
    """Vendors name what they like, and settings change under a memory."""
    stale = replace(FRESH, pending="gone", guess="gone_too", slots={"order": "1"})

    assert step(said("x", "invented")).act is Act.RECOVER
    assert step(said("yes"), stale).act is Act.RECOVER


# What goes wrong


@pytest.mark.parametrize(
    ("trouble", "text", "act", "key"),
    [
        (Trouble.UNHEARD, None, Act.RECOVER, "please_type"),
        (Trouble.SILENT, None, Act.RECOVER, "nothing_heard"),
        (Trouble.DAMAGED, None, Act.RECOVER, "audio_damaged"),
        (Trouble.EMPTY, None, Act.RECOVER, "audio_empty"),
        (Trouble.FORMAT, None, Act.RECOVER, "audio_format"),
        (Trouble.GONE, None, Act.RECOVER, "audio_gone"),
        (Trouble.HEAVY, None, Act.RECOVER, "audio_heavy"),
        (Trouble.TOO_LARGE, None, Act.RECOVER, "audio_too_large"),
        (Trouble.TOO_LONG, None, Act.RECOVER, "audio_too_long"),
        (Trouble.UNFETCHED, None, Act.RECOVER, "audio_unfetched"),
        (Trouble.UNCLEAR, "mumble", Act.CLARIFY, "not_clear"),
    ],
)
def test_each_trouble_has_its_own_words(
    trouble: Trouble, text: str | None, act: Act, key: str
) -> None:
    """The person must know what to do next: type, record again, shorten, repeat."""
    reply = step(said(text, trouble=trouble))

    assert (reply.act, reply.text) == (act, phrases.say(key, "en"))
    assert (reply.memory.failures, reply.memory.asked) == (1, Asked.AGAIN)


def test_words_heard_unclearly_are_not_acted_upon() -> None:
    """Understanding what was misheard is misunderstanding."""
    turn = said("x", "hours", 0.99).understood(
        Understanding(intent="hours", confidence=1, slots={})
    )

    assert step(changed(turn, trouble=Trouble.UNCLEAR)).act is Act.CLARIFY


def test_trouble_in_between_loses_nothing() -> None:
    """One silent note must not make the person start over."""
    first = step(said("call me back on friday", "callback", day="friday"))
    silent = step(said(None, trouble=Trouble.SILENT), first.memory)
    third = step(said("123", "callback", phone="123"), silent.memory)

    assert third.text == "We call 123 on friday."


def test_the_third_failure_in_a_row_goes_to_a_human() -> None:
    """A machine that fails three times is an obstacle."""
    first = step(said(None, trouble=Trouble.UNHEARD))
    second = step(said("blue", None, 0.0), first.memory)
    third = step(said("my order thing", "order_status", 0.5), second.memory)

    assert [first.act, second.act, third.act] == [Act.RECOVER, Act.RECOVER, Act.HAND_OVER]
    assert third.text == phrases.say("handover", "en")
    assert third.memory.handed_over


def test_asking_for_the_same_slot_in_vain_is_a_failure() -> None:
    """Confidence that leads nowhere must not ask the same question for ever."""
    turn = said("where is my order", "order_status")
    acts: list[Act] = []
    memory = FRESH
    for _ in range(4):
        reply = step(turn, memory)
        acts, memory = [*acts, reply.act], reply.memory

    assert acts == [Act.CLARIFY, Act.CLARIFY, Act.CLARIFY, Act.HAND_OVER]


def test_an_understood_turn_clears_the_failures() -> None:
    """Three failures in a row, not three in a long talk."""
    troubled = replace(FRESH, failures=2)

    assert step(said("hours", "hours"), troubled).memory.failures == 0
    assert step(said("my order", "order_status"), troubled).memory.failures == 0


# Humans and rights


def test_who_asks_for_a_human_gets_one() -> None:
    """Nobody must fail three times first, however sure the machine is."""
    reply = step(said("I want to talk to a human", "hours", 1.0))

    assert reply.act is Act.HAND_OVER
    assert reply.memory.handed_over


def test_in_human_hands_nothing_is_answered() -> None:
    """Two voices in one conversation contradict each other; silence looks like loss."""
    waiting = session.handed_over(FRESH, AT)
    reply = step(said("when are you open", "hours", 1.0), waiting)
    again = step(said("human!"), reply.memory)

    assert (reply.act, reply.text) == (Act.RECOVER, phrases.say("with_human", "en"))
    assert (again.act, again.text) == (Act.RECOVER, phrases.say("with_human", "en"))
    assert not reply.speak
    assert reply.memory.turns[-1].heard == "when are you open"


def test_given_back_the_assistant_answers_again() -> None:
    """A handover ends: by hand, or when WhatsApp's window is over."""
    waiting = session.handed_over(FRESH, AT)
    turn = said("when are you open", "hours", 1.0)

    assert step(turn, session.given_back(waiting)).act is Act.ANSWER
    assert step(changed(turn, at=AT + HUMAN_S), waiting).act is Act.ANSWER


@pytest.mark.parametrize("memory", [FRESH, session.handed_over(FRESH, AT)])
def test_a_spoken_withdrawal_is_not_lost(memory: Memory) -> None:
    """Withdrawing must be as easy as consenting (GDPR Art. 7(3)), with a human waiting too."""
    reply = step(said("Stop.", "hours", 1.0), memory)

    assert (reply.act, reply.text) == (Act.RECOVER, phrases.say("withdraw_how", "en"))
    assert reply.memory.failures == 0


# Language and voice


def test_the_language_of_the_words_counts_if_the_tenant_speaks_it() -> None:
    """People change language in the middle; the last one is the better guess for a third."""
    german = replace(FRESH, language="de")

    assert step(said("x", "hours", language="en"), german).text == "From 9 to 5."
    assert step(said("x", "hours", language="pl"), german).text == "Von 9 bis 17 Uhr."
    assert step(said("x", "hours", language="pl"), replace(FRESH, language="")).language == "de"


def test_without_words_the_last_language_counts() -> None:
    """A note nobody could hear has no language: the caller's default must not switch it."""
    reply = step(said(None, trouble=Trouble.SILENT, language="de"), FRESH)

    assert (reply.language, reply.memory.language) == ("en", "en")


def test_a_language_we_have_no_words_in_is_named_as_what_it_is() -> None:
    """Speech in the wrong voice is not understood: the reply says which language its text is."""
    dutch = changed(ASSISTANT, languages=("nl", "de"))

    reply = dialogue.step(said("x", language="nl"), FRESH, dutch)

    assert reply.text == phrases.say("not_understood", "en")
    assert (reply.language, reply.memory.language) == ("en", "nl")


def test_only_answers_and_questions_to_spoken_words_are_spoken() -> None:
    """Typed is answered in writing; what went wrong is read, not heard."""
    answered = said("x", "hours")

    assert step(answered).speak
    assert step(said("x", "order_status")).speak
    assert not step(changed(answered, spoken=False)).speak
    assert not step(said("x")).speak
    assert not step(said("human")).speak


def test_personal_words_stay_out_of_a_repr() -> None:
    """A turn or reply may end up in a traceback."""
    turn = said("canary", "order_status", order="canary")
    reply = step(turn)

    assert "canary" not in repr(turn)
    assert "canary" not in repr(reply)


# Whatever comes

# No lone surrogates: the door refuses them.
WORDS = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="?¿"), max_size=400)
NAMES = st.none() | st.sampled_from(["callback", "gone", "hours", "order_status"])
SLOTS = st.dictionaries(st.sampled_from(["day", "order", "phone", "x"]), WORDS)
TURNS = st.builds(
    Turn,
    text=st.none() | WORDS | st.sampled_from(["yes", "no", "stop", "human"]),
    language=st.sampled_from(["", "de", "en", "pl"]),
    at=st.integers(0, 2**40) | st.integers(AT, AT + 60),
    understanding=st.none()
    | st.builds(Understanding, intent=NAMES, confidence=st.floats(), slots=SLOTS)
    | st.builds(Understanding, intent=NAMES, confidence=st.floats(0, 1), slots=SLOTS),
    trouble=st.none() | st.sampled_from(Trouble),
    spoken=st.booleans(),
)
FAILING = st.builds(
    Turn,
    text=st.none() | WORDS.map(lambda words: f"zebra {words}"),
    language=st.sampled_from(["de", "en"]),
    at=st.integers(AT, AT + 60),
    understanding=st.none()
    | st.builds(
        Understanding,
        intent=NAMES,
        confidence=st.floats(0, ENOUGH, exclude_max=True),
        slots=SLOTS,
    ),
    trouble=st.none() | st.sampled_from(Trouble),
)
MEMORIES = st.builds(
    Memory,
    language=st.sampled_from(["", "de", "en", "pl"]),
    pending=NAMES,
    guess=NAMES,
    slots=SLOTS,
    failures=st.integers(0, 5),
    asked=st.none() | st.sampled_from(Asked),
    last_at=st.just(AT) | st.integers(0, 2**40),
    handed_over_at=st.none() | st.integers(AT - HUMAN_S, AT),
)


@given(turn=TURNS, memory=MEMORIES)
def test_nothing_below_the_threshold_is_answered(turn: Turn, memory: Memory) -> None:
    """The one rule that no combination may break: sure, or confirmed, or not answered."""
    reply = step(turn, memory)

    found = turn.understanding
    sure = found is not None and found.confidence >= ENOUGH and found.intent == reply.intent
    order = orders.command(turn.text or "", ASSISTANT.languages)
    confirmed = order is Command.GRANT and memory.guess == reply.intent
    event(reply.act)
    assert reply.act is not Act.ANSWER or (turn.trouble is None and (sure or confirmed))


@given(turn=TURNS, memory=MEMORIES)
def test_any_turn_gets_one_sendable_reply(turn: Turn, memory: Memory) -> None:
    """A fault or an empty text here is a person who hears nothing."""
    reply = step(turn, memory)

    assert 0 < len(reply.text.strip()) <= len(reply.text) <= TEXT_LIMIT
    assert reply.text.count("?") <= 1
    assert session.decode(session.encode(reply.memory)) == reply.memory
    assert reply == step(turn, memory)


@given(turn=TURNS, memory=MEMORIES)
def test_failures_only_count_up_or_start_over(turn: Turn, memory: Memory) -> None:
    """A count that sinks slowly would keep a person from ever reaching a human."""
    before = session.fresh(memory, turn.at)
    reply = step(turn, memory)
    after = reply.memory.failures

    assert after in {0, before.failures, before.failures + 1}
    if after > before.failures:
        assert (after >= FAILURES) is (reply.act is Act.HAND_OVER)
    if reply.act is Act.ANSWER:
        assert after == 0


@given(turns=st.lists(FAILING, min_size=FAILURES, max_size=8), memory=MEMORIES)
def test_three_failures_in_a_row_always_reach_a_human(turns: list[Turn], memory: Memory) -> None:
    """However they failed, and whatever was before: the third is the last for the machine."""
    acts = []
    memory = replace(memory, handed_over_at=None)
    for turn in turns:
        reply = step(turn, memory)
        acts.append(reply.act)
        memory = reply.memory

    assert Act.ANSWER not in acts
    assert acts.count(Act.HAND_OVER) == 1
    assert acts.index(Act.HAND_OVER) < FAILURES
    assert set(acts[acts.index(Act.HAND_OVER) + 1 :]) <= {Act.RECOVER}


def test_a_text_too_long_for_whatsapp_is_cut() -> None:
    """WhatsApp refuses a text of more than 4,096 characters whole."""
    long = {"order_status": {"de": "x", "en": "{order}" * 100}}
    talkative = changed(ASSISTANT, replies={**ASSISTANT.replies, **long})

    reply = dialogue.step(said("x", "order_status", order="9" * 200), FRESH, talkative)

    assert len(reply.text) == TEXT_LIMIT
    assert reply.text.endswith("9…")
