"""Two engines, one law: every question gets the same bytes from the embedded engine and OPA."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy import canonical, decide
from policy.bundle import Bundle
from policy.embedded import EmbeddedEngine
from policy.model import Question
from policy.opa import OpaEngine
from policy.question import as_input
from support.policy_world import questions

pytestmark = pytest.mark.anyio


async def test_both_engines_give_the_same_bytes(policy_bundle: Bundle, opa_server: str) -> None:
    raise NotImplementedError
