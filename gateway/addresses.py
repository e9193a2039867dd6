"""
Addresses in a settings file: which URLs and hosts may be named, and in which mode.

- A URL never carries a credential.
- From outside, production takes no http and no loopback host; within the machine it may.
- A media host is a name: the one address a development cell may use is the loopback.
"""

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from pydantic import ValidationInfo


def split(url: str, schemes: tuple[str, ...], *, user: bool = False) -> SplitResult:
    """Return *url* in parts; `ValueError` if it is not one of *schemes* or carries a secret."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("must be a URL") from None
    if parts.scheme not in schemes or not parts.hostname or port == 0:
        raise ValueError(f"must be a URL with a host: {' or '.join(f'{s}://' for s in schemes)}")
    if parts.password is not None or (parts.username and not user):
        raise ValueError("holds a credential (leave it out of the URL and name its file)")
    return parts


def loopback(host: str) -> bool:
    """Whether *host* names this machine."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def production(info: ValidationInfo) -> bool:
    """Whether the file under validation is a production cell's."""
    return bool((info.context or {}).get("mode") == "production")


def service(url: str, info: ValidationInfo) -> str:
    """Check the root URL of a server that is ours; return it without a last slash."""
    parts = split(url, ("https", "http"))
    if parts.scheme == "http" and production(info) and not loopback(parts.hostname or ""):
        raise ValueError("http leaves this machine in clear: production refuses it (use https)")
    return url.rstrip("/")


def graph(url: str, info: ValidationInfo) -> str:
    """Check the Graph API's root, version included: https from afar, unless in development."""
    parts = split(url, ("https", "http"))
    if parts.query or parts.fragment:
        raise ValueError("must end with its path, such as /v23.0")
    if production(info) and parts.scheme == "http":
        raise ValueError("http is for development: production refuses it (use https)")
    if production(info) and loopback(parts.hostname or ""):
        raise ValueError("a loopback host is for development: production refuses it")
    return url.rstrip("/")


def media_host(value: str, info: ValidationInfo) -> str:
    """Check one ``host`` or ``host:port`` that media may be fetched from."""
    host, _, port = value.partition(":")
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", host) or not re.fullmatch(
        r"[0-9]{0,5}", port
    ):
        raise ValueError("must be host names, such as lookaside.fbsbx.com (no scheme, no path)")
    if loopback(host):
        if production(info):
            raise ValueError("a loopback host is for development: production refuses it")
    elif re.fullmatch(r"[0-9.]+|0x[0-9a-f]+", host):
        raise ValueError("must be host names, not addresses")
    return value
