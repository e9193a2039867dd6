"""
Unwraps: many askers at once, through the coalescer or one call for each key.

A call that failed is no figure: an error is answered faster than a key.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from load import sealed_keys
from load.figures import Aim, Section, figure, percentile
from support.openbao_raft import RaftBao

from vault.coalesce import Coalescer
from vault.keyrings.client import MOST_ITEMS
from vault.keyrings.transit import TransitKeyring
from vault.keys import BUCKETS, MOST_UNWRAPS
from vault.model import WrappedKey

AIM = 10_000.0
Ask = Callable[[WrappedKey], Awaitable[bytes | Exception]]


@dataclass(frozen=True, slots=True)
class Asked:
    """How many keys came back in a second, and how long each took in ms."""

    per_second: float
    waits_ms: tuple[float, ...]


async def measure(server: RaftBao, *, askers: Sequence[int], seconds: float, kept: int) -> Section:
    """Return the section: *askers* at once ask for *kept* keys in turn for *seconds* each."""
    return section(await _unwrapped(server, askers, seconds, kept))


async def asked(ask: Ask, keys: Sequence[WrappedKey], *, askers: int, seconds: float) -> Asked:
    """Let *askers* ask for *keys* in turn for *seconds*; every answer must be a key."""
    waits: list[float] = []
    turn = itertools.cycle(keys)
    began = time.perf_counter()

    async def one() -> None:
        while (asked_at := time.perf_counter()) - began < seconds:
            found = await ask(next(turn))
            if isinstance(found, Exception):
                raise RuntimeError("a key was not unwrapped") from found  # noqa: TRY004
            waits.append((time.perf_counter() - asked_at) * 1000)

    await asyncio.gather(*(one() for _ in range(askers)))
    return Asked(len(waits) / (time.perf_counter() - began), tuple(waits))


async def _unwrapped(
    server: RaftBao, loads: Sequence[int], seconds: float, kept: int
) -> dict[str, tuple[Asked, Asked]]:
    """Return (one by one, coalesced) per row."""
    found = {}
    for buckets, askers in itertools.product((1, BUCKETS), loads):
        keys = [
            one
            for number in range(buckets)
            for one in sealed_keys.wrapped(server, f"bench-{buckets}-{number:04d}", kept // buckets)
        ]
        random.shuffle(keys)
        keyring = sealed_keys.keyring(server)

        async def alone(one: WrappedKey, keyring: TransitKeyring = keyring) -> bytes | Exception:
            return (await keyring.unwrap([one]))[0]

        coalescer: Coalescer[WrappedKey, bytes] = Coalescer(
            keyring.unwrap, group=lambda one: one.kek, calls=MOST_UNWRAPS
        )
        named = f"{askers} askers, {buckets} bucket{'s' if buckets > 1 else ''}"
        found[named] = (
            await asked(alone, keys, askers=askers, seconds=seconds),
            await asked(coalescer.get, keys, askers=askers, seconds=seconds),
        )
    return found


def section(found: dict[str, tuple[Asked, Asked]]) -> Section:
    """Return what was *found* (one by one, coalesced) per row as a section."""
    last, (alone, together) = list(found.items())[-1]
    return Section(
        title="9. Keys unwrapped",
        compared="the coalescer, against one call for each key (the floor), through the same hvac.",
        said=(
            "`vault.keyrings.transit` on hvac, four sessions, against OpenBao on raft storage with "
            "two file audit devices; server and client share the machine. Each asker waits for "
            "one key, then asks for another; no key is cached. Coalesced, what is asked for while "
            f"{MOST_UNWRAPS} calls are in flight goes out in the next ones, at most {MOST_ITEMS} "
            "keys each; a request is about one bucket, so many buckets make smaller requests."
        ),
        head=(
            "Askers and buckets",
            "one by one /s",
            "p50 ms",
            "p99 ms",
            "coalesced /s",
            "p50 ms",
            "p99 ms",
            "ratio",
        ),
        rows=tuple(
            (
                name,
                *_asked(one),
                *_asked(many),
                f"{figure(many.per_second / one.per_second)}",
            )
            for name, (one, many) in found.items()
        ),
        aims=(
            Aim(
                what=f"unwraps coalesced, {last}",
                measured=together.per_second,
                unit="/s",
                least=AIM,
                why=(
                    f"One by one it was {figure(alone.per_second)}/s; p50 of a coalesced key was "
                    f"{figure(percentile(together.waits_ms, 0.5))} ms."
                ),
            ),
        ),
    )


def _asked(found: Asked) -> tuple[str, str, str]:
    p50, p99 = (percentile(found.waits_ms, share) for share in (0.5, 0.99))
    return figure(found.per_second), figure(p50), figure(p99)
