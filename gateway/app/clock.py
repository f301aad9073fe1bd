"""The machine's clock. Apart from the processes: whoever only wants to know the time imports none of what they are."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from gateway.base.validity import CLOCK_SKEW_MAX

_PASSING: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on whatever the clock is set to; on Linux also while the machine sleeps."""

_SKEW_S: Final = CLOCK_SKEW_MAX.total_seconds()


class SystemClock:
    """Implements :class:`gateway.base.process.Clock`."""

    def now(self) -> datetime:
        """Aware UTC."""
        return datetime.now(UTC)


class SteadyClock:
    """Implements :class:`gateway.base.process.Clock` for what runs for long: the machine's clock, but for jumps.

    A process starts with the database's time. Where the machine's clock is later set by more than
    :data:`gateway.base.validity.CLOCK_SKEW_MAX` at once, it is not followed, and time goes on as it passes, until
    :meth:`follow`. By a clock that jumps a month ahead consents would end for good, and orders be paid that are not
    due.
    """

    def __init__(
        self,
        *,
        machine: Callable[[], float] = time.time,
        passing: Callable[[], float] = lambda: time.clock_gettime(_PASSING),
    ) -> None:
        self._machine = machine
        self._passing = passing
        self._begun = machine() - passing()

    def now(self) -> datetime:
        """Aware UTC."""
        machine, passed = self._machine(), self._passing()
        ahead = machine - passed - self._begun
        if abs(ahead) > _SKEW_S:
            return datetime.fromtimestamp(passed + self._begun, UTC)
        # What NTP corrects bit by bit, or the clock drifts.
        self._begun += ahead
        return datetime.fromtimestamp(machine, UTC)

    def machine_now(self) -> datetime:
        """What the machine's clock says, whether it is followed or not; aware UTC."""
        return datetime.fromtimestamp(self._machine(), UTC)

    def follow(self) -> None:
        """Take the machine's clock for right as it is now."""
        self._begun = self._machine() - self._passing()
