"""
The story: four people, two companies, four jurisdictions, one evening.

Every ✓ was held against the running cells or their audit logs just before it was printed.
"""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from gateway.demo import evidence, town, watching
from gateway.demo.claims import Claims
from gateway.demo.town import HERE, Resident, Town

SAME_REQUEST_S = 8.0


async def play(*, leave: bool) -> int:
    """Play the story; then leave, or serve until interrupted. 0 if every claim held."""
    claims = Claims()
    directory = Path(tempfile.mkdtemp(prefix="vocustody-demo-"))
    try:
        claims.scene("Four cells start: Germany, Singapore, Brazil, the United States.")
        claims.tell("One machine stands in for four regions; each cell is its own process, with")
        claims.tell("its own registry rows, keys, database, broker and audit log.")
        claims.tell("WhatsApp is a simulator that speaks the Cloud API; every voice note is a")
        claims.tell("real recording of a person (licences: gateway/demo/speech/README.md).")
        async with town.built(directory) as built:
            for scene in SCENES:
                await scene(built, claims)
            _sum_up(claims)
            if not leave:
                await _serve(built, claims)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if claims.failed else 0


def recording(name: str) -> bytes:
    """Return one of the shipped recordings."""
    return (HERE / "speech" / f"{name}.ogg").read_bytes()


async def first_note(town: Town, claims: Claims) -> None:
    """Anna in Berlin is asked, agrees, and is answered in text and speech."""
    anna = town.residents["Anna"]
    claims.scene("1. Anna, in Berlin, sends her first voice note to Fernruf GmbH.")
    await anna.person.say(recording("asterisk_en_transfer"))
    asked = await watching.message(anna, "buttons")
    fetched = [r for r in town.world.receipts if r.path.startswith("/_cdn")]
    claims.claim("She is asked for consent first.", holds="consent" in asked.text)
    claims.claim("Until she agrees, nobody fetches her recording.", holds=not fetched)
    await anna.person.press("consent.grant")
    text = await watching.message(anna, "text")
    claims.tell(f"Fernruf: {text.text}")
    claims.claim("The parked note is answered once she agrees.", holds="Which number" in text.text)
    voice = await watching.message(anna, "voice")
    claims.claim("The text comes first, the spoken answer beside it.", holds=text.at <= voice.at)


async def same_request(town: Town, claims: Claims) -> None:
    """Anna's second note, eight seconds later, completes the first one's request."""
    anna = town.residents["Anna"]
    claims.scene("2. Eight seconds later she sends a second note: only a number.")
    began = next(message.at for message in anna.person.inbox if message.kind == "text")
    await asyncio.sleep(max(0.0, SAME_REQUEST_S - (datetime.now(UTC) - began).total_seconds()))
    await anna.person.say(recording("digits_en_7"))
    text = await watching.message(anna, "text", 2)
    claims.tell(f"Fernruf: {text.text}")
    claims.claim("It completes the same request.", holds="put through" in text.text)
    digits = any(char.isdigit() for char in text.text)
    claims.claim("The number she spoke is nowhere in the answer.", holds=not digits)


async def delivered_twice(town: Town, claims: Claims) -> None:
    """Wei's note is delivered three times; he is answered once."""
    wei = town.residents["Wei"]
    claims.scene("3. Wei, in Singapore, is known by a user id only. WhatsApp delivers each of his")
    claims.tell("messages three times.")
    town.world.courier.copies = 3
    await _agree(wei, recording("psphinx_misc_en_goforward"))
    text = await watching.message(wei, "text")
    claims.tell(f"Brightline: {text.text}")
    await watching.message(wei, "voice")
    town.world.courier.copies = 1
    await asyncio.sleep(1.0)
    claims.claim("He is answered.", holds="10" in text.text)
    claims.claim("He is answered once, in text and in speech.", holds=_kinds(wei) == (1, 1, 1))


