"""
One cell's settings: a TOML file, checked whole before anything starts.

- Every fault is reported at once, as ``path: fault (fix)``; an unknown key is a fault.
- Secrets are file paths; one written into the file itself is refused and never echoed.
- What is left out is an embedded default. Production refuses, by name, each default and each
  adapter that is for development.
- Relative paths count from the settings file.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from gateway import places
from gateway.errors import SettingsError
from gateway.faults import faults_of
from gateway.sections import (
    Admin,
    Backups,
    Cell,
    Clock,
    Credentials,
    Decisions,
    Egress,
    Engines,
    Keeper,
    Keys,
    Mode,
    Operators,
    Outbox,
    Policy,
    Probe,
    Registry,
    Section,
    Services,
    Tenant,
    WhatsApp,
    Worker,
)
from policy.access import PLATFORM
from residency.registry import declared, regions

__all__ = ["Cell", "Mode", "Services", "Settings", "Tenant", "WhatsApp", "load"]

HOUR_S = 3_600

# Adapters that stand in for the real thing; `refuse_development` takes what compose is to wire.
DEVELOPMENT_ADAPTERS = frozenset({"local", "loopback", "memory", "scripted"})


class Settings(Section):
    """Everything one cell is told; build it with `load`."""

    cell: Cell
    services: Services = Services()
    tenants: Annotated[tuple[Tenant, ...], Field(min_length=1)]
    engines: Engines = Engines()
    registry: Registry = Registry()
    processors: dict[str, Credentials] = Field(default_factory=dict)
    policy: Policy = Policy()
    worker: Worker = Worker()
    outbox: Outbox = Outbox()
    decisions: Decisions = Decisions()
    keys: Keys = Keys()
    backups: Backups = Backups()
    clock: Clock = Clock()
    keeper: Keeper = Keeper()
    egress: Egress = Egress()
    probe: Probe = Probe()
    admin: Admin = Admin()
    operators: Operators = Operators()

    @property
    def operator_names(self) -> frozenset[str]:
        """Return who may be named as the one who asks for something."""
        return frozenset(self.operators.names) | {person.name for person in self.admin.people}

    @model_validator(mode="after")
    def _nobodys(self) -> Self:
        machine = self.policy.opa_token_file
        if machine is not None and machine in [one.token_file for one in self.admin.people]:
            raise ValueError("admin.people: one has policy.opa_token_file's token (make another)")
        return self

    @property
    def production(self) -> bool:
        """Whether development adapters are refused."""
        return self.cell.mode is Mode.PRODUCTION

    @property
    def probe_every_s(self) -> int:
        """Return how many seconds lie between two probes; 0 = none is made."""
        given = self.probe.every_seconds
        return given if given is not None else HOUR_S * self.production

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what an operator should be told at start, one line each."""
        return tuple(_notes(self.services))

    def tenant(self, tenant_id: str) -> Tenant | None:
        """Return the tenant *tenant_id*, or None."""
        return next((tenant for tenant in self.tenants if tenant.id == tenant_id), None)

    def refuse_development(self, wired: Mapping[str, str]) -> Self:
        """
        Return self if this cell may run *wired* (what it is for -> name of its adapter).

        Raises:
            SettingsError: naming every development adapter of a production cell.

        """
        faults = [
            f"{what}: the {name} adapter is for development: production refuses it"
            for what, name in sorted(wired.items())
            if self.production and name in DEVELOPMENT_ADAPTERS
        ]
        if faults:
            raise SettingsError(faults)
        return self


