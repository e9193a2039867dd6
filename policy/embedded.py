"""The rules inside this process, on regorus: no server, no network."""

import asyncio
import json
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

import regorus  # type: ignore[import-untyped]

from policy.bundle import Bundle
from policy.errors import BundleError, EngineError

INPUT_LIMIT = 32_768  # bytes of JSON: an evaluation cannot be interrupted, so its size is capped
UNDEFINED = "<undefined>"  # regorus's word for it, and a truthy one

# Each engine has a thread of its own, so each finds its own here; what is left dies with its
# thread, in its thread. A local of the instance would be dropped by whoever drops the instance.
_here = threading.local()


class EmbeddedEngine:
    """
    `PolicyEngine` on regorus, for one bundle; another bundle is another engine.

    A regorus engine belongs to the thread that built it and panics in any other, so it is
    built, used and dropped in one thread of its own; calls queue there. A panic is no
    `Exception`: it is caught by where it can happen, not by its class. Trusted like our own
    code: it runs in our memory.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Raise `BundleError` if regorus does not take the bundle."""
        self.name = f"embedded/regorus-{version('gordon-to-regorus')}"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="policy")
        try:
            self._thread.submit(_load, bundle).result()
        except BundleError:
            self._thread.shutdown()
            raise

    async def evaluate(self, entrypoint: str, question: Mapping[str, Any]) -> Any:
        """See `PolicyEngine.evaluate`."""
        text = json.dumps(question)
        if len(text) > INPUT_LIMIT:
            raise EngineError("engine.input_size")
        rule = f"data.{entrypoint.replace('/', '.')}"
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, _evaluate, rule, text)
        except RuntimeError:
            raise EngineError("engine.closed") from None

    async def aclose(self) -> None:
        """Drop the engine in its thread, and end the thread."""
        self._thread.shutdown(wait=False)


def _load(bundle: Bundle) -> None:
    _here.engine = regorus.Engine()
    try:
        for path, text in sorted(bundle.modules.items()):
            _here.engine.add_policy(path, text)
        _here.engine.add_data_json(json.dumps(bundle.document))
    except BaseException as exc:  # noqa: BLE001 - a panic is no Exception
        raise BundleError(f"regorus: {_first_line(exc)}") from None


def _evaluate(rule: str, text: str) -> Any:
    # No local name for the engine: an error's traceback would carry it into another thread.
    try:
        _here.engine.set_input_json(text)
        found = json.loads(_here.engine.eval_rule_as_json(rule))
    except Exception:  # noqa: BLE001 - its text may quote the input
        raise EngineError("engine.failed") from None
    except BaseException:  # noqa: BLE001 - pyo3's PanicException cannot be imported
        raise EngineError("engine.panicked") from None
    if found == UNDEFINED:
        raise EngineError("engine.undefined")
    return found


def _first_line(exc: BaseException) -> str:
    return str(exc).strip().partition("\n")[0]
