"""
An object larger than one request: sent in parts, and there only once it is complete.

The object client of the other calls completes without a condition and would replace what is
there; S3 itself takes one (``If-None-Match: *``).
"""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

from vault.errors import ObjectsError
from vault.objects import blocking
from vault.objects.client import translated

PART_BYTES = 8 * 1024 * 1024
LEFT_AFTER = timedelta(hours=24)


async def put(client: Any, bucket: str, key: str, parts: AsyncIterator[bytes]) -> None:
    """Keep *parts* as *key*; if anything fails, nothing is there and no part is left."""
    place = {"Bucket": bucket, "Key": key}
    place["UploadId"] = await blocking.call(_begin, client, place)
    try:
        sent: list[dict[str, Any]] = []
        async for part in parts:
            sent.append(await blocking.call(_send, client, place, len(sent) + 1, part))
        await blocking.call(_complete, client, place, sent)
    except BaseException:
        await blocking.call(_abort, client, place)
        raise


@translated()
def clear(client: Any, bucket: str, prefix: str, now: datetime) -> None:
    """Abort what dead writers began under *prefix* more than `LEFT_AFTER` ago."""
    pages = client.get_paginator("list_multipart_uploads")
    for page in pages.paginate(Bucket=bucket, Prefix=prefix):
        for upload in page.get("Uploads", ()):
            if upload["Initiated"] < now - LEFT_AFTER:
                place = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                client.abort_multipart_upload(**place)


@translated()
def _begin(client: Any, place: dict[str, str]) -> str:
    return str(client.create_multipart_upload(**place)["UploadId"])


@translated()
def _send(client: Any, place: dict[str, str], number: int, part: bytes) -> dict[str, Any]:
    said = client.upload_part(**place, PartNumber=number, Body=part)
    return {"PartNumber": number, "ETag": said["ETag"]}


@translated()
def _complete(client: Any, place: dict[str, str], sent: list[dict[str, Any]]) -> None:
    client.complete_multipart_upload(**place, MultipartUpload={"Parts": sent}, IfNoneMatch="*")


def _abort(client: Any, place: dict[str, str]) -> None:
    try:
        with translated():
            client.abort_multipart_upload(**place)
    except ObjectsError:
        pass  # the first fault is the one to tell; reconciliation finds the parts
