"""The stages' reports as Prometheus metrics and log lines.

Metrics carry no ids but those of partners, who are organisations and few: their labels come from small sets. What does
not look like a name, and what comes after a set is full, is counted under ``other``, so that a slip can neither fill
the memory nor show data. Every series that is known beforehand is there from the beginning, at 0: a rate sees its first
event. Log lines carry ids, codes and numbers by name; a field whose name is not on the list is dropped and counted.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import CollectorRegistry

from gateway.base.tracing import Exemplar, Traces
from gateway.observability.metric import ANY, CounterMetric, HistogramMetric, Source
from gateway.observability.metrics import (
    BATCH_SECONDS,
    BATCH_SIZE,
    HOP_SECONDS,
    HOPS,
    LEVELS,
    SPANS,
    UNTOLD,
    counted,
    known_reports,
    label_values,
    served,
)
from gateway.observability.series import Counts, Gauges, Histogram, Reading, SeriesCollector

LABEL_SETS_MAX: Final = 500
"""Of reports whose series are kept ready; and of one metric's series, more are counted as one."""

PARTNERS_MAX: Final = 200
"""Who is counted apart in one process: a partner is an organisation that operators register, and there are few."""

_NAME: Final = re.compile(r"[A-Za-z0-9_.:+#<\[\]-]{0,60}")
_OTHER: Final = "other"

LOGGED_FIELDS: Final = frozenset(
    {
        "action",
        "address",
        "age_seconds",
        "code",
        "consent_id",
        "count",
        "cycle_id",
        "error",
        "event_id",
        "field",
        "file",
        "http_port",
        "issuer",
        "kid",
        "link",
        "migration",
        "missed",
        "mti",
        "network_id",
        "offset",
        "operator",
        "order_id",
        "outcome",
        "partition",
        "partner_id",
        "payment_id",
        "pid",
        "reason",
        "reference",
        "role",
        "route",
        "seconds",
        "stage",
        "stan",
        "state",
        "terminal_id",
        "topic",
        "trace_id",
        "worker",
    }
)


