"""The stages' reports as Prometheus metrics and log lines.

Metrics carry no ids: their labels come from small fixed sets. What does not look like a name, and what comes after the
set is full, is counted under ``other``, so that a slip can neither fill the memory nor show data. Log lines carry ids,
codes and numbers by name; a field whose name is not on the list is dropped and counted.
"""

import re
from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.observability.metrics import (
    BATCH_SECONDS,
    BATCH_SIZE,
    DELAY_SECONDS,
    HOP_SECONDS,
    LEVEL,
    OUTCOMES_TOTAL,
    Family,
)

LABEL_SETS_MAX: Final = 500
"""Per metric and process. Stages, outcomes and reasons together make some two hundred."""

_NAME: Final = re.compile(r"[A-Za-z0-9_.:+-]{0,60}")
_OTHER: Final = "other"

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
    """Implements :class:`gateway.base.process.Observer`."""

    def __init__(self, registry: CollectorRegistry, *, stage: str) -> None:
        """Register the metrics of one process in ``registry``."""
        self._log = structlog.get_logger().bind(process=stage)
        self._batch_size = _histogram(BATCH_SIZE, registry)
        self._batch_seconds = _histogram(BATCH_SECONDS, registry)
        self._outcomes = Counter(OUTCOMES_TOTAL.name, OUTCOMES_TOTAL.help, OUTCOMES_TOTAL.labels, registry=registry)
        self._delays = _histogram(DELAY_SECONDS, registry)
        self._hops = _histogram(HOP_SECONDS, registry)
        self._levels = Gauge(LEVEL.name, LEVEL.help, LEVEL.labels, registry=registry)
        # Looking up a label set costs more than counting: they are kept.
        self._batches_of: dict[str, tuple[Histogram, Histogram]] = {}
        self._outcome_of: dict[tuple[str, str, str], Counter] = {}
        self._delay_of: dict[str, Histogram] = {}
        self._hop_of: dict[str, Histogram] = {}
        self._level_of: dict[str, Gauge] = {}

    def batch(self, stage: str, *, size: int, seconds: float) -> None:
        known = self._batches_of.get(stage)
        if known is None:
            name = _label(stage, len(self._batches_of))
            known = self._batch_size.labels(name), self._batch_seconds.labels(name)
            if len(self._batches_of) < LABEL_SETS_MAX:
                self._batches_of[stage] = known
        known[0].observe(size)
        known[1].observe(seconds)

    def count(self, stage: str, outcome: str, *, reason: str = "", n: int = 1) -> None:
        if not n:
            return
        known = self._outcome_of.get((stage, outcome, reason))
        if known is None:
            taken = len(self._outcome_of)
            known = self._outcomes.labels(_label(stage, taken), _label(outcome, taken), _label(reason, taken))
            if taken < LABEL_SETS_MAX:
                self._outcome_of[stage, outcome, reason] = known
        known.inc(n)

    def delay(self, span: str, seconds: float) -> None:
        self._delay(span).observe(seconds)

    def _delay(self, span: str) -> Histogram:
        known = self._delay_of.get(span)
        if known is None:
            known = self._delays.labels(_label(span, len(self._delay_of)))
            if len(self._delay_of) < LABEL_SETS_MAX:
                self._delay_of[span] = known
        return known

    def spans(self, span: str, seconds: Sequence[float]) -> None:
        _observe_all(self._delay(span), DELAY_SECONDS, seconds)

    def hops(self, hop: str, seconds: Sequence[float]) -> None:
        known = self._hop_of.get(hop)
        if known is None:
            known = self._hops.labels(_label(hop, len(self._hop_of)))
            if len(self._hop_of) < LABEL_SETS_MAX:
                self._hop_of[hop] = known
        _observe_all(known, HOP_SECONDS, seconds)

    def level(self, name: str, value: float) -> None:
        known = self._level_of.get(name)
        if known is None:
            known = self._levels.labels(_label(name, len(self._level_of)))
            if len(self._level_of) < LABEL_SETS_MAX:
                self._level_of[name] = known
        known.set(value)

    def note(self, event: str, *, level: str = "info", **fields: str | float | UUID | None) -> None:
        known = {
            k: str(v) if isinstance(v, UUID) else v for k, v in fields.items() if k in LOGGED_FIELDS and v is not None
        }
        if len(known) < sum(v is not None for v in fields.values()):
            self.count("log", "field_dropped")
        self._log.log(_LEVELS.get(level, _LEVELS["error"]), event, **known)


def _histogram(family: Family, registry: CollectorRegistry) -> Histogram:
    return Histogram(family.name, family.help, family.labels, buckets=family.buckets, registry=registry)


def _label(text: str, taken: int) -> str:
    return text if taken < LABEL_SETS_MAX and _NAME.fullmatch(text) else _OTHER


_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def _observe_all(known: Histogram, family: Family, seconds: Sequence[float]) -> None:
    # An observation of each costs a hundred times as much as finding its bucket.
    for bucket, n in Counts(bisect_left(family.buckets, one) for one in seconds).items():
        known._buckets[bucket].inc(n)  # noqa: SLF001 - the library counts one at a time
    known._sum.inc(sum(seconds))  # noqa: SLF001
