"""
The rehearsal's own process: ``python -m policy.rehearsing``, one JSON object a line.

A line is a bundle, in place of any before, or a rule to evaluate. It ends with its input, or
when it has used up its processor time or memory.
"""

import json
import resource
import sys
from typing import Any

import regorus  # type: ignore[import-untyped]

CPU_LIMIT_S = 60
MEMORY_LIMIT = 2 << 30  # bytes of address space
UNDEFINED = "<undefined>"


def main() -> None:
    """Answer until the input ends."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    engine = regorus.Engine()
    for line in sys.stdin:
        request = json.loads(line)
        if "modules" in request:
            engine = regorus.Engine()
            said = _loaded(engine, request)
        else:
            said = _evaluated(engine, request)
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


def _loaded(engine: Any, request: dict[str, Any]) -> dict[str, Any]:
    try:
        for path, text in sorted(request["modules"].items()):
            engine.add_policy(path, text)
        engine.add_data_json(json.dumps(request["document"]))
    except BaseException as exc:  # noqa: BLE001 - a panic is no Exception
        return {"fault": f"regorus: {str(exc).strip().partition(chr(10))[0]}"}
    return {}


def _evaluated(engine: Any, request: dict[str, Any]) -> dict[str, Any]:
    try:
        engine.set_input_json(json.dumps(request["input"]))
        found = json.loads(engine.eval_rule_as_json(request["rule"]))
    except Exception:  # noqa: BLE001 - whatever it says, it is no answer
        return {"fault": "engine.failed"}
    except BaseException:  # noqa: BLE001 - pyo3's PanicException cannot be imported
        return {"fault": "engine.panicked"}
    return {"fault": "engine.undefined"} if found == UNDEFINED else {"result": found}


if __name__ == "__main__":
    main()
