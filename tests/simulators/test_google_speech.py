"""The simulator keeps Google's side: the vendor's own, unmodified client is the measure."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.speech_v2 import SpeechAsyncClient
from google.cloud.speech_v2.services.speech.transports import SpeechGrpcAsyncIOTransport
from google.cloud.speech_v2.types import cloud_speech as speech
from simulators import google_world
from simulators.engines import scripted
from simulators.google_world import SAID, Google, google_at, recognizer
from support.pki import Authority
from support.speech import recording

from residency.processors import google_request, google_row, grpc_tunnel

pytestmark = pytest.mark.anyio

HERE, ELSEWHERE = "europe-west4", "us-central1"
NOTE = recording("psphinx_misc_en_goforward")
PINS = google_row.read(google_world.google_row(HERE))
CONFIG = google_request.config(PINS, NOTE.ogg, ["en-US"])
BEARER = ("authorization", google_world.account().bearer())
ROUTE = ("x-goog-request-params", f"recognizer={recognizer(HERE)}")


@pytest.fixture
async def google(authority: Authority) -> AsyncIterator[Google]:
    """Yield the vendor with a scripted engine."""
    async with google_at(authority, scripted(SAID)) as found:
        yield found


@pytest.fixture
async def client(google: Google) -> AsyncIterator[SpeechAsyncClient]:
    """Yield the vendor's client on a channel through the broker."""
    passage = await google.admit()
    roots = google.authority.ca.read_bytes()
    async with grpc_tunnel.channel(PINS.host, passage, roots) as channel:
        yield SpeechAsyncClient(transport=SpeechGrpcAsyncIOTransport(channel=channel))


def request(**changed: Any) -> speech.RecognizeRequest:
    """Return a good request with some of it changed."""
    fields = {"recognizer": recognizer(HERE), "config": CONFIG, "content": NOTE.ogg}
    return speech.RecognizeRequest(fields | changed)


async def requests(*pieces: bytes) -> AsyncIterator[speech.StreamingRecognizeRequest]:
    """Yield a stream's messages with *pieces* of audio."""
    how = speech.StreamingRecognitionConfig(config=CONFIG)
    yield speech.StreamingRecognizeRequest(recognizer=recognizer(HERE), streaming_config=how)
    for piece in pieces:
        yield speech.StreamingRecognizeRequest(audio=piece)


async def test_the_vendor_s_client_goes_through_the_broker(
    google: Google, client: SpeechAsyncClient
) -> None:
    """It knows nothing of us: what holds for it holds for every gRPC client."""
    answer = await client.recognize(request(), metadata=[BEARER])

    assert answer.results[0].alternatives[0].transcript == SAID
    assert answer.metadata.request_id == google.at[HERE].log.receipts[0].request_id
    assert google.lookups == [PINS.host]


async def test_the_vendor_s_client_streams_through_the_broker(
    google: Google, client: SpeechAsyncClient
) -> None:
    """Long notes take this way."""
    answers = await client.streaming_recognize(
        requests(NOTE.ogg[:3000], NOTE.ogg[3000:]), metadata=[BEARER, ROUTE]
    )

    said = [answer.results[0].alternatives[0].transcript async for answer in answers]

    assert " ".join(said) == SAID
    assert google.at[HERE].log.receipts[0].audio_bytes == len(NOTE.ogg)


@pytest.mark.parametrize("place", [ELSEWHERE, "global"])
async def test_a_recognizer_of_another_location_is_refused(
    google: Google, client: SpeechAsyncClient, place: str
) -> None:
    """As the real service does; its client compares nothing."""
    with pytest.raises(
        exceptions.InvalidArgument,
        match=f"Expected resource location to be {HERE}, but found {place} in resource name",
    ):
        await client.recognize(request(recognizer=recognizer(place)), metadata=[BEARER])

    assert google.at[HERE].log.receipts == []


async def test_a_stream_without_a_routing_header_is_refused(client: SpeechAsyncClient) -> None:
    """Regional endpoints do (googleapis/google-cloud-node 8288), and the client sends none."""
    answers = await client.streaming_recognize(requests(NOTE.ogg), metadata=[BEARER])

    with pytest.raises(exceptions.InvalidArgument, match="RESOURCE_PROJECT_INVALID"):
        await anext(aiter(answers))


async def test_a_message_over_the_limit_is_refused(client: SpeechAsyncClient) -> None:
    """The limit is Google's: 15 KB of audio in a message."""
    answers = await client.streaming_recognize(
        requests(bytes(15 * 1024 + 1)), metadata=[BEARER, ROUTE]
    )

    with pytest.raises(exceptions.InvalidArgument, match="over 15 KB"):
        await anext(aiter(answers))


@pytest.mark.parametrize("bearer", ["", "Bearer x", "Bearer a.b.c", BEARER[1][:-6] + "AAAAAA"])
async def test_a_token_that_is_not_the_account_s_is_refused(
    google: Google, client: SpeechAsyncClient, bearer: str
) -> None:
    """The simulator checks the signature: a token that it takes is a good one."""
    with pytest.raises(exceptions.Unauthenticated):
        await client.recognize(request(), metadata=[("authorization", bearer)])

    assert google.at[HERE].log.receipts == []


@pytest.mark.parametrize(
    "changed",
    [
        {"content": b""},
        {"config": {"auto_decoding_config": {}, "model": "short", "language_codes": ["en-US"]}},
        {"config": {"explicit_decoding_config": CONFIG.explicit_decoding_config}},
    ],
    ids=["no audio", "no encoding", "no model"],
)
async def test_what_the_vendor_cannot_work_with_is_refused(
    client: SpeechAsyncClient, changed: dict[str, Any]
) -> None:
    """A request that passes here and fails at Google would be the simulator's fault."""
    with pytest.raises(exceptions.InvalidArgument):
        await client.recognize(request(**changed), metadata=[BEARER])
