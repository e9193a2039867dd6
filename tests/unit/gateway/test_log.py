"""Log lines hold static events and bounded fields; nothing a person said or is called."""

import ast
import asyncio
import io
import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from gateway import log

ROOT = Path(__file__).parents[3]
PACKAGES = ("gateway", "policy", "vault", "residency", "audit")
CANARY = "canary my card is 4111 1111"
PHONE = "12025550101"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Yield what is logged as JSON, and put this process's logging back afterwards."""
    root, hooks = logging.getLogger(), (sys.excepthook, threading.excepthook)
    before = (root.handlers[:], root.level)
    out = io.StringIO()
    log.configure(stream=out)
    yield out
    root.handlers[:], root.level = before
    sys.excepthook, threading.excepthook = hooks
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    """Return the lines written so far, without their times."""
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    for line in found:
        assert line.pop("ts").endswith("Z")
    return found


def test_a_line_is_an_event_and_its_fields(stream: io.StringIO) -> None:
    """Operators search by event and by id: both must be there as they were given."""
    log.get().info("job.ended", job="j_7f", ms=412.12345, outcome="done", tenant="clinic")

    assert lines(stream) == [
        {
            "level": "info",
            "event": "job.ended",
            "job": "j_7f",
            "ms": 412.123,
            "outcome": "done",
            "tenant": "clinic",
        }
    ]


def fail(cause: Exception | None = None) -> None:
    """Raise an error that quotes somebody."""
    raise RuntimeError(CANARY) from cause


def test_a_field_nobody_listed_is_dropped(stream: io.StringIO) -> None:
    """A stray ``transcript=`` must not be one review away from being in every log."""
    log.get().warning("job.ended", transcript=CANARY, text=CANARY, job="j_7f")

    assert lines(stream) == [{"level": "warning", "event": "job.ended", "job": "j_7f"}]


@pytest.mark.parametrize(
    "event",
    [f"job.ended {CANARY}", "job", "job.ended.7", f"call.{PHONE}", "Job.Ended", 7, None, "a" * 99],
)
def test_an_event_that_is_not_static_is_not_printed(stream: io.StringIO, event: str) -> None:
    """A formatted string as event would carry whatever was formatted into it."""
    log.get().info(event, job="j_7f")

    assert lines(stream) == [{"level": "info", "event": "log.refused", "job": "j_7f"}]


@pytest.mark.parametrize(
    "value",
    [
        CANARY,
        PHONE,
        f"+{PHONE}",
        f"tel:{PHONE}",
        "wamid.HBgLMTIwMjU1NTAxMDE",
        "US.13491208655302741918",
        "line\nbreak",
        "ürgent",
        "",
        "x" * 97,
        ["a"],
        b"bytes",
        {"text": CANARY},
    ],
)
def test_a_word_that_may_be_about_a_person_prints_as_unsaid(
    stream: io.StringIO, value: object
) -> None:
    """A listed field filled with the wrong thing is how numbers get into logs."""
    log.get().info("job.ended", reason=value)

    assert lines(stream) == [{"level": "info", "event": "job.ended", "reason": "?"}]


@pytest.mark.parametrize("value", [int(PHONE), float(PHONE), float("inf"), float("nan"), PHONE])
def test_a_number_that_may_be_a_phone_number_prints_as_unsaid(
    stream: io.StringIO, value: object
) -> None:
    """Phone numbers are numbers too; no count or duration of ours is that large."""
    log.get().info("job.ended", ms=value)

    assert lines(stream) == [{"level": "info", "event": "job.ended", "ms": "?"}]


@pytest.mark.parametrize(
    "value",
    ["j_0123456789abcdef0123456789abcdef", "consent.missing", "eu-central", "2026-11-22", "a/b:1"],
)
def test_our_own_ids_and_codes_are_printed(stream: io.StringIO, value: str) -> None:
    """A filter that hides everything would be switched off."""
    log.get().info("job.ended", reason=value, fresh=True, count=0, decision=None)

    assert lines(stream) == [
        {
            "level": "info",
            "event": "job.ended",
            "count": 0,
            "fresh": True,
            "reason": value,
            "decision": None,
        }
    ]


def test_an_exception_is_its_class_and_place(stream: io.StringIO) -> None:
    """Vendors quote the speaker in their error texts, and so do chained exceptions."""
    try:
        fail(cause=KeyError(CANARY))
    except RuntimeError as exc:
        log.get().error("job.failed", exc_info=exc)
        log.get().exception("job.failed")
        log.get().error("job.failed", exc_info=True, reason=exc)

    assert "canary" not in stream.getvalue()
    assert [line["error"] for line in lines(stream)] == ["RuntimeError"] * 3
    assert [str(line["where"]).partition(":")[0] for line in lines(stream)] == [__name__] * 3


