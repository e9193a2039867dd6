"""What each kind of update asks of us: an answer, an act of a person's rights, or nothing."""

from collections.abc import Sequence

from gateway import phrases, pipeline, rights
from gateway.errors import ConsentNeededError
from gateway.note import Note
from gateway.phrases import Command
from gateway.ports import Ports
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

CHOICES = {rights.GRANT: rights.grant, rights.REFUSE: rights.refuse}
COMMANDS = {
    Command.GRANT: rights.grant,
    Command.HUMAN: rights.human,
    Command.REFUSE: rights.refuse,
    Command.WITHDRAW: rights.withdraw,
}


def urgent(message: Message, languages: Sequence[str]) -> bool:
    """Whether *message* only takes a right back from us: it waits for no earlier turn."""
    match message.content:
        case Revoked() | Choice(id=rights.REFUSE):
            return True
        case Text(body=body):
            return phrases.command(body, languages) is Command.WITHDRAW
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
        case Text(body=body) if command := await _command(body, note, ports):
            await COMMANDS[command](note, ports)
        case _:
            await _answer(note, ports)


async def _answer(note: Note, ports: Ports) -> None:
    """Answer *note*; if that needs a consent, ask for it and let the caller set the note aside."""
    try:
        await pipeline.answer(note, ports)
    except ConsentNeededError:
        await rights.ask(note, ports)
        raise


async def _command(body: str, note: Note, ports: Ports) -> Command | None:
    command = phrases.command(body, note.tenant.languages)
    if command in {Command.GRANT, Command.REFUSE} and not await rights.asked(note, ports):
        return None  # a "yes" to some other question
    return command
