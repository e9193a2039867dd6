"""Who writes: one person's no must reach all of theirs, and nothing of anybody else's."""

from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    multiple,
    rule,
)

from gateway.identity import (
    DAY_S,
    Answer,
    Link,
    Sighting,
    Why,
    changed,
    identity_changed,
    recognize,
    written,
)

SILENT_DAYS = 90
DAY = DAY_S
T = 20_000 * DAY
LENT_AFTER = (SILENT_DAYS + 8) * DAY  # a redelivery may come for a week
NUMBERS = st.sampled_from(["n1", "n2", "n3"])
P, Q = "number-p", "number-q"
A, B, C = "id-a", "id-b", "id-c"


@dataclass
class Book:
    """What is known, and a counter for new names."""

    known: tuple[Link, ...] = ()
    made: int = 0
    answers: list[Answer] = field(default_factory=list)

    def fresh(self) -> str:
        """Return a name for somebody new."""
        self.made += 1
        return f"s{self.made}"

    def see(self, at: int, number: str = "", user_id: str = "", device: str = "") -> str:
        """Return who wrote."""
        seen = Sighting(at=at, number=number, user_id=user_id, device=device)
        return self.note(recognize(seen, self.known, fresh=self.fresh(), silent_days=SILENT_DAYS))

    def move(self, at: int, old: tuple[str, str], new: tuple[str, str]) -> str:
        """Hear a system message: (number, user id) *old* became *new*."""
        was = Sighting(at=at, number=old[0], user_id=old[1])
        is_now = Sighting(at=at, number=new[0], user_id=new[1])
        return self.note(
            changed(was, is_now, self.known, fresh=self.fresh(), silent_days=SILENT_DAYS)
        )

    def renew(self, at: int, number: str = "", user_id: str = "", device: str = "") -> str:
        """Hear that the identity key changed."""
        seen = Sighting(at=at, number=number, user_id=user_id, device=device)
        return self.note(
            identity_changed(seen, self.known, fresh=self.fresh(), silent_days=SILENT_DAYS)
        )

    def note(self, answer: Answer) -> str:
        """Write *answer*."""
        self.known = written(self.known, answer)
        self.answers.append(answer)
        return answer.subject

    @property
    def last(self) -> Answer:
        """Return the newest answer."""
        return self.answers[-1]


@pytest.fixture
def book() -> Book:
    """Return a book in which nobody stands."""
    return Book()


def test_a_number_a_user_id_and_both_are_one_person(book: Book) -> None:
    """WhatsApp names the same person in three ways; a withdrawal must reach all of them."""
    first = book.see(T, P)

    assert book.see(T + 1, P, A) == first
    assert book.see(T + 2, user_id=A) == first
    assert book.see(T + 3, P) == first


def test_a_number_with_another_user_id_is_another_person(book: Book) -> None:
    """The carrier gave it to a stranger: the old holder's consent is not theirs."""
    old = book.see(T, P, A)

    new = book.see(T + 9, P, B)

    assert new != old
    assert (book.last.why, book.last.left, book.last.joined) == (Why.OTHER_USER_ID, old, ())
    assert book.see(T + 10, P) == new, "a number alone leads to whom it belongs now"
    assert book.see(T + 11, user_id=A) == old, "the former holder is found by their user id"
    assert book.see(T + 12, Q, A) == old, "with a new number, too"


def test_who_returns_with_the_old_user_id_is_the_old_person(book: Book) -> None:
    """A family shares one card: each is who they are."""
    old, new = book.see(T, P, A), book.see(T + 9, P, B)

    assert book.see(T + 20, P, A) == old
    assert book.see(T + 21, P, B) == new
    assert book.see(T + 22, P) == new


def test_an_earlier_message_that_comes_late_is_of_the_earlier_holder(book: Book) -> None:
    """WhatsApp redelivers for seven days: the time of writing says whose it was."""
    old, new = book.see(T, P, A), book.see(T + 5 * DAY, P, B)

    assert book.see(T + 4 * DAY, P) == old
    assert book.see(T + 5 * DAY - 1, P) == old
    assert book.see(T + 5 * DAY, P) == new


