"""
The official S3 client, told everything: what is about it in the environment has no say.

boto3 by itself takes endpoints, proxies, profiles, credentials and regions from variables and
files of whoever started the process, and asks the machine's metadata service for the rest.
"""

import contextlib
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import ParseError

import boto3
from botocore.config import Config
from botocore.configprovider import ConfigValueStore, ConstantProvider
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import Loader
from botocore.parsers import ResponseParserError
from botocore.session import Session

from vault.errors import ObjectsError
from vault.objects import answers

TIMEOUT_S = 10

CONSTANTS = {
    "account_id_endpoint_mode": "disabled",
    "api_versions": {},
    "config_file": os.devnull,
    "credentials_file": os.devnull,
    "defaults_mode": "legacy",
    "parameter_validation": True,
    "request_min_compression_size_bytes": 10_240,
    "sts_regional_endpoints": "regional",
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key: its public *id* and its *secret*."""

    id: str
    secret: str = field(repr=False)


def connect(endpoint: str, *, region: str, credentials: Credentials) -> Any:
    """Return a client that reaches *endpoint* and nothing else; nothing is sent yet."""
    core = Session()
    core.register_component("data_loader", _loader())
    constants = {name: ConstantProvider(value) for name, value in CONSTANTS.items()}
    core.register_component("config_store", ConfigValueStore(constants))
    client = boto3.Session(botocore_session=core).client(
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=credentials.id,
        aws_secret_access_key=credentials.secret,
        config=Config(
            connect_timeout=TIMEOUT_S,
            disable_request_compression=True,
            read_timeout=TIMEOUT_S,
            proxies={},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "total_max_attempts": 1},
            s3={"addressing_style": "path", "payload_signing_enabled": True},
            signature_version="s3v4",
            use_dualstack_endpoint=False,
            use_fips_endpoint=False,
            user_agent_appid="vocustody",
        ),
    )
    answers.check(client)
    return client


@functools.cache
def _loader() -> Loader:
    """Return what reads the protocol from the package, and from no one's home directory."""
    return Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)


def code_of(fault: ClientError) -> str:
    """Return the server's code for *fault*: a word of the protocol, never its message."""
    code = str(fault.response.get("Error", {}).get("Code", ""))
    return code if code.isalnum() and len(code) < 64 else "an unnamed error"  # noqa: PLR2004


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the client's faults into ours: their texts may name what is stored."""
    try:
        yield
    except ClientError as exc:
        raise ObjectsError(f"the bucket did not answer: {code_of(exc)}") from None
    except (BotoCoreError, ResponseParserError, ParseError) as exc:
        raise ObjectsError(f"the bucket did not answer: {type(exc).__name__}") from None
