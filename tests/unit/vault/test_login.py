"""Logging in at a real OpenBao: seldom, in time, once at a time, and never in a loop."""

import base64
import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import hvac
import pytest
from support import roles
from support.openbao import OpenBao
from support.pki import Authority

from vault.errors import BootstrapError, KeyringError
from vault.keyrings import credentials
from vault.keyrings.client import Transit, ask, connect
from vault.keyrings.credentials import Kubernetes
from vault.keyrings.login import LONGEST_PAUSE_S, Credentials, Login

TTL_S = 900


@dataclass
class Clock:
    """Monotonic seconds that stand still until they are moved."""

    at: float = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.at


@dataclass
class Counted:
    """Credentials that count how often they were shown."""

    credentials: Credentials
    times: int = 0

    def login(self, client: hvac.Client) -> tuple[str, dict[str, str]]:
        """Show them."""
        self.times += 1
        return self.credentials.login(client)


@dataclass
class Door:
    """A login, what it shows, and its clock."""

    shown: Counted
    login: Login
    clock: Clock = field(repr=False)


@pytest.fixture
def root(openbao: OpenBao) -> hvac.Client:
    """Return a client that may do everything."""
    return hvac.Client(url=openbao.url, token=openbao.token)


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


@contextmanager
def deaf() -> Iterator[str]:
    """Yield the address of a server that is down."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def door(url: str, credentials: Credentials, clock: Clock) -> Door:
    """Return a login at *url*."""
    shown = Counted(credentials)
    return Door(shown, Login(shown, connect(url), clock=clock), clock)


def looked_up(root: hvac.Client, token: str) -> dict[str, Any]:
    """Return what the server says of *token*."""
    found: dict[str, Any] = root.auth.token.lookup(token)["data"]
    return found


def test_many_calls_are_one_login(openbao: OpenBao, root: hvac.Client, clock: Clock) -> None:
    """A burst after a start must not become a burst of logins."""
    here = door(openbao.url, roles.make(root).shown(), clock)
    together = threading.Barrier(12)

    def ask_for_it(_: int) -> str:
        together.wait()
        return here.login()

    with ThreadPoolExecutor(12) as pool:
        tokens = set(pool.map(ask_for_it, range(12)))

    assert (len(tokens), here.shown.times) == (1, 1)
    assert looked_up(root, tokens.pop())["type"] == "batch"


def test_a_batch_token_is_replaced_when_two_thirds_are_over(
    openbao: OpenBao, root: hvac.Client, clock: Clock
) -> None:
    """One that ends in the middle of a call fails it; it cannot be renewed."""
    here = door(openbao.url, roles.make(root).shown(), clock)
    first = here.login()

    clock.at += 0.66 * TTL_S
    still = here.login()
    clock.at += 0.01 * TTL_S
    other = here.login()

    assert (still, here.shown.times) == (first, 2)
    assert other != first
    assert looked_up(root, other)["ttl"] > 0


def test_a_renewable_token_is_renewed_and_kept(
    openbao: OpenBao, root: hvac.Client, clock: Clock
) -> None:
    """Each login is a new token in the server's memory until it ends: one is enough."""
    role = roles.make(root, token_type="service")
    here = door(openbao.url, role.shown(), clock)
    first = here.login()

    for _ in range(4):
        clock.at += 0.7 * TTL_S
        assert here.login() == first

    assert here.shown.times == 1
    assert "last_renewal_time" in looked_up(root, first)


def test_a_token_whose_life_can_grow_no_more_is_replaced(
    openbao: OpenBao, root: hvac.Client, clock: Clock
) -> None:
    """A renewal near the longest life succeeds and gives less: it would be asked ever oftener."""
    role = roles.make(root, token_type="service", token_ttl="20s", token_max_ttl="20s")
    here = door(openbao.url, role.shown(), clock)
    first = here.login()
    time.sleep(1.1)  # the server's clock, not ours: now less than 20 s are left to give

    clock.at += 14
    second = here.login()

    assert second != first
    assert here.shown.times == 2


def test_a_dead_server_is_not_hammered(clock: Clock) -> None:
    """Every call asks for a token: thousands of them must be a few connections."""
    with deaf() as url:
        here = door(url, credentials.Kubernetes(role="cell", jwt=lambda: "jwt"), clock)
        tried = []
        for _ in range(100):
            with pytest.raises(KeyringError, match="auth/kubernetes/login: ConnectionError"):
                here.login()
            tried.append(here.shown.times)
            clock.at += 0.1

    assert tried[:3] == [1, 1, 1]
    # 0.25, 0.5, 1, 2, 4 seconds apart, in ten seconds.
    assert here.shown.times == 6


