"""
AWS Signature Version 4 for one request (docs.aws.amazon.com, "Create a signed request").

It signs the few questions about a bucket that the object client has no call for.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
SIGNED = "host;x-amz-content-sha256;x-amz-date"


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key: its public *id* and its *secret*."""

    id: str
    secret: str = field(repr=False)


def headers(
    method: str,
    url: str,
    *,
    credentials: Credentials,
    region: str,
    at: datetime,
    body: bytes = b"",
) -> dict[str, str]:
    """Return the headers that sign *method* *url* (its query as ``key=value``, sorted) at *at*."""
    parts = urlsplit(url)
    content = hashlib.sha256(body).hexdigest()
    stamp = at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    lines = [
        method,
        quote(parts.path or "/", safe="/~"),
        parts.query,
        f"host:{parts.netloc}",
        f"x-amz-content-sha256:{content}",
        f"x-amz-date:{stamp}",
        "",
        SIGNED,
        content,
    ]
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    request = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    to_sign = f"{ALGORITHM}\n{stamp}\n{scope}\n{request}"
    signature = hmac.new(_key(credentials.secret, scope), to_sign.encode(), "sha256").hexdigest()
    claim = f"Credential={credentials.id}/{scope}, SignedHeaders={SIGNED}, Signature={signature}"
    return {
        "Authorization": f"{ALGORITHM} {claim}",
        "x-amz-content-sha256": content,
        "x-amz-date": stamp,
    }


def _key(secret: str, scope: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    return key
