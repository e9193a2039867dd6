"""
What an engine said, held to a shape: the checks that every door to the rules shares.

Each raises `EngineError` with the code it is given: a wrong shape is never rounded to a yes.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from policy import canonical
from policy.errors import EngineError
from policy.ports import PolicyEngine

CODE = re.compile(r"[a-z_]{1,32}\.[a-z_]{1,32}")
WORD = re.compile(r"[A-Za-z0-9._:-]{1,128}")


async def in_time(
    engine: PolicyEngine, entrypoint: str, asked: Mapping[str, Any], deadline_s: float
) -> Any:
    """Return what *engine* says within *deadline_s*; raise `EngineError` for a late answer."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(deadline_s):
            answer = await engine.evaluate(entrypoint, asked)
    except TimeoutError:
        raise EngineError("engine.late") from None
    # An engine that never yields to the loop outruns the timeout above.
    if loop.time() - began > deadline_s:
        raise EngineError("engine.late")
    return answer


def digest(answer: Any) -> str:
    """Return the hex SHA-256 of *answer*, empty for None; what has none cannot be replayed."""
    try:
        return "" if answer is None else canonical.digest(answer)
    except (RecursionError, TypeError, ValueError):
        raise EngineError("answer.type") from None


def document(answer: Any, keys: frozenset[str], revision: str) -> dict[str, Any]:
    """Return *answer* if it is an object of exactly *keys* under *revision*."""
    if answer is None:
        raise EngineError("answer.null")
    if type(answer) is not dict:
        raise EngineError("answer.type")
    shape(answer, keys, "answer.shape")
    if answer["revision"] != revision:
        raise EngineError("answer.revision")
    return answer


def shape(value: Any, keys: frozenset[str], code: str) -> None:
    """Return if *value* is an object of exactly *keys*."""
    if type(value) is not dict or set(value) != keys:
        raise EngineError(code)


def words(value: Any, pattern: re.Pattern[str], code: str) -> tuple[str, ...]:
    """Return *value* if it is a list of distinct texts of *pattern*."""
    if type(value) is not list or len(set(map(str, value))) != len(value):
        raise EngineError(code)
    if not all(isinstance(word, str) and pattern.fullmatch(word) for word in value):
        raise EngineError(code)
    return tuple(value)


def texts(value: Any, code: str) -> dict[str, str]:
    """Return *value* if it maps names to texts."""
    if type(value) is not dict or not all(isinstance(text, str) for text in value.values()):
        raise EngineError(code)
    return dict(value)
