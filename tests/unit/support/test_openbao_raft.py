"""The raft server of the tests: a fault test is worth what its faults are worth."""

import base64

import pytest
from support.openbao_raft import RaftBao

KEK = "transit/keys/subjects-0000"


def wrapped(server: RaftBao) -> str:
    """Return a plaintext encrypted under the KEK."""
    body = {"plaintext": base64.b64encode(b"secret").decode()}
    status, answer = server.call("POST", "transit/encrypt/subjects-0000", body)
    assert status == 200, answer
    return str(answer["data"]["ciphertext"])


def opens(server: RaftBao, ciphertext: str) -> int:
    """Return the status of decrypting *ciphertext*."""
    return server.call("POST", "transit/decrypt/subjects-0000", {"ciphertext": ciphertext})[0]


def test_it_seals_dies_hangs_and_goes_back_in_time(openbao_raft: RaftBao) -> None:
    """Each of these is what some other test relies on having happened."""
    server = openbao_raft
    assert server.call("POST", "sys/mounts/transit", {"type": "transit"})[0] == 204
    assert server.call("POST", KEK)[0] == 200
    ciphertext = wrapped(server)

    server.seal()
    assert opens(server, ciphertext) == 503
    server.unseal()
    assert opens(server, ciphertext) == 200

    server.freeze()
    with pytest.raises(TimeoutError):
        server.call("GET", "sys/health", limit_s=0.3)
    server.thaw()
    assert opens(server, ciphertext) == 200

    server.kill()
    assert server.health() is None
    server.start()
    assert opens(server, ciphertext) == 503
    server.unseal()
    assert opens(server, ciphertext) == 200

    server.stop()
    server.start()
    server.unseal()

    snapshot = server.snapshot()
    assert server.call("POST", f"{KEK}/config", {"deletion_allowed": True})[0] == 200
    assert server.call("DELETE", KEK)[0] == 204
    assert opens(server, ciphertext) == 400
    server.restore(snapshot)
    assert opens(server, ciphertext) == 200


def test_both_audit_devices_write_and_neither_holds_a_secret(openbao_raft: RaftBao) -> None:
    """What is asked of the server must be found in either file, and only as HMACs."""
    openbao_raft.call("GET", "sys/mounts")

    first, second = (path.read_text() for path in openbao_raft.audit)

    for said in (first, second):
        assert '"path":"sys/mounts"' in said
        assert openbao_raft.token not in said
