"""
Invariant I13 over histories that nobody wrote down: once erased, never readable again.

People speak, are erased and come back; erasures die at a step; the keeper ticks; any of database,
key service, objects and the journal's file goes back to an older copy, and the cell starts again.
"""

import asyncio
import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.agreeing import agreeing
from support.desk import TENANT
from support.drill import Someone, erasures_of, memory_of, ports_of, speaks
from support.gateway import Clock

from audit.signers.local import LocalSigner
from audit.stores.folder import Folder
from audit.trail import Trail
from gateway import db, erasure, migrations, restored
from gateway.erasure import STEPS
from gateway.keeping import LEASE, Keeping
from gateway.ports import Ports
from gateway.tombstones import NAME
from vault.errors import GoneError, VaultError
from vault.keyrings.local import LocalKeeper, LocalKeyring
from vault.objects.local import LocalObjects

T = TypeVar("T")
# What is put back together; database, keys and objects of one day are the worst there is.
PARTS = (
    ("database",),
    ("database", "keys"),
    ("database", "keys", "objects"),
    ("database", "journal", "keys", "objects"),
    ("database", "journal"),
    ("keys",),
    ("journal", "objects"),
)
DATABASE = "cell.db"


class Histories(RuleBasedStateMachine):
    """One cell, and everything that may happen to it."""

    def __init__(self) -> None:
        """Make a place for it."""
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="vocustody-states-"))
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.spoken: dict[str, list[Someone]] = {}
        self.sealed: dict[str, bytes] = {}
        self.erased: set[str] = set()
        self.copies = 0
        self.trail: Trail
        self.ports: Ports

    def wait(self, act: Awaitable[T]) -> T:
        """Return what *act* returns."""

        async def acting() -> T:
            return await act

        return self.runner.run(acting())

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.wait(self.ports.engine.dispose())
        self.wait(self.trail.close())
        self.runner.close()
        shutil.rmtree(self.home)

    @initialize()
    def begin(self) -> None:
        """Start a cell that two people spoke to before its first backup."""
        for name in ("keys", "objects"):
            (self.home / name).mkdir(mode=0o700)
        self.wait(self._begin())
        self.speak(0)
        self.speak(1)
        self.back_up()

    async def _begin(self) -> None:
        signer = LocalSigner.open(self.home / "signing-key.pem")
        self.trail = await Trail.open(Folder(self.home / "audit", "eu-central"), signer, self.clock)
        await self._start()

    async def _start(self) -> None:
        """Do what a cell does before its doors open."""
        self.ports = self._fresh()
        await migrations.upgrade(self.ports.engine)
        told = await restored.erased(self.ports, self.trail)
        await erasures_of(self.ports, self.home).replay(told)
        await restored.recall(self.ports, self.trail)

    def _fresh(self) -> Ports:
        engine = db.connect(f"sqlite+aiosqlite:///{self.home}/{DATABASE}")
        keyring, objects = LocalKeyring(self.home / "keys"), LocalObjects(self.home / "objects")
        return ports_of(engine, keyring, objects, self.trail, self.clock)

    @rule(number=st.integers(0, 2))
    def speak(self, number: int) -> None:
        """Somebody says something; who was erased is somebody new."""
        with contextlib.suppress(VaultError):  # the key of a living person was lost with a restore
            one = self.wait(speaks(number, self.ports))
            assert one.subject not in self.erased
            self.spoken.setdefault(one.subject, []).append(one)
            words = self.ports.custody.seal_small(one.subject, memory_of(one), one.words)
            self.sealed[memory_of(one)] = self.wait(words)

    @precondition(lambda self: self.spoken.keys() - self.erased)
    @rule(data=st.data(), step=st.sampled_from(["", *STEPS]))
    def erase(self, data: st.DataObject, step: str) -> None:
        """Somebody is erased; after *step*, if one is named, the cell dies and starts again."""
        subject = data.draw(st.sampled_from(sorted(self.spoken.keys() - self.erased)))
        self.wait(self._erase(subject, step))
        self.erased.add(subject)

    async def _erase(self, subject: str, step: str) -> None:
        ident = await erasure.ask(
            self.ports.engine, subject, TENANT, because="request", trigger="request", by="dpo",
            at=self.clock(), urgent=True,
        )  # fmt: skip
        erasures, died = erasures_of(self.ports, self.home), []

        def die(name: str) -> None:
            if name == f"erasure.{step}":
                died.append(name)
                raise SystemExit

        erasures.reached = die
        with contextlib.suppress(SystemExit):
            await erasures.advance(ident)
        assert bool(died) == bool(step)
        if died:
            await self.ports.engine.dispose()
            await self._start()

    @rule()
    def keep(self) -> None:
        """Let the keeper do its work, and open erasures go on."""
        self.wait(self._keep())

    async def _keep(self) -> None:
        self.clock.move(2 * LEASE.total_seconds())
        keeping = Keeping(
            self.ports.engine, LocalKeeper(self.home / "keys"), self.ports.custody.objects,
            self.trail.append, cell="eu-1", region="eu-central", owner="keeper", now=self.clock,
            agreed=agreeing(self.clock),
            roll_after=timedelta(hours=24),
            cryptoperiod=timedelta(days=3650),
        )  # fmt: skip
        await keeping.tick()
        await erasures_of(self.ports, self.home).tick()

    @rule()
    def back_up(self) -> None:
        """Copy everything that is stored, but the log: a cell refuses one that went back."""
        self.wait(restored.note(self.ports, self.trail))
        at = self.home / f"copy-{self.copies}"
        at.mkdir()
        with (
            contextlib.closing(sqlite3.connect(self.home / DATABASE)) as live,
            contextlib.closing(sqlite3.connect(at / DATABASE)) as copy,
        ):
            live.backup(copy)
        for name in ("keys", "objects"):
            shutil.copytree(self.home / name, at / name)
        if (self.home / NAME).exists():
            shutil.copy(self.home / NAME, at / NAME)
        self.copies += 1

    @precondition(lambda self: self.copies)
    @rule(data=st.data(), parts=st.sampled_from(PARTS))
    def restore(self, data: st.DataObject, parts: tuple[str, ...]) -> None:
        """Put some of it back, and start the cell again."""
        at = self.home / f"copy-{data.draw(st.integers(0, self.copies - 1))}"
        self.wait(self.ports.engine.dispose())
        if "database" in parts:
            for path in self.home.glob(f"{DATABASE}*"):
                path.unlink()
            shutil.copy(at / DATABASE, self.home / DATABASE)
        if "journal" in parts:
            (self.home / NAME).unlink(missing_ok=True)
            if (at / NAME).exists():
                shutil.copy(at / NAME, self.home / NAME)
        for name in {"keys", "objects"}.intersection(parts):
            shutil.rmtree(self.home / name)
            shutil.copytree(at / name, self.home / name)
        self.wait(self._start())

    @precondition(lambda self: self.erased)
    @rule(data=st.data())
    def write_late(self, data: st.DataObject) -> None:
        """Let a worker write late of somebody who is erased."""
        subject = data.draw(st.sampled_from(sorted(self.erased)))
        try:
            self.wait(self.ports.custody.seal_small(subject, "late", b"words"))
        except GoneError:
            return
        raise AssertionError(f"{subject}: a key was made again")

    @invariant()
    def nothing_of_the_erased_can_be_read(self) -> None:
        """I13."""
        if self.erased:
            assert self.wait(self._readable()) == []

    async def _readable(self) -> list[str]:
        ports, found = self._fresh(), []
        for one in [each for subject in self.erased for each in self.spoken[subject]]:
            with contextlib.suppress(VaultError):
                found.append(f"{one.subject}: {await ports.custody.open(one.transcript)!r}")
            with contextlib.suppress(VaultError, KeyError):
                memory, custody = memory_of(one), ports.custody
                opened = await custody.open_small(one.subject, memory, self.sealed[memory])
                found.append(f"{one.subject}: {opened!r}")
        await ports.engine.dispose()
        return found


def test_no_history_brings_an_erased_person_back() -> None:
    """The drills try what somebody thought of; the machine tries what nobody did."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Histories, settings=settings(max_examples=15, stateful_step_count=12, deadline=None)
    )
