"""Whether a consumer is in its group, and how far it is behind: for health checks and gauges."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from gateway.base.process import Clock, Observer

PATIENCE_S: Final = 15.0
"""A member that was in its group may be out of it for so long: a rebalance waits for whoever drains."""

OUT: Final = "not a member of its group"


def membership_problem(consumer: Any) -> str | None:
    """What keeps an aiokafka consumer from consuming; None where it is a member of its group.

    aiokafka's coordinator ends at what it does not expect, and waits for somebody to ask at what it may not do.
    """
    coordinator = None if consumer is None else getattr(consumer, "_coordinator", None)
    if coordinator is None or getattr(coordinator, "_coordination_task", None) is None:
        return "not connected"
    if coordinator._coordination_task.done() or coordinator._error_consumed_fut is not None:  # noqa: SLF001
        return "given up by its group"
    return None if coordinator.generation > 0 else OUT


class Patient:
    """A check that has succeeded once may fail for a while before it is told.

    Args:
        check: what is asked.
        patience_s: for how long.
        monotonic: seconds.
    """

    def __init__(self, check: Callable[[], str | None], monotonic: Callable[[], float], patience_s: float = PATIENCE_S):
        self._check = check
        self._monotonic = monotonic
        self._patience_s = patience_s
        self._well_at: float | None = None

    async def check(self) -> str | None:
        """Implements :data:`gateway.observability.health.Check`."""
        problem, now = self._check(), self._monotonic()
        if problem is None:
            self._well_at = now
            return None
        return problem if self._well_at is None or now - self._well_at > self._patience_s else None


class LagTeller:
    """Tells levels ``consumer_lag_records`` and ``consumer_lag_seconds`` of one group.

    A waiting record's time is not known before it is fetched: it came after the last that was taken, and after the
    moment at which nothing waited. The later of the two is told as the oldest's.

    Args:
        lag: records that could be taken and were not yet.
        taken_ms: time of the last record that was taken, in ms since 1970; None before the first.
    """

    def __init__(
        self,
        observer: Observer,
        clock: Clock,
        *,
        group: str,
        lag: Callable[[], Awaitable[int]],
        taken_ms: Callable[[], int | None],
    ) -> None:
        self._observer = observer
        self._clock = clock
        self._group = group
        self._lag = lag
        self._taken_ms = taken_ms
        self._none_waited_at = clock.now().timestamp()

    async def look(self) -> None:
        """Look once."""
        records, now = await self._lag(), self._clock.now().timestamp()
        if not records:
            self._none_waited_at = now
        since = max(self._none_waited_at, (self._taken_ms() or 0) / 1000)
        self._observer.level("consumer_lag_records", records, group=self._group)
        self._observer.level("consumer_lag_seconds", max(0.0, now - since) if records else 0.0, group=self._group)
