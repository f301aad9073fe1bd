"""Relayed events are kept for a while, for people who ask what was told, and then forgotten."""

from dataclasses import dataclass
from datetime import timedelta

from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.database.unit import Store
from gateway.outbox.store import OutboxUnit


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """Bounds of forgetting.

    Attributes:
        keep: how long a relayed event stays. Events that were not relayed stay for as long as it takes.
        batch: rows a transaction: short ones, for a long one holds back the relay.
    """

    keep: timedelta = timedelta(days=30)
    batch: int = 5000


class OutboxRetentionService:
    """Keeps the outbox from growing for ever."""

    def __init__(
        self, *, store: Store[OutboxUnit], observer: Observer, clock: Clock, settings: RetentionSettings
    ) -> None:
        self._store = store
        self._observer = observer
        self._clock = clock
        self._settings = settings

    async def purge(self) -> int:
        """Forget one batch; return how many events it was."""
        before = self._clock.now() - self._settings.keep

        async def forget() -> int:
            async with self._store.transaction() as uow:
                return await uow.outbox.purge(before=before, limit=self._settings.batch)

        forgotten = await until_done(forget)
        self._observer.count("outbox", "forgotten", n=forgotten)
        return forgotten