@pytest.mark.parametrize(
    ("days", "same"), [(SILENT_DAYS, True), (SILENT_DAYS + 1, False), (400, False)]
)
@pytest.mark.parametrize("before", ["", A], ids=["number alone", "with user id"])
def test_a_number_that_was_silent_for_long_is_asked_anew(
    book: Book, before: str, days: int, *, same: bool
) -> None:
    """Carriers assign a number again after weeks; nothing of it says that they did."""
    old = book.see(T, P, before)

    assert (book.see(T + days * DAY, P) == old) is same


def test_silence_ends_with_each_message(book: Book) -> None:
    """Who writes every month is who they were."""
    old = book.see(T, P)

    assert {book.see(T + days * DAY, P) for days in range(30, 400, 30)} == {old}


def test_a_user_id_is_who_it_was_after_any_silence(book: Book) -> None:
    """WhatsApp does not lend user ids."""
    old = book.see(T, P, A)

    assert book.see(T + 900 * DAY, P, A) == old
    assert book.see(T + 1900 * DAY, user_id=A) == old


def test_a_first_user_id_after_a_long_silence_is_somebody_new(book: Book) -> None:
    """The number is all that we knew of the former holder, and it may be anybody's by now."""
    old = book.see(T, P)

    new = book.see(T + 200 * DAY, P, A)

    assert new != old
    assert (book.last.why, book.last.left) == (Why.SILENT, old)


def test_a_message_written_after_the_silence_that_comes_late_is_not_the_former_holders(
    book: Book,
) -> None:
    """Two messages of the new holder come in the wrong order: both are theirs."""
    old = book.see(T, P)
    new = book.see(T + 200 * DAY, P)

    assert book.see(T + 199 * DAY, P) == new
    assert book.see(T + 80 * DAY, P) == old


def test_a_recent_number_and_a_user_id_that_meet_are_one_person(book: Book) -> None:
    """Both were known, each for itself: their rows become one person's, with the evidence."""
    number, named = book.see(T, P), book.see(T, user_id=A)

    assert book.see(T + DAY, P, A) == named
    assert (book.last.joined, book.last.why) == ((number,), Why.MET)
    assert book.see(T + DAY, P) == named


def test_a_silent_number_and_a_user_id_that_meet_stay_two(book: Book) -> None:
    """The person took a number that was somebody's: the two have nothing to do with each other."""
    number, named = book.see(T, P), book.see(T, user_id=A)

    assert book.see(T + 200 * DAY, P, A) == named
    assert (book.last.joined, book.last.left) == ((), number)


def test_a_system_message_that_names_both_user_ids_makes_one_person(book: Book) -> None:
    """A number change makes a new user id: WhatsApp says which belongs to which."""
    old = book.see(T, P, A)
    new = book.see(T + 10, P, B)

    assert book.move(T + 9, (P, A), (P, B)) == old
    assert (book.last.joined, book.last.why) == ((new,), Why.USER_ID_CHANGED)
    assert {book.see(T + 20, P, B), book.see(T + 20, P), book.see(T + 20, user_id=A)} == {old}


def test_a_system_message_before_the_first_message_leaves_nobody_new(book: Book) -> None:
    """In order, nobody is asked anew."""
    old = book.see(T, P, A)

    assert book.move(T + 9, (P, A), (Q, B)) == old
    assert book.see(T + 10, Q, B) == old
    assert book.see(T + 11, user_id=B) == old
    assert book.see(T + 12, Q) == old


def test_a_system_message_without_user_ids_says_that_a_number_changed(book: Book) -> None:
    """The new number comes with a new user id: it is the first that this number comes with."""
    old = book.see(T, P, A)

    assert book.move(T + 9, (P, ""), (Q, "")) == old
    assert book.see(T + 10, Q, B) == old
    assert book.see(T + 11, P) != old, "somebody else writes from the number that was given up"
    assert book.see(T + 8, P) == old, "what was written before is theirs"


