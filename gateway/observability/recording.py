"""An observer that remembers: for tests of whatever reports."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from gateway.base.tracing import Exemplar, Traces


@dataclass(frozen=True, slots=True)
class Note:
    """One log line as it was given."""

    event: str
    level: str
    fields: dict[str, str | float | UUID | None]


@dataclass(slots=True)
class RecordingObserver:
    """Implements :class:`gateway.base.process.Observer`.

    Attributes:
        counts: (stage, outcome, reason) → items. of_networks: (stage, outcome, network) → items.
        batches: (stage, size) in order. delays: (span, seconds) in order. walked: (hop, seconds) likewise.
        levels: the last value of each name, with its labels as ``name{a=x,b=y}``.
        notes: log lines in order. steps: those of payments' steps.
        traces: where spans go; a test may set it.
        exemplars: those that came with hops, by hop.
    """

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    of_networks: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    batches: list[tuple[str, int]] = field(default_factory=list)
    delays: list[tuple[str, float]] = field(default_factory=list)
    walked: list[tuple[str, float]] = field(default_factory=list)
    levels: dict[str, float] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    steps: list[Note] = field(default_factory=list)
    traces: Traces | None = None
    exemplars: list[tuple[str, Exemplar]] = field(default_factory=list)

    def batch(self, stage: str, *, size: int, seconds: float) -> None:  # noqa: ARG002 - tests look at sizes, not speed
        """Remember the size."""
        self.batches.append((stage, size))

    def count(self, stage: str, outcome: str, *, reason: str = "", network: str = "", n: int = 1) -> None:
        """Add up."""
        if n:
            self.counts[stage, outcome, reason] += n
            if network:
                self.of_networks[stage, outcome, network] += n

    def delay(self, span: str, seconds: float, *, network: str = "") -> None:  # noqa: ARG002 - tests look at spans
        """Remember."""
        self.delays.append((span, seconds))

    def spans(self, span: str, seconds: Sequence[float], *, network: str = "") -> None:  # noqa: ARG002 - likewise
        """Remember each."""
        self.delays.extend((span, one) for one in seconds)

    def hops(self, hop: str, seconds: Sequence[float], *, exemplar: Exemplar | None = None) -> None:
        """Remember each."""
        self.walked.extend((hop, one) for one in seconds)
        if exemplar is not None:
            self.exemplars.append((hop, exemplar))

    def level(self, name: str, value: float | None, **labels: str) -> None:
        """Remember the last."""
        told = ",".join(f"{label}={labels[label]}" for label in sorted(labels))
        key = f"{name}{{{told}}}" if told else name
        if value is None:
            self.levels.pop(key, None)
        else:
            self.levels[key] = value

    def step(self, event: str, *, routine: bool, **fields: str | float | UUID | None) -> None:
        """Remember, in a list of their own."""
        self.steps.append(Note(event, "debug" if routine else "info", fields))

    def note(self, event: str, *, level: str = "info", **fields: str | float | UUID | None) -> None:
        """Remember."""
        self.notes.append(Note(event, level, fields))

    def counted(self, stage: str, outcome: str) -> int:
        """Items that ended this way, for whatever reason."""
        return sum(n for (s, o, _), n in self.counts.items() if (s, o) == (stage, outcome))
