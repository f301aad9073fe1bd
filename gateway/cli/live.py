"""Showing a long run while it goes on: steps with their times, and one line of counts.

On a terminal the counts are a line that changes in place; elsewhere a plain line now and then, without any control
characters. All of it goes to standard error: results alone go to standard output.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

_PLAIN_EVERY_S: Final = 3.0
_FILE_WIDTH: Final = 118


def results() -> Console:
    """Where results go: as wide as the terminal, or wide enough for a file."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_FILE_WIDTH)


class LiveView:
    """Steps and counts for people; quiet shows neither.

    Attributes:
        step_seconds: title → how long the step took.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._told_at = 0.0
        self._line = ""
        self._is_told = False
        self.step_seconds: dict[str, float] = {}

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show that a step runs, and how long it took."""
        self.settle()
        began = time.monotonic()
        with self._spinning(title):
            yield
        took = time.monotonic() - began
        self.step_seconds[title] = took
        self._console.print(f"  {title:<48} {took:6.1f} s", markup=False)

    @contextmanager
    def _spinning(self, title: str) -> Iterator[None]:
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(f"{title} …"):
            yield

    def scene(self, text: str) -> None:
        """Say what happens now."""
        self.settle()
        # An address or a file in it stays whole.
        self._console.print(Text(f"› {text}", style="bold"), soft_wrap=True)

    def line(self, text: str) -> None:
        """Show the counts as they stand."""
        self._line, self._is_told = text, False
        if self._console.is_terminal:
            if self._live is None:
                self._live = Live(console=self._console, refresh_per_second=10, transient=True)
                self._live.start()
            self._live.update(Text(f"  {text}"))
        elif time.monotonic() - self._told_at >= _PLAIN_EVERY_S:
            self._told_at = time.monotonic()
            self._console.print(f"  {text}", markup=False, soft_wrap=True)
            self._is_told = True

    def settle(self) -> None:
        """End the changing line; its last form stays."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._line and not self._is_told:
            self._console.print(f"  {self._line}", markup=False, soft_wrap=True)
        self._line = ""
