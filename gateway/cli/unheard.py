"""Saying what is done also where nobody reads it any more, as where it is piped into ``head``."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class _Unheard:
    """A stream like the one that it is put before, but that its reader has gone away is no error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write it, or nothing."""
        with self._going_on():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush it."""
        with self._going_on():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            # What the stream still holds is written once more as it is closed.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            with suppress(OSError, ValueError):
                os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def unheard() -> Iterator[None]:
    """Let the block go on to its end, whoever reads what it says."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Unheard(before[0]), _Unheard(before[1])
    try:
        yield
        sys.stdout.flush()
    finally:
        sys.stdout, sys.stderr = before
