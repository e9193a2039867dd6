"""A real nats-server for a whole test run; streams are each test's own."""

from collections.abc import Iterator

import pytest

from gateway.natsd import NatsServer


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """Yield a running server with JetStream, as a cell without a NATS server of its own has."""
    server = NatsServer(tmp_path_factory.mktemp("nats"), name="test", region="local")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def nats_url(nats_server: NatsServer) -> str:
    """Return the server's address with its token in it: all that a client needs."""
    return nats_server.url.replace("nats://", f"nats://{nats_server.token}@")
