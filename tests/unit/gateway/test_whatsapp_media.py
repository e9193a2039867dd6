"""Fetching media from a real HTTP server, with the rows M01 to M12 of the bad-input catalogue."""

import hashlib
import traceback
from collections.abc import Sequence
from dataclasses import replace

import httpx2
import pytest
from support.graph import account, ogg

from gateway.demo.graph import DROP, Fault, GraphWorld, Stored, Trick, refusal, wire
from gateway.errors import (
    AccountFaultError,
    ChannelBusyError,
    MediaGoneError,
    MediaRefusedError,
)
from gateway.whatsapp import connection, media
from gateway.whatsapp.account import Account
from gateway.whatsapp.media import Media
from gateway.whatsapp.payload import VoiceNote
from residency.model import Grant
from residency.proxy import Broker

pytestmark = pytest.mark.anyio

PHONE = "12025550123"
LISTED = Account(phone_number_id="1", token="secret")


@pytest.fixture
def item(graph: GraphWorld) -> Stored:
    """Return a voice note that WhatsApp holds for the first line."""
    return graph.person(PHONE).attach(ogg())


@pytest.fixture
def source(graph: GraphWorld, http: httpx2.AsyncClient) -> Media:
    """Return the media of the first line."""
    return Media(http, account(graph))


def note(item: Stored, **changes: object) -> VoiceNote:
    """Return the voice note that announces *item*."""
    fields = {
        "media_id": item.id,
        "mime_type": item.mime,
        "sha256": hashlib.sha256(item.content).digest(),
        "voice": True,
    }
    return VoiceNote(**(fields | changes))  # type: ignore[arg-type]


def downloads(world: GraphWorld) -> list[int | None]:
    """Return the statuses of all requests to the CDN."""
    return [each.status for each in world.receipts if each.path.startswith("/_cdn")]


async def test_a_note_arrives_whole_with_what_was_seen(
    graph: GraphWorld, source: Media, item: Stored
) -> None:
    """The touch records what the answer showed; the address is the broker's to say."""
    found = await source.fetch(note(item))

    assert (found.content, found.mime) == (item.content, "audio/ogg; codecs=opus")
    assert (found.observed.host, found.observed.peer) == ("127.0.0.1", "")
    assert found.observed.tls == ""
    receipt = graph.receipts[-1]
    assert (receipt.path, receipt.bearer_ok) == ("/_cdn/{token}", True)
    assert receipt.content_sha256 == hashlib.sha256(item.content).hexdigest()


async def test_metadata_may_spell_its_digest_in_base64(source: Media, item: Stored) -> None:
    """Meta documents no encoding for this field."""
    item.stated_sha256 = wire.digest_base64(item.content)

    assert (await source.fetch(note(item))).content == item.content


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://lookaside.fbsbx.com/x", id="M01-http"),
        pytest.param("https://cdn.evil.example/x", id="M02-other-host"),
        pytest.param("https://graph.facebook.com.evil.example/x", id="M03-suffix"),
        pytest.param("https://evil@lookaside.fbsbx.com/x", id="M03-user"),
        pytest.param("https://lookaside.fbsbx.com@cdn.evil.example/x", id="M03-host-as-user"),
        pytest.param("https://lookaside.fbsbх.com/x", id="M03-cyrillic"),  # noqa: RUF001
        pytest.param("https://xn--lookaside-fbsbx-1bb.com/x", id="M03-punycode"),
        pytest.param("https://lookaside.fbsbx.com.:443/x", id="M03-trailing-dot"),
        pytest.param("https://lookaside.fbsbx.com\\@cdn.evil.example/x", id="M03-backslash"),
        pytest.param("https://lookaside.fbsbx.com\t/x", id="M03-tab"),
        pytest.param("https://127.0.0.1/x", id="M04-loopback"),
        pytest.param("https://127.1/x", id="M04-short-form"),
        pytest.param("https://0x7f000001/x", id="M04-hexadecimal"),
        pytest.param("https://[::1]/x", id="M04-ipv6"),
        pytest.param("https://169.254.169.254/x", id="M04-metadata-service"),
        pytest.param("https://lookaside.fbsbx.com:8443/x", id="odd-port"),
        pytest.param("ftp://lookaside.fbsbx.com/x", id="ftp"),
        pytest.param("//lookaside.fbsbx.com/x", id="no-scheme"),
        pytest.param("https://[/x", id="no-url"),
        pytest.param("", id="empty"),
    ],
)
async def test_a_url_off_the_list_is_never_requested(
    graph: GraphWorld, item: Stored, url: str
) -> None:
    """Whoever can write that URL would otherwise get our token, or our network."""
    item.stated_url = url or " "
    requested: list[str] = []

    async def remember(request: httpx2.Request) -> None:
        requested.append(request.url.path)

    async with connection.client(development=True) as http:
        http.event_hooks["request"] = [remember]
        listed = frozenset({"lookaside.fbsbx.com"})
        source = Media(http, account(graph, media_hosts=listed))
        with pytest.raises((AccountFaultError, MediaRefusedError)):
            await source.fetch(note(item))

    assert requested == [f"/v25.0/{item.id}"]


