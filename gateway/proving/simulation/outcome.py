"""What is found in a world while it lives, and what is told of it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from gateway.proving.simulation.faults import Fault

UNEXPECTED: Final = "no unexpected error"
"""The promise that any error breaks which nobody caused."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One promise that was broken."""

    invariant: str
    text: str
    at: float


@dataclass(slots=True)
class Findings:
    """Promises that were broken in one world; of a traced one, all that happened.

    Args:
        time: virtual seconds.

    Attributes:
        trace: None where nothing is written down.
    """

    time: Callable[[], float]
    trace: list[str] | None = None
    violations: list[Violation] = field(default_factory=list)

    def violated(self, invariant: str, text: str) -> None:
        """Note a broken promise."""
        self.violations.append(Violation(invariant, text, self.time()))


@dataclass(slots=True)
class Outcome:
    """What became of one world.

    Attributes:
        faults: caused, by kind.
        endings: payments by final state, and records that became none.
        seen: interesting things by name: steps of payments, take-overs, late answers …
        digest: of everything that happened: the same for the same seed, wherever it runs.
    """

    seed: int
    violations: list[Violation]
    faults: Counter[Fault]
    endings: Counter[str]
    seen: Counter[str]
    digest: str
    fault_log: list[tuple[float, Fault, str]]
    trace: list[str] | None = None


@dataclass(slots=True)
class CountingObserver:
    """Implements :class:`gateway.base.process.Observer`; keeps counts, and notes for the search for card numbers."""

    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    traces: None = None

    def batch(self, stage: str, *, size: int, seconds: float) -> None:
        """Nothing."""

    def count(self, stage: str, outcome: str, *, reason: str = "", network: str = "", n: int = 1) -> None:  # noqa: ARG002
        """Add up, of all networks together."""
        if n:
            self.counts[f"{stage}: {outcome} {reason}".rstrip()] += n

    def delay(self, span: str, seconds: float, *, network: str = "") -> None:
        """Nothing."""

    def spans(self, span: str, seconds: Sequence[float], *, network: str = "") -> None:
        """Nothing."""

    def hops(self, hop: str, seconds: Sequence[float], *, exemplar: object = None) -> None:
        """Nothing."""

    def level(self, name: str, value: float | None, **labels: str) -> None:
        """Nothing."""

    def step(self, event: str, *, routine: bool, **fields: str | float | UUID | None) -> None:  # noqa: ARG002
        """Remember, as every line."""
        self.notes.append(f"{event} {fields}")

    def note(self, event: str, *, level: str = "info", **fields: str | float | UUID | None) -> None:
        """Remember."""
        self.notes.append(f"{level} {event} {fields}")
