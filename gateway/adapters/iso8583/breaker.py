"""When to stop sending to a network that does not answer, and how to begin again. Pure: time is handed in.

```
CLOSED ─(failures in a row)─► OPEN ─(pause over, echo answered)─► HALF_OPEN ─(a request answered)─► CLOSED
                               ▲                                      │
                               └──(a request failed; longer pause)────┘
```
An answered echo proves the host, not what lies behind it: HALF_OPEN lets a few requests through, and an answer to one
of them closes the breaker. Orders alone decide there: reversals and inquiries have places of their own beside them, and
neither their answers nor their silence say whether the network authorises. An answer that cannot be read proves that
the host lives: it ends a run of silence, and decides nothing in HALF_OPEN. Every change begins a new generation; what
was submitted in an older one counts no more, or the time-outs of the outage itself would open the breaker again.
"""

from enum import StrEnum, unique

from gateway.adapters.iso8583.sections import Breaker


@unique
class BreakerState(StrEnum):
    """Whether requests go through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """One network's breaker.

    Attributes:
        state: whether requests go through.
        generation: to be noted with every request and handed back with its outcome.
        probe_at: monotonic seconds; in OPEN, when to probe next.
    """

    __slots__ = ("_failures", "_pause_s", "_settings", "generation", "probe_at", "state")

    def __init__(self, settings: Breaker) -> None:
        self._settings = settings
        self._failures = 0
        self._pause_s = settings.open_s
        self.state = BreakerState.CLOSED
        self.generation = 0
        self.probe_at = 0.0

    def failed(self, generation: int, now_s: float, *, is_order: bool = True) -> bool:
        """Count an outcome that speaks against the network; True where the state changed."""
        if not self._counts(generation, is_order=is_order):
            return False
        if self.state is BreakerState.HALF_OPEN:
            self._pause_s = min(self._pause_s * 2, self._settings.open_max_s)
            return self._open(now_s)
        self._failures += 1
        return self._failures >= self._settings.open_after_failures and self._open(now_s)

    def answered(self, generation: int, *, is_order: bool = True) -> bool:
        """Count an answer; True where the state changed."""
        if not self._counts(generation, is_order=is_order):
            return False
        self._failures = 0
        if self.state is BreakerState.CLOSED:
            return False
        self._pause_s = self._settings.open_s
        self._enter(BreakerState.CLOSED)
        return True

    def unreadable(self, generation: int) -> None:
        """Count an answer that came and could not be read."""
        if generation == self.generation:
            self._failures = 0

    def _counts(self, generation: int, *, is_order: bool) -> bool:
        if generation != self.generation or self.state is BreakerState.OPEN:
            return False
        return is_order or self.state is BreakerState.CLOSED

    def probed(self, now_s: float, *, answered: bool) -> bool:
        """Take the outcome of a probe in OPEN; True where the state changed."""
        if self.state is not BreakerState.OPEN:
            return False
        if answered:
            self._enter(BreakerState.HALF_OPEN)
            return True
        self._pause_s = min(self._pause_s * 2, self._settings.open_max_s)
        self.probe_at = now_s + self._pause_s
        return False

    def _open(self, now_s: float) -> bool:
        self.probe_at = now_s + self._pause_s
        self._enter(BreakerState.OPEN)
        return True

    def _enter(self, state: BreakerState) -> None:
        self.state = state
        self.generation += 1
        self._failures = 0
