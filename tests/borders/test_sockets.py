"""Where packets go, by the kernel's counters: the real way of a note in a namespace of its own."""

import re
import shutil
from pathlib import Path

import pytest
from borders import worlds
from support.namespaces import Lab

CASES, ALL_CASES, TRACED = 60, 300, 20


def test_the_counters_are_exact(lab: Lab) -> None:
    """A counter that misses a packet, or counts chatter, would prove nothing."""
    found = lab("control")

    assert found["idle"] == {}
    assert found["sent"] == found["wanted"]


def _proven(found: dict[str, object], cases: int) -> None:
    print(f"seed {worlds.SEED}: {found['tally']}, {found['seconds']} s")  # noqa: T201 - to replay it
    assert found["faults"] == []
    assert found["cases"] == cases
    tally = found["tally"]
    assert isinstance(tally, dict)
    assert tally["strays"] == 0
    assert tally["heard"] > cases // 10
    assert tally["nobody"] > 0
    assert tally["google"] > 0


def test_no_packet_leaves_for_anywhere_else(lab: Lab) -> None:
    """An accepted decision is not proof; packets are."""
    found = lab("cases", str(CASES), str(worlds.SEED))

    _proven(found, CASES)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_no_packet_leaves_for_anywhere_else_in_300_cases(lab: Lab) -> None:
    """The same, with more of everything."""
    found = lab("cases", str(ALL_CASES), str(worlds.SEED))

    _proven(found, ALL_CASES)


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace")
def test_connect_is_called_for_lawful_addresses_only(lab: Lab, tmp_path: Path) -> None:
    """A second witness: the system calls of every thread, native SDKs' included."""
    trace = tmp_path / "trace"
    before = ["strace", "-f", "-qq", "-e", "trace=connect", "-o", str(trace)]

    found = lab("cases", str(TRACED), "3", before=before)

    calls = re.findall(r'sin_port=htons\(\d+\), sin_addr=inet_addr\("([0-9.]+)"', trace.read_text())
    dialled = {address for address in calls if not address.startswith("127.")}
    assert found["faults"] == []
    assert dialled
    assert dialled <= set(found["addresses"])
