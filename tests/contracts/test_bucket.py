"""What a bucket's server says of it: asked by the real clients, on a real server and the wire."""

import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from simulators import s3
from support.objects import REGION, S3Server

from vault.bucket import Terms
from vault.errors import GoneError, ObjectsError, UnfitBucketError
from vault.objects.client import Credentials
from vault.objects.multipart import PART_BYTES
from vault.objects.s3 import S3Objects

SEALED = secrets.token_bytes(40_000)


@pytest.fixture
def simulated() -> Iterator[s3.Bucket]:
    """Yield a bucket whose answers the test writes."""
    with s3.serving() as bucket:
        yield bucket


def store(bucket: s3.Bucket, **terms: Any) -> S3Objects:
    """Return the simulated *bucket* as a store."""
    return S3Server(bucket.url, "mine", "secret").store("bucket", **{"strict": True} | terms)


async def told(objects: S3Objects) -> dict[str, str | None]:
    """Return the facts by name."""
    return {fact.name: fact.value for fact in await objects.facts()}


@pytest.mark.anyio
async def test_a_real_server_is_read(s3_server: S3Server) -> None:
    """What SeaweedFS says, and what it does not: a change there must be seen."""
    facts = await s3_server.store(s3_server.bucket()).facts()

    assert {fact.name: fact.says for fact in facts} == {
        "encryption": "none (observed)",
        "lifecycle": "none (observed)",
        "object_lock": "none (observed)",
        "public_access": "unknown (the server says NotImplemented)",
        "region": "unknown (the server answered something else)",
        "replication": "none (observed)",
        "versioning": "never (observed)",
    }


@pytest.mark.anyio
async def test_production_refuses_what_a_real_server_does_not_say(s3_server: S3Server) -> None:
    """The operator accepts each unknown by its name, or the cell does not start."""
    bucket = s3_server.bucket()

    with pytest.raises(UnfitBucketError) as refused:
        await s3_server.store(bucket, strict=True).ready()

    assert [fault.partition(":")[0] for fault in refused.value.faults] == [
        "public_access",
        "region",
    ]
    accepted = frozenset({"public_access", "region"})
    await s3_server.store(bucket, strict=True, accepted=accepted).put("ab/one", SEALED)


@pytest.mark.anyio
@pytest.mark.parametrize("status", ["Enabled", "Suspended"])
async def test_a_versioned_bucket_is_refused(s3_server: S3Server, status: str) -> None:
    """There, a delete hides the recording and keeps it: the deletion clock would lie."""
    objects = s3_server.store(s3_server.bucket(versions=status))

    with pytest.raises(UnfitBucketError, match="keeps versions"):
        await objects.ready()
    with pytest.raises(UnfitBucketError, match="keeps versions"):
        await objects.put("one", SEALED)

    assert await objects.names() == []


