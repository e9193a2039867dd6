"""The contract of `vault.ports.Objects`, over every adapter, with a real S3 server."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from simulation.stores import MemoryObjects
from support.objects import REGION, S3Server
from support.settings import Configure
from support.stage import secret

from gateway import settings
from gateway.compose import stores
from gateway.errors import SettingsError
from gateway.settings import Mode, Settings
from vault.errors import GoneError, ObjectsError
from vault.objects.local import LocalObjects
from vault.objects.multipart import PART_BYTES
from vault.ports import Objects

SEALED = secrets.token_bytes(40_000)


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    """Return a new bucket without versions."""
    return s3_server.bucket()


@pytest.fixture(params=["local", "s3", "s3-versioned", "s3-suspended", "simulated"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    """Return each store in turn; versioned buckets on terms of deleting every version."""
    if request.param == "local":
        return LocalObjects(tmp_path / "objects")
    if request.param == "simulated":
        return MemoryObjects({})
    server: S3Server = request.getfixturevalue("s3_server")
    versions = {"s3": "", "s3-versioned": "Enabled", "s3-suspended": "Suspended"}[request.param]
    return server.store(server.bucket(versions=versions), purge_versions=bool(versions))


async def flowing(*pieces: bytes) -> AsyncIterator[bytes]:
    """Yield *pieces*."""
    for piece in pieces:
        yield piece


@pytest.mark.anyio
async def test_what_was_put_is_got(objects: Objects) -> None:
    """A store that changes one byte makes a recording unreadable."""
    await objects.put("ab/one", SEALED)
    await objects.put("ab/empty", b"")

    assert await objects.get("ab/one") == SEALED
    assert await objects.get("ab/empty") == b""
    assert await objects.names() == ["ab/empty", "ab/one"]


@pytest.mark.anyio
async def test_nothing_is_replaced(objects: Objects) -> None:
    """Replacing would let a late writer put other bytes under a row that is already checked."""
    await objects.put("ab/one", SEALED)

    with pytest.raises(ObjectsError):
        await objects.put("ab/one", b"other")

    assert await objects.get("ab/one") == SEALED


@pytest.mark.anyio
async def test_an_absent_object_is_gone(objects: Objects) -> None:
    """This answer is the proof of a deletion, so it has a type of its own."""
    with pytest.raises(GoneError):
        await objects.get("ab/never")


@pytest.mark.anyio
async def test_a_deleted_object_is_gone_and_may_be_deleted_again(objects: Objects) -> None:
    """A sweeper that crashed after the delete deletes once more."""
    await objects.put("ab/one", SEALED)

    await objects.delete("ab/one")
    await objects.delete("ab/one")

    with pytest.raises(GoneError):
        await objects.get("ab/one")
    assert await objects.names() == []


LARGE = secrets.token_bytes(PART_BYTES + 3_000_000)  # more than one request holds


@pytest.mark.anyio
@pytest.mark.parametrize("content", [b"", b"one piece", SEALED, LARGE], ids=len)
async def test_what_flowed_in_is_got_and_flows_out(objects: Objects, content: bytes) -> None:
    """A recording is never held whole twice on its way: what comes back must still be it."""
    pieces = [content[at : at + 100_000] for at in range(0, len(content), 100_000)]

    await objects.put("ab/one", flowing(*pieces))

    assert await objects.get("ab/one") == content
    assert b"".join([piece async for piece in objects.stream("ab/one")]) == content
    await objects.delete("ab/one")
    with pytest.raises(GoneError):
        await anext(objects.stream("ab/one"))


@pytest.mark.anyio
@pytest.mark.parametrize("late", [b"other", LARGE], ids=len)
async def test_what_flows_in_replaces_nothing(objects: Objects, late: bytes) -> None:
    """The rule holds for a large object too, whose parts are sent before the name is taken."""
    await objects.put("ab/one", SEALED)

    with pytest.raises(ObjectsError):
        await objects.put("ab/one", flowing(late))

    assert await objects.get("ab/one") == SEALED
    await objects.delete("ab/one")
    assert await objects.names() == []


class TornError(Exception):
    """What feeds a store failed."""


@pytest.mark.anyio
@pytest.mark.parametrize("before", [b"", SEALED, LARGE], ids=len)
async def test_a_flow_that_fails_leaves_nothing(objects: Objects, before: bytes) -> None:
    """Half a container would be a recording that was tampered with."""

    async def torn() -> AsyncIterator[bytes]:
        yield before
        yield before
        raise TornError

    with pytest.raises(TornError):
        await objects.put("ab/one", torn())

    with pytest.raises(GoneError):
        await objects.get("ab/one")
    assert await objects.names() == []
    await objects.put("ab/one", b"whole")
    assert await objects.get("ab/one") == b"whole"


BAD_NAMES = ["", "/etc/x", "../x", "a/../b", "a//b", "a/", "A", "a b", "a\n", ".a", "x" * 129]


@pytest.mark.anyio
@pytest.mark.parametrize("name", BAD_NAMES)
async def test_a_name_that_leaves_its_place_is_refused(tmp_path: Path, name: str) -> None:
    """Names come from a table: whoever can write there must not reach other files."""
    objects = LocalObjects(tmp_path / "objects")

    for call in (objects.put(name, b""), objects.get(name), objects.delete(name)):
        with pytest.raises(ObjectsError):
            await call


@pytest.mark.anyio
@pytest.mark.parametrize("name", BAD_NAMES)
async def test_s3_refuses_the_same_names(name: str) -> None:
    """The bucket may be shared: the rule is the same, before anything is sent."""
    nowhere = S3Server("http://127.0.0.1:9", "id", "secret")
    objects = nowhere.store("bucket")

    for call in (objects.get(name), objects.delete(name)):
        with pytest.raises(ObjectsError, match="name of an object"):
            await call


@pytest.mark.anyio
async def test_a_lost_directory_is_not_an_empty_store(tmp_path: Path) -> None:
    """An unmounted disk would otherwise "prove" every deletion."""
    objects = LocalObjects(tmp_path / "objects")
    await objects.put("one", SEALED)
    (tmp_path / "objects").rename(tmp_path / "elsewhere")

    for call in (objects.get("one"), objects.delete("one"), objects.names()):
        with pytest.raises(ObjectsError):
            await call
    with pytest.raises(ObjectsError):
        await objects.put("two", SEALED)


@pytest.mark.anyio
async def test_local_files_are_private(tmp_path: Path) -> None:
    """Ciphertext too is nobody else's business."""
    await LocalObjects(tmp_path / "objects").put("ab/one", SEALED)

    modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "objects").rglob("*")}

    assert modes == {0}


