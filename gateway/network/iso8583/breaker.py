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
from typing import Final

from gateway.network.exchange import Answered, ExchangeResult, NotSent, NotSentCause, Unanswered, UnansweredCause
from gateway.network.iso8583.sections import Breaker

FOLLOW_UP_SHARE: Final = 4
"""In the trial, reversals and inquiries have this part of the trial window beside it: enough to go on."""


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

    def ended(self, generation: int, result: ExchangeResult, now_s: float, *, is_order: bool) -> bool:
        """Count the end of one exchange; True where the state changed.

        A lost link is no evidence: the links themselves back off, and others may be well.
        """
        match result:
            case Answered():
                return self.answered(generation, is_order=is_order)
            case Unanswered(UnansweredCause.GARBLED):
                self.unreadable(generation)
                return False
            case Unanswered(UnansweredCause.TIMEOUT) | NotSent(NotSentCause.TOO_LATE):
                return self.failed(generation, now_s, is_order=is_order)
            case _:
                return False

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


def room(state: BreakerState, settings: Breaker, *, window: int, orders: int, follow_ups: int, follow_up: bool) -> int:
    """How many more requests of a kind may be sent.

    Args:
        state: of the breaker.
        settings: its own.
        window: most requests in flight at all.
        orders: reserved or in flight.
        follow_ups: the same of reversals and inquiries.
        follow_up: which kind. In the trial each has its own places: what an outage left to be reversed must not go
            ahead of the orders that try.
    """
    left = window - orders - follow_ups
    if state is not BreakerState.HALF_OPEN:
        return left
    trial = settings.trial_window
    allowed, taken = (max(1, trial // FOLLOW_UP_SHARE), follow_ups) if follow_up else (trial, orders)
    return min(left, allowed - taken)
