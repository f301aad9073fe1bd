"""How many payments have an open outcome, and for how long: what operators are alarmed by."""

from collections.abc import Sequence
from typing import Final

from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.database.unit import Store
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.store import PaymentUnit
from schemas.primitives import NetworkId

OPEN_STATES: Final = (PaymentState.SENT, PaymentState.UNKNOWN, PaymentState.REVERSING)


class OpenPaymentsWatch:
    """Tells levels ``payments_open`` of each network, and ``payment_oldest_seconds`` of all together.

    Args:
        networks: those of which it is told that nothing is open.
    """

    def __init__(
        self, *, store: Store[PaymentUnit], observer: Observer, clock: Clock, networks: Sequence[NetworkId] = ()
    ) -> None:
        self._store = store
        self._observer = observer
        self._clock = clock
        self._networks = set(networks)

    async def look(self) -> int:
        """Look once. Returns 0: there is never more to do at once."""

        async def read():  # type: ignore[no-untyped-def]
            async with self._store.reading() as uow:
                return await uow.payments.open_since()

        found = await until_done(read)
        now = self._clock.now()
        self._networks |= {network_id for _, network_id in found}
        for state in OPEN_STATES:
            oldest = now
            for network_id in self._networks:
                count, since = found.get((state, network_id), (0, now))
                oldest = min(oldest, since)
                self._observer.level("payments_open", count, state=state.value, network=network_id)
            self._observer.level("payment_oldest_seconds", (now - oldest).total_seconds(), state=state.value)
        return 0