@pytest.mark.anyio
async def test_a_real_lock_and_a_real_lifecycle_rule_are_refused(s3_server: S3Server) -> None:
    """What cannot be deleted is kept too long; what a rule deletes, a legal hold cannot keep."""
    client, bucket = s3_server.client(), f"cell-{secrets.token_hex(6)}"
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    client.put_object_lock_configuration(
        Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    ends = {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
    client.put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration={"Rules": [ends]}
    )

    with pytest.raises(UnfitBucketError) as refused:
        await s3_server.store(bucket, purge_versions=True).ready()

    assert [fault.partition(":")[0] for fault in refused.value.faults] == [
        "lifecycle",
        "object_lock",
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("status", ["Enabled", "Suspended"])
async def test_nothing_is_left_where_versions_are_purged(s3_server: S3Server, status: str) -> None:
    """A recording is gone when no version is left, whoever wrote or "deleted" it in between."""
    client, bucket = s3_server.client(), s3_server.bucket(versions="Enabled")
    objects = s3_server.store(bucket, purge_versions=True)
    key = "some/prefix/eu-1/ab/one"
    await objects.put("ab/one", SEALED)
    await objects.put("ab/one-more", SEALED)
    client.put_object(Bucket=bucket, Key=key, Body=b"overwritten by hand")
    client.delete_object(Bucket=bucket, Key=key)
    client.put_object(Bucket=bucket, Key=key, Body=b"and again")
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
    listed = client.list_object_versions(Bucket=bucket, Prefix=key)
    assert len([v for v in listed["Versions"] if v["Key"] == key]) == 3
    assert len(listed["DeleteMarkers"]) == 1

    await objects.delete("ab/one")

    assert "DeleteMarkers" not in client.list_object_versions(Bucket=bucket)
    left = client.list_object_versions(Bucket=bucket)["Versions"]
    assert [version["Key"] for version in left] == ["some/prefix/eu-1/ab/one-more"]
    with pytest.raises(GoneError):
        await objects.get("ab/one")
    assert await objects.get("ab/one-more") == SEALED


@pytest.mark.anyio
@pytest.mark.parametrize("purge", [True, False])
async def test_a_version_that_is_left_is_not_gone(s3_server: S3Server, *, purge: bool) -> None:
    """Versioning may be switched on while the cell runs: no tombstone is then written."""
    client, bucket = s3_server.client(), s3_server.bucket()
    objects = s3_server.store(bucket, purge_versions=purge)
    await objects.put("ab/one", SEALED)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    client.delete_object(Bucket=bucket, Key="some/prefix/eu-1/ab/one")

    with pytest.raises(ObjectsError, match="versions"):
        await objects.get("ab/one")

    assert await objects.names() == (["ab/one"] if purge else [])


@pytest.mark.anyio
@pytest.mark.parametrize("denied", ["versions", "versionId"])
async def test_a_key_that_may_not_purge_is_refused(simulated: s3.Bucket, denied: str) -> None:
    """Purging is promised only where it was tried: the first deletion is too late to learn it."""
    one = nested("Version", nested("Key", "PREFIX") + nested("VersionId", "v1"))
    simulated.answers["versions"] = answered("ListVersionsResult", one)
    simulated.answers["versioning"] = versioned(nested("Status", "Enabled"))
    simulated.answers[denied] = "AccessDenied"

    with pytest.raises(UnfitBucketError, match="versions could not be deleted") as refused:
        await store(simulated, purge_versions=True).ready()

    assert "AccessDenied" in str(refused.value)
    assert "s3:DeleteObjectVersion" in str(refused.value)


@pytest.mark.anyio
async def test_a_large_flow_that_fails_leaves_no_parts(s3_server: S3Server) -> None:
    """Parts are not listed as objects: nobody would ever find and delete them."""
    client, bucket = s3_server.client(), s3_server.bucket()
    sent = []

    async def torn() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(PART_BYTES)
        sent.extend(client.list_multipart_uploads(Bucket=bucket)["Uploads"])
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await s3_server.store(bucket).put("ab/one", torn())

    assert len(sent) == 1
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


@pytest.mark.anyio
async def test_reconciliation_aborts_what_dead_writers_began(s3_server: S3Server) -> None:
    """Parts that nobody completes are ciphertext that no list of objects shows."""
    client, bucket = s3_server.client(), s3_server.bucket()
    begun = {
        key: client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        for key in ("some/prefix/eu-1/ab/one", "some/prefix/us-1/ab/two")
    }
    for key, upload in begun.items():
        client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=SEALED)

    assert await s3_server.store(bucket).names() == []
    assert len(client.list_multipart_uploads(Bucket=bucket)["Uploads"]) == 2
    assert await s3_server.store(bucket, now=in_two_days).names() == []

    (left,) = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert left["Key"] == "some/prefix/us-1/ab/two"  # another cell's


def in_two_days() -> datetime:
    """Return a time at which every upload of today was left long ago."""
    return datetime.now(UTC) + timedelta(days=2)


def nested(*names: str) -> str:
    """Return an element in an element; the last of *names* is the text of the innermost."""
    *names_of_elements, text = names
    for name in reversed(names_of_elements):
        text = f"<{name}>{text}</{name.split()[0]}>"
    return text


def answered(name: str, *body: str) -> str:
    """Return *body* as the answer called *name*."""
    return nested(f"{name} {s3.NS}", "".join(body))


def versioned(*body: str) -> str:
    """Return an answer about versions."""
    return answered("VersioningConfiguration", *body)


def locked(mode: str = "") -> str:
    """Return an answer about locks."""
    on = nested("ObjectLockEnabled", "Enabled")
    rule = nested("Rule", "DefaultRetention", nested("Mode", mode) + nested("Days", "1"))
    return answered("ObjectLockConfiguration", on, rule if mode else "")


def ruled(status: str, *rule: str) -> str:
    """Return an answer about lifecycles."""
    body = nested("Status", status) + nested(*rule)
    return answered("LifecycleConfiguration", nested("Rule", body))


NAMES = {
    "encryption": "encryption",
    "lifecycle": "lifecycle",
    "location": "region",
    "object-lock": "object_lock",
    "publicAccessBlock": "public_access",
    "replication": "replication",
    "versioning": "versioning",
}
ABORTS = ("AbortIncompleteMultipartUpload", "DaysAfterInitiation", "1")
KMS = ("Rule", "ApplyServerSideEncryptionByDefault", "SSEAlgorithm", "aws:kms")
ANSWERS = [
    ("encryption", answered("ServerSideEncryptionConfiguration", nested(*KMS)), "aws:kms"),
    ("lifecycle", ruled("Disabled", "Expiration", "Days", "3"), "clears"),
    ("lifecycle", ruled("Enabled", "Expiration", "Days", "3"), "expires"),
    ("lifecycle", ruled("Enabled", "Transition", "Days", "3"), "moves"),
    ("lifecycle", ruled("Enabled", *ABORTS), "clears"),
    ("location", answered("LocationConstraint", ""), None),
    ("location", answered("LocationConstraint", "EU"), "eu-west-1"),
    ("object-lock", locked(), "on-demand"),
    ("object-lock", locked("COMPLIANCE"), "compliance"),
    ("object-lock", locked("GOVERNANCE"), "governance"),
    ("publicAccessBlock", "NoSuchPublicAccessBlockConfiguration", "open"),
    (
        "publicAccessBlock",
        answered("PublicAccessBlockConfiguration", nested("BlockPublicAcls", "true")),
        "open",
    ),
    (
        "replication",
        answered("ReplicationConfiguration", nested("Rule", "Status", "Disabled")),
        "configured",
    ),
    ("versioning", versioned(nested("MfaDelete", "Enabled")), "mfa-delete"),
    ("versioning", versioned(nested("Status", "Enabled")), "enabled"),
    ("versioning", versioned(nested("Status", "Suspended")), "suspended"),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("asked", "answer", "value"), ANSWERS)
async def test_each_answer_is_read_as_it_is_meant(
    simulated: s3.Bucket, asked: str, answer: str, value: str | None
) -> None:
    """SeaweedFS does not speak of all of it; Amazon does, in these bodies."""
    objects = store(simulated)
    plain = await told(objects)
    simulated.answers[asked] = answer

    assert await told(objects) == plain | {NAMES[asked]: value}


@pytest.mark.anyio
async def test_a_bucket_of_today_is_fit(simulated: s3.Bucket) -> None:
    """What Amazon makes by default must need no exception in the settings."""
    facts = await store(simulated).ready()

    assert {fact.name: fact.value for fact in facts} == {
        "encryption": "AES256",
        "lifecycle": "none",
        "object_lock": "none",
        "public_access": "blocked",
        "region": REGION,
        "replication": "none",
        "versioning": "never",
    }


@pytest.mark.anyio
async def test_the_region_of_the_head_counts_first(simulated: s3.Bucket) -> None:
    """Some servers name it there and not where it is asked for."""
    simulated.headers["x-amz-bucket-region"] = "us-west-2"

    with pytest.raises(UnfitBucketError, match="it is in us-west-2, not in eu-central-1"):
        await store(simulated).ready()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer", ["NotImplemented", "AccessDenied", "InternalError", s3.LISTING, "<html>"]
)
async def test_no_other_answer_is_a_yes(simulated: s3.Bucket, answer: str) -> None:
    """A server that answers everything with a list of objects is not "never versioned"."""
    objects = store(simulated)
    plain = await told(objects)
    for asked, name in NAMES.items():
        simulated.answers = {**s3.PLAIN, asked: answer}

        assert await told(objects) == plain | {name: None}


