"""
Log lines: a static dotted event and a few bounded fields, nothing else.

- An event is ``noun.verb`` of letters; anything else (a formatted string, say) is not printed.
- A field not in `WORDS` or `NUMBERS` is dropped; a word that is not shaped like an identifier
  of ours, or is shaped like a phone number or a WhatsApp message id, prints as ``?``.
- An exception is its class and the place it was raised at: its text may quote a person.
- What libraries log is one event, ``lib.log``, with the logger's name and level, no message.

JSON lines on stdout; words for a human when a developer watches a terminal.
"""

import logging
import math
import re
import sys
import threading
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

WORDS = frozenset(
    {
        "action",
        "adapter",
        "artifact",
        "cell",
        "code",
        "component",
        "decision",
        "engine",
        "erasure",
        "error",
        "field",
        "job",
        "jurisdiction",
        "kind",
        "language",
        "logger",
        "mode",
        "outcome",
        "processor",
        "purpose",
        "reason",
        "region",
        "reply",
        "revision",
        "service",
        "signal",
        "stage",
        "state",
        "step",
        "stream",
        "tenant",
        "touch",
        "trace",
        "version",
        "where",
    }
)
NUMBERS = frozenset(
    {
        "apart_s",
        "attempt",
        "bytes",
        "count",
        "dropped",
        "due",
        "exit",
        "fence",
        "fresh",
        "late_seconds",
        "ms",
        "pid",
        "port",
        "seconds",
        "status",
        "updates",
        "workers",
    }
)
FIELDS = WORDS | NUMBERS
UNSAID = "?"
MAX_NUMBER = 10**9  # a number with its country code is longer

_EVENT = re.compile(r"[a-z_]{1,32}(\.[a-z_]{1,32}){1,3}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,95}")
# A message or call id of WhatsApp, a business-scoped user id, a phone number.
_PERSONAL = re.compile(
    r"^(?i:wamid|wacid)\.|^[A-Z]{2}\.[A-Za-z0-9]|(?<![A-Za-z0-9])[0-9]{7,15}(?![A-Za-z0-9])"
)


def configure(
    *, human: bool = False, stream: TextIO | None = None, level: int = logging.INFO
) -> None:
    """
    Send every log line of this process to *stream* (stdout): ours, and the libraries'.

    *human* chooses words for a terminal over JSON lines. Also replaces the hooks that would
    print an uncaught exception's text.
    """
    out = stream or sys.stdout
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            keep_allowed,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            _for_people(out) if human else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    _route_libraries()
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def _for_people(out: TextIO) -> Processor:
    return structlog.dev.ConsoleRenderer(colors=out.isatty(), timestamp_key="ts")


def get() -> FilteringBoundLogger:
    """
    Return the logger; ``exc_info=exc`` adds an exception's class and place.

    Ask for it where it is used: what it does is decided when `configure` has run.
    """
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


def bound(**fields: object) -> AbstractContextManager[Any]:
    """Add *fields* (a trace id, a job) to each line of this task until the block ends."""
    return structlog.contextvars.bound_contextvars(**fields)


def told(exc: BaseException) -> str:
    """Return the class and place of *exc*: all that may be said of an error nobody foresaw."""
    return f"{type(exc).__name__} at {_place(exc.__traceback__)}"


def keep_allowed(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Return what of *event* may be printed (a structlog processor)."""
    name = event.get("event")
    kept: dict[str, Any] = {"level": event.get("level", "info")}
    kept["event"] = name if isinstance(name, str) and _EVENT.fullmatch(name) else "log.refused"
    kept |= {field: _number(event[field]) for field in sorted(NUMBERS & event.keys())}
    kept |= {field: _word(event[field]) for field in sorted(WORDS & event.keys())}
    return kept | _exception(event.get("exc_info"))


def _number(value: object) -> float | bool | str | None:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float) and math.isfinite(value) and abs(value) < MAX_NUMBER:
        return round(value, 3)
    return UNSAID


def _word(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, BaseException):
        return type(value).__name__
    if not isinstance(value, str) or not _WORD.fullmatch(value) or _PERSONAL.search(value):
        return UNSAID
    return str(value)


def _exception(given: object) -> dict[str, str]:
    """Return the class and place of what ``exc_info`` was given as."""
    if isinstance(given, tuple):
        given = given[1]
    elif given is True:
        given = sys.exc_info()[1]
    if not isinstance(given, BaseException):
        return {}
    return {"error": type(given).__name__, "where": _place(given.__traceback__)}


def _place(traceback: TracebackType | None) -> str:
    place = "unknown"
    while traceback is not None:
        module = traceback.tb_frame.f_globals.get("__name__", "unknown")
        place = f"{module}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place


class _Route(logging.Handler):
    """Turns a library's record into ``lib.log``: its message may quote a person."""

    def emit(self, record: logging.LogRecord) -> None:
        get().log(record.levelno, "lib.log", logger=record.name, exc_info=record.exc_info)


def _route_libraries() -> None:
    logging.basicConfig(handlers=[_Route()], level=logging.WARNING, force=True)
    for name in list(logging.root.manager.loggerDict):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    logging.captureWarnings(capture=True)


def _uncaught(
    _class: type[BaseException], exc: BaseException, _traceback: TracebackType | None
) -> None:
    get().error("process.died", exc_info=exc)


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    get().error("thread.died", exc_info=args.exc_value)
