"""Who is not served is told so in a sentence, once a day, and nothing else is processed."""

from collections.abc import AsyncIterator, Callable

import pytest
from support.desk import CONTROLLER, RAW_AUDIO_S, ROWS, TENANT, Desk
from support.policy_world import build

from audit.model import EventType
from gateway import conclude, declining, phrases, turns
from gateway.broker import Broker
from gateway.conclude import Case
from gateway.demo.graph import Person
from gateway.errors import LeaseLostError
from gateway.jobs import State
from gateway.note import Note
from gateway.schema import handovers
from gateway.whatsapp.payload import Content, Text, Unsupported
from policy import decide, jurisdictions
from policy.bundle import Bundle
from policy.consents.tables import consents
from policy.embedded import EmbeddedEngine
from policy.model import Asked, Decision, Question
from residency.registry import Registry

pytestmark = pytest.mark.anyio

SWISS = "41791234567"
TURKISH = "905012345678"
DAY_S = 86_400


def bundle(**changes: object) -> Bundle:
    """Return the rules of the desk's cell, whose tenant declines people abroad, with *changes*."""
    given = {
        "processors": Registry(ROWS).rows(),
        "tenants": {TENANT: {"abroad": "decline", "retention": {"raw_audio_seconds": RAW_AUDIO_S}}},
        "notices": [phrases.VERSION],
    }
    return build(**(given | changes))


@pytest.fixture
async def under(desk: Desk) -> AsyncIterator[Callable[[Bundle], None]]:
    """Yield what has the desk decide by the rules of a bundle."""
    engines: list[EmbeddedEngine] = []

    def rule(given: Bundle) -> None:
        engines.append(engine := EmbeddedEngine(given))

        async def ask(question: Question, kept: Callable[[Asked], None] | None = None) -> Decision:
            return await decide.decide(
                question, engine, facts=given.facts, deadline_s=10, kept=kept
            )

        desk.with_ports(decide=ask)

    yield rule
    for engine in engines:
        await engine.aclose()


@pytest.fixture
def declined(desk: Desk, under: Callable[[Bundle], None]) -> Callable[..., Person]:
    """Return what has a person write to the desk's cell, whose tenant declines people abroad."""
    under(bundle())
    update = {"abroad": "decline", "languages": ("de", "en")}
    tenant = desk.ports.tenants[TENANT].model_copy(update=update)
    desk.with_ports(tenants={TENANT: tenant})
    return lambda phone: desk.world.person(phone, line=desk.line)


async def run(desk: Desk, broker: Broker, content: Content, who: Person | None = None) -> Note:
    """Have *content* worked on to its end."""
    note = await desk.note(content, who)
    try:
        await turns.act(note, desk.ports)
    except Exception as exc:  # noqa: BLE001 - as the worker does
        await conclude.after(Case(exc, note.job, note, desk.ports, broker))
    else:
        await conclude.end(note.job, State.DONE, "answered", desk.ports)
    return note


def told(who: Person) -> list[str]:
    """Return the texts on *who*'s phone."""
    return [message.text for message in who.inbox if message.kind == "text"]


SENTENCES = "\n\n".join(
    phrases.say("declined", language, controller=CONTROLLER) for language in ("de", "en")
)


@pytest.mark.parametrize("phone", [SWISS, TURKISH, "882161234567"])
async def test_who_is_declined_is_told_so_and_nothing_else_is_done(
    desk: Desk, broker: Broker, declined: Callable[..., Person], phone: str
) -> None:
    """In two languages: no consent asked, nothing fetched, no human called."""
    who = declined(phone)

    note = await run(desk, broker, desk.recording(), who)

    assert told(who) == [SENTENCES]
    assert await desk.state(note.job.id) == (State.REFUSED, "person.declined")
    assert desk.fetched() == []
    assert desk.types("touch.began") == ["touch.began send-declined"]
    assert await desk.rows(handovers) == await desk.rows(consents) == []
    decided = [e for e in desk.trail.seen if e.type is EventType.POLICY_DECIDED]
    assert [(e.action, e.outcome) for e in decided] == [
        ("capture", "denied"),
        ("notice", "allowed"),
    ]


