"""Only who we trust may say what the law is; and OPA and we mean the same signature."""

import base64
import json
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st
from support.publishing import Files, Publisher, pack, unpack

from policy import archive, signing
from policy.bundle import Bundle
from policy.errors import BundleError

TEXTS = ["a", "<&>", "\u2028\u2029", "\x01\b\f\n\x7f", "\U0001f600"]


def opa(binary: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the real opa in *home*."""
    return subprocess.run(
        [binary, *arguments], cwd=home, capture_output=True, text=True, check=False, timeout=60
    )


def laid_out(files: Files, home: Path) -> Path:
    """Write *files* into the directory *home*."""
    for name, content in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    return home


@pytest.fixture
def files(policy_bundle: Bundle) -> Files:
    """Return the files of an unsigned bundle."""
    return unpack(archive.pack(policy_bundle, issued=7))


@pytest.fixture
def signed(policy_bundle: Bundle, publisher: Publisher) -> Files:
    """Return the files of a signed bundle."""
    return unpack(publisher.publish(policy_bundle))


def test_ours_is_ours(policy_bundle: Bundle, publisher: Publisher) -> None:
    """The refusals below are refusals of what was changed."""
    packed = archive.unpack(publisher.publish(policy_bundle, issued=9), keys=publisher.keys)

    assert (packed.bundle.revision, packed.issued) == (policy_bundle.revision, 9)


def test_opa_builds_what_we_accept(
    opa_binary: str, files: Files, publisher: Publisher, tmp_path: Path
) -> None:
    """A publisher needs OPA and a key, and nothing of ours."""
    home = laid_out(files, tmp_path / "law")
    key = ["--signing-alg", "ES256", "--signing-key", str(publisher.private)]

    built = opa(opa_binary, home, "build", "--bundle", ".", *key, "-o", "../b.tar.gz")

    assert built.returncode == 0, built.stderr
    raw = (tmp_path / "b.tar.gz").read_bytes()
    assert archive.unpack(raw, keys=publisher.keys).issued == 7


def test_opa_signs_what_we_accept(
    opa_binary: str, files: Files, publisher: Publisher, tmp_path: Path
) -> None:
    """``opa sign`` writes no key id: the key that holds is the one."""
    home = laid_out(files, tmp_path / "law")
    key = ["--signing-alg", "ES256", "--signing-key", str(publisher.private)]

    done = opa(opa_binary, home, "sign", "--bundle", ".", *key)

    assert done.returncode == 0, done.stderr
    signature = (home / signing.SIGNATURES).read_bytes()
    signing.verify({**files, signing.SIGNATURES: signature}, publisher.keys)


def test_opa_accepts_what_we_sign(
    opa_binary: str,
    policy_bundle: Bundle,
    publisher: Publisher,
    stranger: Publisher,
    tmp_path: Path,
) -> None:
    """And refuses the same bundle under another key, as we do."""
    (tmp_path / "ours.tar.gz").write_bytes(publisher.publish(policy_bundle))

    def verified(by: Publisher) -> subprocess.CompletedProcess[str]:
        key = ["--verification-key", str(by.public), "--verification-key-id", "vocustody"]
        kind = ["--signing-alg", "ES256"]
        return opa(opa_binary, tmp_path, "build", "--bundle", "ours.tar.gz", *key, *kind)

    ours, theirs = verified(publisher), verified(stranger)

    assert ours.returncode == 0, ours.stdout
    assert "failed to verify JWT signature" in theirs.stdout


def test_json_is_digested_as_opa_does(
    opa_binary: str, publisher: Publisher, tmp_path: Path
) -> None:
    """Go prints some characters in its own way; a law's text may hold any of them."""
    files = {"data.json": json.dumps({"b": [1, True, None], "a": TEXTS}, indent=3).encode()}
    home = laid_out(files, tmp_path / "law")
    key = ["--signing-alg", "ES256", "--signing-key", str(publisher.private)]

    opa(opa_binary, home, "sign", "--bundle", ".", *key)

    signature = (home / signing.SIGNATURES).read_bytes()
    signing.verify({**files, signing.SIGNATURES: signature}, publisher.keys)


def test_unsigned_is_refused(policy_bundle: Bundle, publisher: Publisher) -> None:
    """Whoever can write to the source would otherwise write the law."""
    with pytest.raises(BundleError, match="unsigned"):
        archive.unpack(archive.pack(policy_bundle, issued=1), keys=publisher.keys)


def test_a_strangers_is_refused(
    policy_bundle: Bundle, publisher: Publisher, stranger: Publisher
) -> None:
    """A valid signature of somebody is not one of ours."""
    with pytest.raises(BundleError, match="none of the verification keys"):
        archive.unpack(stranger.publish(policy_bundle), keys=publisher.keys)


def test_keys_can_be_rotated(
    policy_bundle: Bundle, publisher: Publisher, stranger: Publisher
) -> None:
    """While one key follows another, both hold."""
    both = [*publisher.keys, *stranger.keys]

    assert archive.unpack(publisher.publish(policy_bundle), keys=both)
    assert archive.unpack(stranger.publish(policy_bundle), keys=both)


def test_what_changed_since_is_refused(signed: Files, publisher: Publisher) -> None:
    """File by file: changed, added, taken away."""
    key = publisher.keys
    added = signed | {"extra.rego": b"package vocustody.x\n"}
    missing = {name: content for name, content in signed.items() if name != "route/route.rego"}

    for changed, match in (
        (signed | {"route/route.rego": b"#"}, "route/route.rego: not what was signed"),
        (signed | {"data.json": b"{}"}, "data.json: not what was signed"),
        (added, "extra.rego: not signed"),
        (missing, "route/route.rego: signed, but missing"),
    ):
        with pytest.raises(BundleError, match=match):
            signing.verify(changed, key)


def test_spaces_are_not_content(signed: Files, publisher: Publisher) -> None:
    """OPA writes its own JSON again when it builds; the data is the same."""
    again = json.dumps(json.loads(signed["data.json"]), indent=2).encode()

    signing.verify(signed | {"data.json": again}, publisher.keys)


def resigned(files: Files, publisher: Publisher, header: object, payload: object) -> Files:
    """Return *files* with a token of any header and payload that the key really signed."""
    text = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in (header, payload)
    )
    whole = json.loads(signing.sign({}, publisher.signer))["signatures"][0]
    r, s = signing.decode_dss_signature(publisher.signer.key.sign(text.encode(), signing._ES256))
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    assert len(raw) == len(signing._bytes(whole.rpartition(".")[2]))
    return files | {
        signing.SIGNATURES: json.dumps({"signatures": [f"{text}.{signing._text(raw)}"]}).encode()
    }


