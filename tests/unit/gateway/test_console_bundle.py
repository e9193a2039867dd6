"""An OPA server gets the verified release, with a token, and pays nothing for asking again."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from gateway.console import bundle
from gateway.console.bundle import Offer

BEARER = {"Authorization": "Bearer t0k"}


class Shelf:
    """What a test puts in force."""

    def __init__(self) -> None:
        self.raw: bytes | None = b"one"
        self.token: bytes | None = b"t0k"


@pytest.fixture
def shelf() -> Shelf:
    """Return a shelf with a release on it."""
    return Shelf()


@pytest.fixture
def client(shelf: Shelf) -> Iterator[TestClient]:
    """Yield a client of the route alone."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[Mapping[str, Offer]]:
        yield {"offer": Offer(archive=lambda: shelf.raw, token=shelf.token)}

    app = Starlette(routes=[Route(bundle.PATH, bundle.serve)], lifespan=lifespan)
    with TestClient(app) as found:
        yield found


def test_the_bytes_are_those_that_were_published(client: TestClient) -> None:
    """The server checks the signature itself: a byte less and it refuses."""
    answer = client.get(bundle.PATH, headers=BEARER)

    assert (answer.status_code, answer.content) == (200, b"one")


@pytest.mark.parametrize("given", [{}, {"Authorization": "Bearer t0"}, {"Authorization": "t0k"}])
def test_a_token_is_asked_for(client: TestClient, given: dict[str, str]) -> None:
    """Which processors a controller refuses, and under which contract, is nobody else's."""
    answer = client.get(bundle.PATH, headers=given)

    assert answer.status_code == 401
    assert b"one" not in answer.content


def test_what_did_not_change_is_not_sent(client: TestClient, shelf: Shelf) -> None:
    """It is asked every second or two; and what changed is sent, back to the old one too."""
    first = client.get(bundle.PATH, headers=BEARER)
    etag = {"If-None-Match": first.headers["etag"]}

    again = client.get(bundle.PATH, headers=BEARER | etag)
    shelf.raw = b"two"
    then = client.get(bundle.PATH, headers=BEARER | etag)

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert (then.status_code, then.content) == (200, b"two")


def test_nobody_has_an_empty_token(shelf: Shelf, client: TestClient) -> None:
    """Without a token the route is not served, whatever a client says."""
    shelf.token = None
    with TestClient(client.app) as untold:
        answer = untold.get(bundle.PATH, headers={"Authorization": "Bearer "})

    assert answer.status_code == 404
    assert "opa_token_file" in answer.text


def test_what_nobody_signed_is_not_given(client: TestClient, shelf: Shelf) -> None:
    """And whoever sets the server up is told what to set."""
    shelf.raw = None

    answer = client.get(bundle.PATH, headers=BEARER)

    assert answer.status_code == 404
    assert "sign_key_file" in answer.text
