"""Time, and where a process reports."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from gateway.base.tracing import Exemplar, Traces


class Clock(Protocol):
    """Wall time."""

    def now(self) -> datetime:
        """Aware UTC."""


class Observer(Protocol):
    """Where stages report. Names and label values come from small fixed sets; ids go to logs and traces only."""

    @property
    def traces(self) -> Traces | None:
        """Where spans go; None where nothing is traced, which is the rule."""

    def batch(self, stage: str, *, size: int, seconds: float) -> None:
        """One batch was handled."""

    def count(self, stage: str, outcome: str, *, reason: str = "", network: str = "", n: int = 1) -> None:
        """``n`` items of a stage ended this way; execution's process adds its network by itself."""

    def delay(self, span: str, seconds: float, *, network: str = "") -> None:
        """A span of a payment's way took this long."""

    def spans(self, span: str, seconds: Sequence[float], *, network: str = "") -> None:
        """The same of a batch of payments, of each."""

    def hops(self, hop: str, seconds: Sequence[float], *, exemplar: Exemplar | None = None) -> None:
        """This hop of some payments' ways took so long, of each; one of them can be looked at."""

    def level(self, name: str, value: float | None, **labels: str) -> None:
        """A quantity stands at this value now; None: what it stands at is not known any more."""

    def step(self, event: str, *, routine: bool, **fields: str | float | UUID | None) -> None:
        """One log line of a payment's step; of a routine one only where every step is asked for."""

    def note(self, event: str, *, level: str = "info", **fields: str | float | UUID | None) -> None:
        """One log line. Only ids, codes and numbers: the adapter drops every field that it does not know."""


class SilentObserver:
    """Implements :class:`Observer` where nobody looks."""

    traces = None

    def batch(self, stage: str, *, size: int, seconds: float) -> None:
        """Tell nobody."""

    def count(self, stage: str, outcome: str, *, reason: str = "", network: str = "", n: int = 1) -> None:
        """Tell nobody."""

    def delay(self, span: str, seconds: float, *, network: str = "") -> None:
        """Tell nobody."""

    def spans(self, span: str, seconds: Sequence[float], *, network: str = "") -> None:
        """Tell nobody."""

    def hops(self, hop: str, seconds: Sequence[float], *, exemplar: Exemplar | None = None) -> None:
        """Tell nobody."""

    def level(self, name: str, value: float | None, **labels: str) -> None:
        """Tell nobody."""

    def step(self, event: str, *, routine: bool, **fields: str | float | UUID | None) -> None:
        """Tell nobody."""

    def note(self, event: str, *, level: str = "info", **fields: str | float | UUID | None) -> None:
        """Tell nobody."""
