"""Erasures over a desk's parts, with the keeper that rolls its buckets beside them."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from support.desk import TENANT, Desk

from gateway import certificates, erasure, remains
from gateway.erasures import Erasures
from gateway.keeping import Keeping
from gateway.remains import Horizons
from gateway.tombstones import NAME, Journal
from vault.keyrings.local import LocalKeeper

HORIZONS = Horizons(database=timedelta(days=30), snapshots=timedelta(days=7))


@dataclass(slots=True)
class Eraser:
    """A desk, its erasures, and the keeper that makes them hard."""

    desk: Desk
    erasures: Erasures
    keeping: Keeping
    forgotten: list[str] = field(default_factory=list)

    async def ask(self, subject: str, **more: Any) -> str:
        """Ask for the erasure of *subject*, at once unless told otherwise."""
        said = {"because": "Art. 17 request", "trigger": "request", "by": "dpo", "urgent": True}
        desk = self.desk
        return await erasure.ask(
            desk.ports.engine, subject, TENANT, at=desk.ports.now(), **(said | more)
        )

    async def harden(self) -> None:
        """Let the keeper roll what is to be rolled, and the erasures go on."""
        self.desk.clock.move(2)
        await self.keeping.tick()
        await self.erasures.tick()

    async def erased(self, subject: str, **more: Any) -> erasure.Erasure:
        """Erase *subject* to the end."""
        ident = await self.ask(subject, **more)
        await self.erasures.tick()
        await self.harden()
        return await self.found(ident)

    async def found(self, ident: str) -> erasure.Erasure:
        """Return the erasure *ident* as it is."""
        one = await erasure.find(self.desk.ports.engine, ident)
        assert one is not None
        return one


def eraser_of(desk: Desk) -> Eraser:
    """Return an eraser over *desk*; several on one desk are several processes."""
    forgotten: list[str] = []

    async def forget(jobs: Collection[str]) -> int:
        forgotten.extend(jobs)
        return 0

    ports = desk.ports
    erasures = Erasures(
        ports=ports,
        journal=Journal(desk.directory / NAME, ports.custody.objects),
        forget_messages=forget,
        remains=partial(remains.remains, horizons=HORIZONS),
        certify=certificates.certify,
    )
    keeping = Keeping(
        ports.engine,
        LocalKeeper(desk.directory / "keys"),
        ports.custody.objects,
        desk.trail.append,
        cell=ports.cell,
        region=ports.region,
        owner="keeper",
        now=ports.now,
        agreed=ports.agreed,
        roll_after=timedelta(hours=24),
        cryptoperiod=timedelta(days=90),
    )
    return Eraser(desk, erasures, keeping, forgotten)


@pytest.fixture
def eraser(desk: Desk) -> Eraser:
    """Return an eraser over this test's desk."""
    return eraser_of(desk)
