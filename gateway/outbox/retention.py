"""Relayed events are kept for a while, for people who ask what was told, and then forgotten.

The outbox is partitioned by its own order, in ranges of transaction numbers of about a day each. Partitions are made
ahead and dropped whole: however many events a day has, forgetting it costs a moment.
"""

from collections.abc import Awaitable, Callable
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
        keep: how long a relayed event stays, at least: its partition goes when all in it is older. Events that were not
            relayed stay for as long as it takes.
        ahead: partitions beyond the present one, about a day each: for so long the schedule may stand still.
        batch: rows a transaction, where rows are deleted one by one: short ones, for a long one holds back the relay.
    """

    keep: timedelta = timedelta(days=30)
    ahead: int = 2
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

    async def keep_up(self) -> int:
        """Make partitions ahead, and forget one that is old; return how much was forgotten: 0 when there is no more.

        Each step is a transaction of its own: what it locks, writers wait for.
        """
        settings = self._settings
        before = self._clock.now() - settings.keep
        await self._step("partition_made", lambda uow: uow.outbox.make_partitions(ahead=settings.ahead))
        dropped = await self._step("partition_dropped", lambda uow: uow.outbox.drop_partition(before=before))
        forgotten = await self._step("forgotten", lambda uow: uow.outbox.purge(before=before, limit=settings.batch))
        return dropped + forgotten

    async def _step(self, outcome: str, work: Callable[[OutboxUnit], Awaitable[int]]) -> int:
        async def step() -> int:
            async with self._store.transaction() as uow:
                return await work(uow)

        n = await until_done(step)
        self._observer.count("outbox", outcome, n=n)
        return n
