"""
An answer counts only if it is the answer to the question.

A server that knows nothing of versions may answer the question about them with a list of
objects, which the client reads as "never versioned": it looks for a word, and finds none.
"""

import re
from http import HTTPStatus
from typing import Any

from botocore.exceptions import BotoCoreError

ROOTS = {
    "GetBucketEncryption": "ServerSideEncryptionConfiguration",
    "GetBucketLifecycleConfiguration": "LifecycleConfiguration",
    "GetBucketLocation": "LocationConstraint",
    "GetBucketReplication": "ReplicationConfiguration",
    "GetBucketVersioning": "VersioningConfiguration",
    "GetObjectLockConfiguration": "ObjectLockConfiguration",
    "GetPublicAccessBlock": "PublicAccessBlockConfiguration",
    "ListMultipartUploads": "ListMultipartUploadsResult",
    "ListObjectVersions": "ListVersionsResult",
}
_ROOT = re.compile(rb"\s*(?:<\?xml[^>]*\?>\s*)?<(?:[\w-]+:)?(\w+)[\s/>]")


class OtherAnswerError(BotoCoreError):  # type: ignore[misc]  # its package is not typed
    """The server answered something else than what it was asked."""

    fmt = "another answer"


def check(client: Any) -> None:
    """Have *client* look at every answer before it reads it."""
    client.meta.events.register("before-parse.s3", _require_root)


def _require_root(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    wanted = ROOTS.get(operation_model.name)
    if wanted is None or response_dict["status_code"] >= HTTPStatus.MULTIPLE_CHOICES:
        return
    found = _ROOT.match(response_dict["body"])
    if found is None or found[1].decode() != wanted:
        raise OtherAnswerError