@pytest.mark.anyio
@pytest.mark.parametrize("answer", ["AccessDenied", s3.LISTING])
async def test_gone_is_not_concluded_from_another_answer(simulated: s3.Bucket, answer: str) -> None:
    """The read after a delete is the proof: the question about versions must be answered too."""
    await store(simulated).ready()
    simulated.answers = {"versioning": answer}
    simulated.objects = "NoSuchKey"

    with pytest.raises(ObjectsError, match="did not answer"):
        await store(simulated).get("ab/one")
    with pytest.raises(ObjectsError, match="did not answer"):
        await store(simulated, purge_versions=True).get("ab/one")


AMBIENT = {
    "AWS_ACCESS_KEY_ID": "ambient",
    "AWS_CA_BUNDLE": "/nonexistent/ca.pem",
    "AWS_CONDITIONAL_PUT": "disabled",
    "AWS_CONFIG_FILE": "/nonexistent/config",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "{trap}/credentials",
    "AWS_DEFAULTS_MODE": "auto",
    "AWS_DEFAULT_REGION": "zz-nowhere-1",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT": "{trap}",
    "AWS_ENDPOINT": "{trap}",
    "AWS_ENDPOINT_URL": "{trap}",
    "AWS_ENDPOINT_URL_S3": "{trap}",
    "AWS_METADATA_ENDPOINT": "{trap}",
    "AWS_PROFILE": "missing",
    "AWS_REGION": "zz-nowhere-1",
    "AWS_ROLE_ARN": "arn:aws:iam::000000000000:role/ambient",
    "AWS_SECRET_ACCESS_KEY": "ambient",
    "AWS_SESSION_TOKEN": "ambient",
    "AWS_SKIP_SIGNATURE": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/nonexistent/token",
    "ALL_PROXY": "{trap}",
    "HTTPS_PROXY": "{trap}",
    "HTTP_PROXY": "{trap}",
    "all_proxy": "{trap}",
    "http_proxy": "{trap}",
    "https_proxy": "{trap}",
}


@pytest.mark.anyio
async def test_the_environment_has_no_say(
    simulated: s3.Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable of the host must not send recordings elsewhere, or with another's key."""
    with s3.serving() as trap:
        for name, value in AMBIENT.items():
            monkeypatch.setenv(name, value.format(trap=trap.url))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        objects = store(simulated)

        await objects.ready()
        await objects.put("ab/one", SEALED)
        await objects.get("ab/one")
        await objects.delete("ab/one")

    assert trap.asked == []
    assert {(key, token) for _, key, token in simulated.asked} == {("mine", "")}
    asked = {call.split("?")[0] for call, _, _ in simulated.asked}
    path = "/bucket/some/prefix/eu-1/ab/one"
    assert {f"PUT {path}", f"GET {path}", "POST /bucket"} <= asked


def test_a_secret_is_not_shown() -> None:
    """A key in a traceback is a key on a screen."""
    assert "hidden" not in repr(Credentials("id", "hidden"))
    assert Terms(region="x").strict
