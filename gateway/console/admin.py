"""
The admin API: every request has a person, and every person's request is put to the rules.

- Who has no token of ours hears the same, whatever was asked for; it is counted, no more.
- Then the form: a body that is not exactly what the endpoint takes is refused before it is
  looked at for what it says.
- Then the rules, which are those in force: a denial is on record before it is heard, and where
  they do not answer, or the record cannot be written, nothing happens (503).
"""

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from audit.errors import AppendError
from gateway import log
from gateway.console import erasures, requests, wire
from gateway.console.call import Call, Console, Endpoint
from gateway.errors import ProblemError

ENDPOINTS: tuple[Endpoint, ...] = (*erasures.ENDPOINTS, *requests.ENDPOINTS)


def routes() -> list[Route]:
    """Return the routes; they expect ``request.state.console``, and `wire.refused`."""
    return [_route(endpoint) for endpoint in ENDPOINTS]


def _route(endpoint: Endpoint) -> Route:
    async def answer(request: Request) -> Response:
        console: Console = request.state.console
        tokens = [value for key, value in request.scope["headers"] if key == b"authorization"]
        person = console.people.who(tokens)
        if person is None:
            console.ports.metrics.unauthorized()
            raise ProblemError(401, "token.unknown")
        given = wire.query(request, endpoint.query)
        if endpoint.method == "POST":
            given |= await wire.body(request, endpoint.body)
        ident = request.path_params.get("ident", "")
        call = Call(person=person, console=console, ident=ident, given=given)
        return await _acted(endpoint, call)

    return Route(endpoint.path, answer, methods=[endpoint.method])


async def _acted(endpoint: Endpoint, call: Call) -> Response:
    try:
        return await endpoint.act(call)
    except (AppendError, SQLAlchemyError) as exc:
        log.get().error("admin.failed", error=type(exc).__name__)
        raise ProblemError(503, "record.unavailable") from None
