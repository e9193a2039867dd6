"""
gRPC through the egress broker, and in no other way.

- The channel dials the broker and names the vendor in its CONNECT: gRPC never resolves the
  vendor's name, and a broker that is gone is a call that fails.
- gRPC's own ``grpc.http_proxy`` would not do: ``no_proxy`` in the environment makes it dial the
  vendor directly. With HTTP proxies off, no variable of the environment is read.
- No retries, not even the "transparent" one that resends by itself what a server never
  processed: one call is one connection.
"""

import base64
from collections.abc import Mapping

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from residency.errors import ProcessorBusyError, ProcessorError, ProcessorRefusedError
from residency.model import Passage

REFUSED = frozenset(
    {
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""What the same request will meet again; everything else may pass."""


def channel(host: str, passage: Passage, roots: bytes | None) -> grpc.aio.Channel:
    """
    Return a channel to *host* (port 443) under *passage*, for one call.

    *roots* are the certificates to trust (PEM); None for gRPC's own.
    """
    trust = grpc.ssl_channel_credentials(root_certificates=roots)
    options = list(_options(host, passage).items())
    return grpc.aio.secure_channel(f"dns:///{passage.proxy}", trust, options)


def _options(host: str, passage: Passage) -> Mapping[str, str | int]:
    basic = base64.b64encode(f"{passage.ticket}:{passage.secret}".encode()).decode()
    return {
        "grpc.default_authority": host,  # the name that the certificate must have
        "grpc.enable_http_proxy": 0,
        "grpc.enable_retries": 0,
        "grpc.http_connect_headers": f"Proxy-Authorization:Basic {basic}",
        "grpc.http_connect_server": f"{host}:443",
    }


def failure(who: str, error: grpc.aio.AioRpcError) -> ProcessorError:
    """Return our error for *error*; its text may quote the request, so only the code is kept."""
    code = error.code()
    kind = ProcessorRefusedError if code in REFUSED else ProcessorBusyError
    return kind(f"{who}: {code.name}")
