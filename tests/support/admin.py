"""The admin API of a desk's cell: a person per role, and the tenant beside them."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from sqlalchemy import insert
from starlette.applications import Starlette
from support.desk import TENANT, Desk

from audit.model import Event
from gateway import erasure, sections
from gateway.console import admin, wire
from gateway.console.call import Console
from gateway.console.people import People
from gateway.errors import ProblemError
from gateway.schema import aliases
from gateway.secretfile import SecretFile
from policy.access import Role

OTHER = "nachbar"
FOREIGN = "dpo-foreign"
JSON = "application/json"


def token(name: str) -> str:
    """Return the bearer token of the person *name*."""
    return f"token-of-{name}-{'x' * 32}"


def listed(name: str, role: Role, tenant: str, path: Any = None) -> sections.Person:
    """Return a person as the settings name them."""
    return sections.Person.model_construct(
        name=name,
        role=role,
        tenant=tenant,
        token_file=SecretFile(path, token(name).encode()),
    )


EVERYBODY = (
    *(listed(role.value, role, TENANT) for role in Role),
    listed("approver-two", Role.APPROVER, TENANT),
    listed(FOREIGN, Role.DPO, OTHER),
)


@dataclass(slots=True)
class Office:
    """The API over *desk*'s ports; *rests* are the times by which answers were put off."""

    desk: Desk
    http: httpx2.AsyncClient
    rests: list[float] = field(default_factory=list)

    async def ask(
        self, method: str, path: str, by: str | None = "dpo", **given: Any
    ) -> httpx2.Response:
        """Send one request by the person *by* (None: nobody)."""
        headers = {"authorization": f"Bearer {token(by)}"} if by is not None else {}
        return await self.http.request(
            method, path, headers=headers | given.pop("headers", {}), **given
        )

    async def erase(
        self, subject: str, by: str | None = "dpo", /, **changed: Any
    ) -> httpx2.Response:
        """Ask for the erasure of *subject*."""
        body = {"subject": subject, "because": "DSR-20261119-07"} | changed
        return await self.ask("POST", "/admin/v1/erasures", by, json=body)

    async def begun(self, tenant: str = TENANT) -> str:
        """Return an erasure of *tenant* that was asked for, of somebody new."""
        return await erasure.ask(
            self.desk.ports.engine,
            await self.somebody(tenant),
            tenant,
            because="contract ended",
            trigger="contract-end",
            by="clerk",
            at=self.desk.clock(),
        )

    async def somebody(self, tenant: str = TENANT) -> str:
        """Return the pseudonym of a new person of *tenant*."""
        subject = f"s_{secrets.token_hex(16)}"
        row = {"alias": secrets.token_hex(32), "tenant": tenant, "subject": subject}
        async with self.desk.ports.engine.begin() as tx:
            await tx.execute(insert(aliases).values(row))
        return subject

    def denials(self) -> list[Event]:
        """Return the denials on record."""
        return [each for each in self.desk.trail.seen if each.type == "access.denied"]


@pytest.fixture
async def office(desk: Desk) -> AsyncIterator[Office]:
    """Yield the API; it rests in no time, and the test may change the desk's ports."""
    rests: list[float] = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)

    app = Starlette(routes=admin.routes(), exception_handlers={ProblemError: wire.refused})
    people = People(EVERYBODY)

    async def served(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {"console": Console(ports=desk.ports, people=people, rest=rest)}
        await app(scope, receive, send)

    transport = httpx2.ASGITransport(app=served)
    async with httpx2.AsyncClient(transport=transport, base_url="http://admin.example") as http:
        yield Office(desk, http, rests)
