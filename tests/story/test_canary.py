"""
What a person said, typed or is reachable at is nowhere in clear: disk, broker, logs, metrics.

Every scan is void unless the same scanner, over the same places, finds a planted control in
every form.
"""

import base64
import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from support import scanner
from support.cell import NOTE, Town
from support.scanner import Hit
from support.stage import PHONE, metrics, received, scripted, staged, vocustody

from gateway.audio import child
from gateway.demo.graph import GraphWorld

TYPED = "Quokka Zitrön frühstückt at the green lighthouse"
SPOKEN = "Ocelot Ümlaut dreams of 17 marmalade bridges"
CARD = "4111111111111111"
SPACED_CARD = "4111 1111 1111 1111"
NAME = "Ada Lovelace-Kanari"
CONTROL = "Control Wörd 5500 0000 0000 0004"
SHARED = ("/tmp", "/var/tmp", "/dev/shm")
NOT_THE_CELLS = ("pytest-", "bash_jobs", "vocustody-postgres-")


class Trap:
    """A cell, where it can write, and what must not be found there."""

    def __init__(self, town: Town, temporary: Path) -> None:
        self.town = town
        self.temporary = temporary
        self.secrets: dict[str, Mapping[str, bytes]] = {}
        self._before = set(_shared())

    def watch(self, name: str, text: str) -> None:
        """Search for *text* from now on."""
        self.secrets[name] = scanner.forms(text)

    def watch_bytes(self, name: str, content: bytes) -> None:
        """Search for the beginning of *content*, and for parts of it, from now on."""
        self.secrets[f"{name}, head"] = scanner.of_bytes(content[:64])
        for index, window in enumerate(scanner.windows(content, 8)):
            self.secrets[f"{name}, part {index}"] = scanner.of_bytes(window)

    def places(self) -> dict[str, bytes]:
        """Return everything the cell wrote that is not a secret it was given."""
        home = self.town.cell.config.parent
        roots = [home / "data", home / "serve.log", self.temporary]
        return scanner.files([*roots, *(path for path in _shared() if path not in self._before)])

    def hits(self, **texts: str) -> list[Hit]:
        """Return what was found; void unless the control was, in every form."""
        control = scanner.forms(CONTROL)
        planted = self.town.cell.config.parent / "data" / "control"
        planted.write_bytes(b"\n".join(control.values()))
        places = self.places() | {name: text.encode() for name, text in texts.items()}
        planted.unlink()
        seen = {hit.form for hit in scanner.scan(places, {"control": control})}
        assert seen == set(control), f"VOID: not found: {set(control) - seen}"
        assert any(place.endswith("cell.db-wal") for place in places), "VOID: no write-ahead log"
        assert any(place.endswith(".blk") for place in places), "VOID: no broker's store"
        return sorted(scanner.scan(places, self.secrets))


def _shared() -> list[Path]:
    found = [path for root in SHARED for path in Path(root).iterdir()]
    return [path for path in found if not path.name.startswith(NOT_THE_CELLS)]


def _loudest(pcm: bytes) -> bytes:
    """Return the part of *pcm* that cannot be taken for silence."""
    at = max(range(0, len(pcm) - 4000, 2000), key=lambda at: len(set(pcm[at : at + 4000])))
    return pcm[at : at + 4000]


@pytest.fixture
async def trap(tmp_path: Path, graph: GraphWorld) -> AsyncIterator[Trap]:
    """Yield a cell whose speech-to-text hears the canary, with a directory for its temp files."""
    temporary = Path(tempfile.mkdtemp(dir=tmp_path))
    registry = scripted(tmp_path / "registry", text=f"{SPOKEN}, my card is {SPACED_CARD}")
    town = staged(tmp_path / "cell", graph, registry=registry)
    town.ada.name = NAME
    trap = Trap(town, temporary)
    await town.cell.start(TMPDIR=str(temporary))
    yield trap
    await town.cell.kill()


@pytest.mark.anyio
@pytest.mark.timeout(120)
async def test_a_person_is_nowhere_in_clear(trap: Trap) -> None:
    """Who steals the disk, the broker, the logs or the metrics learns nothing of anybody."""
    ada, note = trap.town.ada, NOTE.read_bytes()
    for name, text in {"typed": TYPED, "spoken": SPOKEN, "name": NAME, "phone": PHONE}.items():
        trap.watch(name, text)
    trap.watch("card", CARD)
    trap.watch("card, spaced", SPACED_CARD)
    for name, secret in {"token": ada.line.token, "app": ada.line.app_secret.decode()}.items():
        trap.watch(name, secret)
    trap.watch_bytes("recording", note)
    trap.watch_bytes("sound", _loudest(child.to_pcm(note, max_seconds=60)))

    trap.watch("wamid", (await ada.type(f"{TYPED}, card {CARD}")).removeprefix("wamid."))
    await received(trap.town, "text")
    trap.watch("wamid of the note", (await ada.say(note)).removeprefix("wamid."))
    await received(trap.town, "buttons")
    parked = trap.hits(metrics=await metrics(trap.town))
    await ada.press("consent.grant")
    await received(trap.town, "text", 2)
    trap.watch_bytes("reply", (await received(trap.town, "voice")).audio)
    config = str(trap.town.cell.config)
    listed = await vocustody("notes", "--json", "--config", config)
    answered = trap.hits(metrics=await metrics(trap.town), notes=listed.out + listed.err)
    await trap.town.cell.kill()
    killed = trap.hits(log=trap.town.cell.log)

    assert parked == []
    assert answered == []
    assert killed == []
    assert "a_" in listed.out, "there was something to list"


@pytest.mark.parametrize("form", sorted(scanner.forms(CONTROL)))
@pytest.mark.parametrize("shift", range(3))
def test_the_scanner_finds_each_form(form: str, shift: int) -> None:
    """A scanner that is blind to one form would call a leak clean."""
    noise = secrets.token_bytes(300)
    place = {"file": noise + b"x" * shift + scanner.forms(CONTROL)[form] + noise}

    found = {hit.form for hit in scanner.scan(place, {"control": scanner.forms(CONTROL)})}

    assert form in found
    assert list(scanner.scan({"file": noise}, {"control": scanner.forms(CONTROL)})) == []


@pytest.mark.parametrize("lead", range(3))
def test_the_scanner_sees_into_base64(lead: int) -> None:
    """A phone number stands somewhere inside a message id's base64, not at its start."""
    text = base64.b64encode(b"\x1c\x18\x0d"[: 3 - lead] + PHONE.encode() + b"tail of the id")

    assert list(scanner.scan({"id": text}, {"phone": scanner.forms(PHONE)}))


def test_the_scanner_reads_names_of_files(tmp_path: Path) -> None:
    """A number in a file's name is as public as one in the file."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / f"{PHONE}.ogg").touch()

    found = scanner.scan(scanner.files([tmp_path]), {"phone": scanner.forms(PHONE)})

    assert {hit.form for hit in found} >= {"raw"}
