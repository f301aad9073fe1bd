"""One log pipeline: structlog's lines and those of the libraries, as JSON or for people, redacted on the way out.

What a line can hold, whoever wrote it: strings that passed the redaction, numbers, and lists and tables of them. Of an
exception it holds the class and the place, never the text, which may quote what was being handled (a driver's error
quotes rows, a parser's the input). Of any other object it holds the class.
"""

import logging
import re
import sys
import threading
import time
from asyncio import CancelledError
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Literal, Protocol

import structlog

TEXT_CHARS_MAX: Final = 1_000
"""A longer text is cut: it is somebody's data, not a message."""

REPEATS_MAX: Final = 10
REPEATS_SECONDS: Final = 10.0
"""A library says the same at most so often in this time: without a broker aiokafka writes thirty lines a second."""

_LIBRARIES: Final = ("aiohttp", "aiokafka", "asyncio", "asyncpg", "faust", "kafka", "mode", "py.warnings")
_RETRIED: Final = frozenset({"aiohttp", "aiokafka", "asyncpg", "faust", "kafka", "mode"})
_TEMPLATES_MAX: Final = 1_000
_DEPTH_MAX: Final = 4
_OCTET: Final = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4: Final = rf"{_OCTET}(?:\.{_OCTET}){{3}}:[1-9]\d{{0,4}}"
_OURS: Final = {
    "payment_id": re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII),
    "timestamp": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII),
    "link": re.compile(rf"{_IPV4}#\d{{1,2}}", re.ASCII),
    "address": re.compile(rf"{_IPV4}(?:/[A-Za-z_-]{{0,63}})?", re.ASCII),
}
"""What the gateway fills, and how. No card number is spelt so, but one in a hundred, or in ten, looks like one."""


class Redact(Protocol):
    """Masks secrets in a text, and cuts it: see :func:`gateway.sealing.redaction.redact`."""

    def __call__(self, text: str, *, name: str = "", chars_max: int = TEXT_CHARS_MAX) -> str: ...


def configure_logging(*, redact: Redact, level: str = "info", fmt: Literal["json", "console"] = "json") -> None:
    """Set up logging for this process, on standard output. Libraries are heard from WARNING on.

    Also takes over what would otherwise be printed past it: Python's warnings, exceptions that nobody caught, and
    complaints about log calls that are themselves wrong.
    """

    def cleaned(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
        return {k: v if k.startswith("_") else _clean(k, v, redact) for k, v in event.items()}

    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _short_exceptions,
        cleaned,
    ]
    # ASCII alone: some characters beyond it end a line for whoever reads the log.
    renderer: Any = structlog.processors.JSONRenderer()
    if fmt == "console":
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    handler.addFilter(RepeatFilter(frozenset(_LIBRARIES)))
    handler.addFilter(MeaningFilter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in _LIBRARIES:
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
        logger.setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        cache_logger_on_first_use=True,
    )
    logging.captureWarnings(capture=True)
    # Else a log call with wrong arguments prints them, in clear, to standard error.
    logging.raiseExceptions = False
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


class MeaningFilter(logging.Filter):
    """Says what a library's errors mean to us: a warning, for whoever uses it tries again, or ends and tells so.

    A task's exception that nobody asks for is asyncio's to tell, and stays an error.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno > logging.WARNING and record.name.partition(".")[0] in _RETRIED:
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


class RepeatFilter(logging.Filter):
    """Lets a library's message through a few times in a while; the next one through tells how many were held back.

    Messages count as the same by logger and template. Our own loggers are never held back.
    """

    def __init__(self, libraries: frozenset[str], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._libraries = libraries
        self._monotonic = monotonic
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in self._libraries and record.name not in self._libraries:
            return True
        now = self._monotonic()
        template = (record.name, str(record.msg))
        since, count = self._seen.get(template, (now, 0))
        if now - since >= REPEATS_SECONDS:
            if count > REPEATS_MAX:
                record.msg = f"{record.msg} ({count - REPEATS_MAX} more like this were held back)"
            since, count = now, 0
        if len(self._seen) >= _TEMPLATES_MAX:
            self._seen.clear()
        self._seen[template] = (since, count + 1)
        return count < REPEATS_MAX


def _clean(name: str, value: Any, redact: Redact, depth: int = 0) -> Any:
    if isinstance(value, str):
        ours = _OURS.get(name)
        is_ours = ours is not None and ours.fullmatch(value) is not None
        return value if is_ours else redact(value, name=name, chars_max=TEXT_CHARS_MAX)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        masked = redact(str(value), name=name)
        return value if masked == str(value) else masked
    if isinstance(value, list | tuple | set | frozenset) and depth < _DEPTH_MAX:
        return [_clean("", v, redact, depth + 1) for v in value]
    if isinstance(value, dict) and depth < _DEPTH_MAX:
        return {
            redact(str(k), chars_max=TEXT_CHARS_MAX): _clean(str(k), v, redact, depth + 1) for k, v in value.items()
        }
    return f"<{type(value).__name__}>"


def _short_exceptions(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    found = event.pop("exc_info", None)
    event.pop("stack_info", None)
    if found is True:
        found = sys.exc_info()
    error = found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        if error.__traceback__ is not None:
            event["at"] = _last_place(error.__traceback__)
    return event


def _last_place(step: TracebackType) -> str:
    while step.tb_next is not None:
        step = step.tb_next
    return f"{step.tb_frame.f_globals.get('__name__', '?')}:{step.tb_lineno}"


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("process").critical("uncaught", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if isinstance(arguments.exc_value, CancelledError):
        # How a thread of Faust's ends that was still waiting for a broker when it was told to stop.
        logging.getLogger("process").info("thread_cancelled")
    elif arguments.exc_value is not None:
        _log_uncaught(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