async def processor_down(town: Town, claims: Claims) -> None:
    """Beatriz's speech engine is killed; she is answered without leaving Brazil."""
    beatriz = town.residents["Beatriz"]
    claims.scene("4. Beatriz, in Brazil. Her note arrives just after the speech engine was killed.")
    await beatriz.person.say(recording("asterisk_es_conf-extended"))
    await watching.message(beatriz, "buttons")
    killed = _kill_engine(beatriz)
    claims.claim("The cell's speech-to-text process is killed (SIGKILL).", holds=killed)
    await beatriz.person.press("consent.grant")
    text = await watching.message(beatriz, "text")
    claims.tell(f"Fernruf: {text.text}")
    claims.claim("She is asked to type.", holds="escrib" in text.text)
    await beatriz.person.type("Prolonga la conferencia por favor")
    text = await watching.message(beatriz, "text", 2)
    claims.tell(f"Fernruf: {text.text}")
    claims.claim("What she types is answered.", holds="media hora" in text.text)
    touches = [leaf for leaf in await watching.leaves(beatriz) if leaf["type"] == "touch.ended"]
    failed = [leaf for leaf in touches if leaf["action"] == "transcribe"]
    regions = {leaf["region"] for leaf in touches}
    claims.claim(
        "The failed attempt is on record as a touch.",
        holds=[leaf["outcome"] for leaf in failed] == ["raised"],
    )
    claims.claim(
        "On record: every touch was by a processor of sa-brazil.", holds=regions == {"sa-brazil"}
    )


async def withdrawal(town: Town, claims: Claims) -> None:
    """Dana is answered, withdraws, and her next note stays unopened."""
    dana = town.residents["Dana"]
    claims.scene("5. Dana, in the United States, is answered, and then writes: stop.")
    await _agree(dana, recording("psphinx_cards_en_003"))
    text = await watching.message(dana, "text")
    claims.tell(f"Brightline: {text.text}")
    claims.claim("She is answered.", holds="7 of clubs" in text.text)
    await watching.message(dana, "voice")
    await dana.person.type("stop")
    text = await watching.message(dana, "text", 2)
    claims.tell(f"Brightline: {text.text}")
    claims.claim("Her withdrawal is confirmed.", holds="withdrawn" in text.text)
    stored = next(leaf for leaf in await watching.leaves(dana) if leaf["type"] == "artifact.stored")
    gone = await watching.destroyed(dana, stored["artifact"])
    due = stored["detail"]["due"]
    claims.claim(
        "Her recording is destroyed at once, hours before its clock would have run out.",
        holds=gone is not None and gone["ts"] / 1e6 < due - 3600,
    )
    downloads = _downloads(town, dana)
    await dana.person.say(recording("psphinx_cards_en_003"))
    await watching.message(dana, "buttons", 2)
    claims.claim("Her next note is not fetched.", holds=_downloads(town, dana) == downloads)


SCENES: tuple[Callable[[Town, Claims], Awaitable[None]], ...] = (
    first_note,
    same_request,
    delivered_twice,
    processor_down,
    withdrawal,
    evidence.deletion,
    evidence.receipt_asked,
    evidence.where,
    evidence.why,
    evidence.proof,
    evidence.kept_apart,
    evidence.erased,
)


async def _agree(resident: Resident, note: bytes) -> None:
    await resident.person.say(note)
    await watching.message(resident, "buttons")
    await resident.person.press("consent.grant")


def _kinds(resident: Resident) -> tuple[int, int, int]:
    kinds = [message.kind for message in resident.person.inbox]
    return kinds.count("buttons"), kinds.count("text"), kinds.count("voice")


def _downloads(town: Town, resident: Resident) -> int:
    number = resident.line.phone_number_id
    return sum(
        receipt.phone_number_id == number and receipt.content_bytes > 0 and receipt.method == "GET"
        for receipt in town.world.receipts
    )


def _kill_engine(resident: Resident) -> bool:
    """Kill the cell's speech-to-text child: of its engines, the one with the most memory."""
    engines = [
        pid
        for pid in _children(resident.cell.pid)
        if b"residency.processors" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    if not engines:
        return False
    os.kill(max(engines, key=_memory), signal.SIGKILL)
    return True


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def _memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


def _sum_up(claims: Claims) -> None:
    claims.scene(f"{claims.held} claims held, {len(claims.failed)} did not.")
    for failed in claims.failed:
        claims.tell(f"did not hold: {failed}")


async def _serve(town: Town, claims: Claims) -> None:
    claims.scene("The four cells keep serving. Ctrl-C ends them and removes everything.")
    for resident in town.residents.values():
        claims.tell(f"{resident.place.region}: {resident.cell.url}")
        claims.tell(f"  vocustody notes --config {resident.cell.config}")
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stopped.set)
    await stopped.wait()