class StageObserver:
    """Implements :class:`gateway.base.process.Observer`. Called on the event loop alone.

    Args:
        registry: where the metrics of one process are registered.
        stage: the process.
        network: of execution, whose reports all concern it.
        networks: all that reports can concern.
        every_step: log each step of every payment, not only those that are out of the ordinary.

    Attributes:
        traces: where spans go, if they go anywhere; set once, before the stage begins.
    """

    traces: Traces | None = None

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        stage: str,
        network: str = "",
        networks: Sequence[str] = (),
        every_step: bool = False,
    ) -> None:
        self._log = structlog.get_logger().bind(process=stage)
        self._process = stage
        self._network = network
        self._every_step = every_step
        self._counts: dict[CounterMetric, Counts] = {}
        self._gauges = {row: Gauges(row) for row in LEVELS.values() if served(row, stage)}
        self._histograms = {
            row: Histogram(row)
            for row in (HOP_SECONDS, *SPANS.values(), BATCH_SIZE, BATCH_SECONDS)
            if ANY in row.processes or stage in row.processes
        }
        self._partners: set[str] = set()
        # Finding a report's series costs more than counting: they are kept.
        self._counted: dict[tuple[str, str, str, str], list[float]] = {}
        self._begin(networks or ((network,) if network else ()))
        registry.register(
            SeriesCollector(lambda: (*self._counts.values(), *self._gauges.values(), *self._histograms.values()))
        )

    def _begin(self, networks: Sequence[str]) -> None:
        for row, stage, outcome, reason in known_reports(self._process):
            if Source.PARTNER in row.labels.values():
                continue  # which partners there are is not known yet
            for network in networks or ("",) if Source.NETWORK in row.labels.values() else ("",):
                self._counts_of(row).cell(label_values(row, stage, outcome, reason, network))
        for timed, histogram in self._histograms.items():
            if not timed.labels:
                histogram.cell(())
            elif "network" in timed.labels:
                for network in networks:
                    histogram.cell((network,))

    def _counts_of(self, row: CounterMetric) -> Counts:
        known = self._counts.get(row)
        if known is None:
            known = self._counts[row] = Counts(row)
        return known

    def _histogram(self, row: HistogramMetric) -> Histogram:
        known = self._histograms.get(row)
        if known is None:
            known = self._histograms[row] = Histogram(row)
        return known

    def batch(self, stage: str, *, size: int, seconds: float) -> None:
        label = (_label(stage),)
        self._histogram(BATCH_SIZE).observe(label, (size,))
        self._histogram(BATCH_SECONDS).observe(label, (seconds,))

    def count(self, stage: str, outcome: str, *, reason: str = "", network: str = "", n: int = 1) -> None:
        if not n:
            return
        key = (stage, outcome, reason, network)
        cell = self._counted.get(key)
        if cell is None:
            cell = self._cell_of(*key)
            if len(self._counted) < LABEL_SETS_MAX:
                self._counted[key] = cell
        cell[0] += n

    def _cell_of(self, stage: str, outcome: str, reason: str, network: str) -> list[float]:
        row = counted(stage, outcome)
        if row is None:
            row, outcome = UNTOLD, "untold"
        if Source.PARTNER in row.labels.values():
            reason = self._known_partner(reason)
        values = label_values(row, stage, outcome, reason, network or self._network)
        return self._counts_of(row).cell(tuple(map(_label, values)))

    def _known_partner(self, partner_id: str) -> str:
        if len(self._partners) < PARTNERS_MAX:
            self._partners.add(partner_id)
        return partner_id if partner_id in self._partners else _OTHER

    def delay(self, span: str, seconds: float, *, network: str = "") -> None:
        self.spans(span, (seconds,), network=network)

    def spans(self, span: str, seconds: Sequence[float], *, network: str = "") -> None:
        row = SPANS.get(span)
        if row is None:
            self.count(_label(span), "untold")
            return
        self._histogram(row).observe((_label(network or self._network),) if row.labels else (), seconds)

    def hops(self, hop: str, seconds: Sequence[float], *, exemplar: Exemplar | None = None) -> None:
        histogram, labels = self._histogram(HOP_SECONDS), (hop if hop in HOPS else _OTHER,)
        histogram.observe(labels, seconds)
        if exemplar is not None:
            histogram.show(labels, seconds[exemplar.place], exemplar.trace_id)

    def level(self, name: str, value: float | None, **labels: str) -> None:
        row = LEVELS.get(name)
        if row is None:
            self.count(_label(name), "untold")
            return
        gauges = self._gauges.get(row)
        if gauges is None:
            gauges = self._gauges[row] = Gauges(row)
        gauges.set(self._values(labels, row.labels), value)

    def read_at_scrape(self, name: str, read: Reading, **labels: str) -> None:
        """Let a gauge be asked for whenever somebody looks, instead of being told."""
        row = LEVELS[name]
        self._gauges.setdefault(row, Gauges(row)).ask(self._values(labels, row.labels), read)

    def _values(self, given: Mapping[str, str], names: Iterable[str]) -> tuple[str, ...]:
        return tuple(_label(given.get(name, self._network if name == "network" else "")) for name in names)

    def step(self, event: str, *, routine: bool, **fields: str | float | UUID | None) -> None:
        if self._every_step or not routine:
            self._write(event, "info", fields)

    def note(self, event: str, *, level: str = "info", **fields: str | float | UUID | None) -> None:
        self._write(event, level, fields)

    def _write(self, event: str, level: str, fields: Mapping[str, str | float | UUID | None]) -> None:
        known = {
            k: str(v) if isinstance(v, UUID) else v for k, v in fields.items() if k in LOGGED_FIELDS and v is not None
        }
        if len(known) < sum(v is not None for v in fields.values()):
            self.count("log", "field_dropped")
        self._log.log(_LEVELS.get(level, _LEVELS["error"]), event, **known)


def _label(text: str) -> str:
    return text if _NAME.fullmatch(text) else _OTHER


_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
