"""
Who waits for the operator, and is woken when there is a point: nobody of them asks by himself.

- Jobs that met a closed account, or a suspended processor, sleep until shortly before the person's
  window closes. `Waiting.tick` wakes one of them where an account is due to be tried, and all of
  them once it is open again, or once a suspension is lifted.
- It compares what the database holds with what is closed, each time anew: whatever a crash or a
  race left out of step is put right at the next tick.
"""

from datetime import UTC, datetime

from gateway.accounts import Fault
from gateway.jobs import ACCOUNT, SUSPENDED
from gateway.ports import Ports
from residency.drift import Finding, Kind, Severity
from residency.model import Processor, Service

TICK_S = 2.0
BATCH = 500  # jobs told of in one transaction
MENDED = "WhatsApp accepts the account again"


class Waiting:
    """Wakes the jobs that wait for the operator; one instance per cell."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._reported: set[tuple[str, str]] = set()
        self._suspended: tuple[str, ...] | None = None  # not looked at since the start

    async def tick(self) -> None:
        """Tell of what is closed, and wake whoever should try or go on."""
        await self._tell()
        await self._wake_for_accounts()
        await self._wake_for_suspensions()

    async def _tell(self) -> None:
        """Keep one finding open for each fault; a person who closed one says that it is mended."""
        ports = self._ports
        row = _messaging(ports)
        faults = ports.accounts.faults()
        if row is None or not (faults or self._reported):
            return
        found = {fault.key: _finding(fault, row) for fault in faults}
        for fault in faults:
            if not ports.findings.is_open(found[fault.key]):
                if fault.key in self._reported:
                    ports.accounts.retry(fault)
                ports.findings.report(found[fault.key], row)
        if set(self._reported) - set(found):
            await ports.findings.passed(Kind.ACCOUNT, MENDED, but=list(found.values()))
        self._reported = set(found)

    async def _wake_for_accounts(self) -> None:
        ports = self._ports
        closed = {fault.tenant for fault in ports.accounts.faults()}
        for fault in ports.accounts.due():
            await ports.jobs.wake_waiting(ACCOUNT, fault.tenant, 1)
        for tenant, count in (await self._counted(ACCOUNT)).items():
            if count and tenant not in closed:
                await self._wake_all(ACCOUNT, tenant)

    async def _wake_for_suspensions(self) -> None:
        suspended = self._ports.findings.suspended()
        lifted = self._suspended is None or set(self._suspended) - set(suspended)
        counts = await self._counted(SUSPENDED)
        if lifted or not suspended:
            for tenant, count in counts.items():
                if count:
                    await self._wake_all(SUSPENDED, tenant)
        self._suspended = suspended

    async def _counted(self, reason: str) -> dict[str, int]:
        counts = dict.fromkeys(self._ports.tenants, 0) | await self._ports.jobs.waiting(reason)
        for tenant, count in counts.items():
            self._ports.metrics.waiting(tenant, reason, count)
        return counts

    async def _wake_all(self, reason: str, tenant: str) -> None:
        while await self._ports.jobs.wake_waiting(reason, tenant, BATCH):
            pass


def _messaging(ports: Ports) -> Processor | None:
    rows = (row for row in ports.processors.values() if row.region == ports.region)
    return next((row for row in rows if row.service is Service.MESSAGING), None)


def _finding(fault: Fault, row: Processor) -> Finding:
    return Finding(
        processor=row.id,
        kind=Kind.ACCOUNT,
        declared="accepts this account",
        observed=fault.told,
        basis="attested by vendor",
        at=datetime.fromtimestamp(fault.since / 1e6, UTC),
        severity=Severity.WARN,
    )
