"""
A world of our own in network namespaces, where the kernel counts what leaves the gateway.

- The gateway's namespace has one veth pair per region (block ``10.20.R.0/24``, device ``rR``) and
  one more, ``elsewhere``, as the default route: whatever goes to any other address, a question
  to DNS included, is counted there.
- The other ends lie in namespaces of their own, which are local for their whole block: what
  nobody listens to is refused at once. "Elsewhere" is local for every address.
- Nothing but the traffic is counted: there is no IPv6, and all neighbours are static.

The counters are the kernel's (``/proc/net/dev``), not ours. A namespace lives as long as this
process; a thread that enters one opens its sockets there.
"""

import ctypes
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
CLONE_NEWNET = 0x4000_0000
ELSEWHERE = "elsewhere"
NAMESERVER = "192.0.2.53"  # RFC 5737: nobody's
SKIPPED = "no network namespace"
LIMIT_S = 600

T = TypeVar("T")


@functools.cache
def entrance() -> tuple[str, ...]:
    """Return the command that enters a fresh namespace; nothing where none is permitted."""
    as_root, as_anybody = ("unshare", "-nm"), ("unshare", "-Urnm")
    choices = [as_root, as_anybody] if os.geteuid() == 0 else [as_anybody]
    if not (shutil.which("unshare") and shutil.which("ip")):
        return ()
    probe = ["ip", "link", "add", "name", "v0", "type", "veth", "peer", "name", "v1"]
    for choice in choices:
        if subprocess.run([*choice, *probe], capture_output=True, check=False).returncode == 0:
            return choice
    return ()


def inside(*words: str, before: Sequence[str] = (), **environment: str) -> dict[str, Any]:
    """Run ``borders.lab`` with *words* in a fresh namespace; return what it reports."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        found = subprocess.run(
            [*before, *entrance(), sys.executable, "-m", "borders.lab", report.name, *words],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"} | environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert found.returncode == 0, found.stdout + found.stderr
        result: dict[str, Any] = json.loads(Path(report.name).read_bytes())
        return result


def within(namespace: int, call: Callable[[], T]) -> T:
    """Return what *call* gives in a thread that has entered *namespace* (a descriptor)."""
    return _thread(lambda: (_entered(namespace), call())[1])


def packets() -> Counter[str]:
    """Return the packets that have left the gateway, by device, as the kernel counts them."""
    lines = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()[2:]
    rows = (line.partition(":") for line in lines)
    sent = {name.strip(): int(fields.split()[9]) for name, _, fields in rows}
    return Counter({name: count for name, count in sent.items() if name != "lo"})


class Net:
    """The namespaces of *places*; `device` and `address` say where each is."""

    def __init__(self, places: Sequence[str]) -> None:
        self._numbers = {place: number for number, place in enumerate(places, start=1)}
        self._fds: dict[str, int] = {}
        _nameserver()
        _quiet()
        _ip("link set lo up")
        for place in (*places, ELSEWHERE):
            self._attach(place)

    def device(self, place: str) -> str:
        """Return the device whose counter is that of *place*."""
        return f"r{self._numbers[place]}" if place in self._numbers else ELSEWHERE

    def place(self, device: str) -> str:
        """Return the place behind *device*."""
        return next((p for p in self._numbers if self.device(p) == device), ELSEWHERE)

    def address(self, place: str, last: int) -> str:
        """Return an address of *place*'s block."""
        return f"10.20.{self._numbers[place]}.{last}"

    def listen(self, place: str, address: str, port: int) -> socket.socket:
        """Return a socket that listens at *address* in *place*."""

        def opened() -> socket.socket:
            listener = socket.create_server((address, port), backlog=128)
            listener.setblocking(False)
            return listener

        return within(self._fds[place], opened)

    def cut(self, place: str, state: str = "down") -> None:
        """Take *place* off the net without a word (``up``: put it back)."""
        within(self._fds[place], lambda: _ip(f"link set up0 {state}", *self._paths(place)))

    def _attach(self, place: str) -> None:
        number, device = self._numbers.get(place, 99), self.device(place)
        ours, theirs = f"02:00:00:00:{number:02}:01", f"02:00:00:00:{number:02}:02"
        fd = self._fds[place] = _thread(_fresh)
        _ip(
            f"link add {device} address {ours} type veth "
            f"peer name up0 address {theirs} netns /proc/{os.getpid()}/fd/{fd}",
            f"addr add 10.30.{number}.1/30 dev {device}",
            f"link set {device} up",
            f"neigh add 10.30.{number}.2 lladdr {theirs} dev {device} nud permanent",
        )
        block = f"10.20.{number}.0/24"
        within(
            fd,
            lambda: _ip(
                "link set lo up",
                f"addr add 10.30.{number}.2/30 dev up0",
                "link set up0 up",
                *self._paths(place),
                *(() if place == ELSEWHERE else (f"route add local {block} dev lo",)),
                *(EVERY if place == ELSEWHERE else ()),
            ),
        )
        _ip(f"route add {'default' if place == ELSEWHERE else block} via 10.30.{number}.2")

    def _paths(self, place: str) -> tuple[str, ...]:
        number = self._numbers.get(place, 99)
        ours = f"02:00:00:00:{number:02}:01"
        return (f"neigh replace 10.30.{number}.1 lladdr {ours} dev up0 nud permanent",)


EVERY = ("route add local default dev lo table 100", "rule add iif up0 pref 100 table 100")


def _thread(call: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


def _entered(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _fresh() -> int:
    """Make a namespace, empty and without IPv6; return its descriptor."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    _quiet()
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def _quiet() -> None:
    for name in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1", encoding="ascii")


def _nameserver() -> None:
    """Have names asked of an address that only the default route leads to."""
    mine = Path(tempfile.mkdtemp()) / "resolv.conf"
    mine.write_text(f"nameserver {NAMESERVER}\noptions timeout:1 attempts:1\n", encoding="ascii")
    true = Path("/etc/resolv.conf").resolve()
    subprocess.run(["mount", "--bind", str(mine), str(true)], check=True)


def _ip(*commands: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)
