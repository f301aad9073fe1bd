"""How many payments have an open outcome, and for how long: what operators are alarmed by."""

from typing import Final

from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.database.unit import Store
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.store import PaymentUnit

OPEN_STATES: Final = (PaymentState.SENT, PaymentState.UNKNOWN, PaymentState.REVERSING)


class OpenPaymentsWatch:
    """Tells levels ``open_<state>`` and ``oldest_<state>_seconds``, of all networks together."""

    def __init__(self, *, store: Store[PaymentUnit], observer: Observer, clock: Clock) -> None:
        self._store = store
        self._observer = observer
        self._clock = clock

    async def look(self) -> int:
        """Look once. Returns 0: there is never more to do at once."""

        async def read():  # type: ignore[no-untyped-def]
            async with self._store.reading() as uow:
                return await uow.payments.open_since()

        found = await until_done(read)
        now = self._clock.now()
        for state in OPEN_STATES:
            count, since = found.get(state, (0, now))
            self._observer.level(f"open_{state}", count)
            self._observer.level(f"oldest_{state}_seconds", max(0.0, (now - since).total_seconds()))
        return 0
