"""
Eight planted leaks: what others' gateways do by mistake, each to be seen by the same counters.

The note may be heard in `HOME` and nowhere else; whatever is planted opens its own sockets, as
code does that goes round the broker.
"""

import asyncio
import importlib.util
import os
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
from borders.counting import settled, strays
from borders.errand import told
from borders.vendors import Vendors
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.auth.credentials import AnonymousCredentials
from google.cloud.speech_v2 import SpeechClient

HOME, ABROAD = "eu-central", "us-east"
HERE, THERE = f"{HOME}.v1.example", f"{ABROAD}.v1.example"
FEW_S = 1.0

Pool = dict[str, tuple[asyncio.StreamReader, asyncio.StreamWriter]]


async def _dialled(vendors: Vendors, host: str) -> str:
    """Speak with *host* directly, as code does that knows no broker; "" where that fails."""
    try:
        async with asyncio.timeout(FEW_S):
            ends = await asyncio.open_connection(vendors.address(host), 443)
            return await told(*ends, host, str(vendors.authority.ca))
    except (OSError, TimeoutError):
        return ""


async def fallback_list(vendors: Vendors) -> None:
    """Walk a list of the operator's own when the first vendor is busy."""
    vendors.moods[HERE] = "busy"
    for host in (HERE, THERE):
        if await _dialled(vendors, host) == "OK":
            return


async def redirect_followed(vendors: Vendors) -> None:
    """Go where the vendor says."""
    vendors.moods[HERE] = f"redirect {THERE}"
    _, _, where = (await _dialled(vendors, HERE)).partition(" ")
    await _dialled(vendors, where)


async def proxy_of_the_environment(vendors: Vendors) -> None:
    """Let an HTTP client read HTTPS_PROXY, which names a machine abroad."""
    os.environ["HTTPS_PROXY"] = f"http://{vendors.address(THERE)}:3128"
    try:
        async with httpx2.AsyncClient(trust_env=True, timeout=FEW_S) as http:
            await http.get(f"https://{HERE}/")
    except httpx2.HTTPError:
        pass
    finally:
        del os.environ["HTTPS_PROXY"]


async def pool_across_regions(vendors: Vendors) -> None:
    """Keep a connection by vendor, not by region, and use it for the next note."""
    pool: Pool = {}
    vendor = THERE.partition(".")[2]
    pool[vendor] = await asyncio.open_connection(vendors.address(THERE), 443)
    await asyncio.sleep(0.05)
    mark = vendors.mark
    assert mark is not None
    await mark()  # from here on, only HOME is legal
    reader, writer = pool[HERE.partition(".")[2]]
    try:
        async with asyncio.timeout(FEW_S):
            await told(reader, writer, HERE, str(vendors.authority.ca))
    except (OSError, TimeoutError, ssl.SSLError):
        pass


async def lookup_at_import(vendors: Vendors) -> None:
    """Import a module that asks for a name while it is imported."""
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "an_sdk.py"
        path.write_text(
            "import contextlib, socket\n"
            "with contextlib.suppress(OSError):\n"
            f"    socket.getaddrinfo({HERE!r}, 443)\n",
            encoding="utf-8",
        )
        spec = importlib.util.spec_from_file_location("an_sdk", path)
        assert spec is not None
        assert spec.loader is not None
        await asyncio.to_thread(spec.loader.exec_module, importlib.util.module_from_spec(spec))


async def no_endpoint(vendors: Vendors) -> None:
    """Use Google's own client as its first example does: no endpoint, hence the global one."""

    def call() -> None:
        client = SpeechClient(
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options=ClientOptions(),  # type: ignore[no-untyped-call]
        )
        try:
            client.recognize(request={"content": b"x"}, timeout=FEW_S, retry=None)
        except (GoogleAPICallError, RetryError):
            pass
        finally:
            client.transport.close()

    await asyncio.to_thread(call)


async def retry_abroad(vendors: Vendors) -> None:
    """Try again in the next region when the first is silent."""
    vendors.moods[HERE] = "silent"
    for host in (HERE, THERE):
        if await _dialled(vendors, host) == "OK":
            return


async def probe_abroad(vendors: Vendors) -> None:
    """Ask every processor of the registry how it is, wherever it stands."""

    async def knock(host: str) -> None:
        _, writer = await asyncio.open_connection(vendors.address(host), 443)
        writer.transport.abort()

    await asyncio.gather(*(knock(f"{place}.v0.example") for place in vendors.places))


async def nothing(vendors: Vendors) -> None:
    """Plant no leak: an honest call at home must not be taken for one."""
    assert await _dialled(vendors, HERE) == "OK"


LEAKS: dict[str, Callable[[Vendors], Awaitable[None]]] = {
    leak.__name__: leak
    for leak in (
        fallback_list,
        lookup_at_import,
        no_endpoint,
        nothing,
        pool_across_regions,
        probe_abroad,
        proxy_of_the_environment,
        redirect_followed,
        retry_abroad,
    )
}


async def leaks(vendors: Vendors, *names: str) -> Any:
    """Plant the leaks *names* (all), one after another; return the packets that each sent."""
    found: dict[str, dict[str, int]] = {}
    await _dialled(vendors, HERE)  # imports and such come first: what is counted is the leak
    for name in names or LEAKS:
        vendors.moods.clear()
        before = [await settled()]

        async def mark(before: list[Any] = before) -> None:
            before[:] = [await settled()]

        vendors.mark = mark
        await LEAKS[name](vendors)
        after = await settled()
        sent = {vendors.net.place(device): n for device, n in (after - before[0]).items()}
        found[name] = strays(sent, {HOME})
    return {"strays": found}


SCENES: dict[str, Callable[..., Awaitable[Any]]] = {"leaks": leaks}
