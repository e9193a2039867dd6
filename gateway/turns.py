"""What each kind of update asks of us: an answer, an act of a person's rights, or nothing."""

from collections.abc import Mapping, Sequence
from functools import partial

from gateway import (
    asking,
    buttons,
    confirming,
    consents,
    declining,
    doubts,
    groups,
    orders,
    own_erasure,
    pauses,
    phrases,
    pipeline,
    receipts,
    rights,
    undelivered,
    unread,
)
from gateway.errors import ConsentNeededError, LeaseLostError
from gateway.note import SPOKEN, Note
from gateway.orders import Command
from gateway.permit import check_window
from gateway.ports import Ports
from gateway.sections import PURPOSES
from gateway.whatsapp.payload import (
    Choice,
    Edited,
    Message,
    Reaction,
    Revoked,
    System,
    Text,
    Undelivered,
    Unreadable,
    Unsupported,
    written,
)

CHOICES: Mapping[str, confirming.Act] = (
    {
        buttons.KEEP: doubts.keep,
        buttons.KEEP_DATA: own_erasure.keep,
        buttons.WITHDRAW: rights.withdraw,
    }
    | {
        buttons.confirming(tag): partial(own_erasure.confirmed, language=tag)
        for tag in phrases.LANGUAGES
    }
    | {
        rights.button(answer, purpose): partial(act, purpose=purpose)
        for answer, act in ((rights.GRANT, rights.grant), (rights.REFUSE, rights.refuse))
        for purpose in (SPOKEN, *PURPOSES)
    }
)


async def _human(note: Note, ports: Ports) -> rights.Confirmation:
    await declining.check(note, ports)
    return await rights.human(note, ports)


COMMANDS: dict[Command, confirming.Act] = {
    Command.ERASE: own_erasure.ask,
    Command.GRANT: rights.grant,
    Command.HUMAN: _human,
    Command.MAYBE_ERASE: own_erasure.ask_first,
    Command.MAYBE_WITHDRAW: doubts.ask,
    Command.RECEIPT: receipts.send,
    Command.REFUSE: rights.refuse,
    Command.WITHDRAW: rights.withdraw,
}


ASKED: dict[str, confirming.Act] = {
    pauses.ERASE: own_erasure.ask_first,
    pauses.WITHDRAW: doubts.ask,
}
"""How to ask again what stands behind a pause."""

KEEPS: dict[str, tuple[confirming.Act, str]] = {
    pauses.ERASE: (own_erasure.keep, buttons.KEEP_DATA),
    pauses.WITHDRAW: (doubts.keep, buttons.KEEP),
}

URGENT = frozenset({Command.ERASE, Command.MAYBE_ERASE, Command.MAYBE_WITHDRAW, Command.WITHDRAW})
TAKES_BACK = (rights.REFUSE, buttons.WITHDRAW)  # how the ids of such buttons begin
LOST = frozenset({"edit", "revoke"})  # what they take back is for a human to find
UNREAD = {Unreadable: "unreadable", Unsupported: "unsupported"}  # what is said of them


def urgent(message: Message, languages: Sequence[str]) -> bool:
    """Whether *message* takes a right back from us, or says who it is: it waits for no turn."""
    match message.content:
        case Revoked() | Edited() | System():
            return True
        case Choice(id=choice) if choice in CHOICES:
            return choice.startswith((*TAKES_BACK, buttons.ERASE))
        case Unreadable(choice=choice) if choice in CHOICES:
            return choice.startswith(TAKES_BACK)
        case content:
            said = written(content)
            order = orders.command(said, languages)
            return order in URGENT or phrases.withdrawn(said, languages) is not None


def orders_something(note: Note) -> bool:
    """Whether *note* may be more than a question: it takes back, agrees, orders, moves."""
    content, languages = note.message.content, note.tenant.languages
    order = orders.command(written(content), languages)
    pressed = isinstance(content, Choice) and content.id in CHOICES
    return order is not None or pressed or urgent(note.message, languages)