def test_a_late_number_change_joins_who_wrote_from_the_new_number_meanwhile(book: Book) -> None:
    """The system message comes hours after the first message from the new number."""
    old = book.see(T, P, A)
    new = book.see(T + 10, Q, B)

    assert book.move(T + 9, (P, ""), (Q, "")) == old
    assert book.last.joined == (new,)
    assert book.see(T + 11, user_id=B) == old


def test_a_number_change_to_a_number_of_somebody_with_a_user_id_takes_the_number_alone(
    book: Book,
) -> None:
    """Whose it was keeps everything: two names of one kind were never said of the two."""
    old, other = book.see(T, P, A), book.see(T, Q, B)

    assert book.move(T + 9, (P, ""), (Q, "")) == old
    assert (book.last.joined, book.last.left) == ((), other)
    assert (book.see(T + 10, Q), book.see(T + 10, user_id=B)) == (old, other)


def test_a_system_message_that_names_one_user_id_is_no_evidence(book: Book) -> None:
    """'This number has a new id' does not say whose it was: the known id may be another's."""
    old = book.see(T, P, A)

    new = book.move(T + 9, (P, ""), (P, B))

    assert new != old
    assert (book.last.why, book.last.joined) == (Why.OTHER_USER_ID, ())


def test_a_changed_identity_key_is_somebody_new_from_then_on(book: Book) -> None:
    """A new phone, or a new holder: nothing is opened on what the former one agreed to."""
    old = book.see(T, P, A)

    new = book.renew(T + 9, P)

    assert new != old
    assert (book.last.left, book.last.why) == (old, Why.IDENTITY_CHANGED)
    assert {book.see(T + 10, P, A), book.see(T + 11, user_id=A), book.see(T + 12, P)} == {new}
    assert book.see(T + 8, P, A) == old, "what was written before is the former one's"


def test_a_changed_identity_key_counts_once(book: Book) -> None:
    """The job runs again after a crash, and WhatsApp delivers twice."""
    book.see(T, P, A)
    new = book.renew(T + 9, P)

    assert book.renew(T + 9, P) == new
    assert book.last.links == ()
    assert book.see(T + 10, P, A) == new


@pytest.mark.parametrize("late", [False, True], ids=["in order", "system message late"])
def test_a_message_with_another_identity_key_is_somebody_new(book: Book, *, late: bool) -> None:
    """The key comes with messages, too; the system message about it adds nothing."""
    old = book.see(T, P, A, "key-1")
    if not late:
        book.renew(T + 9, P, A, "key-2")

    new = book.see(T + 10, P, A, "key-2")
    if late:
        assert book.renew(T + 9, P, A, "key-2") == new

    assert new != old
    assert {book.see(T + 11, P, A, "key-2"), book.see(T + 12, P)} == {new}
    assert book.see(T + 8, P, A, "key-1") == old


def test_within_one_second_what_is_heard_later_is_later(book: Book) -> None:
    """WhatsApp tells times in seconds: two events of one second still have an order."""
    old = book.see(T, P)
    new = book.renew(T, P)

    assert new != old
    assert book.see(T, P) == new
    assert book.see(T - 1, P) == old


def test_an_id_that_was_unknown_when_its_account_changed_hands_brings_no_consent_back(
    book: Book,
) -> None:
    """The user id's own rows are older than the change: they are the former holder's."""
    by_id, _by_number = book.see(T, user_id=A), book.see(T, P)
    new = book.renew(T + 9, P)

    assert book.see(T + 10, P, A) == new != by_id
    assert book.see(T + 11, user_id=A) == new


def test_a_changed_identity_key_of_a_silent_number_says_nothing_of_its_former_user_id(
    book: Book,
) -> None:
    """The number may be somebody else's by now: whose user id it came with is who they were."""
    old = book.see(T, P, A)

    new = book.renew(T + 200 * DAY, P)

    assert new != old
    assert book.see(T + 201 * DAY, user_id=A) == old
    assert book.see(T + 202 * DAY, P, B) == new