ES256 = {"alg": "ES256"}
ENTRY = {"name": "data.json", "hash": "00", "algorithm": "SHA-256"}


@pytest.mark.parametrize(
    ("header", "payload", "match"),
    [
        ({"alg": "none"}, {"files": []}, "not signed with ES256"),
        ({"alg": "HS256"}, {"files": []}, "not signed with ES256"),
        ([], {"files": []}, "not signed with ES256"),
        (ES256, {"files": [], "scope": "read"}, "another scope"),
        (ES256, [], "another scope"),
        (ES256, {}, "lists no files"),
        (ES256, {"files": [{"name": "data.json"}]}, "lists no files"),
        (ES256, {"files": [ENTRY, ENTRY]}, "there twice"),
        (ES256, {"files": [ENTRY | {"algorithm": "MD5"}]}, "not digested with SHA-256"),
    ],
)
def test_a_token_of_another_kind_is_refused(
    signed: Files, publisher: Publisher, header: object, payload: object, match: str
) -> None:
    """Even one that our key has signed: keys get used for other things."""
    with pytest.raises(BundleError, match=match):
        signing.verify(resigned(signed, publisher, header, payload), publisher.keys)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"signatures": []}',
        b'{"signatures": [1]}',
        b'{"signatures": ["a", "b"]}',
        b'{"signatures": ["..."]}',
        b'{"signatures": ["a.b.c"]}',
        b'{"signatures": ["\xc3\xa4.b.c"]}',
        b'{"signatures": ["a.b.c"], "plugin": "theirs"}',
    ],
)
def test_a_signature_file_of_another_shape_is_refused(
    signed: Files, publisher: Publisher, raw: bytes
) -> None:
    """Every fault of a file is our error."""
    with pytest.raises(BundleError, match=r"signatures\.json"):
        signing.verify(signed | {signing.SIGNATURES: raw}, publisher.keys)


@given(st.binary(max_size=200))
def test_no_bytes_are_a_signature(raw: bytes) -> None:
    """Nothing that anybody sends is anything but our error."""
    with pytest.raises(BundleError):
        signing.verify({signing.SIGNATURES: raw}, [])


@pytest.mark.parametrize("content", [b"{", b'{"x": 1.5}', b'"\\ud800"', b"[" * 100_000])
def test_json_that_has_no_digest_is_refused(content: bytes) -> None:
    """Two readers could print it differently."""
    with pytest.raises(BundleError, match=r"data\.json: no JSON"):
        signing.digest("data.json", content)


def pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> tuple[bytes, bytes]:
    """Return both halves of *key* as PEM."""
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private, public


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()]
)
def test_a_key_of_another_kind_is_refused(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    """ES256 is P-256; what OPA would refuse later is refused now."""
    private, public = pem(key)

    with pytest.raises(BundleError, match="P-256"):
        signing.private_key(private)
    with pytest.raises(BundleError, match="P-256"):
        signing.public_key(public)
    with pytest.raises(BundleError, match="not a public key"):
        signing.public_key(private)
    with pytest.raises(BundleError, match="not an unencrypted private key"):
        signing.private_key(public)


def test_a_bundle_is_signed_again(
    policy_bundle: Bundle, publisher: Publisher, stranger: Publisher
) -> None:
    """In a rotation the new key signs what the old one signed."""
    raw = archive.sign(stranger.publish(policy_bundle, issued=3), publisher.signer)

    assert archive.unpack(raw, keys=publisher.keys).issued == 3
    with pytest.raises(BundleError):
        archive.sign(pack({"data.json": b"{}"}), publisher.signer)


def test_a_signer_prints_no_key(publisher: Publisher) -> None:
    """It may end up in a log line or a traceback."""
    assert "key=" not in repr(publisher.signer)
