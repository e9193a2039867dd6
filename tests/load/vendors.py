"""
The cloud vendors' adapters: a note through broker and SDK, against the SDK alone.

The vendors are the tests' simulators under their true names, on this loop; they understand a
fixed text at once, so that what is left is the way there and back.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import grpc.aio  # type: ignore[import-untyped]
from google.cloud.speech_v2.services.speech import SpeechAsyncClient
from google.cloud.speech_v2.services.speech.transports import SpeechGrpcAsyncIOTransport
from google.cloud.speech_v2.types import cloud_speech as speech
from load import bare_relay
from load.broker import authority_at
from load.figures import Section, figure, percentile
from simulators.azure_world import KEY, Azure, azure_at, azure_row
from simulators.engines import scripted
from simulators.google_speech import GoogleSpeech
from simulators.google_world import Google, account, google_at, recognizer
from simulators.ticketed import Ticketed
from support.pki import Authority
from support.speech import recording

from residency.model import Audio
from residency.processors import azure_native
from residency.processors.azure_native import Call
from residency.processors.azure_speech import installed
from residency.processors.child import Child, Engine

NOTE = "asterisk_en_agent-user"
SAID = "Go forward 10 meters."
LOCATION = "europe-west4"
WARM_UP = 2
NO_AZURE = f"notes through Azure Speech: not measured: no SDK ({azure_native.FIX})"
ADAPTER = "adapter, ticket and broker"
NEW = "SDK alone, new connection"
KEPT = "SDK alone, kept-alive connection (floor)"
OWN = "SDK alone in its process, bare relay"

Act = Callable[[], Awaitable[float]]
Waits = dict[str, list[float]]


async def measure(directory: Path, *, notes: int) -> Section:
    """Return the section: *notes* by each way."""
    authority, audio = authority_at(directory), recording(NOTE)
    found = {"Google Speech": await _google(authority, audio, notes)}
    if installed():
        found["Azure Speech"] = await _azure(authority, audio, notes)
    return section(found, audio, missing=() if installed() else (NO_AZURE,))


def section(found: dict[str, Waits], audio: Audio, *, missing: Sequence[str] = ()) -> Section:
    """Return what was *found* of *audio*, by vendor and way; the first way is ours."""
    return Section(
        title="7. Notes through the cloud vendors' adapters",
        compared=(
            "a note through our adapters (ticket, broker and, for Azure, a child process), "
            "against a bare call of the vendor's SDK on the same audio."
        ),
        said=(
            f"A recording of {audio.seconds:.1f} s, to simulators that speak the vendors' "
            "protocols with TLS and answer a fixed text at once; they share one event loop with "
            "the caller and the broker. Google's SDK alone dials the simulator itself. Azure's "
            "runs in a child of its own, warm as ours is, and is timed inside it; it needs a "
            "proxy to meet a simulator under the vendor's name, here one that only relays. The "
            "ways take turns, note by note. Added is the difference to the SDK alone with a "
            "new connection."
        ),
        head=("Vendor and way", "notes", "p50 ms", "p95 ms", "added p50 ms", "added p95 ms"),
        rows=tuple(_row(vendor, way, waits) for vendor, waits in found.items() for way in waits),
        missing=tuple(missing),
    )


def _row(vendor: str, way: str, waits: Waits) -> tuple[str, ...]:
    mine, yardstick = _shares(waits[way]), _shares(waits[NEW if NEW in waits else OWN])
    added = [figure(mine[at] - yardstick[at]) for at in (0, 1)] if way == ADAPTER else ["-", "-"]
    return (
        f"{vendor}: {way}",
        str(len(waits[way])),
        *map(figure, mine),
        *added,
    )


def _shares(values: Sequence[float]) -> tuple[float, float]:
    return percentile(values, 0.5), percentile(values, 0.95)


async def _google(authority: Authority, audio: Audio, notes: int) -> Waits:
    async with google_at(authority, scripted(SAID)) as google:
        sim, roots = google.at[LOCATION], authority.ca.read_bytes()
        async with _client(sim, roots) as kept:
            return await _turns(
                {
                    ADAPTER: partial(_adapter, _ticketed(google), audio),
                    NEW: partial(_dialled, sim, roots, audio),
                    KEPT: partial(_timed, partial(_recognise, kept, audio)),
                },
                notes,
            )


async def _azure(authority: Authority, audio: Audio, notes: int) -> Waits:
    async with AsyncExitStack() as stack:
        azure = await stack.enter_async_context(azure_at(authority, scripted(SAID)))
        sim = azure.here
        proxy = await stack.enter_async_context(bare_relay.relaying(sim.address, sim.port))
        child = Child("bare", timing)
        stack.push_async_callback(child.aclose)
        call = _call(sim.host, proxy, authority, audio)
        adapter = _ticketed(azure)
        return await _turns(
            {
                ADAPTER: partial(_adapter, adapter, audio),
                OWN: partial(_asked, child, call),
            },
            notes,
        )


def _ticketed(vendor: Google | Azure) -> Ticketed:
    return Ticketed(vendor.adapter(), vendor.broker)


async def _turns(ways: dict[str, Act], notes: int) -> Waits:
    found: Waits = {name: [] for name in ways}
    for number in range(-WARM_UP, notes):
        for name, act in ways.items():
            took = await act()
            if number >= 0:
                found[name].append(took)
    return found


async def _timed(act: Callable[[], Awaitable[str]]) -> float:
    """Return how long *act* took; `RuntimeError` if it did not hear what was said."""
    began = time.perf_counter()
    text = await act()
    took = (time.perf_counter() - began) * 1000
    heard(text)
    return took


def heard(text: str) -> None:
    """Raise `RuntimeError` unless *text* is what the simulators say: a failure may be quick."""
    if text != SAID:
        raise RuntimeError("a vendor did not say what it was given")


async def _adapter(ticketed: Ticketed, audio: Audio) -> float:
    async def act() -> str:
        return (await ticketed.transcribe(audio, languages=("en",))).text

    return await _timed(act)


async def _dialled(sim: GoogleSpeech, roots: bytes, audio: Audio) -> float:
    async def act() -> str:
        async with _client(sim, roots) as client:
            return await _recognise(client, audio)

    return await _timed(act)


def _client(sim: GoogleSpeech, roots: bytes) -> SpeechAsyncClient:
    options = [("grpc.ssl_target_name_override", sim.host), ("grpc.enable_http_proxy", 0)]
    channel = grpc.aio.secure_channel(
        f"{sim.address}:{sim.port}", grpc.ssl_channel_credentials(roots), options
    )
    return SpeechAsyncClient(transport=SpeechGrpcAsyncIOTransport(channel=channel))


_ACCOUNT = account()


async def _recognise(client: SpeechAsyncClient, audio: Audio) -> str:
    config = speech.RecognitionConfig(
        explicit_decoding_config=speech.ExplicitDecodingConfig(
            encoding=speech.ExplicitDecodingConfig.AudioEncoding.OGG_OPUS,
            sample_rate_hertz=16_000,
            audio_channel_count=1,
        ),
        model="short",
        language_codes=["en-US"],
    )
    request = speech.RecognizeRequest(
        recognizer=recognizer(LOCATION), config=config, content=audio.ogg
    )
    answer = await client.recognize(request, metadata=[("authorization", _ACCOUNT.bearer())])
    return str(answer.results[0].alternatives[0].transcript)


def _call(host: str, proxy: str, authority: Authority, audio: Audio) -> Call:
    return Call(
        host=host,
        locales=(azure_row().settings["locale.en"],),
        pcm=audio.pcm,
        key=KEY,
        proxy=proxy,
        ticket="none",
        secret="none",
        roots=authority.ca.read_text(),
        retries=0,
        max_connections=1,
    )


async def _asked(child: Child, call: Call) -> float:
    took, text = await child.ask(call)
    heard(text)
    return float(took)


def timing() -> Engine:
    """Run in a child: return ``Call -> (milliseconds in the SDK, text)``."""
    engine = azure_native.load()

    def timed(call: Call) -> tuple[float, str]:
        began = time.perf_counter()
        answer = engine(call)
        took = (time.perf_counter() - began) * 1000
        return took, " ".join(phrase.text for phrase in answer.phrases)

    return timed
