"""
A cell in a trap: what a person said and is, searched for in every place the cell can write to.

A search is void unless the same scanner finds, in every one of those places, a control that was
put there in every form.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support import processes, scanner, tones
from support.cell import NOTE, Town
from support.scanner import Hit
from support.stage import PATIENCE_S, family, scripted, staged

from gateway import crashpoint
from gateway.audio import child, encode
from gateway.demo.graph import GraphWorld
from gateway.demo.graph.person import Person

TYPED = "Quokka Zitrön frühstückt at the green lighthouse"
SPOKEN = "Ocelot Ümlaut dreams of 17 marmalade bridges"
CARD = "4111111111111111"
SPACED_CARD = "4111 1111 1111 1111"
TAX_ID = "86095742719"  # a German one whose check digit is right
NAME = "Ada Lovelace-Kanari"
BSUID = "DE.1937420685214793"
CONTROL = "Control Wörd 5500 0000 0000 0004"

ROOT = Path(__file__).parents[2]
LOUD = (sys.executable, "-m", "support.loud")
SHARED = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))
NOT_THE_CELLS = ("pytest-", "bash_jobs", "vocustody-postgres-", "vocustody-exhibit-")
# What no process can show in its command line or environment: a zero ends the text.
WITHOUT_ZERO = {form for form, text in scanner.forms(CONTROL).items() if b"\0" not in text}

Place = Mapping[str, bytes]


def sound() -> tuple[bytes, bytes]:
    """Return a note of speech and marker tone, and the same as PCM."""
    spoken = child.to_pcm(NOTE.read_bytes(), max_seconds=60)
    note = encode.to_ogg(spoken + tones.pcm(1.0, child.RATE), child.RATE)
    return note, child.to_pcm(note, max_seconds=60)


@dataclass(slots=True)
class Trap:
    """A cell, where it can write, and what must not be found there."""

    town: Town
    temporary: Path
    note: bytes
    secrets: dict[str, scanner.Forms] = field(default_factory=dict)
    #: further places, by name: how to read one, and how to put the control there
    more: dict[str, tuple[Callable[[], Place], Callable[[], None]]] = field(default_factory=dict)
    before: set[Path] = field(default_factory=lambda: set(_shared()))
    #: forms that cannot stand in a place, whoever writes there
    excused: dict[str, set[str]] = field(default_factory=lambda: dict(EXCUSED))

    @property
    def data(self) -> Path:
        """Return the cell's data directory."""
        return self.town.cell.config.parent / "data"

    async def start(self, **environment: str) -> None:
        """Start the cell at DEBUG level, with temporary files where they are searched."""
        await self.town.cell.start(**self.surroundings(**environment))

    def surroundings(self, **environment: str) -> dict[str, str]:
        """Return the environment that `start` starts the cell in."""
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        return {"TMPDIR": str(self.temporary), "PYTHONPATH": path} | environment

    async def revive(self, **environment: str) -> None:
        """Start the cell again; one that is armed may die again before it is ready."""
        await self.town.cell.launch(**self.surroundings(**environment))
        with contextlib.suppress(RuntimeError):
            await self.town.cell.ready()
        assert environment or not self.town.cell.ended, self.town.cell.log

    async def killed(self) -> list[Hit]:
        """Wait until the cell has died at a crash point; return what is found then."""
        assert await self.town.cell.wait() == -signal.SIGKILL
        return await self.hits()

    async def converse(self, person: Person | None = None, *, within_s: float = PATIENCE_S) -> None:
        """Do what a person does: speak, agree, wait for text and voice."""
        one = person or self.town.ada
        self.watch_message(f"note of {one.phone}", await one.say(self.note))
        await one.expect(lambda found: found.kind == "buttons", within_s=within_s)
        self.watch_message(f"leave of {one.phone}", await one.press("consent.grant"))
        await one.expect(lambda found: found.kind == "text", within_s=within_s)
        voice = await one.expect(lambda found: found.kind == "voice", within_s=within_s)
        self.watch_bytes("reply", voice.audio)

    @contextlib.asynccontextmanager
    async def bringing(self) -> AsyncIterator[None]:
        """Have WhatsApp bring again, while the body runs, what the cell did not take."""

        async def bring() -> None:
            while True:
                await self.town.settle()

        task = asyncio.create_task(bring())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def watch(self, name: str, text: str) -> None:
        """Search for *text* from now on."""
        self.secrets[name] = scanner.forms(text)

    def watch_message(self, name: str, message_id: str) -> str:
        """Search for a message id, and for what it holds under its base64; return the id."""
        self.watch(name, message_id.removeprefix("wamid."))
        return message_id

    def watch_bytes(self, name: str, content: bytes) -> None:
        """Search for parts of *content* from now on: a leak of a quarter second has one."""
        for index, window in enumerate(scanner.windows(content, max(8, len(content) // 256))):
            self.secrets[f"{name}, part {index}"] = scanner.of_bytes(window)

    def watch_person(self, person: Person, name: str = "ada") -> None:
        """Search for who *person* is."""
        for what, text in {"number": person.phone, "user id": person.bsuid}.items():
            if text:
                self.watch(f"{what} of {name}", text)
        self.watch(f"name of {name}", person.name)

    async def hits(self, *, memory: bool = False, **texts: bytes) -> list[Hit]:
        """
        Return what was found anywhere, and in *texts*; void unless each control was.

        With *memory* also in that of the processes beside the cell's own.
        """
        # WhatsApp is played on this loop, and goes on meanwhile.
        return await asyncio.to_thread(self._hits, memory=memory, **texts)

    def _hits(self, *, memory: bool, **texts: bytes) -> list[Hit]:
        with self._controls() as pids:
            places = self._places(pids, memory=memory, **texts)
        needles = scanner.Needles(self.secrets | {scanner.CONTROL: scanner.forms(CONTROL)})
        found: set[Hit] = set()
        for kind, place in places.items():
            hits = scanner.scan(place, needles)
            missed = scanner.unseen(CONTROL, hits) - self.excused.get(kind, set())
            assert missed == set(), f"VOID: {kind}: that of the control was not found"
            found |= {hit for hit in hits if hit.secret != scanner.CONTROL}
        return sorted(found)

    def _places(self, pids: list[int], *, memory: bool, **texts: bytes) -> dict[str, Place]:
        home, data = self.town.cell.config.parent, self.data
        everything = scanner.files([data])
        kinds: dict[str, Place] = {
            "broker": {n: c for n, c in everything.items() if "/nats/" in n},
            "database": {n: c for n, c in everything.items() if "/cell.db" in n},
            "log": scanner.files([home / "serve.log"]),
            "temporary files": scanner.files([self.temporary]),
            "open files": processes.unnamed(pids),
            "command lines": processes.words(pids),
            "environments": processes.environments(pids),
        }
        rest = everything.keys() - kinds["broker"].keys() - kinds["database"].keys()
        kinds["data"] = {name: everything[name] for name in rest}
        for root in SHARED:
            fresh = [path for path in _shared(root) if path not in self.before]
            kinds[str(root)] = scanner.files(fresh)
        control = scanner.every_form(CONTROL)
        kinds |= {name: {name: text + control} for name, text in texts.items()}
        kinds |= {name: read() for name, (read, _) in self.more.items()}
        if not kinds["database"]:
            assert "postgresql" in self.more, "VOID: no database"
            del kinds["database"]
        if memory:
            own = [] if self.town.cell.ended else [self.town.cell.pid]
            kinds["memory"] = processes.memories(pid for pid in pids if pid not in own)
        return kinds

    @contextlib.contextmanager
    def _controls(self) -> Iterator[list[int]]:
        """Put the control into every place; yield the processes to look at."""
        control, mark = scanner.every_form(CONTROL), f"control-{secrets.token_hex(4)}"
        word = " ".join(scanner.forms(CONTROL)[form].decode() for form in WITHOUT_ZERO)
        planted = [self.data / mark, self.data / "nats" / mark, self.temporary / mark]
        planted += [root / mark for root in SHARED]
        for path in planted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(control)
        with (self.town.cell.config.parent / "serve.log").open("ab") as log:
            log.write(b"\n" + control + b"\n")
        for _, plant in self.more.values():
            plant()
        cell = self.town.cell
        try:
            with self._in_sqlite(), processes.exhibit(control, word) as shown:
                yield [shown, *([] if cell.ended else [cell.pid, *family(cell.pid)])]
        finally:
            for path in planted:
                path.unlink()

    @contextlib.contextmanager
    def _in_sqlite(self) -> Iterator[None]:
        """
        Write the control into a table and drop it: free pages have it, and the write-ahead log.

        What a killed cell left is copied first: the last to close a database tidies it up.
        """
        if not (self.data / "cell.db").exists():
            yield
            return
        with tempfile.TemporaryDirectory(prefix="control-", dir=self.data) as beside:
            directory = self.data
            if self.town.cell.ended:
                directory = Path(beside)
                for path in self.data.glob("cell.db*"):
                    shutil.copy(path, directory)
            with contextlib.closing(sqlite3.connect(directory / "cell.db", timeout=20)) as database:
                _write_and_drop(database)
                yield  # still open


def parts(*, sound: bool = True) -> list[bytes]:
    """Return the control in pieces that fit into a row each."""
    plain = scanner.forms(CONTROL)
    packed = scanner.inflating.packed(b"\n".join(plain.values()))
    return [*plain.values(), *packed.values(), *(tones.written().values() if sound else ())]


def _write_and_drop(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA wal_autocheckpoint=0")
    with database:
        database.execute("CREATE TABLE control (part BLOB)")
        database.executemany("INSERT INTO control VALUES (?)", [(part,) for part in parts()])
    database.execute("DROP TABLE control")


_BOUND = scanner.unseen(CONTROL, ()) - WITHOUT_ZERO
EXCUSED = {"command lines": _BOUND, "environments": _BOUND}


def _shared(*roots: Path) -> list[Path]:
    found = [path for root in roots or SHARED for path in root.iterdir()]
    # A copy of this repository has the words of its tests.
    strangers = [path for path in found if not (path / "pyproject.toml").exists()]
    return [path for path in strangers if not path.name.startswith(NOT_THE_CELLS)]


@pytest.fixture
async def trap(tmp_path: Path, graph: GraphWorld) -> AsyncIterator[Trap]:
    """Yield a trapped cell, not yet started, whose speech-to-text hears the canary."""
    temporary = Path(tempfile.mkdtemp(dir=tmp_path))
    heard = f"{SPOKEN}, my card is {SPACED_CARD}, my tax id is {TAX_ID}"
    registry = scripted(tmp_path / "registry", text=heard, hertz=str(tones.HERTZ[scanner.TONE]))
    town = staged(tmp_path / "cell", graph, registry=registry)
    town.cell.program = LOUD
    town.ada.name, town.ada.bsuid = NAME, BSUID
    note, pcm = sound()
    trap = Trap(town, temporary, note)
    for name, text in {"typed": TYPED, "spoken": SPOKEN, "quoted": crashpoint.QUOTED}.items():
        trap.watch(name, text)
    for name, text in {"card": CARD, "card, spaced": SPACED_CARD, "tax id": TAX_ID}.items():
        trap.watch(name, text)
    for name, text in {"token": town.line.token, "app": town.line.app_secret.decode()}.items():
        trap.watch(name, text)
    trap.watch_person(town.ada)
    trap.watch_bytes("recording", note)
    trap.watch_bytes("sound", pcm)
    yield trap
    await town.cell.kill()
