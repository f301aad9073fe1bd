"""What a consumer of aiokafka hands out: what came first, or as much of each partition as of any other.

What was handed out and reaches nobody, for its taker was cancelled in that moment, is handed out again.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

Polled = Mapping[TopicPartition, Sequence[Any]]
"""aiokafka's messages by partition, in the order of their offsets; no partition without any."""


async def poll(consumer: Any, max_items: int, max_wait_s: float, *, in_turns: bool, stopping: asyncio.Event) -> Polled:
    """Up to ``max_items`` messages as soon as there are any; nothing after ``max_wait_s``, or once it is stopping.

    Args:
        consumer: a member of a group, that has started.
        max_items: messages at most.
        max_wait_s: seconds.
        in_turns: the same number of each partition, as far as there are.
        stopping: set, it ends the wait.

    Raises:
        KafkaError: the consumer cannot go on: its fetch task has ended.
    """
    polling = asyncio.ensure_future(_fetched(consumer, max_items, int(max_wait_s * 1000), in_turns=in_turns))
    stopped = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({polling, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not polling.done():
            return {}
        polled = polling.result()
    except asyncio.CancelledError:
        # What was handed out in this very moment is nobody's: it must be handed out again.
        if polling.done() and not polling.cancelled() and polling.exception() is None:
            give_back(consumer, polling.result())
        raise
    finally:
        stopped.cancel()
        polling.cancel()
    if not polled and consumer._fetcher.error_future.done():  # noqa: SLF001
        raise KafkaError("the fetch task has ended")
    return polled


def give_back(consumer: Any, polled: Polled) -> None:
    """Have what was handed out handed out again."""
    seek_back(consumer, {partition: messages[0].offset for partition, messages in polled.items()})


def seek_back(consumer: Any, offsets: Mapping[TopicPartition, int]) -> None:
    """Go on from these offsets, in each partition that is still held."""
    for partition, offset in offsets.items():
        with suppress(IllegalStateError):  # no longer held: it comes again anyway, to its holder
            consumer.seek(partition, offset)


async def _fetched(consumer: Any, max_items: int, wait_ms: int, *, in_turns: bool) -> Polled:
    if not in_turns:
        polled: Polled = await consumer.getmany(timeout_ms=wait_ms, max_records=max_items)
        return polled
    found: dict[TopicPartition, list[Any]] = {}
    try:
        await _fetch_in_turns(consumer, max_items, found)
        if not found:
            found.update(await consumer.getmany(timeout_ms=wait_ms, max_records=1))
    except asyncio.CancelledError:
        give_back(consumer, found)
        raise
    return found


async def _fetch_in_turns(consumer: Any, max_items: int, found: dict[TopicPartition, list[Any]]) -> None:
    """What was fetched already, the same number from every partition, and again while any has more."""
    left, having = max_items, sorted(consumer.assignment())
    while left > 0 and having:
        share = max(1, left // len(having))
        still = []
        for partition in having[:left]:
            polled = await consumer.getmany(partition, timeout_ms=0, max_records=share)
            for p, messages in polled.items():
                found.setdefault(p, []).extend(messages)
                left -= len(messages)
                if len(messages) == share:
                    still.append(p)
        having = still
