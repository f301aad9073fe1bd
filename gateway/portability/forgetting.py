"""A year without access: what is held of transmission requests goes, with evidence that it did."""

from typing import Final

from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.database.unit import Store
from gateway.disclosure.destroying import destruction_event
from gateway.portability.rules.requests import silent_since
from gateway.portability.store import PortabilityUnit

BATCH: Final = 1000
"""Requests, and accesses, a transaction."""


class SilentRequests:
    """Destroys what is held of requests that no customer has asked about for a year. Any number may do so."""

    def __init__(self, *, store: Store[PortabilityUnit], observer: Observer, clock: Clock) -> None:
        self._store = store
        self._observer = observer
        self._clock = clock

    async def destroy(self) -> int:
        """Destroy a batch, with its evidence and what tells of it in one transaction; return how many rows it was."""

        async def destroy() -> int:
            before = silent_since(self._clock.now())
            async with self._store.transaction() as uow:
                gone = await uow.portability.destroy_silent(before=before, limit=BATCH)
                if gone:
                    await uow.outbox.append([destruction_event(g) for g in gone])
                return sum(g.rows for g in gone)

        rows = await until_done(destroy)
        self._observer.count("schedule", "silent_destroyed", n=rows)
        return rows
