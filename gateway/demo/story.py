"""
The story: four people, two companies, four jurisdictions, one evening.

Every ✓ was held against the running cells or their audit logs just before it was printed.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from audit.stores.folder import Folder
from audit.trail import Trail
from gateway.demo import town
from gateway.demo.claims import Claims
from gateway.demo.town import HERE, Resident, Town

PATIENCE_S = 60.0
SAME_REQUEST_S = 8.0
LATE_S = 60


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
    asked = await _message(anna, "buttons")
    fetched = [r for r in town.world.receipts if r.path.startswith("/_cdn")]
    claims.claim("She is asked for consent first.", holds="consent" in asked.text)
    claims.claim("Until she agrees, nobody fetches her recording.", holds=not fetched)
    await anna.person.press("consent.grant")
    text = await _message(anna, "text")
    claims.tell(f"Fernruf: {text.text}")
    claims.claim("The parked note is answered once she agrees.", holds="Which number" in text.text)
    voice = await _message(anna, "voice")
    claims.claim("The text comes first, the spoken answer beside it.", holds=text.at <= voice.at)


async def same_request(town: Town, claims: Claims) -> None:
    """Anna's second note, eight seconds later, completes the first one's request."""
    anna = town.residents["Anna"]
    claims.scene("2. Eight seconds later she sends a second note: only a number.")
    began = next(message.at for message in anna.person.inbox if message.kind == "text")
    await asyncio.sleep(max(0.0, SAME_REQUEST_S - (datetime.now(UTC) - began).total_seconds()))
    await anna.person.say(recording("digits_en_7"))
    text = await _message(anna, "text", 2)
    claims.tell(f"Fernruf: {text.text}")
    claims.claim("It completes the same request.", holds="putting you through" in text.text)
    digits = any(char.isdigit() for char in text.text)
    claims.claim("The number she spoke is nowhere in the answer.", holds=not digits)


async def delivered_twice(town: Town, claims: Claims) -> None:
    """Wei's note is delivered three times; he is answered once."""
    wei = town.residents["Wei"]
    claims.scene("3. Wei, in Singapore, is known by a user id only. WhatsApp delivers each of his")
    claims.tell("messages three times.")
    town.world.courier.copies = 3
    await _agree(wei, recording("psphinx_misc_en_goforward"))
    text = await _message(wei, "text")
    claims.tell(f"Brightline: {text.text}")
    await _message(wei, "voice")
    town.world.courier.copies = 1
    await asyncio.sleep(1.0)
    claims.claim("He is answered.", holds="10" in text.text)
    claims.claim("He is answered once, in text and in speech.", holds=_kinds(wei) == (1, 1, 1))


async def processor_down(town: Town, claims: Claims) -> None:
    """Beatriz's speech engine is killed; she is answered without leaving Brazil."""
    beatriz = town.residents["Beatriz"]
    claims.scene("4. Beatriz, in Brazil. Her note arrives just after the speech engine was killed.")
    await beatriz.person.say(recording("asterisk_es_conf-extended"))
    await _message(beatriz, "buttons")
    killed = _kill_engine(beatriz)
    claims.claim("The cell's speech-to-text process is killed (SIGKILL).", holds=killed)
    await beatriz.person.press("consent.grant")
    text = await _message(beatriz, "text")
    claims.tell(f"Fernruf: {text.text}")
    claims.claim("She is asked to type.", holds="escrib" in text.text)
    await beatriz.person.type("Prolonga la conferencia por favor")
    text = await _message(beatriz, "text", 2)
    claims.tell(f"Fernruf: {text.text}")
    claims.claim("What she types is answered.", holds="media hora" in text.text)
    touches = [leaf for leaf in await _leaves(beatriz) if leaf["type"] == "touch.ended"]
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
    text = await _message(dana, "text")
    claims.tell(f"Brightline: {text.text}")
    claims.claim("She is answered.", holds="7 of clubs" in text.text)
    await _message(dana, "voice")
    await dana.person.type("stop")
    text = await _message(dana, "text", 2)
    claims.tell(f"Brightline: {text.text}")
    claims.claim("Her withdrawal is confirmed.", holds="withdrawn" in text.text)
    downloads = _downloads(town, dana)
    await dana.person.say(recording("psphinx_cards_en_003"))
    await _message(dana, "buttons", 2)
    claims.claim("Her next note is not fetched.", holds=_downloads(town, dana) == downloads)


async def deletion(town: Town, claims: Claims) -> None:
    """Dana's recording falls due and is destroyed."""
    dana = town.residents["Dana"]
    claims.scene("6. Brightline keeps recordings for 45 seconds only. Dana's falls due.")
    stored = next(leaf for leaf in await _leaves(dana) if leaf["type"] == "artifact.stored")
    due = datetime.fromtimestamp(stored["detail"]["due"], UTC)
    claims.tell(f"Due at {due:%H:%M:%S} UTC.")
    gone = await _until(lambda: _destroyed(dana, stored["artifact"]), PATIENCE_S + 45)
    detail = gone["detail"] if gone else {}
    claims.claim(
        "It is destroyed, and reading it back failed.", holds=detail.get("verified") is True
    )
    claims.claim("Not a minute late.", holds=detail.get("late_seconds", 99) < LATE_S)


