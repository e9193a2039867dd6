"""Which of the operator's accounts WhatsApp accepts: few try, the others wait, all go on."""

import pytest
from support.desk import TENANT, Desk

from gateway.accounts import (
    FIRST_PAUSE_S,
    MOST_PAUSE_S,
    PROBE_S,
    REMEDIES,
    Accounts,
    Part,
    part,
    pause_s,
    watched,
)
from gateway.errors import AccountFaultError, ChannelBusyError
from gateway.whatsapp.codes import CODES, Means

NUMBER = "106540352242922"
TOKEN = AccountFaultError("190", word="account.token")


async def call(
    found: Accounts, job: str, action: str = "send-text", exc: Exception | None = None
) -> None:
    """Call WhatsApp for *job*, which answers, or with *exc*."""
    async with watched(found, NUMBER, TENANT, action, job):
        if exc:
            raise exc


async def closed(desk: Desk, action: str = "send-text") -> Accounts:
    """Return the desk's accounts, of which one call was refused."""
    with pytest.raises(AccountFaultError):
        await call(desk.ports.accounts, "j_first", action, TOKEN)
    return desk.ports.accounts


def test_tries_get_rarer_and_stay_frequent_enough() -> None:
    """Nobody storms an account that is refused; nobody waits for long once it is mended."""
    assert [pause_s(n) for n in (1, 2, 3, 4, 5, 500)] == [10, 20, 40, 80, MOST_PAUSE_S, 120]


@pytest.mark.parametrize(
    ("action", "needs"),
    [
        ("fetch", Part.MEDIA),
        ("delete-media", Part.MEDIA),
        ("upload", Part.UPLOAD),
        *((f"send-{kind}", Part.MESSAGES) for kind in ("text", "voice", "notice", "typing")),
    ],
)
def test_a_number_fails_in_parts(action: str, needs: Part) -> None:
    """A media host that nobody listed keeps no typed question from its answer."""
    assert part(action) is needs


def test_every_fault_has_its_remedy() -> None:
    """Whoever is woken at night gets an instruction, not a number."""
    words = {each.word for each in CODES.values() if each.means is Means.ACCOUNT}

    assert words - set(REMEDIES) == set()


@pytest.mark.anyio
async def test_after_one_refusal_nobody_asks(desk: Desk) -> None:
    """A thousand waiting notes must not become a thousand refused calls."""
    found = await closed(desk)

    for job in ("j_1", "j_2", "j_3"):
        with pytest.raises(AccountFaultError, match="190"):
            await call(found, job)


@pytest.mark.anyio
async def test_other_parts_stay_open(desk: Desk) -> None:
    """Text goes out while uploads are refused."""
    found = await closed(desk, "upload")

    await call(found, "j_1", "send-text")
    with pytest.raises(AccountFaultError):
        await call(found, "j_1", "upload")


@pytest.mark.anyio
async def test_one_tries_when_it_is_time_and_opens_it_for_all(desk: Desk) -> None:
    """The first answer is the proof."""
    found = await closed(desk)
    desk.clock.move(FIRST_PAUSE_S)
    number = next(found.due()).number

    found.admit(number, Part.MESSAGES, "j_1")
    with pytest.raises(AccountFaultError):
        found.admit(number, Part.MESSAGES, "j_2")
    assert list(found.due()) == []
    await call(found, "j_1")

    assert found.faults() == ()
    await call(found, "j_2")


@pytest.mark.anyio
async def test_a_try_that_says_nothing_leaves_it_closed(desk: Desk) -> None:
    """A limit, or silence, is no sign that anything was mended."""
    found = await closed(desk)
    desk.clock.move(FIRST_PAUSE_S)

    with pytest.raises(ChannelBusyError):
        await call(found, "j_1", exc=ChannelBusyError("130429"))

    with pytest.raises(AccountFaultError):
        await call(found, "j_2")
    desk.clock.move(FIRST_PAUSE_S)
    await call(found, "j_2")


@pytest.mark.anyio
async def test_a_try_that_never_came_back_is_not_waited_for(desk: Desk) -> None:
    """Its worker may have been killed."""
    found = await closed(desk)
    desk.clock.move(FIRST_PAUSE_S)
    found.admit(NUMBER, Part.MESSAGES, "j_killed")

    desk.clock.move(PROBE_S)

    assert [fault.code for fault in found.due()] == ["190"]
    await call(found, "j_2")


@pytest.mark.anyio
@pytest.mark.parametrize("action", ["send-typing", "delete-media"])
async def test_a_courtesy_proves_nothing(desk: Desk, action: str) -> None:
    """That typing is shown does not say that a message would be taken, or paid for."""
    found = await closed(desk, "send-text" if action == "send-typing" else "fetch")

    with pytest.raises(AccountFaultError):
        await call(found, "j_1", action)
    desk.clock.move(FIRST_PAUSE_S)
    with pytest.raises(AccountFaultError):
        await call(found, "j_1", action)

    assert len(found.faults()) == 1


@pytest.mark.anyio
async def test_it_outlives_a_restart(desk: Desk) -> None:
    """Or each start would ask with everybody at once."""
    await closed(desk)
    again = Accounts(desk.ports.engine, desk.ports.metrics, now=desk.clock)

    await again.load()

    [fault] = again.faults()
    assert (fault.number, fault.code, fault.tenant) == (NUMBER, "190", TENANT)
    again.admit(NUMBER, Part.MESSAGES, "j_1")
    with pytest.raises(AccountFaultError):
        again.admit(NUMBER, Part.MESSAGES, "j_2")
    await call(again, "j_1")
    third = Accounts(desk.ports.engine, desk.ports.metrics, now=desk.clock)
    await third.load()
    assert third.faults() == ()


@pytest.mark.anyio
async def test_a_fault_told_by_a_status_is_not_over_with_an_accepted_call(desk: Desk) -> None:
    """WhatsApp accepts what it then does not deliver for want of payment: a call proves nothing."""
    found = desk.ports.accounts
    unpaid = AccountFaultError("131042", word="account.payment")
    await found.refused(NUMBER, Part.MESSAGES, TENANT, unpaid, by_status=True)
    desk.clock.move(FIRST_PAUSE_S)

    await call(found, "j_1")

    with pytest.raises(AccountFaultError):
        await call(found, "j_2")
    await found.answered(NUMBER, Part.MESSAGES, by_status=True)
    await call(found, "j_2")


@pytest.mark.anyio
async def test_what_is_told_of_it_holds_no_whole_number(desk: Desk) -> None:
    """A finding goes into the log for years."""
    found = await closed(desk)

    [fault] = found.faults()

    assert fault.told == f"account.token (190): messages of {TENANT}'s ...2922"
    assert NUMBER not in fault.told
