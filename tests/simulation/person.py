"""
What a person said, as they mean it: the simulation's own idea, made of no code of the product.

It knows of each update whether it was acknowledged, and what the sender expressed by it. The
product's ledger, log, stores and messages are held against that.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

NUMBER = "4915112345678"
NEVER = datetime.min.replace(tzinfo=UTC)


class Says(StrEnum):
    """What an update expresses; kept sorted."""

    ELSE = "else"  # something else: a greeting, a question
    ERASE = "erase"
    NO = "no"
    REVOKE = "revoke"
    VOICE = "voice"
    YES = "yes"


@dataclass(slots=True)
class Said:
    """One acknowledged update: its job, what it says, when, and how old it was then."""

    job: str
    says: Says
    at: datetime
    written: datetime
    late: bool
    media: str = ""
    calm: bool = True  # WhatsApp was in no mood while it was worked on
    lost: bool = False  # the database that knew it was put back to an older day
    shown_before: int = 0
    asked_before: bool = False  # the question had been seen within the hour


@dataclass(slots=True)
class Mind:
    """The person: what they said in the order in which it was acknowledged, and what holds now."""

    said: list[Said] = field(default_factory=list)
    agrees: bool = False
    decided: datetime = NEVER
    refused_last: bool = False
    erased: list[str] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)

    def copy(self) -> "Mind":
        """Return this mind as it is now."""
        return Mind(
            list(self.said),
            self.agrees,
            self.decided,
            self.refused_last,
            list(self.erased),
            list(self.revoked),
            list(self.withdrawn),
        )

    def hear(self, one: Said) -> None:
        """Take note of *one*, acknowledged just now: what was written last is what they want."""
        self.said.append(one)
        if one.says in {Says.YES, Says.NO} and one.written >= self.decided:
            self.decided = one.written
            self.agrees = one.says is Says.YES
            self.refused_last = not self.agrees

    def withdraws(self, no: Said) -> None:
        """Note that what was made of their recordings must go, if *no* was their last word."""
        if no.written >= self.decided:
            self.withdrawn = [each.job for each in self.said if each.says is Says.VOICE]

    def vanishes(self, subject: str) -> None:
        """Note that *subject* was erased: whoever writes next is somebody else."""
        self.erased.append(subject)
        self.said.clear()
        self.withdrawn.clear()
        self.revoked.clear()
        self.agrees = self.refused_last = False
        self.decided = NEVER