def test_a_host_that_no_setting_lists_is_not_the_notes_fault() -> None:
    """Meta moves its media; every note after that would be refused as unreadable."""
    with pytest.raises(AccountFaultError, match=r"media\.host"):
        media.checked("https://media.elsewhere.example/a/?mid=1", LISTED)


@pytest.mark.parametrize(
    ("url", "hosts", "development"),
    [
        pytest.param("https://127.0.0.1/x", {"127.0.0.1"}, False, id="literal-in-production"),
        pytest.param("http://127.0.0.1:80/x", {"127.0.0.1"}, False, id="http-in-production"),
        pytest.param("http://10.0.0.1/x", {"10.0.0.1"}, True, id="http-beyond-loopback"),
        pytest.param("http://localhost/x", {"localhost"}, True, id="http-to-a-name"),
        pytest.param("https://10.0.0.1/x", {"10.0.0.1"}, True, id="literal-beyond-loopback"),
    ],
)
def test_a_listed_address_is_admitted_on_loopback_in_development_only(
    url: str, hosts: set[str], *, development: bool
) -> None:
    """A list copied from a test must not open the production cell."""
    listed = replace(LISTED, media_hosts=frozenset(hosts), development=development)

    with pytest.raises(MediaRefusedError):
        media.checked(url, listed)


@pytest.mark.parametrize(
    "url",
    ["https://lookaside.fbsbx.com/a/?mid=1&hash=x", "https://LOOKASIDE.fbsbx.com:443/a"],
)
def test_the_listed_host_is_admitted_by_https(url: str) -> None:
    """The check must not refuse what Meta really sends."""
    assert media.checked(url, LISTED).host == "lookaside.fbsbx.com"


