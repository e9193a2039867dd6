"""Session: what is remembered, for how long, and in which bytes."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway import session
from gateway.errors import MemoryFormatError
from gateway.session import HUMAN_S, IDLE_S, KEPT, WORDS, Asked, Exchange, Memory

AT = 1_767_225_600
OPEN = Memory(
    language="de",
    pending="order_status",
    slots={"order": "4471"},
    failures=1,
    asked=Asked.DETAIL,
    last_at=AT,
    turns=(Exchange("Wo ist sie?", "Welche Bestellung?"),),
)

MEMORIES = st.builds(
    Memory,
    language=st.sampled_from(["", "de", "en"]),
    pending=st.none() | st.text(),
    guess=st.none() | st.text(),
    slots=st.dictionaries(st.text(), st.text()),
    failures=st.integers(0, 5),
    asked=st.none() | st.sampled_from(Asked),
    last_at=st.integers(0, 2**40),
    turns=st.lists(st.builds(Exchange, st.text(), st.text()), max_size=KEPT).map(tuple),
    handed_over_at=st.none() | st.integers(0, 2**40),
)


@given(memory=MEMORIES)
def test_what_is_written_is_what_is_read(memory: Memory) -> None:
    """A slot lost between two notes would make the person say it again."""
    assert session.decode(session.encode(memory)) == memory


def test_another_format_is_forgotten() -> None:
    """After an update an old row must neither stop the job nor be misread."""
    stored = msgspec.json.decode(session.encode(OPEN))
    stored["format"] = session.FORMAT + 1
    stored["memory"] = {"of": ["another", "shape"]}

    assert session.decode(msgspec.json.encode(stored)) == Memory()


@pytest.mark.parametrize(
    "change",
    [{"canary": 1}, {"failures": -1}, {"failures": "1"}, {"slots": {"a": 1}}, {"asked": "why"}],
)
def test_what_we_did_not_write_is_refused(change: dict[str, object]) -> None:
    """A memory that is nearly right would be acted upon wrongly; its words stay out of the text."""
    stored = msgspec.json.decode(session.encode(OPEN))
    stored["memory"] |= change

    with pytest.raises(MemoryFormatError, match=r"^session\.unreadable$") as caught:
        session.decode(msgspec.json.encode(stored))

    assert caught.value.__cause__ is None


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff", b'{"format":1,"memory":{},"more":1}'])
def test_bytes_that_are_no_memory_are_refused(raw: bytes) -> None:
    """Whatever the store returns is either a memory or one named error."""
    with pytest.raises(MemoryFormatError):
        session.decode(raw)


def test_a_short_pause_keeps_what_was_asked() -> None:
    """The second note belongs to the same request."""
    assert session.fresh(OPEN, AT + IDLE_S - 1) == OPEN


def test_a_long_pause_forgets_all_but_the_language() -> None:
    """A "yes" half an hour later answers another question; the language is still the person's."""
    assert session.fresh(OPEN, AT + IDLE_S) == Memory(language="de")
    assert session.fresh(OPEN, AT + 60, idle_seconds=60) == Memory(language="de")


def test_a_human_keeps_the_conversation_through_a_pause() -> None:
    """Nobody who waits for a person wants the machine back after half an hour."""
    waiting = session.handed_over(OPEN, AT)

    assert session.fresh(waiting, AT + HUMAN_S - 1) == waiting


def test_a_conversation_is_not_lost_with_a_human_for_ever() -> None:
    """If nobody gives it back, the assistant answers again once WhatsApp's window closed."""
    waiting = session.handed_over(replace(OPEN, last_at=AT + HUMAN_S), AT)

    assert session.fresh(waiting, AT + HUMAN_S) == Memory(language="de")


def test_a_handover_closes_every_question() -> None:
    """What the assistant had asked must not be answered by what is said to the human."""
    waiting = session.handed_over(replace(OPEN, guess="refund"), AT)

    assert waiting.handed_over
    assert (waiting.pending, waiting.guess, waiting.slots, waiting.asked) == (None, None, {}, None)


def test_a_conversation_given_back_starts_without_failures() -> None:
    """Else the first word not understood would send it to the human again."""
    again = session.given_back(session.handed_over(replace(OPEN, failures=3), AT))

    assert not again.handed_over
    assert again.failures == 0


def test_few_and_short_turns_are_kept() -> None:
    """Data minimisation (GDPR Art. 5(1)(c)): only what the next answer may need."""
    memory = OPEN
    for number in range(KEPT + 3):
        memory = session.exchanged(memory, AT + number, f"{number}" * 400, "x" * 4_096)

    assert len(memory.turns) == KEPT
    assert [turn.heard[0] for turn in memory.turns] == ["3", "4", "5", "6"]
    assert {len(turn.heard) for turn in memory.turns} == {WORDS}
    assert {len(turn.said) for turn in memory.turns} == {WORDS}


def test_a_late_turn_does_not_turn_time_back() -> None:
    """A note delivered late must not make a lively conversation look idle."""
    assert session.exchanged(OPEN, AT - 600, "", "x").last_at == AT


def test_a_memory_in_a_log_or_traceback_shows_no_words() -> None:
    """Redacted words are still a person's words."""
    shown = repr(OPEN)

    assert "4471" not in shown
    assert "Bestellung" not in shown