@pytest.mark.anyio
async def test_a_missing_bucket_is_not_an_empty_one(s3_server: S3Server) -> None:
    """A bucket that is not there proves nothing about what was in it."""
    objects = s3_server.store("no-such-bucket")

    for call in (objects.ready(), objects.get("one"), objects.put("one", b"")):
        with pytest.raises(ObjectsError):
            await call


@pytest.mark.anyio
async def test_wrong_credentials_are_a_failure(s3_server: S3Server, bucket: str) -> None:
    """Refused is not absent."""
    refused = S3Server(s3_server.url, s3_server.key_id, "wrong").store(bucket)

    for call in (refused.ready(), refused.get("one"), refused.delete("one"), refused.names()):
        with pytest.raises(ObjectsError):
            await call


@pytest.mark.anyio
async def test_a_server_that_is_away_is_a_failure() -> None:
    """Nothing is listening there: the same call may work later."""
    away = S3Server("http://127.0.0.1:9", "id", "secret").store("bucket")

    for call in (away.get("one"), away.delete("one"), away.names(), away.put("one", b"")):
        with pytest.raises(ObjectsError):
            await call


@pytest.mark.anyio
async def test_stores_that_share_a_bucket_share_nothing_else(
    s3_server: S3Server, bucket: str
) -> None:
    """Cells reconcile by deleting what they have no row for: it must never be another cell's."""
    ours = s3_server.store(bucket, "eu-1/")
    theirs = [s3_server.store(bucket, each) for each in ("us-1/", "eu-1/x/", "eu-10/")]
    await ours.put("ab/one", SEALED)
    for each in theirs[::2]:
        await each.put("ab/two", b"theirs")

    await ours.delete("ab/two")

    assert await ours.names() == ["ab/one"]
    assert [await each.names() for each in theirs] == [["ab/two"], [], ["ab/two"]]
    for each in theirs:
        await each.delete("ab/one")
        with pytest.raises(GoneError):
            await each.get("ab/one")
    assert await ours.get("ab/one") == SEALED


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("folder", "prefix"), [("", "eu-1/"), ("/", "eu-1/"), ("/some//folder/", "some/folder/eu-1/")]
)
async def test_a_cell_keeps_to_a_prefix_of_its_own(
    s3_server: S3Server, bucket: str, configure: Configure, folder: str, prefix: str
) -> None:
    """Two cells may be given the same address: the cell's id is what keeps them apart."""
    path = configure(
        f'[services.objects]\nurl = "s3://{bucket}{folder}"\nendpoint = "{s3_server.url}"\n'
        f'region = "{REGION}"\naccess_key_file = "key-id"\nsecret_key_file = "key-secret"'
    )
    secret(path.parent, "key-id", s3_server.key_id)
    secret(path.parent, "key-secret", s3_server.secret)
    cell = await stores.objects(settings.load(path))

    await cell.put("ab/one", SEALED)

    assert await s3_server.store(bucket, prefix).names() == ["ab/one"]


@pytest.mark.anyio
async def test_a_production_cell_needs_its_bucket_to_say_all(
    s3_server: S3Server, bucket: str, configure: Configure
) -> None:
    """What may stay unknown is written in the settings, by name, or the cell does not start."""
    given = (
        f'[services.objects]\nurl = "s3://{bucket}"\nendpoint = "{s3_server.url}"\n'
        f'region = "{REGION}"\naccess_key_file = "key-id"\nsecret_key_file = "key-secret"\n'
    )
    path = configure(given)
    secret(path.parent, "key-id", s3_server.key_id)
    secret(path.parent, "key-secret", s3_server.secret)

    def production(path: Path) -> Settings:
        loaded = settings.load(path)
        cell = loaded.cell.model_copy(update={"mode": Mode.PRODUCTION})
        return loaded.model_copy(update={"cell": cell})

    with pytest.raises(SettingsError) as refused:
        await stores.objects(production(path))

    assert [fault.split(":")[:2] for fault in refused.value.faults] == [
        ["services.objects", " public_access"],
        ["services.objects", " region"],
    ]
    accepted = configure(f'{given}accept_unknown = ["public_access", "region"]')
    assert (await stores.objects(production(accepted))).name == "s3"


@pytest.mark.parametrize("prefix", ["", "/", "eu-1", "/eu-1/", "a//b/", "../b/", "a/./b/", "A/"])
def test_a_prefix_that_is_none_is_refused(prefix: str) -> None:
    """Without one a store would take the whole bucket for its own."""
    nowhere = S3Server("http://127.0.0.1:9", "id", "secret")

    with pytest.raises(ObjectsError, match="prefix"):
        nowhere.store("bucket", prefix)