def test_a_server_that_is_back_is_used_within_seconds(
    openbao: OpenBao, root: hvac.Client, clock: Clock
) -> None:
    """A pause that kept growing would outlast the outage by hours."""
    role, client = roles.make(root), connect(openbao.url)
    login = Login(role.shown(), client, clock=clock)
    with deaf() as url:
        client.adapter.base_uri = url
        for _ in range(20):
            with pytest.raises(KeyringError, match="ConnectionError"):
                login()
            clock.at += LONGEST_PAUSE_S

    client.adapter.base_uri = openbao.url

    assert looked_up(root, login())["ttl"] > 0


def test_refused_credentials_are_shown_seldom_and_new_ones_at_once(
    openbao: OpenBao, root: hvac.Client, clock: Clock
) -> None:
    """After five failures OpenBao locks an AppRole out for a quarter of an hour, for everybody."""
    role, given = roles.make(root), {"secret_id": "wrong"}
    shown = credentials.AppRole(
        role_id=lambda: role.role_id,
        secret_id=lambda _client: given["secret_id"],
        mount=role.mount,
    )
    here = door(openbao.url, shown, clock)
    refusals = []
    for _ in range(20):
        with pytest.raises(KeyringError) as caught:
            here.login()
        refusals.append(str(caught.value))
        clock.at += LONGEST_PAUSE_S

    given["secret_id"] = role.secret_id

    assert looked_up(root, here.login())["ttl"] > 0
    assert len([told for told in refusals if told.endswith("HTTP 400")]) == 3  # in 80 s
    assert refusals[1].endswith("refused, and nothing has changed since")


def test_a_living_token_outlives_a_failed_login(
    openbao: OpenBao, root: hvac.Client, clock: Clock
) -> None:
    """Two thirds are over and the server refuses: there is a third left to mend it in."""
    given = {"mount": ""}
    role = roles.make(root)

    class Failing:
        def login(self, client: hvac.Client) -> tuple[str, dict[str, str]]:
            path, body = role.shown().login(client)
            return path + given["mount"], body

    here = door(openbao.url, Failing(), clock)
    first = here.login()
    given["mount"] = "/nowhere"
    clock.at += 0.7 * TTL_S

    assert [here.login() for _ in range(50)] == [first] * 50
    assert here.shown.times == 2
    clock.at += 0.3 * TTL_S
    with pytest.raises(KeyringError):
        here.login()


def test_who_has_a_living_token_does_not_wait_for_a_login(
    openbao: OpenBao, root: hvac.Client, clock: Clock
) -> None:
    """A login at a server that hangs takes seconds, and a call needs none of them."""
    role, entered, leave = roles.make(root), threading.Event(), threading.Event()

    class Slow:
        def login(self, client: hvac.Client) -> tuple[str, dict[str, str]]:
            if here.shown.times > 1:
                entered.set()
                assert leave.wait(10)
            return role.shown().login(client)

    here = door(openbao.url, Slow(), clock)
    first = here.login()
    clock.at += 0.7 * TTL_S

    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(here.login)
        assert entered.wait(10)
        meanwhile = here.login()
        leave.set()

    assert meanwhile == first
    assert renewing.result() != first


@pytest.fixture
def transit(root: hvac.Client) -> str:
    """Return a transit mount, and a policy of its name that may encrypt there."""
    name = f"transit-{secrets.token_hex(4)}"
    root.sys.enable_secrets_engine("transit", path=name)
    root.adapter.post(f"/v1/{name}/keys/kek", json={})
    rule = f'path "{name}/encrypt/kek" {{ capabilities = ["update"] }}'
    root.sys.create_or_update_policy(name, rule)
    return name


def engine(openbao: OpenBao, here: Door, mount: str) -> Transit:
    """Return the transit engine at *mount*, seen with the login's token."""
    return Transit(openbao.url, here.login, refused=here.login.refused, mount=mount)


def test_a_revoked_token_is_replaced_and_the_call_made_again(
    openbao: OpenBao, root: hvac.Client, clock: Clock, transit: str
) -> None:
    """Whoever revokes a token in alarm must not stop the cell, which may log in again."""
    role = roles.make(root, token_type="service", token_policies=f"default,{transit}")
    here = door(openbao.url, role.shown(), clock)
    encrypts = engine(openbao, here, transit)
    first = here.login()
    clock.at += 2
    root.auth.token.revoke(first)

    answer = encrypts.call("post", "encrypt/kek", {"plaintext": "AAAA"})

    assert answer["ciphertext"].startswith("vault:v1:")
    assert here.shown.times == 2


