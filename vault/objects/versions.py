"""
Every version of an object, and every marker of a deletion: listed, and deleted for good.

A marker holds nothing but the name. It is deleted too, but one that a server will not let go
of (SeaweedFS keeps those of suspended versioning) does not make an object any less gone.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from vault.errors import ObjectsError
from vault.objects.client import translated

ROUNDS = 3  # what another one wrote while we deleted is found by the next round


class Version(NamedTuple):
    """One version of *key*; a *marker* says "deleted" and holds nothing."""

    key: str
    id: str
    marker: bool


@translated()
def left(client: Any, bucket: str, key: str) -> bool:
    """Return whether any version of *key* holds something."""
    return any(not each.marker for each in _of(client, bucket, key))


@translated()
def keys(client: Any, bucket: str, prefix: str) -> list[str]:
    """Return every key under *prefix* of which a version is left that holds something."""
    return sorted({each.key for each in _listed(client, bucket, prefix) if not each.marker})


@translated()
def purge(client: Any, bucket: str, key: str) -> None:
    """Delete every version and marker of *key*; raise `ObjectsError` if one with content stays."""
    for _ in range(ROUNDS):
        found = _of(client, bucket, key)
        if not found:
            return
        for each in found:
            client.delete_object(Bucket=bucket, Key=key, VersionId=each.id)
    if left(client, bucket, key):
        raise ObjectsError("versions are left of an object that was deleted")


def _of(client: Any, bucket: str, key: str) -> list[Version]:
    return [each for each in _listed(client, bucket, key) if each.key == key]


def _listed(client: Any, bucket: str, prefix: str) -> Iterator[Version]:
    pages = client.get_paginator("list_object_versions")
    for page in pages.paginate(Bucket=bucket, Prefix=prefix):
        for each in page.get("Versions", ()):
            yield Version(each["Key"], each["VersionId"], marker=False)
        for each in page.get("DeleteMarkers", ()):
            yield Version(each["Key"], each["VersionId"], marker=True)
