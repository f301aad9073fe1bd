"""What a row of the table of metrics is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Final

ANY_STAGE: Final = "*"
"""Of outcomes that stages have in common."""

ANY: Final = "*"
"""Every process serves it."""


@unique
class Kind(StrEnum):
    """As Prometheus calls it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@unique
class Source(StrEnum):
    """Where a counter's label has its value from: which part of a report (:meth:`Observer.count`)."""

    STAGE = "stage"
    NETWORK = "network"
    OUTCOME = "outcome"
    REASON = "reason"
    PARTNER = "partner"  # told as the reason


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Metric:
    """One metric.

    Attributes:
        name: as it is served.
        unit: what is counted or measured, in a word: "payments", "seconds".
        help: what it is, a sentence.
        labels: by name, in their order: what each says.
    """

    name: str
    unit: str
    help: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """As Prometheus calls it."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CounterMetric(Metric):
    """Counts what stages report.

    Attributes:
        labels: by name, the part of the report that it tells.
        outcomes: by reporting stage, which of its outcomes are counted here, each with what it means. One series an
            outcome has every reporter's own from the beginning, at 0.
        prefix: of the outcomes' names, which the label does not repeat.
        reasons: by outcome, the reasons that are known beforehand: series of their own from the beginning.
    """

    labels: Mapping[str, Source] = field(default_factory=dict)
    outcomes: Mapping[str, Mapping[str, str]]
    prefix: str = ""
    reasons: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        return Kind.COUNTER


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GaugeMetric(Metric):
    """Tells how something stands.

    Attributes:
        fresh_s: for how long a value holds that is not told again. What a process only reads elsewhere (a database,
            a broker) has such a time: with its source away it is not known any more, and the series goes. None: it
            is the process's own, and stands until it is told otherwise.
        processes: which serve it.
    """

    fresh_s: float | None = None
    processes: Sequence[str]

    @property
    def kind(self) -> Kind:
        return Kind.GAUGE


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HistogramMetric(Metric):
    """How long, or how much, of each event.

    Attributes:
        buckets: upper bounds.
        processes: which serve it.
        values: of its labels but ``network``, what is known beforehand.
    """

    buckets: tuple[float, ...]
    processes: Sequence[str]
    values: Sequence[tuple[str, ...]] = ()

    @property
    def kind(self) -> Kind:
        return Kind.HISTOGRAM
