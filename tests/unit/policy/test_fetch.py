"""A source is asked, not trusted: no redirects, no proxies, no end of bytes."""

import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from policy import archive
from policy.errors import FetchError
from policy.fetch import FileSource, HttpSource

pytestmark = pytest.mark.anyio

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """A web server whose next answer is *answer*."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.answer: Answer = plain(b"one", '"1"')
        seen, server = self.asked, self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(dict(self.headers))
                server.answer(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/bundle.tar.gz"


def plain(body: bytes, etag: str | None = None, status: int = 200, **headers: str) -> Answer:
    """Return an answer with *body*."""

    def answer(to: BaseHTTPRequestHandler) -> None:
        matched = etag is not None and to.headers.get("If-None-Match") == etag
        to.send_response(304 if matched else status)
        for name, value in headers.items():
            to.send_header(name, value)
        if etag:
            to.send_header("ETag", etag)
        if not matched:
            to.send_header("Content-Length", str(len(body)))
        to.end_headers()
        if not matched:
            to.wfile.write(body)

    return answer


@pytest.fixture
def server() -> Iterator[Server]:
    """Yield a server on loopback."""
    found = Server()
    thread = threading.Thread(target=found.http.serve_forever, args=(0.02,))
    thread.start()
    yield found
    found.http.shutdown()
    thread.join()
    found.http.server_close()


async def test_what_did_not_change_costs_nothing(server: Server) -> None:
    """It is polled every few seconds by every cell."""
    source = HttpSource(server.url)

    first, again = await source.newest(), await source.newest()
    server.answer = plain(b"two", '"2"')
    then = await source.newest()
    await source.aclose()

    assert (first, again, then) == (b"one", None, b"two")
    assert server.asked[1]["If-None-Match"] == '"1"'


async def test_an_environment_cannot_redirect_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy variable would put somebody between the cell and its law."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    source = HttpSource(server.url)

    assert await source.newest() == b"one"
    await source.aclose()


@pytest.mark.parametrize("status", [204, 301, 302, 307, 401, 404, 500, 503])
async def test_any_other_answer_is_no_bundle(server: Server, status: int) -> None:
    """A redirect, too: the address is a setting, not the server's to choose."""
    server.answer = plain(b"", status=status, Location="/elsewhere")
    source = HttpSource(server.url)

    with pytest.raises(FetchError, match=f"answered {status}"):
        await source.newest()
    await source.aclose()
    assert len(server.asked) == 1


async def test_not_modified_needs_something_that_was(server: Server) -> None:
    """A server that says so to a first request has given nothing."""
    server.answer = plain(b"", status=304)
    source = HttpSource(server.url)

    with pytest.raises(FetchError, match="answered 304"):
        await source.newest()
    await source.aclose()


async def test_a_flood_is_cut_off(server: Server) -> None:
    """The memory is the cell's."""
    server.answer = plain(bytes(archive.PACKED_LIMIT + 1))
    source = HttpSource(server.url)

    with pytest.raises(FetchError, match="over 4194304 bytes"):
        await source.newest()
    await source.aclose()


async def test_a_flood_in_disguise_is_not_unpacked(server: Server) -> None:
    """The length on the wire is what is capped: nothing is inflated while it is read."""
    server.answer = plain(b"\x1f\x8b not gzip", **{"Content-Encoding": "gzip"})
    source = HttpSource(server.url)

    assert await source.newest() == b"\x1f\x8b not gzip"
    await source.aclose()


async def test_nobody_there() -> None:
    """The release in force stays; somebody is told."""
    source = HttpSource("http://127.0.0.1:1/bundle.tar.gz")

    with pytest.raises(FetchError, match="not reached"):
        await source.newest()
    await source.aclose()


async def test_a_file_is_read_when_it_changed(tmp_path: Path) -> None:
    """Also as a directory, which a mounted volume is."""
    path = tmp_path / "bundle.tar.gz"
    archive.place(b"one", path)

    for source in (FileSource(path), FileSource(tmp_path)):
        archive.place(b"one", path)
        first, again = await source.newest(), await source.newest()
        archive.place(b"two", path)

        assert (first, again, await source.newest()) == (b"one", None, b"two")
        await source.aclose()


async def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """Opening a pipe would wait for ever; an endless file would fill the memory."""
    pipe, large = tmp_path / "pipe", tmp_path / "large"
    os.mkfifo(pipe)
    with large.open("wb") as file:
        file.truncate(archive.PACKED_LIMIT + 1)

    for path in (pipe, large, tmp_path / "absent"):
        with pytest.raises(FetchError, match="cannot be read"):
            await FileSource(path).newest()
