"""Graph's answers by code: the table that decides between retry, refusal and doubt."""

import httpx2
import pytest

from gateway.errors import (
    AccountFaultError,
    ChannelBusyError,
    ChannelError,
    ChannelRefusedError,
    ChannelUnknownError,
)
from gateway.whatsapp import answers

QUOTING = "(#%s) to +12025550123: my secret text"


def graph_answer(code: int, status: int, **headers: str) -> httpx2.Response:
    """Return an error as Graph words it, quoting the person."""
    error = {
        "message": QUOTING % code,
        "code": code,
        "error_data": {"details": QUOTING % code},
        "fbtrace_id": "Az8or2yhqkZfEZ",
    }
    return httpx2.Response(status, json={"error": error}, headers=headers)


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        *((code, 401, AccountFaultError) for code in (0, 102, 190, 2500)),
        *((code, 403, AccountFaultError) for code in (3, 10, 200, 299, 131005)),
        *((code, 400, AccountFaultError) for code in (33, 131037, 131042, 131045, 133010)),
        *((code, 429, ChannelBusyError) for code in (4, 80007, 130429, 131056)),
        *((code, 429, AccountFaultError) for code in (613, 131048, 131064)),
        *((code, 503, ChannelBusyError) for code in (2, 131016, 131057)),
        (133004, 503, AccountFaultError),
        *((code, 500, ChannelUnknownError) for code in (1, 131000)),
        *((code, 400, ChannelRefusedError) for code in (100, 131008, 131009, 131047, 131062)),
        *((code, 400, ChannelRefusedError) for code in (131021, 131026, 131030, 131051, 131053)),
        *((code, 403, AccountFaultError) for code in (368, 131031)),
        (130497, 403, ChannelRefusedError),
        (999_999, 400, ChannelRefusedError),
        (999_999, 401, AccountFaultError),
        (999_999, 403, AccountFaultError),
        (999_999, 429, ChannelBusyError),
        (999_999, 500, ChannelUnknownError),
    ],
)
def test_each_code_means_one_thing(code: int, status: int, error: type[ChannelError]) -> None:
    """A wrong class here is a message sent twice, or never."""
    with pytest.raises(error) as caught:
        answers.read(graph_answer(code, status))

    assert (type(caught.value), caught.value.code) == (error, str(code))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (301, AccountFaultError),
        (400, ChannelRefusedError),
        (401, AccountFaultError),
        (403, AccountFaultError),
        (404, AccountFaultError),
        (408, ChannelUnknownError),
        (429, ChannelBusyError),
        (500, ChannelUnknownError),
        (502, ChannelUnknownError),
        (503, ChannelUnknownError),
        (200, ChannelUnknownError),
    ],
)
def test_an_answer_that_is_not_graph_s_goes_by_its_status(status: int, error: type) -> None:
    """A gateway's 502 says nothing of what the server behind it did."""
    with pytest.raises(error, match=rf"http\.{status}"):
        answers.read(httpx2.Response(status, text="<html>no</html>"))


def test_an_error_under_200_is_still_an_error() -> None:
    """A success is an object without an error in it."""
    with pytest.raises(ChannelRefusedError, match="100"):
        answers.read(graph_answer(100, 200))


def test_an_error_keeps_the_trace_and_quotes_nobody() -> None:
    """Meta's support needs the trace; Meta's text holds the number and the message."""
    with pytest.raises(ChannelRefusedError) as caught:
        answers.read(graph_answer(131009, 400))

    assert caught.value.__notes__ == ["fbtrace_id=Az8or2yhqkZfEZ"]
    assert (str(caught.value), caught.value.args) == ("131009", ("131009",))


def test_a_trace_that_is_no_id_is_dropped() -> None:
    """A note of the exception is log text as well."""
    error = {"code": 100, "fbtrace_id": "+1 202 555 0123\nforged"}

    with pytest.raises(ChannelRefusedError) as caught:
        answers.read(httpx2.Response(400, json={"error": error}))

    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize(
    ("code", "header", "pause_s"),
    [
        (130429, "30", 30.0),
        (130429, "999999", 3_600.0),
        (130429, "soon", 0.0),
        (130429, "-1", 0.0),
        (131056, "", 6.0),
        (131056, "9", 9.0),
    ],
)
def test_a_busy_answer_says_how_long(code: int, header: str, pause_s: float) -> None:
    """Retrying into a limit only makes it last; but a header must not park a job for ever."""
    with pytest.raises(ChannelBusyError) as caught:
        answers.read(graph_answer(code, 429, **{"Retry-After": header}))

    assert caught.value.retry_after == pause_s


@pytest.mark.parametrize("code", [True, "190", None, 1.5])
def test_a_code_that_is_no_number_is_no_code(code: object) -> None:
    """The code goes into logs and metrics: it must be an integer of Graph's, or ours."""
    answer = httpx2.Response(400, json={"error": {"code": code}})

    with pytest.raises(ChannelRefusedError, match=r"^http\.400$"):
        answers.read(answer)