def load(path: Path) -> Settings:
    """Read the settings file at *path*; raise `SettingsError` with every fault in it."""
    raw = _read(path)
    context = {"base": path.resolve().parent, "mode": _mode(raw)}
    faults = [*_missing_services(raw), *_duplicates(raw), *_strangers(raw)]
    try:
        settings = Settings.model_validate(raw, context=context)
    except ValidationError as exc:
        raise SettingsError([*faults_of(exc, Settings), *faults]) from None
    faults += _nowhere(settings)
    if faults:
        raise SettingsError(faults)
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as exc:
        raise SettingsError([f"{path}: cannot be read: {exc.strerror} (give --config)"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{path}: is not UTF-8 (TOML is)"]) from None
    except tomllib.TOMLDecodeError as exc:
        where = re.search(r"\(at .*\)$", str(exc))  # the rest may quote a secret
        place = where.group() if where else ""
        raise SettingsError([f"{path}: is not TOML {place} (correct the line)"]) from None


def _mode(raw: Mapping[str, Any]) -> str:
    cell = raw.get("cell")
    mode = cell.get("mode") if isinstance(cell, dict) else None
    return Mode.DEVELOPMENT if mode == Mode.DEVELOPMENT else Mode.PRODUCTION


def _missing_services(raw: Mapping[str, Any]) -> Iterator[str]:
    """Yield one fault per embedded default that production refuses by name."""
    services = raw.get("services", {})
    if _mode(raw) is not Mode.PRODUCTION or not isinstance(services, dict):
        return
    if "nats" not in services:
        yield "services.nats: the child nats-server is for development (name a NATS server)"
    if "vault" not in services:
        yield "services.vault: the local keyring is for development (name OpenBao or Vault)"
        yield "services.vault: the local audit signing key is for development (the vault signs)"
    if "objects" not in services:
        yield 'services.objects: local files are for development (name an "s3://bucket")'


def _duplicates(raw: Mapping[str, Any]) -> Iterator[str]:
    listed = raw.get("tenants")
    tenants = [t for t in listed if isinstance(t, dict)] if isinstance(listed, list) else []
    ids = Counter(t["id"] for t in tenants if isinstance(t.get("id"), str))
    yield from (f"tenants: id {_told(i)} is used {n} times" for i, n in ids.items() if n > 1)
    if PLATFORM in ids:
        yield f"tenants: id {PLATFORM!r} stands for what is nobody's (choose another)"
    owner: dict[str, int] = {}
    for index, number in ((i, n) for i, t in enumerate(tenants) for n in _numbers(t)):
        if owner.setdefault(number, index) != index:
            yield (
                f"tenants[{index}].whatsapp.phone_number_ids: one is tenants[{owner[number]}]'s "
                "(a number belongs to one tenant)"
            )


def _strangers(raw: Mapping[str, Any]) -> Iterator[str]:
    """Yield one fault per person of a tenant that this cell does not have."""
    admin, tenants = raw.get("admin"), raw.get("tenants")
    people = admin.get("people") if isinstance(admin, dict) else None
    listed = tenants if isinstance(tenants, list) else []
    known = {tenant.get("id") for tenant in listed if isinstance(tenant, dict)} | {PLATFORM}
    for index, person in enumerate(people if isinstance(people, list) else []):
        whose = person.get("tenant") if isinstance(person, dict) else None
        if isinstance(whose, str) and whose not in known:
            yield f"admin.people[{index}].tenant: no tenant of this cell (name one's id)"


def _nowhere(settings: Settings) -> Iterator[str]:
    """Yield one fault per place that the registry does not have: the cell's, or another cell's."""
    known = regions(settings.registry.file)
    if known and (fault := places.region_fault(settings.cell.region, known)):
        yield f"cell.region: {fault}"
    there = declared(settings.registry.file)
    for number, tenant in enumerate(settings.tenants):
        for place, forward in enumerate(tenant.forward):
            if fault := places.region_fault(forward.region, there, "no [region] table has"):
                yield f"tenants[{number}].forward[{place}].region: {fault}"


def _numbers(tenant: Mapping[str, Any]) -> set[str]:
    whatsapp = tenant.get("whatsapp")
    numbers = whatsapp.get("phone_number_ids") if isinstance(whatsapp, dict) else None
    return {n for n in numbers if isinstance(n, str)} if isinstance(numbers, list) else set()


def _told(value: str) -> str:
    return repr(value) if re.fullmatch(r"[a-z0-9-]{1,32}", value) else "(not a valid one)"


def _notes(services: Services) -> Iterator[str]:
    if services.database is None or services.database.url.startswith("sqlite"):
        yield "database: SQLite is a single node: no claim of availability"
    if services.opa is None:
        yield "opa: the embedded engine (regorus) decides inside this process: a single node"
