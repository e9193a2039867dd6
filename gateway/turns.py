"""What each kind of update asks of us: an answer, an act of a person's rights, or nothing."""

from collections.abc import Sequence
from functools import partial

from gateway import consents, phrases, pipeline, receipts, rights
from gateway.errors import ConsentNeededError, LeaseLostError
from gateway.note import SPOKEN, Note
from gateway.phrases import Command
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
    Unsupported,
)

CHOICES = {
    rights.button(answer, purpose): partial(act, purpose=purpose)
    for answer, act in ((rights.GRANT, rights.grant), (rights.REFUSE, rights.refuse))
    for purpose in (SPOKEN, *PURPOSES)
}
COMMANDS = {
    Command.GRANT: rights.grant,
    Command.HUMAN: rights.human,
    Command.RECEIPT: receipts.send,
    Command.REFUSE: rights.refuse,
    Command.WITHDRAW: rights.withdraw,
}


def urgent(message: Message, languages: Sequence[str]) -> bool:
    """Whether *message* only takes a right back from us: it waits for no earlier turn."""
    match message.content:
        case Revoked():
            return True
        case Choice(id=choice):
            return choice in CHOICES and choice.startswith(rights.REFUSE)
        case Text(body=body):
            order = phrases.command(body, languages)
            return order is Command.WITHDRAW or phrases.withdrawn(body, languages) is not None
        case _:
            return False


async def act(note: Note, ports: Ports) -> None:
    """Do what *note* asks for; each branch may be run again after a crash."""
    match note.message.content:
        case Reaction():
            return
        case Revoked():
            await rights.forget(note, ports)
        case Edited(body=None):
            await rights.forget(note, ports)
        case Edited():
            await rights.forget(note, ports)
            await _answer(note, ports)
        case System():
            await rights.moved(note, ports)
        case Unsupported():
            await rights.tell(note, "unsupported", ports)
        case Choice(id=choice) if choice in CHOICES:
            await CHOICES[choice](note, ports)
        case Text(body=body) if purpose := phrases.withdrawn(body, note.tenant.languages):
            await rights.withdraw_one(note, ports, purpose)
        case Text(body=body) if command := await _command(body, note, ports):
            await COMMANDS[command](note, ports)
        case _:
            await _answer(note, ports)


async def _answer(note: Note, ports: Ports) -> None:
    """
    Answer *note*; if that needs a consent, ask for it and let the caller set the note aside.

    A no that came in behind *note* and passed it has answered the question: the note ends unheard.
    """
    try:
        await pipeline.answer(note, ports)
    except ConsentNeededError:
        if said := await consents.overtaken(note, ports):
            await rights.drop(note, said, ports)
            raise LeaseLostError(note.job.id) from None
        await rights.ask(note, ports)
        raise
    if note.spoken:
        await rights.ask_more(note, ports)


async def _command(body: str, note: Note, ports: Ports) -> Command | None:
    command = phrases.command(body, note.tenant.languages)
    if command in {Command.GRANT, Command.REFUSE} and not await rights.asked(note, ports):
        return None  # a "yes" to some other question
    return command
