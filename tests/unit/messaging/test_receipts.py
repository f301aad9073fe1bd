"""Where what was published stands: told in the order of the records, also where some had to be published again."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import InvalidTimestampError, KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.base.errors import PublisherUnavailableError, TooLargeForTopicError, TopicClosedError
from gateway.base.process import SilentObserver
from gateway.messaging import live_producer as module
from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.records import Outgoing
from gateway.messaging.settings import KafkaSettings
from gateway.observability.recording import RecordingObserver

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

    def append(self, *, timestamp: int | None, key: bytes | None, value: bytes, headers: Any) -> object | None:
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
    publisher._live.make = lambda: Producer(broker)  # type: ignore[method-assign]
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


class Untimely(Producer):
    """Some topics take no record's time, for as many tries as told."""

    def __init__(self, broker: Broker, tries: dict[str, int]) -> None:
        super().__init__(broker)
        self._tries = tries

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> "asyncio.Future[Any]":
        if not self._tries.get(topic):
            return await super().send_batch(batch, topic, partition=partition)
        self._tries[topic] -= 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_exception(InvalidTimestampError())
        return future


@pytest.mark.parametrize(
    ("tries", "at_ms", "told", "left"),
    [
        (1, None, None, 0),
        (2, None, TopicClosedError, 0),
        (9, None, TopicClosedError, 7),
        # What was decided at a time is older at each try.
        (9, 1, PublisherUnavailableError, 8),
    ],
)
async def test_a_topic_that_takes_the_time_of_no_try_is_closed_and_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch, tries: int, at_ms: int | None, told: type[Exception] | None, left: int
) -> None:
    monkeypatch.setattr(module, "_BACKOFF_SECONDS", (0.0,))
    broker, refusing = Broker([]), {"exports": tries}
    observer = RecordingObserver()
    publisher = KafkaPublisher(KafkaSettings("127.0.0.1:1"), observer)
    publisher._live.make = lambda: Untimely(broker, refusing)  # type: ignore[method-assign]
    records = [Outgoing("exports", b"k", b"void", [], at_ms=at_ms), Outgoing("events", b"k", b"told", [])]
    if told is None:
        await publisher.publish(records)
    else:
        with pytest.raises(PublisherUnavailableError) as raised:
            await publisher.publish(records)
        assert type(raised.value) is told
        assert getattr(raised.value, "topic", "exports") == "exports"
    assert refusing == {"exports": left}
    taken = [value for log in broker.logs.values() for value in log]
    assert taken == [b"told", b"void"][: 2 - bool(told)]
    assert observer.counted("publisher", "untimely") == (told is TopicClosedError)


class Bounded(Producer):
    """Some topics take no batch that holds a certain value."""

    def __init__(self, broker: Broker, refusal: KafkaError) -> None:
        super().__init__(broker)
        self._refusal = refusal

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> "asyncio.Future[Any]":
        if partition not in self._broken and b"large" not in batch.values:
            return await super().send_batch(batch, topic, partition=partition)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_exception(KafkaError() if partition in self._broken else self._refusal)
        self._broken.add(partition)
        return future


@pytest.mark.parametrize("refusal", [MessageSizeTooLargeError(), RecordListTooLargeError()])
async def test_what_is_too_large_for_its_topic_is_told_with_what_is_there_all_the_same(
    refusal: KafkaError,
) -> None:
    """Tried until the deadline, it read as a Kafka that is away: for ever, for it is refused each time.

    Those that stood in a batch with it are sent one by one, so that it is known which one it is.
    """
    broker, observer, made = Broker([]), RecordingObserver(), list[Producer]()
    publisher = KafkaPublisher(KafkaSettings("127.0.0.1:1"), observer)

    def make() -> Producer:
        made.append(Bounded(broker, refusal))
        return made[-1]

    publisher._live.make = make  # type: ignore[method-assign]
    values = [b"%d" % n for n in range(3 * BATCH)]
    values[BATCH + 1] = b"large"
    records = [Outgoing("orders", None, v, [], partition=n % 2 and 1) for n, v in enumerate(values)]
    records += [Outgoing("orders", None, b"other", [], partition=2)]
    with pytest.raises(TooLargeForTopicError) as raised:
        await publisher.publish(records)
    assert raised.value.topic == "orders"
    assert len(made) == 2
    assert [records[n].value for n in raised.value.numbers] == [b"large"]
    there = {value for log in broker.logs.values() for value in log}
    assert {records[n].value for n in raised.value.confirmed} == there
    assert b"other" in there
    assert b"large" not in there
    assert observer.counted("publisher", "too_large") == 1