def test_a_call_that_the_policy_forbids_is_no_reason_to_log_in(
    openbao: OpenBao, root: hvac.Client, clock: Clock, transit: str
) -> None:
    """It answers 403 like a revoked token; a login for each would be a flood of them."""
    role = roles.make(root, token_policies=f"default,{transit}")
    here = door(openbao.url, role.shown(), clock)
    encrypts = engine(openbao, here, transit)

    for _ in range(5):
        clock.at += 2
        with pytest.raises(KeyringError, match="HTTP 403"):
            encrypts.call("delete", "keys/kek")

    assert here.shown.times == 1


def test_tokens_that_are_refused_at_once_are_not_replaced_at_once(
    openbao: OpenBao, root: hvac.Client, clock: Clock, transit: str
) -> None:
    """A role whose tokens are good for nothing, not even to look at themselves."""
    role = roles.make(root, token_policies="none", token_no_default_policy=True)
    here = door(openbao.url, role.shown(), clock)
    encrypts = engine(openbao, here, transit)

    for _ in range(20):
        with pytest.raises(KeyringError, match="HTTP 403"):
            encrypts.call("post", "encrypt/kek", {"plaintext": "AAAA"})
        clock.at += 0.1

    assert here.shown.times <= 3


def test_a_login_that_answers_something_else_is_a_failure(clock: Clock) -> None:
    """A proxy's page, or a server that wants a second factor, gives no token."""
    for body in ({"auth": None}, {"auth": {"client_token": ""}}, {"data": {}}, []):
        with answering(body) as url:
            here = door(url, credentials.Kubernetes(role="cell", jwt=lambda: "jwt"), clock)
            with pytest.raises(KeyringError, match="not understood"):
                here.login()


def test_a_redirect_is_not_followed(clock: Clock) -> None:
    """It would carry the secret id to wherever the answer says."""
    with answering({"auth": {}}) as other, answering({}, status=307, location=other) as url:
        here = door(url, credentials.Kubernetes(role="cell", jwt=lambda: "jwt"), clock)

        with pytest.raises(KeyringError, match="HTTP 307"):
            here.login()


