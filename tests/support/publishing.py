"""Who signs bundles in tests, and how a spoilt one is packed."""

import gzip
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support import policy_world

from policy import archive, jurisdictions, signing
from policy.bundle import Bundle
from policy.gate import Expected
from policy.signing import PublicKey, Signer

Files = dict[str, bytes]


@dataclass(frozen=True)
class Publisher:
    """A key pair, in memory and as PEM files, and bundles signed with it."""

    signer: Signer
    private: Path
    public: Path

    @property
    def keys(self) -> list[PublicKey]:
        """Return the public key, as a cell holds it."""
        return [signing.public_key(self.public.read_bytes())]

    def publish(self, bundle: Bundle, issued: int = 1) -> bytes:
        """Return *bundle*, signed."""
        return archive.pack(bundle, issued=issued, signer=self.signer)


def publisher_in(directory: Path, keyid: str = "vocustody") -> Publisher:
    """Return a publisher with a fresh key in *directory*."""
    directory.mkdir(exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = directory / "key.pem", directory / "key.pub"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    private.chmod(0o600)
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return Publisher(Signer(key=key, keyid=keyid), private, public)


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    """Return who may publish."""
    return publisher_in(tmp_path / "publisher")


@pytest.fixture
def stranger(tmp_path: Path) -> Publisher:
    """Return somebody with a key that nobody trusts."""
    return publisher_in(tmp_path / "stranger")


def unpack(raw: bytes) -> Files:
    """Return the files of an archive."""
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:gz") as tar:
        found = {entry.name.removeprefix("/"): tar.extractfile(entry) for entry in tar}
        return {name: file.read() for name, file in found.items() if file}


def pack(files: Files) -> bytes:
    """Return *files* as an archive, as they are."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(raw.getvalue())


def small(**changes: Any) -> Bundle:
    """Return the bundle of the shipped rules over three jurisdictions: quick to rehearse."""
    laws = jurisdictions.load()
    few = {code: laws[code] for code in ("DE", "SG", "US")}
    return policy_world.build(**({"jurisdictions": few} | changes))


def two_laws() -> tuple[Bundle, Bundle]:
    """Return two bundles that answer the question in order: the second refuses one processor."""
    tenants = policy_world.tenants()
    tenants["acme"] = {"refused": ["stt.first.eu-west"]}
    return small(), small(tenants=tenants)


def expecting(bundle: Bundle, **tightened: dict[str, int]) -> Expected:
    """Return what a cell expects whose registry is that of *bundle*."""
    rows = {row["id"]: row for row in bundle.data["processors"]}
    overlays = {tenant: {"retention": clocks} for tenant, clocks in tightened.items()}
    grounds = frozenset(bundle.data["grounds"])
    return Expected(processors=rows, tightened=overlays, grounds=grounds)


def with_rules(bundle: Bundle, **modules: str) -> Bundle:
    """Return *bundle* with the text of route/route.rego (as ``route``) and others replaced."""
    changed = {f"{name}/{name}.rego": text for name, text in modules.items()}
    return Bundle(modules={**bundle.modules, **changed}, data=bundle.data)


def with_data(bundle: Bundle, **changes: Any) -> Bundle:
    """Return *bundle* with other data, through JSON as it would come."""
    data = json.loads(json.dumps(dict(bundle.data)))
    return Bundle(modules=bundle.modules, data=data | changes)
