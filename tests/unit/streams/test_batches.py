"""Batches from the queue that Faust's consumer fills: full, in order, and acknowledged only when they are handled."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from mode.utils.queues import FlowControlEvent, ThrowableQueue

from gateway.app.settings import Settings
from gateway.messaging.fetching import guard_fetches, whole_batches
from gateway.messaging.settings import KafkaSettings
from streams.app import build_app, read_batches
from streams.batches import BATCH_BYTES_MAX, BatchReader, Doorway, in_parts
from tests.support.batches import CODECS, small_batch

LONG_S = 60.0
"""Never waited for by a test that passes."""


@dataclass
class Message:
    number: int
    generation_id: int = 1
    tracked: bool = False
    value: bytes = b""
    key: None = None
    headers: tuple[()] = ()

    def ack(self, consumer: "Consumer") -> None:
        consumer.acknowledged.append(self.number)


@dataclass
class Consumer:
    unacknowledged: list[int] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)

    def track_message(self, message: Message) -> None:
        self.unacknowledged.append(message.number)


@dataclass
class Event:
    message: Message


class App:
    def __init__(self) -> None:
        self.consumer, self.flow_control, self.consumer_generation_id = Consumer(), FlowControlEvent(), 1
        self.flow_control.resume()
        self.queue: ThrowableQueue[Event] = ThrowableQueue(1000, flow_control=self.flow_control)
        self.channel = self

    def deliver(self, *numbers: int, generation_id: int = 1) -> None:
        for number in numbers:
            self.queue.force_put_nowait(Event(Message(number, generation_id)))

    def reader(self, *, batch_max: int = 3, batch_wait_s: float = LONG_S) -> BatchReader:
        app: Any = self
        return BatchReader(app, app, batch_max=batch_max, batch_wait_s=batch_wait_s)


@pytest.fixture
async def app() -> App:
    return App()


def numbers(messages: Any) -> list[int]:
    return [m.number for m in messages]


async def test_a_full_batch_is_taken_at_once_and_the_rest_is_the_next(app: App) -> None:
    app.deliver(1, 2, 3, 4)
    assert numbers(await app.reader().take()) == [1, 2, 3]
    assert numbers(await app.reader(batch_wait_s=0.0).take()) == [4]


async def test_what_comes_alone_waits_for_nobody(app: App) -> None:
    app.deliver(1)
    assert numbers(await asyncio.wait_for(app.reader().take(), LONG_S / 2)) == [1]


async def test_soon_after_another_a_batch_waits_for_more_until_it_is_full(app: App) -> None:
    reader = app.reader()
    app.deliver(0)
    await reader.take()
    app.deliver(1)
    taking = asyncio.create_task(reader.take())
    await asyncio.sleep(0)
    app.deliver(2)
    await asyncio.sleep(0)
    assert not taking.done()
    app.deliver(3)
    assert numbers(await asyncio.wait_for(taking, LONG_S)) == [1, 2, 3]


async def test_a_batch_that_is_not_full_is_taken_after_a_while(app: App) -> None:
    reader = app.reader(batch_wait_s=0.01)
    for number in (1, 2):
        app.deliver(number)
        assert numbers(await reader.take()) == [number]


async def test_after_a_batch_others_are_gathered_for_as_long_as_it_took(app: App) -> None:
    loop = asyncio.get_running_loop()
    reader = app.reader(batch_wait_s=LONG_S)
    app.deliver(1)
    messages = await reader.take()
    # As if it had taken longer than the time from one beginning to the next.
    reader._pace._began -= 2 * LONG_S
    reader._pace._due -= 2 * LONG_S
    assert reader._pace.due < loop.time()
    handled_at = loop.time()
    reader.acknowledge(messages)
    assert reader._pace.due >= handled_at + 2 * LONG_S


async def test_what_came_before_a_rebalance_or_while_the_flow_stands_is_passed_over(app: App) -> None:
    app.deliver(1, generation_id=0)
    app.deliver(2)
    assert numbers(await app.reader(batch_wait_s=0.0).take()) == [2]
    app.flow_control.suspend()
    app.deliver(3)
    assert numbers(await app.reader(batch_wait_s=0.0).take()) == []
    assert (app.consumer.unacknowledged, app.consumer.acknowledged) == ([2], [])


async def test_records_count_as_unacknowledged_until_they_are_handled(app: App) -> None:
    app.deliver(1, 2)
    reader = app.reader(batch_wait_s=0.0)
    messages = await reader.take()
    assert (app.consumer.unacknowledged, app.consumer.acknowledged) == ([1, 2], [])
    reader.acknowledge(messages)
    assert app.consumer.acknowledged == [1, 2]


async def test_a_reader_that_is_stopped_while_it_waits_loses_nothing(app: App) -> None:
    taking = asyncio.create_task(app.reader().take())
    await asyncio.sleep(0)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    app.deliver(1)
    assert numbers(await app.reader(batch_wait_s=0.0).take()) == [1]


@dataclass
class Batches:
    """Stands for the reader: some batches of one record, and then nothing more."""

    left: int
    acknowledged: int = 0
    doorway: Any = None

    async def take(self) -> list[Any]:
        if not self.left:
            await asyncio.Event().wait()
        self.left -= 1
        fields = {"topic": "t", "partition": 0, "offset": 1, "timestamp": 1.0, "key": b"k", "value": b"v"}
        return [SimpleNamespace(**fields, headers=[("h", b"1")])]

    def acknowledge(self, messages: list[Any]) -> None:
        self.acknowledged += len(messages)


async def test_a_batch_that_fails_crashes_the_app_and_is_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app: Any = build_app("test", Settings(home=tmp_path), KafkaSettings("127.0.0.1:1"))
    batches, taken, crashes = Batches(left=3), [], []

    async def take(records: Any) -> None:
        taken.append(records)
        if len(taken) == 2:
            raise LookupError

    async def crash(error: Exception) -> None:
        crashes.append(error)

    monkeypatch.setattr("streams.app.BatchReader", lambda *_, **__: batches)
    monkeypatch.setattr(app, "crash", crash)
    read_batches(app, "mypay.orders", take, batch_max=1, batch_wait_s=0.0)
    [agent] = app.agents.values()
    with pytest.raises(LookupError):
        await asyncio.wait_for(agent.fun(None), LONG_S)
    assert ([type(e) for e in crashes], len(taken), batches.acknowledged) == ([LookupError], 2, 1)


async def test_a_batch_ends_where_its_bytes_are_enough(app: App) -> None:
    for number in range(4):
        app.queue.force_put_nowait(Event(Message(number, value=bytes(BATCH_BYTES_MAX // 2))))
    reader = app.reader(batch_max=100)
    assert numbers(await reader.take()) == [0, 1]
    assert numbers(await reader.take()) == [2, 3]


async def test_no_more_bytes_wait_than_there_is_room_for() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()
    doorway = Doorway(queue, bytes_max=100)

    async def deliver(size: int) -> None:
        await doorway.enter(size)
        queue.put_nowait(size)

    # One always fits, whatever its size.
    await deliver(500)
    second = asyncio.create_task(deliver(60))
    await asyncio.sleep(0)
    assert queue.qsize() == 1
    doorway.leave(queue.get_nowait())
    await asyncio.wait_for(second, LONG_S)
    await deliver(40)
    fourth = asyncio.create_task(deliver(1))
    await asyncio.sleep(0)
    assert queue.qsize() == 2
    # Faust empties the queue when partitions go.
    queue.get_nowait(), queue.get_nowait()
    await asyncio.wait_for(fourth, LONG_S)
    assert queue.qsize() == 1


def fetched(*batches: bytes) -> list[Any]:
    """Messages as the stages' consumer gives them, a batch each."""
    guard_fetches()
    place = TopicPartition("t", 0)
    return [
        message
        for data in batches
        for message in fetcher.PartitionRecords(
            place, fetcher.MemoryRecords(data), [], 0, None, whole_batches, True, fetcher.READ_COMMITTED
        )
    ]