def test_the_environments_token_is_not_ours(
    openbao: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's library takes it, or the one in the home of whoever was here before."""
    monkeypatch.setenv("VAULT_TOKEN", openbao.token)

    answer = ask(connect(openbao.url), "get", "sys/mounts", None, token="")

    assert not isinstance(answer, dict)
    assert answer.status_code == 403


def test_nothing_secret_is_told(openbao: OpenBao, root: hvac.Client, clock: Clock) -> None:
    """Errors go to logs, and reprs into errors."""
    role = roles.make(root)
    wrapping = role.wrapped()
    good = door(openbao.url, role.unwrapping(lambda: wrapping), clock)
    token = good.login()
    with deaf() as url:
        failing = (
            door(openbao.url, role.shown(secret_id="wrong-one"), clock),
            door(openbao.url, role.unwrapping(lambda: wrapping), clock),
            door(url, role.shown(), clock),
        )
        said = [repr(good), repr(good.login), repr(good.login._lease)]
        for here in failing:
            with pytest.raises(KeyringError) as caught:
                here.login()
            said += [repr(caught.value), repr(caught.value.__cause__), repr(here)]

    told = " ".join(said)
    for hidden in (token, role.secret_id, role.role_id, wrapping, "wrong-one"):
        assert hidden not in told


def test_a_wrapped_secret_id_opens_once_and_serves_every_login(
    openbao: OpenBao, root: hvac.Client, clock: Clock
) -> None:
    """A batch token lasts for minutes, and the wrapping token for one opening."""
    role = roles.make(root)
    wrapping = role.wrapped()
    here = door(openbao.url, role.unwrapping(lambda: wrapping), clock)
    first = here.login()

    clock.at += 0.7 * TTL_S

    assert here.login() != first
    assert here.shown.times == 2


def test_a_wrapping_token_that_somebody_opened_is_an_incident(
    openbao: OpenBao, root: hvac.Client, clock: Clock
) -> None:
    """The secret id inside is known to another: that must not read as a server that is down."""
    role = roles.make(root)
    wrapping = role.wrapped()
    thief = hvac.Client(url=openbao.url, token=wrapping)
    assert thief.sys.unwrap()["data"]["secret_id"]

    here = door(openbao.url, role.unwrapping(lambda: wrapping), clock)

    with pytest.raises(BootstrapError, match="opened already"):
        here.login()
    with pytest.raises(BootstrapError, match="opened already"):
        here.login()  # within the pause, too


def test_a_wrapping_token_of_something_else_stays_unopened(
    openbao: OpenBao, root: hvac.Client, clock: Clock
) -> None:
    """Who opened the true one may wrap what they like: the server says what made it."""
    role, other = roles.make(root), roles.make(root)  # at two mounts
    forged = root.adapter.request(
        "post", "/v1/sys/wrapping/wrap", json={"secret_id": role.secret_id}, wrap_ttl="60s"
    )["wrap_info"]["token"]

    for wrapping in (forged, other.wrapped(), role.wrapped("get", "role-id")):
        here = door(openbao.url, role.unwrapping(lambda wrapping=wrapping: wrapping), clock)
        with pytest.raises(BootstrapError, match="in its place"):
            here.login()
        assert credentials.ask(
            connect(openbao.url), "post", credentials.LOOKUP, {"token": wrapping}, token=""
        )["data"]["creation_path"]  # type: ignore[index]


def test_a_wrapping_token_delivered_later_is_opened_then(
    openbao: OpenBao, root: hvac.Client, clock: Clock
) -> None:
    """A secret id ends, too: its successor arrives in the same file."""
    role = roles.make(root)
    delivered = [role.wrapped()]
    here = door(openbao.url, role.unwrapping(lambda: delivered[-1]), clock)
    here.login()
    root.adapter.post(
        f"/v1/auth/{role.mount}/role/{role.name}/secret-id/destroy",
        json={"secret_id": here.shown.credentials.secret_id._secret_id},  # type: ignore[attr-defined]
    )
    clock.at += TTL_S
    with pytest.raises(KeyringError, match="HTTP 400"):
        here.login()

    delivered.append(role.wrapped())
    clock.at += LONGEST_PAUSE_S

    assert looked_up(root, here.login())["ttl"] > 0


def test_a_file_that_is_being_written_is_tried_again(clock: Clock) -> None:
    """A secret that is replaced in place is gone for a moment."""

    def gone() -> str:
        raise ValueError("role-id cannot be read")

    here = door("http://127.0.0.1:9", Kubernetes(role="cell", jwt=gone), clock)

    with pytest.raises(KeyringError, match="role-id cannot be read"):
        here.login()


def test_a_pod_logs_in_with_its_service_account(
    openbao: OpenBao, root: hvac.Client, clock: Clock, authority: Authority
) -> None:
    """The server asks the cluster whose token that is; here the cluster is pretended."""
    mount = f"kubernetes-{secrets.token_hex(4)}"
    with cluster() as (url, jwt, asked):
        root.sys.enable_auth_method("kubernetes", path=mount)
        root.adapter.post(
            f"/v1/auth/{mount}/config",
            json={
                "kubernetes_host": url,
                "kubernetes_ca_cert": authority.ca.read_text(),
                "disable_local_ca_jwt": True,
            },
        )
        root.adapter.post(
            f"/v1/auth/{mount}/role/cell",
            json={
                "bound_service_account_names": "vocustody",
                "bound_service_account_namespaces": "voice",
                "token_type": "batch",
                "token_ttl": "600s",
            },
        )
        here = door(openbao.url, Kubernetes(role="cell", jwt=lambda: jwt, mount=mount), clock)
        found = looked_up(root, here.login())
        other = door(openbao.url, Kubernetes(role="other", jwt=lambda: jwt, mount=mount), clock)

        with pytest.raises(KeyringError, match=f"auth/{mount}/login: HTTP"):
            other.login()

    assert found["meta"]["service_account_name"] == "vocustody"
    assert found["type"] == "batch"
    assert asked


@contextmanager
def answering(body: Any, *, status: int = 200, location: str = "") -> Iterator[str]:
    """Yield the address of a server that answers everything alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            said = json.dumps(body(self) if callable(body) else body).encode()
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def cluster() -> Iterator[tuple[str, str, list[str]]]:
    """Yield a pretended API server, one pod's token, and the reviews that were asked of it."""
    asked: list[str] = []
    uid = secrets.token_hex(8)
    claims = {
        "iss": "https://kubernetes.default.svc",
        "sub": "system:serviceaccount:voice:vocustody",
        "exp": int(time.time()) + 600,
        "iat": int(time.time()),
        "kubernetes.io": {
            "namespace": "voice",
            "serviceaccount": {"name": "vocustody", "uid": uid},
        },
    }

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    jwt = f"{part({'alg': 'RS256'})}.{part(claims)}.c2lnbmF0dXJl"

    def review(request: BaseHTTPRequestHandler) -> Any:
        asked.append(request.path)
        return {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "status": {
                "authenticated": True,
                "user": {
                    "username": claims["sub"],
                    "uid": uid,
                    "groups": ["system:serviceaccounts"],
                },
            },
        }

    with answering(review, status=201) as url:
        yield url, jwt, asked
