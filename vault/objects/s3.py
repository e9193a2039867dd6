"""
Objects in an S3-compatible bucket (extra ``s3``).

- `ready` asks the server what the bucket is (`vault.objects.attest`, `vault.bucket`); nothing
  is put before it was found fit. Backups of the bucket are the operator's to switch off.
- A bucket that keeps versions is fit only if every version is purged: then a delete deletes
  them all, and "gone" means that the list of versions is empty too.
- Both clients are told everything; neither takes a word from its environment.
- Trust: sees ciphertext, sizes and times. If it keeps what it was told to delete, the
  destroyed key is what protects the content.
"""

import contextlib
import re
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from datetime import datetime

from obstore import exceptions as faults

from vault import bucket as judged
from vault import flow
from vault.bucket import Fact, Terms
from vault.errors import GoneError, ObjectsError, UnfitBucketError
from vault.objects import attest, blocking, client, multipart, versions
from vault.objects.carrier import carrier
from vault.objects.client import Credentials
from vault.ports import OBJECT_NAME

PURGE_FIX = "allow s3:ListBucketVersions and s3:DeleteObjectVersion"
PREFIX = re.compile(r"(?:[a-z0-9_-][a-z0-9_.-]*/)+")


class S3Objects:
    """
    See `vault.ports.Objects`.

    *endpoint* is the server's URL, and *bucket* is addressed in its path. *prefix*, such as
    ``eu-1/``, is this store's alone: objects beside it are neither seen nor touched, so that
    cells may share a bucket. *terms* say what the bucket must be; *now* tells a dead writer.
    """

    name = "s3"

    def __init__(
        self,
        endpoint: str,
        bucket: str,
        *,
        prefix: str,
        terms: Terms,
        credentials: Credentials,
        now: Callable[[], datetime],
    ) -> None:
        if not PREFIX.fullmatch(prefix):
            raise ObjectsError("the prefix of a store is path segments, each followed by a slash")
        self._bucket, self._prefix, self._terms, self._now = bucket, prefix, terms, now
        self._fit = False
        self._client = client.connect(endpoint, region=terms.region, credentials=credentials)
        self._store = carrier(
            endpoint, bucket, prefix=prefix, region=terms.region, credentials=credentials
        )

    async def facts(self) -> list[Fact]:
        """Return what the server says of the bucket; raise `ObjectsError` if it says nothing."""
        return await blocking.call(attest.facts, self._client, self._bucket)

    async def ready(self) -> list[Fact]:
        """
        Return what the server says of the bucket, if that makes it fit.

        Raises:
            UnfitBucketError: it is not, for every reason that is named.
            ObjectsError: it did not answer.

        """
        found = await self.facts()
        if wrong := judged.faults(found, self._terms):
            raise UnfitBucketError(wrong)
        if self._terms.purge_versions:
            await self._try_purge()
        self._fit = True
        return found

    async def put(self, name: str, sealed: bytes | AsyncIterable[bytes]) -> None:
        """See `Objects.put`."""
        key = self._key(name)
        if not self._fit:
            await self.ready()
        parts = flow.blocks(flow.pieces(sealed), multipart.PART_BYTES)
        first, second = await anext(parts, b""), await anext(parts, None)
        if second is not None:
            await multipart.put(
                self._client, self._bucket, key, flow.chained([first, second], parts)
            )
            return
        with _translated():
            await self._store.put_async(name, first, mode="create")

    async def get(self, name: str) -> bytes:
        """See `Objects.get`."""
        return await flow.gathered(self.stream(name))

    async def stream(self, name: str) -> AsyncIterator[bytes]:
        """See `Objects.stream`."""
        key = self._key(name)
        try:
            with _translated():
                found = await self._store.get_async(name)
                async for piece in found.stream(flow.PIECE):
                    yield bytes(piece)
        except _AbsentError:
            await blocking.call(self._require_none_left, key)
            raise GoneError("no such object") from None

    async def delete(self, name: str) -> None:
        """See `Objects.delete`."""
        key = self._key(name)
        if self._terms.purge_versions:
            await blocking.call(versions.purge, self._client, self._bucket, key)
            return
        try:
            with _translated():
                await self._store.delete_async(name)
        except _AbsentError:
            await blocking.call(self._require_none_left, key)

    async def names(self) -> list[str]:
        """See `Objects.names`."""
        await blocking.call(multipart.clear, self._client, self._bucket, self._prefix, self._now())
        if self._terms.purge_versions:
            keys = await blocking.call(versions.keys, self._client, self._bucket, self._prefix)
            return [key.removeprefix(self._prefix) for key in keys]
        with _translated():
            return sorted([meta["path"] async for page in self._store.list() for meta in page])

    async def _try_purge(self) -> None:
        """Prove, on an object without content, that this key lists and deletes versions."""
        name = f"probe/{secrets.token_hex(16)}"
        try:
            with _translated():
                await self._store.put_async(name, b"", mode="create")
            await self.delete(name)
        except ObjectsError as exc:
            raise UnfitBucketError(
                [f"versioning: an object's versions could not be deleted: {exc} ({PURGE_FIX})"]
            ) from None

    @client.translated()
    def _require_none_left(self, key: str) -> None:
        """Tell a deleted object from a missing bucket, and from one that is kept as a version."""
        if self._terms.purge_versions:
            if versions.left(self._client, self._bucket, key):
                raise ObjectsError("versions are left of an object that was deleted")
        elif attest.versioning(self._client, self._bucket) != "never":
            raise ObjectsError("the bucket keeps versions: nothing is proven to be deleted")

    def _key(self, name: str) -> str:
        if not OBJECT_NAME.fullmatch(name):
            raise ObjectsError("the name of an object is [a-z0-9_/.-]{1,128}, no dotted segment")
        return self._prefix + name


class _AbsentError(ObjectsError):
    """There is no such object, or no such bucket."""


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn the carrier's faults into ours; "not found" may be the answer."""
    try:
        yield
    except (FileNotFoundError, faults.NotFoundError):
        raise _AbsentError("there is no such object, or no such bucket") from None
    except faults.BaseError as exc:
        raise ObjectsError(type(exc).__name__) from None
