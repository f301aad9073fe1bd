"""The series of metrics as they stand, and how Prometheus is given them.

Plain cells instead of the library's: a report costs a look-up and an addition, a batch of events one addition a bucket.
There is no ``_created`` series beside each.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from gateway.observability.metric import CounterMetric, GaugeMetric, HistogramMetric

SERIES_MAX: Final = 1_000
"""Of one metric in one process: what comes beyond is counted as one, under ``other``."""

Labels = tuple[str, ...]
Reading = Callable[[], float | None]
"""What a gauge stands at now; None where that is not known."""


class Counts:
    """The series of one counter."""

    def __init__(self, row: CounterMetric) -> None:
        self._row = row
        self._cells: dict[Labels, list[float]] = {}

    def cell(self, labels: Labels) -> list[float]:
        """The one number of a series, made at 0 if it is new."""
        known = self._cells.get(labels)
        if known is None:
            if len(self._cells) >= SERIES_MAX:
                labels = ("other",) * len(labels)
            known = self._cells.setdefault(labels, [0.0])
        return known

    def family(self) -> Family:
        """For the page."""
        family = CounterMetricFamily(self._row.name, self._row.help, labels=tuple(self._row.labels))
        for labels, (value,) in self._cells.items():
            family.add_metric(labels, value)
        return family


class Gauges:
    """The series of one gauge."""

    def __init__(self, row: GaugeMetric, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._row = row
        self._monotonic = monotonic
        self._told: dict[Labels, tuple[float, float]] = {}
        self._asked: dict[Labels, Reading] = {}

    def set(self, labels: Labels, value: float | None) -> None:
        """It stands at this value now; None: that is not known any more."""
        if value is None:
            self._told.pop(labels, None)
        elif labels in self._told or len(self._told) < SERIES_MAX:
            self._told[labels] = (value, self._monotonic())

    def ask(self, labels: Labels, read: Reading) -> None:
        """Ask whenever somebody looks."""
        self._asked[labels] = read

    def family(self) -> Family:
        """For the page: what is known now."""
        family = GaugeMetricFamily(self._row.name, self._row.help, labels=tuple(self._row.labels))
        now = self._monotonic()
        for labels, (value, at) in self._told.items():
            if self._row.fresh_s is None or now - at <= self._row.fresh_s:
                family.add_metric(labels, value)
        for labels, read in self._asked.items():
            if (found := read()) is not None:
                family.add_metric(labels, found)
        return family


class Histogram:
    """The series of one histogram."""

    def __init__(self, row: HistogramMetric, *, now: Callable[[], float] = time.time) -> None:
        self._row = row
        self._now = now
        self._bounds = (*(str(float(b)) for b in row.buckets), "+Inf")
        # Of each series how many fell into each bucket, and their sum.
        self._cells: dict[Labels, tuple[list[int], list[float]]] = {}
        # Of each series and bucket the last value that can be looked at.
        self._shown: dict[Labels, dict[int, Exemplar]] = {}

    def cell(self, labels: Labels) -> tuple[list[int], list[float]]:
        """The numbers of a series, made at 0 if it is new."""
        known = self._cells.get(labels)
        if known is None:
            if len(self._cells) >= SERIES_MAX:
                labels = ("other",) * len(labels)
            known = self._cells.setdefault(labels, ([0] * len(self._bounds), [0.0]))
        return known

    def observe(self, labels: Labels, values: Sequence[float]) -> None:
        """Count each."""
        fell, total = self.cell(labels)
        if len(values) == 1:
            fell[bisect_left(self._row.buckets, values[0])] += 1
        else:
            for bucket, n in Counter(bisect_left(self._row.buckets, one) for one in values).items():
                fell[bucket] += n
        total[0] += sum(values)

    def show(self, labels: Labels, value: float, trace_id: str) -> None:
        """A value that was counted has a trace: whoever looks at the series can look at that."""
        if labels in self._cells:
            bucket = bisect_left(self._row.buckets, value)
            self._shown.setdefault(labels, {})[bucket] = Exemplar({"trace_id": trace_id}, value, self._now())

    def family(self) -> Family:
        """For the page."""
        family = HistogramMetricFamily(self._row.name, self._row.help, labels=tuple(self._row.labels))
        for labels, (fell, (total,)) in self._cells.items():
            upto, shown = 0, self._shown.get(labels, {})
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
            for number, (bound, n) in enumerate(zip(self._bounds, fell, strict=True)):
                upto += n
                exemplar = shown.get(number)
                buckets.append((bound, float(upto)) if exemplar is None else (bound, float(upto), exemplar))
            family.add_metric(labels, buckets, total)
        return family


class SeriesCollector(Collector):
    """Gives Prometheus' library what the series stand at, whenever it asks.

    Args:
        known: those that there are by then.
    """

    def __init__(self, known: Callable[[], Sequence[Counts | Gauges | Histogram]]) -> None:
        self._known = known

    def describe(self) -> Iterator[Family]:
        """Nothing beforehand: rows may come later."""
        return iter(())

    def collect(self) -> Iterator[Family]:
        """What they stand at."""
        for one in self._known():
            family = one.family()
            if family.samples:
                yield family
