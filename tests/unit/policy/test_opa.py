"""The OPA engine's own rules; what every engine promises is in the contract."""

import pytest

from policy.opa import OpaEngine


@pytest.mark.parametrize("url", ["", "127.0.0.1:8181", "unix:///run/opa.sock", "ftp://opa.example"])
def test_an_address_that_is_no_web_address_is_refused(url: str) -> None:
    """At start, not at the first note."""
    with pytest.raises(ValueError, match="http://host:port"):
        OpaEngine(url)


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("http://127.0.0.1:8181", "http://127.0.0.1:8181/v1"),
        ("http://[::1]:8181", "http://[::1]:8181/v1"),
        ("https://opa.example", "https://opa.example:443/v1"),
    ],
)
def test_the_address_is_kept(url: str, root: str) -> None:
    """A lost scheme would send the token in clear."""
    assert OpaEngine(url)._client.root_url == root
