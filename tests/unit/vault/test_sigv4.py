"""The signature of a request, against the example that AWS publishes."""

from datetime import UTC, datetime

from vault.objects.sigv4 import Credentials, headers

AT = datetime(2013, 5, 24, tzinfo=UTC)
EXAMPLE = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")


def test_the_published_example_is_signed_as_published() -> None:
    """The S3 manual signs "GET Bucket Lifecycle", with exactly our three signed headers."""
    url = "https://examplebucket.s3.amazonaws.com/?lifecycle="

    signed = headers("GET", url, credentials=EXAMPLE, region="us-east-1", at=AT)

    assert signed["x-amz-date"] == "20130524T000000Z"
    assert signed["Authorization"].endswith(
        "Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    )


def test_the_secret_is_not_shown() -> None:
    """Credentials end up in tracebacks of whoever holds them."""
    assert EXAMPLE.secret not in repr(EXAMPLE)
