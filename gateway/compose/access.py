"""
What a DPO does for one person: find them, have them erased, hand them what is held of them.

The running cell does what needs the log: it carries erasures out, and it gives leave to open
content before any is opened. Commands ask it by rows, and wait.
"""

import errno
import os
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from audit.trail import Trail
from gateway import disclosure, erasure, holdings, numbers, persons, requested, subjects
from gateway.compose import egress as exits
from gateway.compose import identities, stores, waiting
from gateway.compose.people import UnknownSubjectError
from gateway.compose.surroundings import now
from gateway.errors import GatewayError, MissingPartError
from gateway.identity import Link
from gateway.settings import Settings
from gateway.whatsapp.payload import Identity
from vault.custody import Custody
from vault.keys import Keys

WAIT_S = 10.0
NO_DRAFTS = frozenset({errno.EOPNOTSUPP, errno.EISDIR})  # see open(2), O_TMPFILE


class ReportError(GatewayError):
    """The report cannot be written; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A cell's stores, opened by a command: what `gateway.holdings` reads."""

    region: str
    engine: AsyncEngine
    custody: Custody
    keys: Keys


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Opened]:
    """Open the stores of the cell that *settings* describe, beside it while it runs."""
    engine = stores.existing_database(settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(engine.dispose)
        objects = await stores.objects(settings)
        mount = await exits.vault_mount(settings, await exits.egress(settings, stack), stack)
        keyring = stores.keyring(settings, identities.worker(settings, mount))
        keys = stores.keys(settings, engine, keyring)
        custody = Custody(engine, keys, objects, now=now)
        try:
            yield Opened(region=settings.cell.region, engine=engine, custody=custody, keys=keys)
        except SQLAlchemyError as exc:
            raise MissingPartError(
                f"the database cannot be read: {type(exc).__name__} (has the gateway run once?)"
            ) from None


async def find(settings: Settings, tenant: str, written: str) -> list[Link]:
    """
    Return to whom the number or user id *written* leads or ever led, the present holder first.

    Raises:
        MissingPartError: the cell works for no such tenant.
        NoNumberError: it is neither.
        UnknownSubjectError: nobody we know writes from there.

    """
    known = {each.id: each for each in settings.tenants}
    if tenant not in known:
        raise MissingPartError("TENANT: this cell works for nobody of that name (see the settings)")
    who = _identities(written, country=known[tenant].jurisdiction)
    async with opened(settings) as place:
        seen = [await persons.sighting(each, tenant, place.keys, at=0) for each in who]
        names = [name for each in seen for name in (each.number, each.user_id) if name]
        found = await persons.holders(place.engine, names)
    if not found:
        raise UnknownSubjectError("nobody known writes to this tenant from there")
    return found


def _identities(written: str, *, country: str) -> list[Identity]:
    if (named := numbers.user_id(written)) is not None:
        return [Identity(bsuid=named)]
    return [Identity(phone=digits) for digits in numbers.read(written, country=country)]


async def erase(
    settings: Settings, subject: str, *, because: str, trigger: str, by: str, urgent: bool
) -> str:
    """
    Ask the running cell to erase *subject*; return the erasure's id.

    Raises:
        UnknownSubjectError: nobody is known by this pseudonym.
        ErasureError: the reason or the trigger is not acceptable.

    """
    engine = stores.existing_database(settings)
    try:
        subject = await subjects.became(engine, subject)
        tenant = await subjects.tenant_of(engine, subject)
        if tenant is None:
            raise UnknownSubjectError("no such subject (they begin with s_; see the trail)")
        return await erasure.ask(
            engine,
            subject,
            tenant,
            because=because,
            trigger=trigger,
            by=by,
            at=now(),
            urgent=urgent,
        )
    finally:
        await engine.dispose()


async def erase_tenant(settings: Settings, tenant: str, *, because: str, by: str) -> list[str]:
    """Ask for the erasure of everybody of *tenant*, whose contract ends; return the ids."""
    engine = stores.existing_database(settings)
    try:
        return [
            await erasure.ask(
                engine,
                subject,
                tenant,
                because=because,
                trigger="contract-end",
                by=by,
                at=now(),
            )
            for subject in await subjects.of_tenant(engine, tenant)
        ]
    finally:
        await engine.dispose()


async def wait(settings: Settings, ident: str, *, wait_s: float) -> dict[str, Any]:
    """
    Return the erasure *ident* as a row, once it is executed.

    Raises:
        MissingPartError: no cell executed it within *wait_s* seconds; it stays asked for.

    """
    engine = stores.existing_database(settings)

    async def executed() -> dict[str, Any] | None:
        one = await erasure.find(engine, ident)
        return erasure.summary(one) if one and one.executed_at else None

    try:
        return await waiting.until(
            executed,
            wait_s,
            f"{ident}: asked for, not executed within {wait_s:.0f} s (a running cell does it)",
        )
    finally:
        await engine.dispose()


async def report(
    settings: Settings,
    subject: str,
    to: Path,
    *,
    by: str,
    wait_s: float = WAIT_S,
    clock: Callable[[], datetime] = now,
) -> int:
    """
    Write everything that is held of *subject* to the zip file *to*; return how many files.

    Raises:
        MissingPartError: no running cell put the access on record: then nothing is opened.
        ReportError: *to* is there already, or cannot be written.
        UnknownSubjectError: nobody is known by this pseudonym.

    """
    async with opened(settings) as place:
        subject = await subjects.became(place.engine, subject)
        tenant = await subjects.tenant_of(place.engine, subject)
        if tenant is None:
            raise UnknownSubjectError("no such subject (they begin with s_; see the trail)")
        found = await holdings.holdings(subject, tenant, place)
        await _leave(place.engine, found, by, wait_s, clock)
        async with await Trail.read(stores.shelf(settings)) as log:
            files = disclosure.report(found, place, log, at=clock(), by=by)
            return await _written(files, to)


async def _leave(
    engine: AsyncEngine,
    found: holdings.Holdings,
    by: str,
    wait_s: float,
    clock: Callable[[], datetime],
) -> None:
    ident = await requested.ask_leave(
        engine,
        found.subject,
        found.tenant,
        by=by[: erasure.MOST_CHARS],
        selector=found.selector_sha256,
        at=clock(),
    )
    try:
        await waiting.until(
            lambda: requested.answer(engine, ident),
            wait_s,
            f"no running cell put this on record within {wait_s:.0f} s (start it: without a "
            "record nothing is opened)",
        )
    finally:
        await requested.drop(engine, ident)


async def _written(files: AsyncIterator[tuple[str, bytes]], to: Path) -> int:
    """
    Write *files* to *to*, whole or not at all; nobody but the owner may read it.

    The draft has no name: whatever ends this process, the kernel frees it.
    """
    count = 0
    try:
        descriptor = os.open(to.parent, os.O_WRONLY | os.O_TMPFILE, 0o600)
        with os.fdopen(descriptor, "wb") as raw:
            with zipfile.ZipFile(raw, "w") as archive:
                async for name, content in files:
                    archive.writestr(name, content, zipfile.ZIP_DEFLATED)
                    count += 1
            raw.flush()
            os.fsync(raw.fileno())
            _name(raw.fileno(), to)
    except FileExistsError:
        raise ReportError(f"{to.name} is there already (name a new file)") from None
    except OSError as exc:
        if exc.errno in NO_DRAFTS:
            raise ReportError(
                f"{to.name}: its file system has no unnamed files, and a draft with a name could "
                "be left behind (write to ext4, xfs, btrfs or tmpfs)"
            ) from None
        raise ReportError(f"{to.name}: cannot be written ({type(exc).__name__})") from None
    return count


def _name(draft: int, to: Path) -> None:
    """Give the unnamed file *draft* the name *to*, never over something that is there."""
    directory = os.open(to.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # With a directory given, Python has the kernel follow the link to the file itself.
        os.link(f"/proc/self/fd/{draft}", to.name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
    finally:
        os.close(directory)
