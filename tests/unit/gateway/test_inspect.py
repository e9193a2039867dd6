"""Questions to a cell's trail: what counts as a time and as an id."""

from datetime import UTC, datetime

import pytest

from gateway import inspect
from gateway.errors import GatewayError
from gateway.inspect import QuestionError


class Trail:
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []

    async def leaves(self, **named: str) -> list[str]:
        """Return one leaf."""
        self.asked.append(named)
        return ["leaf"]


@pytest.mark.parametrize(
    "text", ["2026-11-19T14:14:00Z", "2026-11-19T15:14:00+01:00", "2026-11-19 14:14+00:00"]
)
def test_a_time_with_its_zone_is_that_moment(text: str) -> None:
    """The same minute, however it is written."""
    assert inspect.moment(text) == datetime(2026, 11, 19, 14, 14, tzinfo=UTC)
    assert inspect.moment(text).tzinfo is UTC


@pytest.mark.parametrize("text", ["2026-11-19T14:14:00", "2026-11-19"])
def test_a_naive_time_is_refused(text: str) -> None:
    """Read as another zone's, it would be answered for the wrong hour."""
    with pytest.raises(QuestionError, match="zone"):
        inspect.moment(text)


@pytest.mark.parametrize("text", ["", "yesterday", "14:14", "2026-13-01T00:00:00Z"])
def test_what_is_no_time_says_how_to_write_one(text: str) -> None:
    """The message is the fix."""
    with pytest.raises(QuestionError, match="2026-11-19T14:14"):
        inspect.moment(text)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("ident", "kind"), [("a_1", "artifact"), ("r_1", "artifact"), ("j_1", "job"), ("t_1", "touch")]
)
async def test_an_id_says_what_it_is_of(ident: str, kind: str) -> None:
    """Nobody should have to say it twice."""
    trail = Trail()

    await inspect.leaves(trail, ident)  # type: ignore[arg-type]

    assert trail.asked == [{kind: ident}]


@pytest.mark.anyio
@pytest.mark.parametrize("ident", ["", "a", "a1", "x_1", "12025550143", "wamid.HBg"])
async def test_what_is_no_id_of_ours_is_not_looked_for(ident: str) -> None:
    """A number or a message id leads to nobody: that is the point of pseudonyms."""
    trail = Trail()

    with pytest.raises(GatewayError, match="a_, e_, r_, j_ or t_") as caught:
        await inspect.leaves(trail, ident)  # type: ignore[arg-type]

    assert trail.asked == []
    assert not ident or len(ident) < 3 or ident not in str(caught.value)