async def where(town: Town, claims: Claims) -> None:
    """Ask where Anna's recording was in the minute in which it was transcribed."""
    anna = town.residents["Anna"]
    claims.scene("7. A data protection officer asks about Anna's first recording.")
    leaves = await _leaves(anna)
    heard = next(
        leaf for leaf in leaves if leaf.get("action") == "transcribe" and "outcome" not in leaf
    )
    began = datetime.fromtimestamp(heard["ts"] / 1e6, UTC)
    at = (began + timedelta(milliseconds=1)).isoformat()
    claims.tell(f"$ vocustody where {heard['artifact']} --at {at}")
    status, said = await _vocustody(anna, "where", heard["artifact"], "--at", at)
    claims.tell(said.strip())
    holds = status == 0 and heard["processor"] in said and "eu-central" in said
    claims.claim("The answer names the place and the processor.", holds=holds)


async def proof(town: Town, claims: Claims) -> None:
    """Export Anna's log, verify it, flip one bit, verify again."""
    anna = town.residents["Anna"]
    claims.scene("8. The log is exported and verified; then one bit of it is flipped.")
    pack = anna.cell.config.parent / "pack"
    status, said = await _vocustody(anna, "export-log", str(pack))
    claims.claim(f"The running cell's log is exported ({said.strip()}).", holds=status == 0)
    status, said = await _vocustody(anna, "verify", str(pack))
    claims.tell(said.strip().splitlines()[0])
    claims.claim("verify: every leaf, tile and signature holds.", holds=status == 0)
    bundle = next(path for path in (pack / "tile" / "entries").rglob("*") if path.is_file())
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.write_bytes(content)
    status, said = await _vocustody(anna, "verify", str(pack))
    claims.tell(said.strip().splitlines()[-1])
    claims.claim("verify: the flipped bit is found.", holds=status == 1)


async def kept_apart(town: Town, claims: Claims) -> None:
    """Each cell's log names its own region only."""
    claims.scene("9. Four jurisdictions, kept apart (regions as the registry declares them).")
    for resident in town.residents.values():
        leaves = await _leaves(resident)
        regions = {leaf["region"] for leaf in leaves if "region" in leaf}
        own = regions == {resident.place.region}
        count = len([leaf for leaf in leaves if leaf["type"] == "touch.began"])
        claims.claim(
            f"{resident.place.region}: {count} touches, each by a processor of that region.",
            holds=own,
        )


SCENES: tuple[Callable[[Town, Claims], Awaitable[None]], ...] = (
    first_note,
    same_request,
    delivered_twice,
    processor_down,
    withdrawal,
    deletion,
    where,
    proof,
    kept_apart,
)


async def _agree(resident: Resident, note: bytes) -> None:
    await resident.person.say(note)
    await _message(resident, "buttons")
    await resident.person.press("consent.grant")


async def _message(resident: Resident, kind: str, nth: int = 1) -> Any:
    person = resident.person

    def is_it(message: Any) -> bool:
        found = [each for each in person.inbox if each.kind == kind]
        return len(found) >= nth and message is found[nth - 1]

    return await person.expect(is_it, within_s=PATIENCE_S)


def _kinds(resident: Resident) -> tuple[int, int, int]:
    kinds = [message.kind for message in resident.person.inbox]
    return kinds.count("buttons"), kinds.count("text"), kinds.count("voice")


def _downloads(town: Town, resident: Resident) -> int:
    number = resident.line.phone_number_id
    return sum(
        receipt.phone_number_id == number and receipt.content_bytes > 0 and receipt.method == "GET"
        for receipt in town.world.receipts
    )


async def _leaves(resident: Resident) -> list[dict[str, Any]]:
    async with await Trail.read(Folder(resident.audit, resident.place.region)) as trail:
        _, head = await trail.reader().head()
        return [json.loads(entry) for entry in await trail.reader().entries(0, head.size)]


async def _destroyed(resident: Resident, artifact: str) -> dict[str, Any] | None:
    for leaf in await _leaves(resident):
        if leaf["type"] == "artifact.destroyed" and leaf["artifact"] == artifact:
            return leaf
    return None


async def _until(
    look: Callable[[], Awaitable[dict[str, Any] | None]], within_s: float
) -> dict[str, Any] | None:
    try:
        async with asyncio.timeout(within_s):
            while True:
                if found := await look():
                    return found
                await asyncio.sleep(0.5)
    except TimeoutError:
        return None


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


async def _vocustody(resident: Resident, *command: str) -> tuple[int, str]:
    config = [] if command[0] == "verify" else ["--config", str(resident.cell.config)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *command, *config,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    return await process.wait(), said.decode()


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
