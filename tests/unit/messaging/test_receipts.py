"""Where what was published stands: told in the order of the records, also where some had to be published again."""

import asyncio
from types import SimpleNamespace
from typing import Any

from aiokafka.errors import KafkaError
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.base.process import SilentObserver
from gateway.messaging import producer as module
from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.records import Outgoing
from gateway.messaging.settings import KafkaSettings

PARTITIONS = 3
BATCH = 4


class Broker:
    """Appends batches of :data:`BATCH` records, or fails the next of them as told."""

    def __init__(self, fails: list[bool]) -> None:
        self.fails = fails
        self.logs: dict[int, list[bytes]] = {n: [] for n in range(PARTITIONS)}


class Batch:
    def __init__(self) -> None:
        self.values: list[bytes] = []

    def append(self, *, timestamp: None, key: bytes | None, value: bytes, headers: Any) -> object | None:
        if len(self.values) == BATCH:
            return None
        self.values.append(value)
        return self

    def close(self) -> None: ...


class Producer:
    """As much of aiokafka's producer as the publisher uses."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._broken: set[int] = set()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def partitions_for(self, _topic: str) -> set[int]:
        return set(range(PARTITIONS))

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if partition in self._broken or (self._broker.fails and self._broker.fails.pop()):
            # What follows has sequence numbers that do not fit.
            self._broken.add(partition)
            future.set_exception(KafkaError())
            return future
        log = self._broker.logs[partition]
        future.set_result(SimpleNamespace(topic=topic, partition=partition, offset=len(log), timestamp=77))
        log.extend(batch.values)
        return future


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=40), st.lists(st.booleans(), max_size=4))
def test_every_receipt_names_the_place_of_its_record(keys: list[int], fails: list[bool]) -> None:
    asyncio.run(places_are_right(keys, fails))


async def places_are_right(keys: list[int], fails: list[bool]) -> None:
    broker = Broker(fails)
    publisher = KafkaPublisher(KafkaSettings("127.0.0.1:1"), SilentObserver())
    publisher._new_producer = lambda: Producer(broker)  # type: ignore[method-assign]
    records = [Outgoing("t", b"key-%d" % k, b"%d" % n, []) for n, k in enumerate(keys)]
    waits, module._BACKOFF_SECONDS = module._BACKOFF_SECONDS, (0.0,)  # type: ignore[misc]
    try:
        receipts = await publisher.deliver(records)
    finally:
        module._BACKOFF_SECONDS = waits  # type: ignore[misc]
    assert [broker.logs[r.partition][r.offset] for r in receipts] == [r.value for r in records]
    assert {(r.topic, r.timestamp_ms) for r in receipts} <= {("t", 77)}
    for log in broker.logs.values():
        # Repeated at the worst, never out of order.
        firsts = list(dict.fromkeys(log))
        assert firsts == sorted(firsts, key=int)


async def test_nothing_has_no_receipt() -> None:
    assert await KafkaPublisher(KafkaSettings("127.0.0.1:1"), SilentObserver()).deliver([]) == []
