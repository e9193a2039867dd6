"""Seal and open: the container of `vault.envelope` against one AES-256-GCM call."""

import secrets
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from load.figures import Section, figure

from vault import envelope

KIB = 1024
SIZES = {"16 KiB": 16 * KIB, "40 KiB": 40 * KIB, "1 MiB": KIB**2, "16 MiB": 16 * KIB**2}
CONTEXT = envelope.bind("benchmark")


class Speed(NamedTuple):
    """GB/s, medians of the rounds."""

    seal: float
    floor_seal: float
    open: float
    floor_open: float


def measure(*, seconds: float, rounds: int) -> Section:
    """Return the section; each figure is the median of *rounds* of *seconds* each."""
    return section({name: _speed(size, seconds, rounds) for name, size in SIZES.items()})


def section(found: dict[str, Speed]) -> Section:
    """Return what was *found*, by size, as a section."""
    return Section(
        title="4. Seal and open",
        compared=(
            "our sealed container, against one bare AES-GCM call on the same bytes (the floor)."
        ),
        said=(
            "One core. Ours is the C2SP container (chunks of 16 KiB, key commitment, keys derived "
            "per message) in `vault.envelope`; the floor is one `AESGCM` call of `cryptography` "
            "on the same bytes, which commits to no key and cannot be streamed."
        ),
        head=(
            "Content", "seal GB/s", "floor", "ratio", "open GB/s", "floor", "ratio",
        ),
        rows=tuple(_row(name, speed) for name, speed in found.items()),
    )  # fmt: skip


def _row(name: str, speed: Speed) -> tuple[str, ...]:
    return (
        name,
        figure(speed.seal),
        figure(speed.floor_seal),
        figure(speed.seal / speed.floor_seal),
        figure(speed.open),
        figure(speed.floor_open),
        figure(speed.open / speed.floor_open),
    )


def _speed(size: int, seconds: float, rounds: int) -> Speed:
    key, nonce, content = (
        secrets.token_bytes(32),
        secrets.token_bytes(12),
        secrets.token_bytes(size),
    )
    sealed = envelope.seal(key, CONTEXT, content)
    raw = AESGCM(key)
    encrypted = raw.encrypt(nonce, content, CONTEXT)
    calls: tuple[Callable[[], bytes], ...] = (
        lambda: envelope.seal(key, CONTEXT, content),
        lambda: raw.encrypt(nonce, content, CONTEXT),
        lambda: envelope.open_sealed(key, CONTEXT, sealed),
        lambda: raw.decrypt(nonce, encrypted, CONTEXT),
    )
    found = [[_per_second(call, seconds) for call in calls] for _ in range(rounds)]
    return Speed(*(statistics.median(column) * size / 1e9 for column in zip(*found, strict=True)))


def _per_second(call: Callable[[], bytes], seconds: float) -> float:
    count, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds or count == 0:
        call()
        count += 1
    return count / spent if spent else 0.0
