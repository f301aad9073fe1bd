"""The stages' reports as Prometheus metrics and log lines.

Metrics carry no ids: their labels come from small fixed sets. Log lines carry ids, codes and numbers by name; a field
whose name is not on the list is dropped and counted, so that personal data cannot get into a log by a slip.
"""

from typing import Final
from uuid import UUID

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_DELAY_SECONDS: Final = (*_SECONDS, 300.0, 3600.0, 86400.0)
_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)

LOGGED_FIELDS: Final = frozenset(
    {
        "address",
        "age_seconds",
        "code",
        "consent_id",
        "count",
        "cycle_id",
        "error",
        "field",
        "file",
        "http_port",
        "kid",
        "link",
        "missed",
        "mti",
        "network_id",
        "offset",
        "order_id",
        "outcome",
        "partition",
        "partner_id",
        "payment_id",
        "pid",
        "reason",
        "reference",
        "seconds",
        "stage",
        "stan",
        "state",
        "terminal_id",
        "topic",
        "worker",
    }
)


class StageObserver:
    """Implements :class:`gateway.ports.Observer`."""

    def __init__(self, registry: CollectorRegistry, *, stage: str) -> None:
        """Register the metrics of one process in ``registry``."""
        self._log = structlog.get_logger().bind(process=stage)
        self._batch_size = Histogram(
            "mypay_batch_size", "Items in a batch.", ["stage"], buckets=_SIZES, registry=registry
        )
        self._batch_seconds = Histogram(
            "mypay_batch_seconds", "Time to handle a batch.", ["stage"], buckets=_SECONDS, registry=registry
        )
        self._outcomes = Counter(
            "mypay_outcomes", "Items by how a stage ended them.", ["stage", "outcome", "reason"], registry=registry
        )
        self._delays = Histogram(
            "mypay_delay_seconds", "Spans of payments' ways.", ["span"], buckets=_DELAY_SECONDS, registry=registry
        )
        self._outcome_of: dict[tuple[str, str, str], Counter] = {}
        self._delay_of: dict[str, Histogram] = {}
        self._levels = Gauge("mypay_level", "Quantities as they stand.", ["name"], registry=registry)

    def batch(self, stage: str, *, size: int, seconds: float) -> None:
        self._batch_size.labels(stage).observe(size)
        self._batch_seconds.labels(stage).observe(seconds)

    def count(self, stage: str, outcome: str, *, reason: str = "", n: int = 1) -> None:
        if not n:
            return
        # Labels cost more than the counting: keep the children of our few label sets.
        counter = self._outcome_of.get((stage, outcome, reason))
        if counter is None:
            counter = self._outcome_of[stage, outcome, reason] = self._outcomes.labels(stage, outcome, reason)
        counter.inc(n)

    def delay(self, span: str, seconds: float) -> None:
        histogram = self._delay_of.get(span)
        if histogram is None:
            histogram = self._delay_of[span] = self._delays.labels(span)
        histogram.observe(seconds)

    def level(self, name: str, value: float) -> None:
        self._levels.labels(name).set(value)

    def note(self, event: str, *, level: str = "info", **fields: str | float | UUID | None) -> None:
        known = {
            k: str(v) if isinstance(v, UUID) else v for k, v in fields.items() if k in LOGGED_FIELDS and v is not None
        }
        if len(known) < sum(v is not None for v in fields.values()):
            self.count("log", "field_dropped")
        self._log.log(_LEVELS[level], event, **known)


_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