def test_libraries_log_one_event_without_their_message(stream: io.StringIO) -> None:
    """A driver that logs a failing statement logs the row that failed with it."""
    for name in ("uvicorn.error", "nats.aio.client", "sqlalchemy.engine"):
        library = logging.getLogger(name)
        library.setLevel(logging.NOTSET)  # another test's server may have silenced it
        library.error(CANARY, extra={"text": CANARY})
    try:
        fail()
    except RuntimeError:
        logging.getLogger("apscheduler").exception("job failed: %s", CANARY)

    found = lines(stream)
    assert "canary" not in stream.getvalue()
    assert {line["event"] for line in found} == {"lib.log"}
    assert [line["logger"] for line in found] == [
        "uvicorn.error",
        "nats.aio.client",
        "sqlalchemy.engine",
        "apscheduler",
    ]
    assert found[3]["error"] == "RuntimeError"


def test_a_library_cannot_keep_its_own_handler(stream: io.StringIO) -> None:
    """The web server brings handlers of its own, which would print requests beside ours."""
    own = io.StringIO()
    library = logging.getLogger("uvicorn.access")
    library.addHandler(logging.StreamHandler(own))
    library.propagate = False
    library.setLevel(logging.NOTSET)  # the simulator's server silences it for the whole process

    log.configure(stream=stream)
    library.warning(CANARY)

    assert own.getvalue() == ""
    assert [line["logger"] for line in lines(stream)] == ["uvicorn.access"]


def test_a_warning_is_routed_too(stream: io.StringIO) -> None:
    """Python prints warnings, text and all, to stderr by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        log.configure(stream=stream)
        warnings.warn(CANARY, stacklevel=1)

    assert [line["logger"] for line in lines(stream)] == ["py.warnings"]
    assert "canary" not in stream.getvalue()


def test_debug_is_not_printed(stream: io.StringIO) -> None:
    """What is printed in a crisis must not depend on who turned a level up."""
    log.get().debug("job.ended", job="j_7f")
    logging.getLogger("nats").info("published")

    assert stream.getvalue() == ""


@pytest.mark.anyio
async def test_a_trace_is_bound_to_its_task(stream: io.StringIO) -> None:
    """Two notes are worked on at once; a line of one must not carry the other's trace."""

    async def work(trace: str) -> None:
        with log.bound(trace=trace, text=CANARY):
            await asyncio.sleep(0)
            log.get().info("job.ended")

    await asyncio.gather(work("t1"), work("t2"))
    log.get().info("relay.idle")

    assert [line.get("trace") for line in lines(stream)] == ["t1", "t2", None]


def test_people_get_words_from_the_same_filter(stream: io.StringIO) -> None:
    """A developer's terminal is recorded and shared like any log."""
    log.configure(human=True, stream=stream)

    log.get().info("job.ended", job="j_7f", text=CANARY, reason=CANARY)

    assert "job.ended" in stream.getvalue()
    assert "j_7f" in stream.getvalue()
    assert "canary" not in stream.getvalue()
    assert not stream.getvalue().startswith("{")


@pytest.mark.parametrize(
    ("crash", "event"),
    [
        ("raise RuntimeError(text)", "process.died"),
        ("threading.Thread(target=lambda: 1 / 0).start()", "thread.died"),
    ],
)
def test_a_crash_does_not_print_what_it_was_about(crash: str, event: str) -> None:
    """The interpreter's last words are a traceback with the exception's text."""
    program = (
        f"import threading; from gateway import log; log.configure(); text = {CANARY!r}; {crash}"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert json.loads(ran.stdout)["event"] == event
    assert "canary" not in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield every call in our packages that logs: ``log.get().info(...)`` and the like."""
    for path in sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if ast.unparse(node.func.value) in {"log.get()", "get()", "structlog.get_logger()"}:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_every_call_logs_a_literal_event_and_listed_fields() -> None:
    """The filter drops silently what is wrong; the author should hear of it before that."""
    faults = []
    for place, call in calls():
        event = call.args[-1] if call.args else None
        literal = isinstance(event, ast.Constant) and isinstance(event.value, str)
        if not literal or not log._EVENT.fullmatch(event.value):  # type: ignore[union-attr]
            faults.append(f"{place}: the event is not a literal noun.verb")
        names = {keyword.arg for keyword in call.keywords} - {"exc_info"}
        faults += [f"{place}: {name} is not in log.FIELDS" for name in names - log.FIELDS]

    assert faults == []


def test_libraries_of_ours_do_not_log() -> None:
    """Only the gateway writes: the libraries return facts, and cannot know what may be said."""
    importing = [
        str(path.relative_to(ROOT))
        for package in PACKAGES[1:]
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import) and {"logging", "structlog"} & {a.name for a in node.names}
    ]

    assert importing == []