@pytest.mark.parametrize(
    "addresses",
    [
        pytest.param(["10.1.2.3"], id="M05-private"),
        pytest.param(["8.8.8.8", "10.1.2.3"], id="M05-one-of-two-private"),
        pytest.param(["::ffff:169.254.169.254"], id="M05-mapped"),
        pytest.param(["224.0.0.1"], id="multicast"),
    ],
)
async def test_a_listed_name_that_is_not_public_gets_no_connection(
    graph: GraphWorld, item: Stored, addresses: Sequence[str]
) -> None:
    """A name on the list is only as good as the address behind it."""
    asked: list[str] = []

    async def resolve(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return addresses

    item.stated_url = "https://media.example/x"
    listed = account(graph, media_hosts=frozenset({"media.example"}))
    broker = Broker(development=True, resolve=resolve)
    await broker.start()
    hosts = (graph.url.removeprefix("http://"), "media.example:443")
    passage = await broker.admit(
        Grant(processor="msg.here", decision="d_1", touch="t_1", hosts=hosts, seconds=9)
    )
    async with connection.client() as http:
        with pytest.raises(AccountFaultError, match=r"media\.address"):
            await Media(http, listed).fetch(note(item), passage=passage)

    assert asked == ["media.example"]
    [_, refused] = await broker.end(passage)
    assert refused.refused == "address.not_global"
    await broker.aclose()


async def test_m06_a_redirect_is_not_followed(
    graph: GraphWorld, source: Media, item: Stored
) -> None:
    """A redirect would carry the token to wherever it points."""
    item.trick = Trick.REDIRECT

    with pytest.raises(MediaRefusedError, match=r"media\.redirect"):
        await source.fetch(note(item))

    assert downloads(graph) == [302]


@pytest.mark.parametrize("more", [1, -1], ids=["M07-short", "M07-long"])
async def test_a_length_other_than_stated_is_refused(
    source: Media, item: Stored, more: int
) -> None:
    """A note that is not what WhatsApp said it is must not become evidence."""
    item.stated_size = len(item.content) + more

    with pytest.raises(MediaRefusedError, match=r"media\.length"):
        await source.fetch(note(item))


async def test_m07_a_body_that_breaks_off_may_be_asked_for_again(
    source: Media, item: Stored
) -> None:
    """A lost connection says nothing against the note."""
    item.trick = Trick.TRUNCATED

    with pytest.raises(ChannelBusyError):
        await source.fetch(note(item))


async def test_m08_other_bytes_of_the_same_length_are_refused(source: Media, item: Stored) -> None:
    """The digest in the webhook was signed: it is what the person sent."""
    item.trick = Trick.WRONG_BYTES

    with pytest.raises(MediaRefusedError, match=r"media\.digest"):
        await source.fetch(note(item))


async def test_m08_a_digest_other_than_the_webhook_s_is_refused_unseen(
    graph: GraphWorld, source: Media, item: Stored
) -> None:
    """When metadata and webhook disagree there is no reason to download anything."""
    with pytest.raises(MediaRefusedError, match=r"media\.digest"):
        await source.fetch(note(item, sha256=bytes(32)))

    assert downloads(graph) == []


async def test_m09_a_body_is_cut_at_the_cap(source: Media, item: Stored) -> None:
    """Whatever was announced, no more than 16 MiB may enter memory."""
    item.trick = Trick.HUGE

    with pytest.raises(MediaRefusedError, match=r"media\.too_large"):
        await source.fetch(note(item))


async def test_m09_a_stated_size_over_the_cap_is_refused_unseen(
    graph: GraphWorld, source: Media, item: Stored
) -> None:
    """17 MB need not be fetched to be refused."""
    item.stated_size = 17 * 1024 * 1024

    with pytest.raises(MediaRefusedError, match=r"media\.too_large"):
        await source.fetch(note(item))

    assert downloads(graph) == []


def test_m09_an_announced_length_over_the_cap_is_refused_at_the_head() -> None:
    """The header is enough to refuse on; the body need not start."""
    request = httpx2.Request("GET", "https://lookaside.fbsbx.com/x")
    answer = httpx2.Response(200, headers={"content-length": "17000000"}, request=request)

    with pytest.raises(MediaRefusedError, match=r"media\.too_large"):
        media._check_head(answer)


async def test_m10_a_lapsed_url_is_renewed_once(
    graph: GraphWorld, source: Media, item: Stored
) -> None:
    """URLs live 5 minutes: a slow start must not lose a note."""
    item.trick = Trick.GONE_ONCE

    found = await source.fetch(note(item))

    assert found.content == item.content
    assert downloads(graph) == [404, 200]


async def test_m10_a_url_that_stays_gone_is_given_up(
    graph: GraphWorld, source: Media, item: Stored
) -> None:
    """Two tries, not a loop."""
    item.trick = Trick.GONE

    with pytest.raises(MediaGoneError):
        await source.fetch(note(item))

    assert downloads(graph) == [404, 404]


async def test_m11_a_compressed_body_is_refused(source: Media, item: Stored) -> None:
    """17 MiB of zeros fit in 17 KB of gzip: we ask for identity and take nothing else."""
    item.trick = Trick.GZIP
    item.stated_size = 17_000

    with pytest.raises(MediaRefusedError, match=r"media\.encoding"):
        await source.fetch(note(item))


async def test_m12_a_slow_body_meets_the_deadline(
    graph: GraphWorld, http: httpx2.AsyncClient, item: Stored
) -> None:
    """A byte now and then keeps every read timeout happy: only a total deadline ends it."""
    item.trick = Trick.SLOW

    with pytest.raises(ChannelBusyError):
        await Media(http, account(graph), deadline_s=0.3).fetch(note(item))


async def test_the_deadline_is_eight_seconds() -> None:
    """A person waits for an answer; a stuck download must not hold the job."""
    assert media.DEADLINE_S == 8.0


async def test_another_number_s_media_is_gone_to_us(
    graph: GraphWorld, source: Media, http: httpx2.AsyncClient
) -> None:
    """The number goes along with every request, so that WhatsApp checks the tenant too."""
    other = graph.line("12025550101")
    foreign = graph.person("12025550124", line=other).attach(ogg())
    mixed = account(graph, other, phone_number_id=next(iter(graph.lines)))

    for reader in (source, Media(http, mixed)):
        with pytest.raises(MediaGoneError, match="100"):
            await reader.fetch(note(foreign))


async def test_media_older_than_its_id_is_gone(
    graph: GraphWorld, source: Media, item: Stored
) -> None:
    """WhatsApp keeps the ids of webhooks for 7 days."""
    graph.clock.advance(7 * 86_400)

    with pytest.raises(MediaGoneError, match="100"):
        await source.fetch(note(item))


@pytest.mark.parametrize(
    ("operation", "fault", "error"),
    [
        ("media.get", refusal(190, 401), AccountFaultError),
        ("media.get", refusal(80007, 429), ChannelBusyError),
        ("media.get", refusal(131000, 500), ChannelBusyError),
        ("media.get", Fault(accept=False, status=503), ChannelBusyError),
        ("media.get", Fault(accept=False, status=404), MediaGoneError),
        ("media.get", DROP, ChannelBusyError),
        ("cdn", Fault(accept=False, status=401), AccountFaultError),
        ("cdn", Fault(accept=False, status=429), ChannelBusyError),
        ("cdn", Fault(accept=False, status=502), ChannelBusyError),
        ("cdn", DROP, ChannelBusyError),
    ],
)
async def test_each_failure_says_what_the_caller_can_do(
    graph: GraphWorld, source: Media, item: Stored, *, operation: str, fault: Fault, error: type
) -> None:
    """Retry, give up or page somebody: the class alone decides."""
    graph.faults.add(operation, fault)

    with pytest.raises(error) as caught:
        await source.fetch(note(item))

    assert type(caught.value) is error


async def test_nobody_listening_is_busy(http: httpx2.AsyncClient) -> None:
    """A refused connection did nothing, so it may be tried again."""
    nowhere = Account(
        phone_number_id="1", token="t", graph="http://127.0.0.1:1/v25.0", development=True
    )

    with pytest.raises(ChannelBusyError, match="no_connection"):
        await Media(http, nowhere).delete("123")


@pytest.mark.parametrize(
    ("told", "described", "digest"),
    [
        (True, True, "webhook"),
        (True, False, "webhook"),
        (False, True, "metadata"),
        (False, False, "unchecked"),
    ],
)
async def test_a_digest_is_checked_where_there_is_one(
    source: Media, item: Stored, *, told: bool, described: bool, digest: str
) -> None:
    """A note without one is opened, and what it was held against is on record."""
    item.stated_sha256 = None if described else "none"
    announced = note(item) if told else note(item, sha256=None)

    found = await source.fetch(announced)

    assert (found.content, found.digest) == (item.content, digest)


@pytest.mark.parametrize("told", [True, False], ids=["webhook", "metadata"])
async def test_the_only_digest_there_is_must_agree(
    source: Media, item: Stored, *, told: bool
) -> None:
    """Bytes that somebody exchanged on the way must not pass because a field was missing."""
    wrong = hashlib.sha256(b"other bytes")
    item.stated_sha256 = "none" if told else wrong.hexdigest()
    announced = note(item, sha256=wrong.digest() if told else None)

    with pytest.raises(MediaRefusedError, match=r"media\.digest"):
        await source.fetch(announced)


@pytest.mark.parametrize("media_id", ["../me", "a/b", "..", "", "a b", "a?x=1", "a%2fb"])
async def test_an_id_that_is_more_than_one_step_of_a_path_is_not_asked_for(
    graph: GraphWorld, source: Media, item: Stored, media_id: str
) -> None:
    """It stands in the address of a request that carries our token."""
    with pytest.raises(MediaRefusedError, match=r"media\.id"):
        await source.fetch(note(item, media_id=media_id))

    assert list(graph.receipts) == []


@pytest.mark.parametrize("media_id", ["", "../me", "1?x=y", "1/2"])
async def test_an_id_that_is_no_id_makes_no_request(
    graph: GraphWorld, source: Media, media_id: str
) -> None:
    """An id goes into a path: it must not be able to be one."""
    with pytest.raises(MediaRefusedError, match=r"media\.id"):
        await source.delete(media_id)

    assert list(graph.receipts) == []


async def test_deleted_media_is_gone(graph: GraphWorld, source: Media, item: Stored) -> None:
    """Deleting at WhatsApp shortens the life of the copy that is not ours."""
    await source.delete(item.id)

    assert graph.media.items == {}
    with pytest.raises(MediaGoneError):
        await source.delete(item.id)


async def test_errors_quote_neither_token_nor_url(
    graph: GraphWorld, source: Media, item: Stored
) -> None:
    """A traceback ends up in a log; a media URL with its token is the recording."""
    graph.faults.add("cdn", DROP)

    with pytest.raises(ChannelBusyError) as caught:
        await source.fetch(note(item))

    told = "".join(traceback.format_exception(caught.value))
    assert "_cdn" not in told
    assert next(iter(graph.lines.values())).token not in told
