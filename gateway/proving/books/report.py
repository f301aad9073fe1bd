"""Collecting violations: all are counted, the first few are named."""

from typing import Final

from gateway.proving.books.evidence import Checked

NAMED_MAX: Final = 20
"""Enough to start looking, few enough to read; a broken rule breaks for thousands of payments alike."""


class Finding:
    """Violations of one check while it runs."""

    def __init__(self, name: str, title: str) -> None:
        self._name = name
        self._title = title
        self._named: list[str] = []
        self._count = 0
        self.looked_at = 0

    def wrong(self, what: str) -> None:
        """Note one violation: ids and states, never amounts or persons."""
        self._count += 1
        if len(self._named) < NAMED_MAX:
            self._named.append(what)

    def result(self) -> Checked:
        """The check's outcome."""
        return Checked(self._name, self._title, self.looked_at, tuple(self._named), self._count)
