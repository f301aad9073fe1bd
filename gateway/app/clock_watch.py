"""How a process's time compares with the database's, looked at again and again while it runs."""

from datetime import datetime, timedelta

from gateway.app.clock import SteadyClock
from gateway.base.errors import StoreUnavailableError
from gateway.base.process import Observer
from gateway.base.validity import CLOCK_SKEW_MAX
from gateway.database.pool import ConnectionPool
from gateway.observability.health import Health


class ClockWatch:
    """Tells how far the machine's clock is from the database's, and what becomes of that."""

    def __init__(self, store: ConnectionPool, clock: SteadyClock, observer: Observer) -> None:
        self._store = store
        self._clock = clock
        self._observer = observer
        self._is_followed = True
        self._wrong: str | None = None

    async def look(self) -> None:
        """Compare. While the database cannot be asked what was found last stands."""
        try:
            async with self._store.connection() as connection:
                told: datetime = await connection.fetchval("SELECT clock_timestamp()")
        except StoreUnavailableError:
            return
        machine = self._clock.machine_now() - told
        self._observer.level("clock_ahead_seconds", machine.total_seconds())
        if abs(machine) <= CLOCK_SKEW_MAX:
            # It was set right, or the machine stood still without knowing it, and was told since.
            self._clock.follow()
        ours = self._clock.now() - told
        self._tell(machine)
        self._wrong = f"{_words(ours)} from PostgreSQL's" if abs(ours) > CLOCK_SKEW_MAX else None

    async def problem(self) -> str | None:
        """A liveness check: the process decides by a wrong time. Started again it waits until the time is right."""
        return self._wrong

    def _tell(self, machine: timedelta) -> None:
        followed, self._is_followed = self._is_followed, abs(machine) <= CLOCK_SKEW_MAX
        if followed and not self._is_followed:
            self._observer.note("clock_is_wrong", level="error", reason=f"{_words(machine)} from PostgreSQL's")
        elif self._is_followed and not followed:
            self._observer.note("clock_is_right_again", level="warning")


def watch_clock(store: ConnectionPool, clock: SteadyClock, health: Health, observer: Observer) -> None:
    """Compare the clock with the database's every few seconds."""
    watch = ClockWatch(store, clock, observer)
    health.looks.append(watch.look)
    health.liveness["clock"] = watch.problem


def _words(ahead: timedelta) -> str:
    return f"{ahead.total_seconds():+.0f} s"