def sizes(messages: Any, *, records_max: int) -> list[int]:
    return [len(part) for part in in_parts(messages, records_max=records_max)]


def test_packed_messages_are_handled_in_parts_of_bounded_size() -> None:
    messages = fetched(small_batch([b"a"] * 5), small_batch([b"b"] * 2, base=5))
    values = [r.value for part in in_parts(messages, records_max=3) for r in part]
    assert values == [b"a"] * 5 + [b"b"] * 2
    assert sizes(messages, records_max=3) == [3, 3, 1]
    packed_tight = fetched(small_batch([bytes(BATCH_BYTES_MAX // 4)] * 9, codec=CODECS["gzip"]))
    assert sizes(packed_tight, records_max=1000) == [4, 4, 1]


async def test_a_batch_of_packed_messages_is_full_by_their_records(app: App) -> None:
    for data in (small_batch([b"a"] * 2), small_batch([b"b"] * 2, base=2), small_batch([b"c"], base=4)):
        (message,) = fetched(data)
        packed = Message(message.offset, value=message.value)
        app.queue.force_put_nowait(Event(packed))
    assert numbers(await app.reader(batch_max=3).take()) == [1, 3]


def test_headers_that_were_merged_on_the_way_are_a_bug() -> None:
    message = SimpleNamespace(headers={"a": b"1"}, timestamp=0.0, value=b"")
    with pytest.raises(TypeError, match="mapping"):
        list(in_parts([message], records_max=1))
