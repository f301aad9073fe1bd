"""Forgetting used assertions that no replay can bring back any more."""

from typing import Final

from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.database.unit import Store
from gateway.identity.store import AuthenticationUnit

PURGE_BATCH: Final = 5000
"""Rows a transaction: some hundred milliseconds, so that no snapshot is held back for long."""


class UsedProofsService:
    """Keeps the table of used assertions as long as Kafka can replay what used them, and no longer."""

    def __init__(
        self, *, store: Store[AuthenticationUnit], observer: Observer, clock: Clock, batch_max: int = PURGE_BATCH
    ) -> None:
        self._store = store
        self._observer = observer
        self._clock = clock
        self._batch_max = batch_max

    async def purge(self) -> int:
        """Forget a batch; return how many."""

        async def purge() -> int:
            async with self._store.transaction() as uow:
                return await uow.authentication.purge(before=self._clock.now(), limit=self._batch_max)

        purged = await until_done(purge)
        self._observer.count("schedule", "used_proof_purged", n=purged)
        return purged
