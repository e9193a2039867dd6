"""What a cell says of itself when nobody looks at the vendors any more."""

import asyncio

import pytest
from starlette.requests import Request
from support.settings import Configure

from gateway import settings
from gateway.compose.cell import cell
from gateway.console import health

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


async def test_a_probe_that_ended_is_a_warning_and_takes_no_cell_out_of_service(
    configure: Configure,
) -> None:
    """Notes are still answered, and every touch is still looked at: only the hourly look is off."""
    config = configure("[probe]\nevery_seconds = 3600")
    async with cell(settings.load(config)) as built:
        scope = {"type": "http", "headers": [], "state": {"vitals": built.vitals}}
        well = await health.readyz(Request(scope))
        (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "probe"]

        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        built.vitals._until = 0.0  # asked anew, not answered from what was found before
        ended = await health.readyz(Request(scope))

    assert bytes(well.body) == b'{"ready":true,"failed":[],"warned":[]}'
    assert bytes(ended.body) == b'{"ready":true,"failed":[],"warned":["probe_ended"]}'