async def act(note: Note, ports: Ports) -> str:
    """
    Do what *note* asks for, and return why its job ends; each branch may be run again.

    What a person takes back, and who they are, is acted upon at any age and whatever keeps us from
    telling them (`gateway.confirming`); only an answer has to be in time.
    """
    content = note.message.content
    if groups.in_group(note.message):
        return await groups.act(note, ports)
    if isinstance(content, Revoked | Edited):
        await rights.forget(note, ports)
    if ordered := await _ordered(note, ports):
        return await confirming.done(ordered, note, ports)
    match content:
        case Reaction() | Revoked() | Edited(body=None) | Unreadable(what="reaction" | "system"):
            pass
        case Undelivered():
            check_window(note, ports)
            await undelivered.send(note, ports)
        case System():
            await rights.moved(note, ports)
        case Unsupported() | Unreadable():
            await declining.check(note, ports)
            await unread.tell(note, ports, UNREAD[type(content)])
        case Edited():
            await ports.jobs.in_line(note.job)  # its new words are a turn like any other
            await _answer(note, ports)
        case _:
            await _answer(note, ports)
    return confirming.ANSWERED


async def _answer(note: Note, ports: Ports) -> None:
    """
    Answer *note*; if that needs a consent, ask for it and let the caller set the note aside.

    A no that was written behind *note* has answered the question: the note ends unheard.
    """
    check_window(note, ports)
    await _unless_overtaken(note, ports)
    try:
        await pipeline.answer(note, ports)
    except ConsentNeededError as exc:
        if exc.code == pauses.REASON:
            await _remind(note, ports)
            raise
        await _unless_overtaken(note, ports)
        await asking.ask(note, ports)
        raise
    if note.spoken:
        await rights.ask_more(note, ports)


async def _unless_overtaken(note: Note, ports: Ports) -> None:
    if note.spoken and (said := await consents.overtaken(note, ports)):
        await rights.drop(note, said, ports)
        raise LeaseLostError(note.job.id)


async def _remind(note: Note, ports: Ports) -> None:
    """Ask again what is open, for something to be opened came in; not more than once an hour."""
    if not await doubts.asked_lately(note, ports):
        await ASKED[await pauses.standing(note, ports) or pauses.WITHDRAW](note, ports)


async def _ordered(note: Note, ports: Ports) -> confirming.Act | None:
    """Return what *note* orders, in whatever form it comes: pressed, typed, edited, a caption."""
    content = note.message.content
    match content:
        case Choice(id=choice) if choice in CHOICES:
            return CHOICES[choice]
        case Unreadable(what=what, words=words, choice=choice):
            return _taken_back(words, choice, note.tenant.languages) or _lost(what)
        case Edited(body=None, caption=words):
            return _taken_back(words, "", note.tenant.languages)
    return await _worded(written(content), note, ports)


async def _worded(said: str, note: Note, ports: Ports) -> confirming.Act | None:
    """Return what the words *said* order, which may answer a question that is open."""
    if purpose := phrases.withdrawn(said, note.tenant.languages):
        return partial(rights.withdraw_one, purpose=purpose)
    command = orders.command(said, note.tenant.languages)
    if (asked := await pauses.standing(note, ports)) and (meant := _meant(said, command, asked)):
        return meant
    if command is None or command not in COMMANDS or not await _answers(command, note, ports):
        return None
    return COMMANDS[command]


def _taken_back(words: str, choice: str, languages: Sequence[str]) -> confirming.Act | None:
    """Return what is taken back from us, for certain; nothing else is read out of ruins."""
    if choice.startswith(TAKES_BACK) and choice in CHOICES:
        return CHOICES[choice]
    if purpose := phrases.withdrawn(words, languages):
        return partial(rights.withdraw_one, purpose=purpose)
    command = orders.command(words, languages)
    return COMMANDS[command] if command in URGENT else None


def _lost(what: str) -> confirming.Act | None:
    """Return how a human hears that something was taken back, and we cannot read what."""
    return partial(rights.human, reason=f"{what}.unreadable") if what in LOST else None


def _meant(said: str, command: Command | None, asked: str) -> confirming.Act | None:
    """Return what *said* answers to the question *asked*, which is open: only a button erases."""
    keep, title = KEEPS[asked]
    if buttons.titled(said, title):
        return keep
    if command is Command.GRANT and asked == pauses.WITHDRAW:
        return rights.withdraw
    return ASKED[asked] if command in {Command.GRANT, Command.REFUSE} else None


async def _answers(command: Command, note: Note, ports: Ports) -> bool:
    """Whether *command* is not a yes or a no to some other question, or a yes in passing."""
    if command is Command.GRANT and not isinstance(note.message.content, Text | Choice):
        return False  # a caption, or what a message was changed to, is no clear answer
    return command not in {Command.GRANT, Command.REFUSE} or await rights.asked(note, ports)
