"""
A TLS handshake of our own through the broker, to see who answers; nothing is sent after it.

Native SDKs do not show the certificate they met. This asks the same host by the same way (RFC
8446; RFC 9110, 9.3.6). The name is not checked here but in `drift`: a certificate of another
region is what we want to see, not an error without a face.

Trusted for what it saw; the chain is checked against *trust*.
"""

import asyncio
import base64
import ssl

from cryptography import x509

from residency.drift import Certificate
from residency.errors import ProcessorBusyError
from residency.model import Passage

DEADLINE_S = 10.0
_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED: known authority, old certificate


async def look(
    target: str, passage: Passage, *, trust: ssl.SSLContext | None = None
) -> Certificate:
    """
    Return what *target* (``host:port``) presents, met through the proxy of *passage*.

    *trust* holds the authorities (default: the system's). Raises `ProcessorBusyError`.
    """
    known = trust or ssl.create_default_context()
    known.check_hostname = False
    trusted = True
    try:
        async with asyncio.timeout(DEADLINE_S):
            try:
                return await _met(target, passage, known, trusted=True)
            except ssl.SSLCertVerificationError as exc:
                trusted = exc.verify_code == _EXPIRED
            return await _met(target, passage, _anybody(), trusted=trusted)
    except (OSError, EOFError, asyncio.LimitOverrunError) as exc:  # TimeoutError is an OSError
        raise ProcessorBusyError(f"{target}: no handshake ({type(exc).__name__})") from None


def _anybody() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # to see whose it is; nothing is said to them
    return context


async def _met(
    target: str, passage: Passage, context: ssl.SSLContext, *, trusted: bool
) -> Certificate:
    host = target.rpartition(":")[0]
    reader, writer = await _tunnel(target, passage)
    try:
        await writer.start_tls(context, server_hostname=host)
        session = writer.get_extra_info("ssl_object")
        return _read(host, session, trusted=trusted)
    finally:
        writer.transport.abort()
        del reader


async def _tunnel(
    target: str, passage: Passage
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    proxy, _, port = passage.proxy.rpartition(":")
    reader, writer = await asyncio.open_connection(proxy.strip("[]"), int(port))
    try:
        pair = f"{passage.ticket}:{passage.secret}".encode()
        asked = [
            f"CONNECT {target} HTTP/1.1",
            f"Host: {target}",
            f"Proxy-Authorization: Basic {base64.b64encode(pair).decode()}",
        ]
        writer.write(("\r\n".join(asked) + "\r\n\r\n").encode())
        status = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1]
        if status != b"200":
            raise ConnectionRefusedError  # noqa: TRY301 - it is aborted like any other fault
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer


def _read(host: str, session: ssl.SSLObject, *, trusted: bool) -> Certificate:
    cert = x509.load_der_x509_certificate(session.getpeercert(binary_form=True) or b"")
    try:
        extension = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = tuple(extension.value.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        names = ()
    return Certificate(
        host=host,
        version=session.version() or "",
        subject=cert.subject.rfc4514_string(),
        issuer=cert.issuer.rfc4514_string(),
        names=names,
        not_after=cert.not_valid_after_utc,
        trusted=trusted,
    )
