"""
What a rule may call, as OPA's own tools read it: ``opa build --capabilities capabilities.json``.

The file is OPA's list, narrowed to `policy.subset.BUILTINS` and to comparing, joining and
counting with operators: no network, clock, randomness, tokens, runtime or trace. Written with
``opa capabilities --current | python -m policy.capabilities > policy/capabilities.json``.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policy.subset import BUILTINS

FILE = Path(__file__).parent / "capabilities.json"
OPERATORS = frozenset(
    {
        "and",
        "assign",
        "div",
        "eq",
        "equal",
        "gt",
        "gte",
        "internal.member_2",
        "internal.member_3",
        "lt",
        "lte",
        "minus",
        "mul",
        "neq",
        "or",
        "plus",
        "rem",
    }
)


def narrowed(full: Mapping[str, Any]) -> dict[str, Any]:
    """Return *full* (an OPA's capabilities) with what our rules may use and nothing else."""
    kept = [entry for entry in full["builtins"] if entry["name"] in BUILTINS | OPERATORS]
    return {**full, "allow_net": [], "builtins": kept}


if __name__ == "__main__":
    json.dump(narrowed(json.load(sys.stdin)), sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")
