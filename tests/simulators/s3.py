"""
A bucket on the wire, for the real clients: what SeaweedFS does not speak, and what nobody should.

It answers each question about the bucket with the body, or the error code, that it was given,
keeps no objects, checks no signature, and remembers who asked what with which key.
"""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

NS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
LISTING = (
    f"<ListBucketResult {NS}><Name>bucket</Name><IsTruncated>false</IsTruncated></ListBucketResult>"
)
CODES = {"AccessDenied": 403, "NotImplemented": 501, "InternalError": 500}

# What Amazon answers of a bucket of today that nobody changed, by subresource.
PLAIN: Mapping[str, str] = {
    "delete": f"<DeleteResult {NS}><Deleted><Key>some/prefix/eu-1/ab/one</Key></Deleted>"
    "</DeleteResult>",
    "encryption": f"<ServerSideEncryptionConfiguration {NS}><Rule>"
    "<ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm>"
    "</ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>",
    "lifecycle": "NoSuchLifecycleConfiguration",
    "location": f"<LocationConstraint {NS}>eu-central-1</LocationConstraint>",
    "object-lock": "ObjectLockConfigurationNotFoundError",
    "publicAccessBlock": f"<PublicAccessBlockConfiguration {NS}>"
    "<BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true</IgnorePublicAcls>"
    "<BlockPublicPolicy>true</BlockPublicPolicy>"
    "<RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>",
    "replication": "ReplicationConfigurationNotFoundError",
    "versioning": f"<VersioningConfiguration {NS}/>",
}


@dataclass(slots=True)
class Bucket:
    """
    A bucket at *url*: *answers* by subresource, *headers* of each; PREFIX stands for the asked one.

    *objects* is what it answers where an object is asked for, *asked* what it was asked.
    """

    url: str
    answers: dict[str, str] = field(default_factory=lambda: dict(PLAIN))
    headers: dict[str, str] = field(default_factory=dict)
    objects: str = LISTING
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def answer(self, path: str, query: str) -> tuple[int, str]:
        """Return status and body for *query* about *path*."""
        asked = dict(parse_qsl(query, keep_blank_values=True))
        said = next((self.answers[name] for name in asked if name in self.answers), None)
        if said is None:
            said = self.objects if path.count("/") > 1 else LISTING
        if said.startswith("<"):
            return 200, said.replace("PREFIX", asked.get("prefix", ""))
        return CODES.get(said, 404), f"<Error><Code>{said}</Code></Error>"


@contextmanager
def serving() -> Iterator[Bucket]:
    """Yield a bucket that is served on loopback until the end."""
    bucket = Bucket("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            key = re.search(r"Credential=([^/]*)/", self.headers.get("authorization", ""))
            token = self.headers.get("x-amz-security-token", "")
            bucket.asked.append((f"{self.command} {self.path}", key[1] if key else "", token))
            status, body = bucket.answer(*urlsplit(self.path)[2:4])
            self.send_response(status)
            for name, value in bucket.headers.items():
                self.send_header(name, value)
            self.send_header("etag", '"e"')
            self.send_header("last-modified", "Sun, 22 Nov 2026 14:15:00 GMT")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_CONNECT = _any  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        bucket.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield bucket
        finally:
            server.shutdown()
            thread.join()
