"""What makes a bucket unfit for raw audio: every fact by itself, and all faults at once."""

import pytest

from vault import bucket
from vault.bucket import FACTS, Fact, Terms

FIT = {
    "encryption": "none",
    "lifecycle": "none",
    "object_lock": "none",
    "public_access": "blocked",
    "region": "eu-central-1",
    "replication": "none",
    "versioning": "never",
}
TERMS = Terms(region="eu-central-1")


def facts(**other: str | None) -> list[Fact]:
    """Return the facts of a fit bucket, but for *other*; None is what the server does not say."""
    told: dict[str, str | None] = FIT | other
    return [Fact(name, told[name], "" if told[name] else "not implemented") for name in FACTS]


def test_a_plain_bucket_is_fit() -> None:
    """The judge must let something through."""
    assert bucket.faults(facts(), TERMS) == []


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("lifecycle", "expires", "lifecycle rule expires"),
        ("object_lock", "compliance", "compliance mode"),
        ("object_lock", "governance", "default retention"),
        ("public_access", "open", "public access is not blocked"),
        ("region", "us-east-1", "it is in us-east-1, not in eu-central-1"),
        ("replication", "configured", "objects are replicated"),
        ("versioning", "enabled", "keeps versions"),
        ("versioning", "suspended", "keeps versions"),
        ("versioning", "mfa-delete", "second factor"),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_what_keeps_or_shows_a_recording_is_refused(
    name: str, value: str, told: str, *, strict: bool
) -> None:
    """Seen is seen: a development cell that hides it would be trusted in production."""
    terms = Terms(region="eu-central-1", strict=strict, accepted=frozenset(FACTS))

    (fault,) = bucket.faults(facts(**{name: value}), terms)

    assert told in fault
    assert fault.startswith(f"{name}: ")
    assert fault.endswith(")")  # how to put it right


@pytest.mark.parametrize("value", ["enabled", "suspended"])
def test_versions_are_accepted_where_each_one_is_purged(value: str) -> None:
    """A suspended bucket still holds what it kept before; purging deletes that as well."""
    terms = Terms(region="eu-central-1", purge_versions=True)

    assert bucket.faults(facts(versioning=value), terms) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("versioning", "mfa-delete"), ("object_lock", "compliance"), ("replication", "configured")],
)
def test_purging_does_not_help_against_what_cannot_be_deleted(name: str, value: str) -> None:
    """A locked version stays, and a replica is another bucket's."""
    terms = Terms(region="eu-central-1", purge_versions=True)

    assert len(bucket.faults(facts(**{name: value}), terms)) == 1


@pytest.mark.parametrize("name", sorted(set(FACTS) - bucket.TOLD_ONLY))
def test_what_a_server_does_not_say_is_no_yes(name: str) -> None:
    """Most S3 servers know nothing of replication; "I do not know" must not read as "none"."""
    unknown = facts(**{name: None})

    (fault,) = bucket.faults(unknown, TERMS)

    assert fault.startswith(f"{name}: unknown, not implemented")
    accepted = Terms(region="eu-central-1", accepted=frozenset({name}))
    assert bucket.faults(unknown, accepted) == []
    others = Terms(region="eu-central-1", accepted=frozenset(FACTS) - {name})
    assert bucket.faults(unknown, others) == [fault]
    assert bucket.faults(unknown, Terms(region="eu-central-1", strict=False)) == []


def test_every_fault_is_told_at_once() -> None:
    """An operator who mends one thing per start mends nothing in the end."""
    wrong = facts(versioning="enabled", replication="configured", region=None, lifecycle="expires")

    found = bucket.faults(wrong, TERMS)

    assert [fault.partition(":")[0] for fault in found] == [
        "lifecycle",
        "region",
        "replication",
        "versioning",
    ]


def test_a_fact_says_how_it_is_known() -> None:
    """A reviewer reads the basis before the value."""
    assert Fact("region", "eu-central-1").says == "eu-central-1 (observed)"
    assert Fact("region", None, "the server names none").says == "unknown (the server names none)"
    assert [Fact("x", "y").basis, Fact("x", None).basis] == ["observed", "unknown"]
