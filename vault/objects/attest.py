"""
What a server says of a bucket (`vault.bucket` judges it).

- An answer counts only if it is the answer to the question (`vault.objects.answers`).
- A refusal, "not implemented" and an answer of another kind are all unknown, with the reason.
- A bucket that is not there, or a key that is not known, is a failure and no fact.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from vault.bucket import FACTS, Fact
from vault.objects.answers import OtherAnswerError
from vault.objects.client import code_of, translated

# The codes by which a server says "none", as against "I do not say".
NONE = {
    "encryption": ("ServerSideEncryptionConfigurationNotFoundError", "none"),
    "lifecycle": ("NoSuchLifecycleConfiguration", "none"),
    "object_lock": ("ObjectLockConfigurationNotFoundError", "none"),
    "public_access": ("NoSuchPublicAccessBlockConfiguration", "open"),
    "replication": ("ReplicationConfigurationNotFoundError", "none"),
}
BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


def facts(client: Any, bucket: str) -> list[Fact]:
    """
    Return every fact of *bucket*, by name.

    Raises:
        ObjectsError: the bucket is not there, or not for this key, or its server is away.

    """
    with translated():
        head = client.head_bucket(Bucket=bucket)
    asked = {
        "encryption": lambda: _encryption(client.get_bucket_encryption(Bucket=bucket)),
        "lifecycle": lambda: _lifecycle(client.get_bucket_lifecycle_configuration(Bucket=bucket)),
        "object_lock": lambda: _lock(client.get_object_lock_configuration(Bucket=bucket)),
        "public_access": lambda: _public(client.get_public_access_block(Bucket=bucket)),
        "region": lambda: _region(client, bucket, head),
        "replication": lambda: _replication(client.get_bucket_replication(Bucket=bucket)),
        "versioning": lambda: versioning(client, bucket),
    }
    with translated():
        return [_fact(name, asked[name]) for name in FACTS]


def versioning(client: Any, bucket: str) -> str:
    """Return "never", "enabled", "suspended" or "mfa-delete"."""
    said = client.get_bucket_versioning(Bucket=bucket)
    if said.get("MFADelete") == "Enabled":
        return "mfa-delete"
    return str(said.get("Status", "never")).lower()


def _fact(name: str, ask: Callable[[], str | None]) -> Fact:
    try:
        value = ask()
    except (OtherAnswerError, ResponseParserError, ParseError):
        return Fact(name, None, "the server answered something else")
    except ClientError as exc:
        code, none = code_of(exc), NONE.get(name)
        if none is not None and code == none[0]:
            return Fact(name, none[1])
        return Fact(name, None, f"the server says {code}")
    return Fact(name, value, "" if value is not None else "the server names none")


def _region(client: Any, bucket: str, head: dict[str, Any]) -> str | None:
    if told := head.get("BucketRegion"):
        return str(told)
    if place := client.get_bucket_location(Bucket=bucket).get("LocationConstraint"):
        return {"EU": "eu-west-1"}.get(place, str(place))
    # Amazon's first region has no name in this answer; of any other server it says nothing.
    amazon = (urlsplit(client.meta.endpoint_url).hostname or "").endswith(".amazonaws.com")
    return "us-east-1" if amazon else None


def _replication(said: dict[str, Any]) -> str:
    return "configured" if said["ReplicationConfiguration"].get("Rules") else "none"


def _lock(said: dict[str, Any]) -> str:
    default = said["ObjectLockConfiguration"].get("Rule", {}).get("DefaultRetention", {})
    return str(default.get("Mode", "on-demand")).lower()


def _lifecycle(said: dict[str, Any]) -> str:
    active = [rule for rule in said.get("Rules", ()) if rule.get("Status") == "Enabled"]
    ends = [rule.get("Expiration", {}) for rule in active]
    if any("Days" in end or "Date" in end for end in ends):
        return "expires"
    return "moves" if any("Transitions" in rule for rule in active) else "clears"


def _public(said: dict[str, Any]) -> str:
    blocks = said["PublicAccessBlockConfiguration"]
    return "blocked" if all(blocks.get(block) is True for block in BLOCKS) else "open"


def _encryption(said: dict[str, Any]) -> str:
    rules = said["ServerSideEncryptionConfiguration"].get("Rules", ())
    found = [rule.get("ApplyServerSideEncryptionByDefault", {}) for rule in rules]
    return "/".join(str(each.get("SSEAlgorithm", "none")) for each in found) or "none"