@pytest.mark.parametrize(
    "content", [Text(body="Hello"), Text(body="human"), Unsupported(what="image")], ids=repr
)
async def test_whatever_they_send_the_answer_is_the_same(
    desk: Desk, broker: Broker, declined: Callable[..., Person], content: Content
) -> None:
    """A picture that is answered with "please type", or a human, would be a service after all."""
    who = declined(SWISS)

    await run(desk, broker, content, who)

    assert told(who) == [SENTENCES]
    assert await desk.rows(handovers) == []


async def test_they_are_told_once_a_day(
    desk: Desk, broker: Broker, declined: Callable[..., Person]
) -> None:
    """Ten messages are not ten answers; tomorrow somebody may have forgotten."""
    who = declined(SWISS)
    for _ in range(3):
        await run(desk, broker, Text(body="Hello"), who)
    assert told(who) == [SENTENCES]

    desk.clock.move(DAY_S + 1)
    await run(desk, broker, Text(body="Hello"), who)

    assert told(who) == [SENTENCES] * 2


async def test_one_person_being_told_keeps_no_other_uninformed(
    desk: Desk, broker: Broker, declined: Callable[..., Person]
) -> None:
    """Once a day is once for each of them."""
    people = [declined(SWISS), declined(TURKISH)]

    for who in people:
        await run(desk, broker, Text(body="Hello"), who)

    assert [told(who) for who in people] == [[SENTENCES], [SENTENCES]]


async def test_a_declined_persons_stop_is_carried_out(
    desk: Desk, broker: Broker, declined: Callable[..., Person]
) -> None:
    """A right is everybody's: to be declined is no reason to be ignored."""
    who = declined(SWISS)

    await run(desk, broker, Text(body="STOP"), who)

    assert [row.state for row in await desk.rows(consents)] == ["withdrawn"]
    assert SENTENCES not in told(who)


async def test_people_of_the_controllers_law_are_served_as_ever(
    desk: Desk, broker: Broker, declined: Callable[..., Person]
) -> None:
    """A French number is under the German controller's law: it is not abroad."""
    who = declined("33612345678")

    await run(desk, broker, desk.recording(), who)

    assert [message.kind for message in who.inbox] == ["buttons"]


@pytest.mark.parametrize("phone", [SWISS, TURKISH, "919812345678", "16135550123", "447700900123"])
async def test_people_of_every_law_are_asked_for_consent_by_default(
    desk: Desk, broker: Broker, phone: str
) -> None:
    """The cell's own tenant serves whoever writes: a Swiss "Hello" was met with silence before."""
    who = desk.world.person(phone, line=desk.line)

    await run(desk, broker, desk.recording(), who)
    await run(desk, broker, Text(body="Hello"), who)

    assert [message.kind for message in who.inbox] == ["buttons", "text"]


async def test_whose_law_keeps_data_at_home_is_told_so(
    desk: Desk, broker: Broker, under: Callable[[Bundle], None]
) -> None:
    """Where the person's law wants their data in a country without a cell, no setting helps."""
    laws = jurisdictions.load()
    laws["CH"] = laws["CH"] | {"localises": "Art. 1"}
    under(bundle(tenants={TENANT: {}}, jurisdictions=laws))
    who = desk.world.person(SWISS, line=desk.line)

    note = await run(desk, broker, desk.recording(), who)

    assert told(who) == [phrases.say("declined", "en", controller=CONTROLLER)]
    assert await desk.state(note.job.id) == (State.REFUSED, "law.localises")


async def test_a_cell_that_stands_wrongly_refuses_nobody(
    desk: Desk, broker: Broker, under: Callable[[Bundle], None]
) -> None:
    """It is the operator's fault: what people wrote waits until it is mended."""
    laws = {code: law for code, law in jurisdictions.load().items() if code != "DE"}
    under(bundle(jurisdictions=laws))
    note = await desk.typed()

    with pytest.raises(Exception, match=r"controller\.law_missing") as caught:
        await turns.act(note, desk.ports)
    pause_s = await conclude.after(Case(caught.value, note.job, note, desk.ports, broker))

    assert pause_s is not None
    assert (await desk.state(note.job.id))[0] == "accepted"


async def test_a_lost_lease_tells_nobody(desk: Desk, declined: Callable[..., Person]) -> None:
    """Whoever holds the job by now tells them: twice would be once too often."""
    who = declined(SWISS)
    note = await desk.note(Text(body="Hello"), who)
    desk.clock.move(3_600)
    await desk.ports.jobs.claim(note.job.id, "w2")

    with pytest.raises(LeaseLostError):
        await declining.tell(note, desk.ports)

    assert told(who) == []
