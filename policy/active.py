"""
The release in force: facts and engine behind one reference.

- A decision, or a verdict on who may do what, ends with the release it began with; an engine is
  closed after its last use.
- A server swaps by itself. Until it does, its answers are held against the release in force;
  when it first answers with the *staged* one, which has passed the same gate, that one is in
  force from then on. An answer of any other revision is undecided: nothing is ever mixed.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from policy import access, decide
from policy.access import Approval, Request, Verdict
from policy.model import Asked, Decision, Facts, Question, Undecided
from policy.ports import PolicyEngine

Kept = Callable[[Asked], None]
Found = TypeVar("Found", bound=Decision | Verdict)
OTHER_REVISION = ("answer.revision",)  # only an undecided answer has this reason


@dataclass(slots=True, eq=False, kw_only=True)
class Release:
    """One bundle's facts, the engine that has it, and how many decisions use it now."""

    facts: Facts
    engine: PolicyEngine
    close: Callable[[], Awaitable[None]] | None = None
    _users: int = field(default=0, init=False)
    _over: bool = field(default=False, init=False)

    async def ask(
        self, others: tuple["Release", ...], by: Callable[[PolicyEngine, Facts], Awaitable[Found]]
    ) -> Found:
        """Return what *by* finds by the facts of this release or of that other which answered."""
        self._users += 1
        try:
            heard = _Heard(self.engine)
            for release in (self, *others):
                found = await by(heard, release.facts)
                if not _of_another(found):
                    break
            return found
        finally:
            self._users -= 1
            await self._close_unused()

    async def retire(self) -> None:
        """Close the engine now, or after its last use."""
        self._over = True
        await self._close_unused()

    async def _close_unused(self) -> None:
        if self._over and not self._users and self.close is not None:
            close, self.close = self.close, None
            await close()


class Active:
    """
    What decides. Belongs to one event loop.

    *strange* is called when a server answers with a revision that nobody has verified: perhaps
    the source has published meanwhile.
    """

    def __init__(
        self,
        release: Release,
        *,
        strange: Callable[[], None] = lambda: None,
        deadline_s: float = decide.DEADLINE_S,
    ) -> None:
        self._held: tuple[Release, ...] = (release,)
        self._deadline_s = deadline_s
        self._strange = strange

    @property
    def facts(self) -> Facts:
        """Return the facts of the release in force."""
        return self._held[0].facts

    @property
    def engine(self) -> str:
        """Return the name of what evaluates it."""
        return self._held[0].engine.name

    @property
    def staged(self) -> Facts | None:
        """Return the facts of what the server is expected to swap to, or None."""
        return self._held[1].facts if len(self._held) > 1 else None

    async def decide(self, question: Question, kept: Kept | None = None) -> Decision:
        """Return what the release in force decides on *question*; *kept* as in `decide.decide`."""
        asked: list[Asked] = []

        async def by(engine: PolicyEngine, facts: Facts) -> Decision:
            return await decide.decide(
                question, engine, facts=facts, deadline_s=self._deadline_s, kept=asked.append
            )

        found = await self._ask(by)
        if kept is not None and asked:
            kept(asked[-1])
        return found

    async def access(
        self, request: Request, *, now: int, approvals: Sequence[Approval] = ()
    ) -> Verdict:
        """Return what the release in force says to *request* at *now* (epoch seconds)."""

        async def by(engine: PolicyEngine, facts: Facts) -> Verdict:
            return await access.verdict(
                request,
                engine,
                facts=facts,
                now=now,
                approvals=approvals,
                deadline_s=self._deadline_s,
            )

        return await self._ask(by)

    async def _ask(self, by: Callable[[PolicyEngine, Facts], Awaitable[Found]]) -> Found:
        held = self._held
        found = await held[0].ask(held[1:], by)
        if _of_another(found):
            self._strange()
        elif found.provenance.revision != held[0].facts.revision and self._held is held:
            self._held = held[1:]
        return found

    async def swap(self, release: Release) -> None:
        """Put *release* in force for every decision that begins from now on."""
        before, self._held = self._held, (release,)
        for old in before:
            await old.retire()

    async def stage(self, release: Release) -> None:
        """Expect the server to answer with *release* from now on, or still as it did."""
        before, self._held = self._held, (self._held[0], release)
        for old in before[1:]:
            await old.retire()

    async def unstage(self) -> None:
        """Expect the server to stay with the release in force."""
        before, self._held = self._held, self._held[:1]
        for old in before[1:]:
            await old.retire()

    async def aclose(self) -> None:
        """Close what is held."""
        for release in self._held:
            await release.retire()


def _of_another(found: Decision | Verdict) -> bool:
    return isinstance(found, Undecided) and found.reasons == OTHER_REVISION


class _Heard:
    """One answer of *engine*, to be held against several releases."""

    def __init__(self, engine: PolicyEngine) -> None:
        self.name = engine.name
        self._engine = engine
        self._answer: list[Any] = []

    async def evaluate(self, entrypoint: str, question: Mapping[str, Any]) -> Any:
        """See `PolicyEngine.evaluate`."""
        if not self._answer:
            self._answer.append(await self._engine.evaluate(entrypoint, question))
        return self._answer[0]
