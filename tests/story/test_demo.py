"""The demonstration, as a newcomer runs it: every claim holds, and nothing is left behind."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.stage import family, left


@pytest.mark.anyio
@pytest.mark.engine
@pytest.mark.long
@pytest.mark.timeout(400)
async def test_the_demonstration_holds_and_leaves_nothing(tmp_path: Path) -> None:
    """0 says that each printed claim was true; a process or directory left would hold voices."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "demo", "--exit",
        env=os.environ | {"TMPDIR": str(tmp_path)}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    seen: dict[int, str] = {}
    assert process.stdout
    told = []
    async for line in process.stdout:
        seen |= family(process.pid)
        told.append(line.decode())
    status = await process.wait()

    assert status == 0, "".join(told)
    assert [line for line in told if line.startswith(" ✓ ")]
    assert not [line for line in told if line.startswith(" ✗ ")]
    assert len([said for said in seen.values() if "nats.conf" in said]) == 4
    assert left(seen) == {}
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - nothing waits for it
