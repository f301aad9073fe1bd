"""The loop around every stage that reads a topic: take a batch, bring it to its end, then let its offsets be committed.

A batch whose handling raises is never committed: the process ends with the error, and whoever takes the partitions
next begins with that batch.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from gateway.messaging.records import Record

Handle = Callable[[Sequence[Record]], Awaitable[None]]
"""Brings every record of a batch to its end."""


class Consumer(Protocol):
    """One member of a consumer group; offsets are committed by hand."""

    async def start(self) -> None:
        """Join the group; returns with the first assignment."""

    async def stop(self) -> None:
        """Leave the group."""

    async def take(self, max_items: int, *, max_wait: float) -> Sequence[Record]:
        """Return 1 … ``max_items`` records as soon as there are any, or nothing after ``max_wait`` seconds."""

    async def commit(self, records: Sequence[Record]) -> bool:
        """Commit past the last of ``records`` in each partition; False if partitions were lost meanwhile."""

    async def rewind(self, records: Sequence[Record]) -> None:
        """Take from the first of ``records`` on again, in each partition that is still held."""

    def pause(self) -> None:
        """Take nothing until :meth:`resume`; the member stays in its group."""

    def resume(self) -> None:
        """Take again."""

    async def lag(self) -> int:
        """Records of the held partitions that could be taken and were not yet."""


class Batches(Protocol):
    """A topic's records, batch after batch, as one member of a consumer group gets them."""

    @property
    def generation(self) -> object:
        """Another value after each rebalance that gave this member partitions."""

    async def take(self) -> Sequence[Record] | None:
        """The next batch; it may be empty. None: the member is told to stop."""

    async def finished(self, records: Sequence[Record]) -> None:
        """Let the offsets of the batch that was taken last be committed."""


class ConsumerBatches:
    """Implements :class:`Batches` over a :class:`Consumer` whose partitions are all the same to its stage."""

    generation = None

    def __init__(self, consumer: Consumer, *, batch_max: int, batch_wait_s: float) -> None:
        self._consumer = consumer
        self._batch_max = batch_max
        self._batch_wait_s = batch_wait_s

    async def take(self) -> Sequence[Record]:
        """The next batch; empty where nothing came for a while."""
        return await self._consumer.take(self._batch_max, max_wait=self._batch_wait_s)

    async def finished(self, records: Sequence[Record]) -> None:
        """Commit the batch's offsets."""
        await self._consumer.commit(records)


async def consume(
    batches: Batches,
    handle: Handle,
    *,
    progress: Callable[[], None],
    on_assigned: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Handle batches until there are no more.

    Args:
        batches: where they come from.
        handle: what it raises ends the loop, with the batch not committed.
        progress: called when a batch has ended.
        on_assigned: awaited before the first batch of each assignment.
    """
    generation: object = None
    while (records := await batches.take()) is not None:
        if not records:
            continue
        if on_assigned is not None and generation != batches.generation:
            generation = batches.generation
            await on_assigned()
        await handle(records)
        await batches.finished(records)
        progress()
