"""
Messages in a group: several people hear them, so they are no conversation with us alone.

- Nobody is asked for a consent in front of others, nothing is fetched, nothing is answered: not in
  the group, and not to the speaker, who did not write to us alone.
- Such a message is counted and not kept. The log tells it once a day for each number of a tenant.
- Where the tenant wants it, a human hears that there is one (`groups = "hand_over"`).
- A clear STOP withdraws the speaker's own consents: it costs them one question if they did not
  mean us, and their right if they did. It is not confirmed; the leaf of the withdrawal is there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Protocol

from gateway import handover, log, orders, phrases, rights
from gateway.note import Note
from gateway.orders import Command
from gateway.ports import Ports
from gateway.sections import Groups
from gateway.settings import Tenant
from gateway.whatsapp.payload import Message, System, written

REASON = "group.message"


class Counted(Protocol):
    """The part of the metrics that is used here."""

    def group_message(self, tenant: str, outcome: str) -> None:
        """Count a message in a group."""
        ...


@dataclass(slots=True, kw_only=True)
class Doorkeeper:
    """Tells at the door which messages are taken in: all but those in a group that ask nothing."""

    tenants: Mapping[str, Tenant]
    metrics: Counted
    now: Callable[[], datetime]
    _told: dict[tuple[str, str], date] = field(default_factory=dict)

    def admits(self, tenant: str, message: Message) -> bool:
        """Whether *message* is taken in; what is not is counted, and told once a day."""
        if not in_group(message):
            return True
        chosen = self.tenants[tenant]
        withdraws = takes_back(message, chosen)
        taken = withdraws or chosen.groups is Groups.HAND_OVER
        outcome = "withdrawal" if withdraws else chosen.groups.value
        self.metrics.group_message(tenant, outcome)
        self._tell(tenant, message.phone_number_id, outcome)
        return taken

    def _tell(self, tenant: str, number: str, outcome: str) -> None:
        today = self.now().date()
        if self._told.get((tenant, number)) == today:
            return
        self._told[tenant, number] = today
        log.get().warning("group.message", tenant=tenant, outcome=outcome)


def in_group(message: Message) -> bool:
    """Whether *message* was said in a group; what WhatsApp itself says of a person never is."""
    return message.group and not isinstance(message.content, System)


def takes_back(message: Message, tenant: Tenant) -> bool:
    """Whether *message* clearly withdraws a consent."""
    said = written(message.content)
    if phrases.withdrawn(said, tenant.languages) is not None:
        return True
    return orders.command(said, tenant.languages) is Command.WITHDRAW


async def act(note: Note, ports: Ports) -> str:
    """Do what a message in a group asks for, say nothing, and return why its job ends."""
    if not takes_back(note.message, note.tenant):
        if note.tenant.groups is Groups.HAND_OVER:
            await handover.open_row(note, REASON, ports)
        return REASON
    purpose = phrases.withdrawn(written(note.message.content), note.tenant.languages)
    if purpose is not None:
        await rights.withdraw_one(note, ports, purpose)
    else:
        await rights.withdraw(note, ports)
    return REASON
