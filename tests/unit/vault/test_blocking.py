"""A call in a thread: whoever is cancelled leaves no thread behind that still works."""

import asyncio
import threading

import pytest

from vault.objects import blocking


@pytest.mark.anyio
async def test_a_caller_that_is_cancelled_waits_for_its_thread() -> None:
    """It closes the file next: a thread that still writes would write into another's."""
    entered, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def write() -> None:
        entered.set()
        may_end.wait(10)
        ended.set()

    calling = asyncio.create_task(blocking.call(write))
    await asyncio.to_thread(entered.wait, 10)
    calling.cancel()
    await asyncio.sleep(0)
    assert not calling.done()
    may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await calling

    assert ended.is_set()


@pytest.mark.anyio
async def test_what_the_call_raises_arrives() -> None:
    """A full disk must reach whoever puts."""

    def fails() -> None:
        raise OSError(28, "no space")

    with pytest.raises(OSError, match="no space"):
        await blocking.call(fails)