@pytest.mark.parametrize("after", [1, 200 * DAY], ids=["at once", "after a silence"])
def test_who_was_known_by_id_before_the_key_of_their_number_changed_is_asked_anew(
    book: Book, after: int
) -> None:
    """The number's last user id was another's: whose key changed is not known, so nobody's yes."""
    former, by_id = book.see(T, P, A), book.see(T, user_id=B)
    renewed = book.renew(T + 9, P)

    new = book.see(T + 9 + after, P, B)

    assert new not in {former, by_id, renewed}
    assert {book.see(T + 11 + after, user_id=B), book.see(T + 12 + after, P)} == {new}
    assert book.see(T + 13 + after, user_id=A) == renewed


def test_a_changed_identity_key_that_names_the_user_id_alone_reaches_its_number(book: Book) -> None:
    """The number's row still names the former person: it is not joined to the new one."""
    old = book.see(T, P, A)
    new = book.renew(T + 9, user_id=A)

    assert book.see(T + 10, P, A) == new
    assert (book.last.joined, book.last.left) == ((), old)
    assert book.see(T + 11, P) == new


def test_a_changed_identity_key_that_is_told_late_reaches_what_was_read_meanwhile(
    book: Book,
) -> None:
    """The number went to another and back before the system message came."""
    old = book.see(T, P, A)
    book.see(T + 20, P, B)
    assert book.see(T + 30, P, A) == old

    new = book.renew(T + 9, P, A)

    assert book.see(T + 31, P) == book.see(T + 32, P, A) == new != old


def test_a_late_number_change_joins_nobody_whom_it_does_not_name(book: Book) -> None:
    """The new number went on to a third person before the system message came."""
    old, third = book.see(T, P, A), book.see(T + 10, Q, C)

    assert book.move(T + 9, (P, A), (Q, B)) == old
    assert book.last.joined == ()
    assert (book.see(T + 11, Q), book.see(T + 12, user_id=B)) == (third, old)


