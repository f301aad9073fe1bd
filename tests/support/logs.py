"""Logs as a process writes them, kept for a test to read."""

import contextlib
import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import structlog

from gateway.observability.logging import configure_logging
from gateway.sealing.redaction import redact

PAN = "4111111111111111"


class Logs:
    """What goes to standard output."""

    def __init__(self) -> None:
        self.output = io.StringIO()

    def configure(self, **arguments: Any) -> None:
        with contextlib.redirect_stdout(self.output):
            configure_logging(redact=redact, **arguments)

    @property
    def text(self) -> str:
        return self.output.getvalue()

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.text.splitlines()]


@contextlib.contextmanager
def configured() -> Iterator[Logs]:
    root = logging.getLogger()
    before = root.handlers, root.level, sys.excepthook, threading.excepthook, logging.raiseExceptions
    logs = Logs()
    logs.configure()
    try:
        yield logs
    finally:
        root.handlers, root.level, sys.excepthook, threading.excepthook, logging.raiseExceptions = before
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()
