"""
The client that carries objects, told everything.

By itself it takes endpoint, session token and proxy from the environment, and an
``AWS_ENDPOINT_URL_S3`` even against the endpoint it was given.
"""

from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from obstore.store import S3Store

from vault.objects.client import TIMEOUT_S, Credentials

if TYPE_CHECKING:
    from obstore.store import S3Credential

LONGEST_S = 120  # a large object on a slow line; a silent server is left after `TIMEOUT_S`
NO_PROXY = "http://127.0.0.1:9"  # naming one switches those of the environment off


def carrier(
    endpoint: str, bucket: str, *, prefix: str, region: str, credentials: Credentials
) -> S3Store:
    """Return the client of *prefix* in *bucket*, which reaches *endpoint* and nothing else."""

    # A session token of the environment would be sent along with keys that are merely named.
    def provided() -> "S3Credential":
        return {
            "access_key_id": credentials.id,
            "secret_access_key": credentials.secret,
            "token": None,
            "expires_at": None,
        }

    return S3Store(
        bucket,
        prefix=prefix,
        endpoint=endpoint,
        aws_endpoint_url_s3=endpoint,
        region=region,
        credential_provider=provided,
        conditional_put="etag",
        request_payer=False,
        s3_express=False,
        skip_signature=False,
        unsigned_payload=False,
        virtual_hosted_style_request=False,
        client_options={
            "allow_http": endpoint.startswith("http://"),
            "proxy_excludes": urlsplit(endpoint).hostname or "",
            "proxy_url": NO_PROXY,
            "connect_timeout": timedelta(seconds=TIMEOUT_S),
            "read_timeout": timedelta(seconds=TIMEOUT_S),
            "timeout": timedelta(seconds=LONGEST_S),
        },
        retry_config={"max_retries": 0},
    )
