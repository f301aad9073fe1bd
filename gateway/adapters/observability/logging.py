"""One log pipeline: structlog's lines and those of the libraries, as JSON or for people, redacted on the way out."""

import logging
import sys
from collections.abc import Callable
from typing import Any, Literal

import structlog

_LIBRARIES = ("aiokafka", "asyncio", "asyncpg", "faust", "mode", "aiohttp", "kafka")

_OURS = frozenset({"at", "cycle_id", "file", "link", "payment_id", "pid", "reference", "timestamp", "worker"})
"""Fields that we make ourselves: ids and times whose digits could be taken for a card number by chance."""


def configure_logging(
    *, redact: Callable[[str], str], level: str = "info", fmt: Literal["json", "console"] = "json"
) -> None:
    """Set up logging for this process. Libraries are heard from WARNING on; every text passes ``redact``."""

    def redacted(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
        return {k: redact(v) if isinstance(v, str) and k not in _OURS else v for k, v in event.items()}

    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _short_exceptions,
        redacted,
    ]
    renderer: Any = structlog.processors.JSONRenderer() if fmt == "json" else structlog.dev.ConsoleRenderer()
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
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


def _short_exceptions(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """An exception's class, never its text or stack: both may quote what was being handled."""
    found = event.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()
    error = found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        frame = _last_frame(error)
        if frame:
            event["at"] = frame
    return event


def _last_frame(error: BaseException) -> str | None:
    step = error.__traceback__
    if step is None:
        return None
    while step.tb_next is not None:
        step = step.tb_next
    return f"{step.tb_frame.f_globals.get('__name__', '?')}:{step.tb_lineno}"
