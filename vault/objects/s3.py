"""
Objects in an S3-compatible bucket (extra ``s3``).

- The bucket must not be versioned, nor ever have been: a delete would leave versions behind,
  and the client cannot list them. `ready` asks the server; nothing is put before it agreed.
- Replication, lifecycle copies and backups of the bucket are the operator's to switch off.
- Trust: sees ciphertext, sizes and times. If it keeps what it was told to delete, the
  destroyed key is what protects the content.
"""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from xml.etree import ElementTree as ET

import httpx2
from obstore import exceptions as faults
from obstore.store import S3Store

from vault.errors import GoneError, ObjectsError
from vault.objects import sigv4
from vault.ports import OBJECT_NAME

TIMEOUT_S = 10
PREFIX = re.compile(r"(?:[a-z0-9_-][a-z0-9_.-]*/)+")


class S3Objects:
    """
    See `vault.ports.Objects`.

    *endpoint* is the server's URL, and *bucket* is addressed in its path. *prefix*, such as
    ``eu-1/``, is this store's alone: objects beside it are neither seen nor touched, so that
    cells may share a bucket. *now* dates the signed question about versioning.
    """

    name = "s3"

    def __init__(
        self,
        endpoint: str,
        bucket: str,
        *,
        prefix: str,
        region: str,
        credentials: sigv4.Credentials,
        now: Callable[[], datetime],
    ) -> None:
        if not PREFIX.fullmatch(prefix):
            raise ObjectsError("the prefix of a store is path segments, each followed by a slash")
        self._bucket_url = f"{endpoint.rstrip('/')}/{bucket}"
        self._region = region
        self._credentials = credentials
        self._now = now
        self._unversioned = False
        self._store = S3Store(
            bucket,
            prefix=prefix,
            endpoint=endpoint,
            region=region,
            access_key_id=credentials.id,
            secret_access_key=credentials.secret,
            virtual_hosted_style_request=False,
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "timeout": timedelta(seconds=TIMEOUT_S),
            },
            retry_config={"max_retries": 0},
        )

    async def ready(self) -> None:
        """
        Return if the bucket is there and keeps no versions.

        Raises:
            ObjectsError: it is versioned, was versioned, or did not answer.

        """
        status = await self._versioning()
        if status:
            raise ObjectsError(f"the bucket keeps versions ({status}): use one that never did")
        self._unversioned = True

    async def put(self, name: str, sealed: bytes) -> None:
        """See `Objects.put`."""
        if not self._unversioned:
            await self.ready()
        try:
            await self._store.put_async(_checked(name), sealed, mode="create")
        except faults.BaseError as exc:
            raise ObjectsError(type(exc).__name__) from None

    async def get(self, name: str) -> bytes:
        """See `Objects.get`."""
        try:
            found = await self._store.get_async(_checked(name))
            return bytes(await found.bytes_async())
        except (FileNotFoundError, faults.NotFoundError):
            await self._require_bucket()
            raise GoneError("no such object") from None
        except faults.BaseError as exc:
            raise ObjectsError(type(exc).__name__) from None

    async def delete(self, name: str) -> None:
        """See `Objects.delete`."""
        try:
            await self._store.delete_async(_checked(name))
        except (FileNotFoundError, faults.NotFoundError):
            await self._require_bucket()
        except faults.BaseError as exc:
            raise ObjectsError(type(exc).__name__) from None

    async def names(self) -> list[str]:
        """See `Objects.names`."""
        try:
            return sorted([meta["path"] async for page in self._store.list() for meta in page])
        except (faults.BaseError, FileNotFoundError) as exc:
            raise ObjectsError(type(exc).__name__) from None

    async def _require_bucket(self) -> None:
        """Tell a missing object from a missing bucket, which proves nothing about deletion."""
        await self._versioning()

    async def _versioning(self) -> str:
        """Return what GetBucketVersioning says: empty, ``Enabled`` or ``Suspended``."""
        url = f"{self._bucket_url}?versioning="
        signed = sigv4.headers(
            "GET", url, credentials=self._credentials, region=self._region, at=self._now()
        )
        try:
            async with httpx2.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as client:
                answer = await client.get(url, headers=signed)
                answer.raise_for_status()
                return ET.fromstring(answer.text).findtext("{*}Status") or ""  # noqa: S314  # our own store
        except (httpx2.HTTPError, ET.ParseError) as exc:
            raise ObjectsError(f"the bucket did not answer: {type(exc).__name__}") from None


def _checked(name: str) -> str:
    if not OBJECT_NAME.fullmatch(name):
        raise ObjectsError("the name of an object is [a-z0-9_/.-]{1,128}, no dotted segment")
    return name