def test_a_day_is_all_that_is_kept_of_when_somebody_wrote(book: Book) -> None:
    """Silence is counted in days: nothing finer is kept, and a day's rows are written once."""
    book.see(T, P, A)
    book.see(T + 5, P, A)

    assert book.last.links == ()
    book.see(T + DAY + 5, P, A)
    assert {link.seen for link in book.last.links} == {T // DAY + 1}


@dataclass(frozen=True)
class Letter:
    """An update on its way: whose it is, and what it says of its author, and whom they became."""

    person: int
    seen: Sighting
    became: Sighting | None = None
    renews: bool = False


class Town(RuleBasedStateMachine):
    """
    People with user ids and lent numbers; their updates come late, twice and out of order.

    Carriers keep their word: a number is lent again only after a silence. WhatsApp does, too: a
    user id is of one person, a new number brings a new one, and a system message is true. Which
    names an update bears is left to chance.
    """

    waiting: Bundle[Letter] = Bundle("waiting")

    def __init__(self) -> None:
        super().__init__()
        self.book = Book()
        self.now = T
        self.holder: dict[str, int | None] = {"n1": 1, "n2": 2, "n3": None}
        self.used = {"n1": T, "n2": T, "n3": 0}
        self.ids = {1: "id-1", 2: "id-2"}
        self.made = 2
        self.owner: dict[str, int] = {}  # subject -> whose it is
        self.asked: dict[int, dict[int, str]] = {}  # person -> written at -> subject
        self.renewed: dict[int, list[tuple[int, set[str]]]] = {}  # when, and who they were before

    @initialize()
    def begin(self) -> None:
        """Begin with a person each for two numbers."""

    @rule(days=st.sampled_from([0, 1, 6, 60]))
    def wait(self, days: int) -> None:
        """Let time pass."""
        self.now += days * DAY + 1

    @rule(target=waiting, number=NUMBERS, names=st.integers(1, 3), at_once=st.booleans())
    def write(self, number: str, names: int, *, at_once: bool) -> Any:
        """Have who holds *number* write with the number, the user id, or both."""
        person = self.holder[number]
        if person is None:
            return multiple()
        self.now += 1
        self.used[number] = self.now
        return self.sent(
            Letter(person, self.names(self.now, number, self.ids[person], names)), at_once=at_once
        )

    @rule(
        target=waiting,
        number=NUMBERS,
        other=NUMBERS,
        names=st.sampled_from([1, 3]),
        at_once=st.booleans(),
    )
    def move(self, number: str, other: str, names: int, *, at_once: bool) -> Any:
        """Have who holds *number* change to *other*: a new user id, and a system message."""
        person = self.holder[number]
        if person is None or not self.is_free(other):
            return multiple()
        self.now += 1
        was = self.ids[person]
        self.made += 1
        self.ids[person] = f"id-{self.made}"
        self.holder |= {number: None, other: person}
        self.used |= {number: self.now, other: self.now}
        old = self.names(self.now, number, was, names)
        new = self.names(self.now, other, self.ids[person], names)
        return self.sent(Letter(person, old, new), at_once=at_once)

    @rule(target=waiting, number=NUMBERS, names=st.sampled_from([1, 3]), at_once=st.booleans())
    def reinstall(self, number: str, names: int, *, at_once: bool) -> Any:
        """Have the identity key of who holds *number* change."""
        person = self.holder[number]
        if person is None:
            return multiple()
        self.now += 1
        self.used[number] = self.now
        seen = self.names(self.now, number, self.ids[person], names)
        return self.sent(Letter(person, seen, renews=True), at_once=at_once)

    @rule(letter=waiting)
    def deliver(self, letter: Letter) -> None:
        """Deliver an update, for the first time or again, no later than WhatsApp does."""
        if self.now - letter.seen.at <= 7 * DAY:
            subject = self.read(letter)
            self.hold(letter, subject)
            assert self.read(letter) == subject, "again is once"

    @rule(number=NUMBERS)
    def lend(self, number: str) -> None:
        """Give a number that was silent for long to somebody new, with a user id of their own."""
        self.now = max(self.now, self.used[number] + LENT_AFTER) + 1
        self.made += 1
        self.holder[number] = self.made
        self.ids[self.made] = f"id-{self.made}"

    def names(self, at: int, number: str, user_id: str, which: int) -> Sighting:
        """Return what an update says of its author: the number, the user id, or both."""
        return Sighting(
            at=at, number=number if which & 1 else "", user_id=user_id if which & 2 else ""
        )

    def sent(self, letter: Letter, *, at_once: bool) -> Letter:
        """Deliver *letter* at once, perhaps; it may come later, and again."""
        if at_once:
            self.deliver(letter)
        return letter

    def is_free(self, number: str) -> bool:
        """Whether the carrier may assign *number*; a redelivery may come for a week."""
        return self.now - self.used[number] > LENT_AFTER

    def read(self, letter: Letter) -> str:
        """Return whose *letter* is, as the cell would say."""
        seen, became = letter.seen, letter.became
        if letter.renews:
            mine = self.asked.get(letter.person, {})
            former = {who for when, who in mine.items() if when < seen.at}
            self.renewed.setdefault(letter.person, []).append((seen.at, former))
            return self.book.renew(seen.at, seen.number, seen.user_id)
        if became is not None:
            return self.book.move(
                seen.at, (seen.number, seen.user_id), (became.number, became.user_id)
            )
        return self.book.see(seen.at, seen.number, seen.user_id)

    def hold(self, letter: Letter, subject: str) -> None:
        """Hold what was just answered against what was answered before."""
        for other in self.book.last.joined:
            assert self.owner.get(other, letter.person) == letter.person, "two became one"
        assert self.owner.setdefault(subject, letter.person) == letter.person, "somebody else's"
        if letter.renews or letter.became:
            return
        mine = self.asked.setdefault(letter.person, {})
        mine[letter.seen.at] = subject
        if letter.seen.number and letter.seen.user_id:
            for at, former in self.renewed.get(letter.person, []):
                if letter.seen.at > at:
                    assert subject not in former, "opened on what the former holder agreed to"


TestTown = Town.TestCase
TestTown.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
