"""Every metric that a process serves, in one table: the operators' reference and all series are made from it.

The stages report under names of their own (:class:`gateway.base.process.Observer`); the rows tell which metric each
report goes to.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from gateway.observability.counters import COUNTERS
from gateway.observability.gauges import GAUGES
from gateway.observability.histograms import BATCH_SECONDS, BATCH_SIZE, HISTOGRAMS, HOP_SECONDS, HOPS, SPANS
from gateway.observability.metric import ANY, ANY_STAGE, CounterMetric, GaugeMetric, Metric, Source

__all__ = ["BATCH_SECONDS", "BATCH_SIZE", "HOPS", "HOP_SECONDS", "SPANS"]

METRICS: Final[tuple[Metric, ...]] = (*COUNTERS, *GAUGES, *HISTOGRAMS)
"""All of them."""

COUNTED: Final[Mapping[tuple[str, str], CounterMetric]] = {
    (stage, outcome): row for row in COUNTERS for stage, outcomes in row.outcomes.items() for outcome in outcomes
}
"""By (stage, outcome) of a report, where it is counted. With :data:`ANY_STAGE` for a stage, of all others."""

UNTOLD: Final = COUNTED["untold", "untold"]
"""Counts reports that no row knows."""

LEVELS: Final[Mapping[str, GaugeMetric]] = {row.name.removeprefix("mypay_"): row for row in GAUGES}
"""By the name that stages report it under."""

STAGES_OF: Final[Mapping[str, Sequence[str]]] = {
    "initiation": ("initiation", "payment", "partner", "refund", "cancellation", "key_registry", "trust_table"),
    "consents": ("consents", "key_registry", "trust_table"),
    "execution": (
        *("execution", "payment", "partner", "late_answer", "inquiry", "reversal", "cancellation"),
        *("link", "link_bytes", "exchange", "key_registry", "trust_table"),
    ),
    "relay": ("relay",),
    "settlement": ("settlement", "clearing_import"),
    "schedule": ("schedule", "payment", "partner", "cancellation", "outbox", "backlog"),
    "disclosure": ("disclosure",),
    "portability": ("portability", "key_registry", "trust_table"),
    "portability_api": ("portability_api",),
    "sharing": ("sharing", "key_registry"),
    "marketing": ("marketing", "key_registry"),
    "console": ("console", "backlog"),
}
"""By process, the stages that report in it; :data:`_EVERYWHERE` report in all."""

_EVERYWHERE: Final = ("log", "publisher", "consumer", "traces", "untold")
_UNWRITABLE: Final = frozenset({"execution", "late_answer", "inquiry", "reversal"})


def counted(stage: str, outcome: str) -> CounterMetric | None:
    """Where a report is counted; None where no row knows it."""
    return COUNTED.get((stage, outcome)) or COUNTED.get((ANY_STAGE, outcome))


def label_values(row: CounterMetric, stage: str, outcome: str, reason: str, network: str) -> tuple[str, ...]:
    """The values of a counter's labels for one report."""
    parts = {
        Source.STAGE: stage,
        Source.NETWORK: network,
        Source.OUTCOME: outcome.removeprefix(row.prefix),
        Source.REASON: reason,
        Source.PARTNER: reason,
    }
    return tuple(parts[source] for source in row.labels.values())


def reported_as(row: CounterMetric, labels: Mapping[str, str]) -> tuple[str, str, str]:
    """Which (stage, outcome, reason) a counter's series tells: the way back from a page of metrics."""
    told = {source: labels[name] for name, source in row.labels.items()}
    stage = told.get(Source.STAGE)
    outcome = row.prefix + told[Source.OUTCOME] if Source.OUTCOME in told else None
    reason = told.get(Source.REASON) or told.get(Source.PARTNER, "")
    for known, outcomes in row.outcomes.items():
        if stage is not None and known not in {stage, ANY_STAGE}:
            continue
        if outcome is None:
            return (stage or known, next(iter(outcomes)), reason)
        if outcome in outcomes:
            return (stage or known, outcome, reason)
    raise KeyError(f"{row.name} has no such series")


def known_reports(process: str) -> Iterator[tuple[CounterMetric, str, str, str]]:
    """(row, stage, outcome, reason) of everything that a process can count and that is known beforehand."""
    for stage in (*STAGES_OF.get(process, (process,)), *_EVERYWHERE):
        for outcome, row in _of_stage(stage):
            reasons = row.reasons.get(outcome, ()) if Source.REASON in row.labels.values() else ()
            for reason in ("", *reasons):
                yield row, stage, outcome, reason


def _of_stage(stage: str) -> Iterator[tuple[str, CounterMetric]]:
    for (known, outcome), row in COUNTED.items():
        if known == stage or (known == ANY_STAGE and (stage, outcome) not in COUNTED and _reports_any(stage)):
            yield outcome, row


def _reports_any(stage: str) -> bool:
    return stage in STAGES_OF or stage in _UNWRITABLE


def served(row: GaugeMetric, process: str) -> bool:
    """Whether a process serves it."""
    return ANY in row.processes or process in row.processes
