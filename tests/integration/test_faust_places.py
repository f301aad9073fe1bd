"""A Faust stage takes every record, also what Faust fetched and dropped because its flow had stopped meanwhile."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaTimeoutError
from faust.exceptions import ConsumerNotStarted

from gateway.app.settings import Settings
from gateway.messaging.records import Record
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import ensure_topics
from schemas.topics import TOPICS
from streams.app import build_app, read_batches, run_until, waiting

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

WAIT_S = 60.0

SESSION_S = 60.0
"""Longer than a test waits for anything: on a busy machine no member is taken for dead, and nothing comes again."""


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not holds():  # noqa: ASYNC110 - neither Faust nor aiokafka tells
            await asyncio.sleep(0.02)


async def send(kafka: str, topic: str, *values: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def commit(kafka: str, group: str, topic: str, offset: int) -> None:
    """As somebody who rewinds a group does."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.commit({TopicPartition(topic, 0): offset})
    finally:
        await consumer.stop()


async def until_committed(kafka: str, group: str, topic: str, offset: int) -> None:
    """The offset of its only partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        async with asyncio.timeout(WAIT_S):
            while await consumer.committed(TopicPartition(topic, 0)) != offset:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.1)
    finally:
        await consumer.stop()


@pytest.fixture
async def topic(kafka: str) -> str:
    wanted = replace(TOPICS[0], name=f"t-{uuid.uuid4().hex}", partitions=1)
    await ensure_topics(KafkaSettings(kafka), [wanted], replication_factor=1, apply=True)
    return wanted.name


class Stage:
    """A stage, and what it took; its flow stops as the first records come, as it does where partitions are revoked."""

    def __init__(self, kafka: str, topic: str, home: Path, *, batch_max: int = 10) -> None:
        self.app: Any = build_app(topic, Settings(home=home), KafkaSettings(kafka, session_s=SESSION_S))
        self.taken: list[bytes] = []
        self.dropped = False
        self.resumes = False
        read_batches(self.app, topic, self._take, batch_max=batch_max, batch_wait_s=0.02)

    async def _take(self, records: Sequence[Record]) -> None:
        self.taken.extend(r.value for r in records)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Yield what stops it before the block ends."""
        stopping = asyncio.Event()
        running = asyncio.ensure_future(run_until(self.app, stopping))
        await until(lambda: self.app.started)
        consumer = self.app.consumer
        fetch = consumer._getmany

        async def fetch_as_it_stops(**more: Any) -> Any:
            records = await fetch(**more)
            if records and not self.dropped:
                self.dropped = True
                consumer.stop_flow()
                if self.resumes:
                    consumer.resume_flow()
            return records

        async def stop() -> None:
            stopping.set()
            await running

        consumer._getmany = fetch_as_it_stops
        try:
            yield stop
        finally:
            await stop()


@pytest.mark.parametrize("committed", [None, 0, 1], ids=["nothing was committed", "rewound", "one was committed"])
async def test_what_was_dropped_comes_again(kafka: str, topic: str, tmp_path: Path, committed: int | None) -> None:
    stage = Stage(kafka, topic, tmp_path)
    if committed is not None:
        await commit(kafka, stage.app.conf.id, topic, committed)
    wanted = [b"1", b"2", b"3"][committed or 0 :]
    await send(kafka, topic, b"1", b"2")
    async with stage.running():
        await until(lambda: stage.dropped)
        stage.app.consumer.resume_flow()
        await send(kafka, topic, b"3")
        await until(lambda: b"3" in stage.taken)
    assert stage.taken == wanted


@pytest.mark.parametrize(
    "refusals",
    # Partitions that are not held any more: others were given out meanwhile, whose places are asked for.
    [[KafkaTimeoutError()], [KafkaTimeoutError(), IllegalStateError("not assigned")]],
    ids=["not told", "not held any more"],
)
async def test_a_place_that_could_not_be_asked_for_is_asked_for_again(
    kafka: str, topic: str, tmp_path: Path, refusals: list[Exception]
) -> None:
    stage = Stage(kafka, topic, tmp_path)
    await send(kafka, topic, b"1", b"2")
    async with stage.running():
        thread = stage.app.consumer._thread
        seek = thread.seek_to_committed
        left = list(refusals)

        async def refuse() -> Any:
            if stage.dropped and left:
                raise left.pop(0)
            return await seek()

        thread.seek_to_committed = refuse
        await until(lambda: len(left) < len(refusals) and stage.app.consumer.can_resume_flow._waiters)
        stage.app.consumer.resume_flow()
        await send(kafka, topic, b"3")
        await until(lambda: b"3" in stage.taken)
    assert stage.taken == [b"1", b"2", b"3"]


async def test_what_a_fetch_brings_during_which_the_flow_stopped_and_was_resumed_comes_again_in_order(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    stage = Stage(kafka, topic, tmp_path)
    stage.resumes = True
    await send(kafka, topic, b"1", b"2")
    async with stage.running():
        await until(lambda: stage.dropped)
        await send(kafka, topic, b"3")
        await until(lambda: b"3" in stage.taken)
    assert stage.taken == [b"1", b"2", b"3"]


class Member(Stage):
    """One of two of which one holds nothing. It takes one message at a time, and ends none before it is let go on."""

    def __init__(self, kafka: str, topic: str, home: Path) -> None:
        super().__init__(kafka, topic, home, batch_max=1)
        self.dropped = True
        self.begun = 0
        self.go_on = asyncio.Event()

    @property
    def held(self) -> int:
        """Partitions."""
        try:
            return len(self.app.consumer.assignment())
        except ConsumerNotStarted:
            return 0

    async def _take(self, records: Sequence[Record]) -> None:
        self.begun += 1
        await self.go_on.wait()
        await super()._take(records)

    def is_given_partitions_while_it_fetches(self, send_some: Callable[[], Awaitable[None]]) -> None:
        """A fetch begins as it is given partitions, if one may, and ends when it knows its place, before it goes on."""
        consumer = self.app.consumer
        fetch, rebalance, seek = consumer._getmany, self.app.agents.on_rebalance, consumer.perform_seek
        begun, placed = asyncio.Event(), asyncio.Event()

        async def late_fetch(**more: Any) -> Any:
            begun.set()
            await placed.wait()
            return await fetch(**more)

        async def after_a_fetch_began(*given: Any, **more: Any) -> None:
            await until(lambda: begun.is_set() or not consumer.flow_active)
            await rebalance(*given, **more)

        async def seek_and_wait_for_the_fetch() -> None:
            if placed.is_set():
                return await seek()
            await send_some()
            await seek()
            placed.set()
            await until(lambda: self.begun or not consumer.flow_active)
            return None

        consumer._getmany = late_fetch
        self.app.agents.on_rebalance = after_a_fetch_began
        consumer.perform_seek = seek_and_wait_for_the_fetch


def are_shared_out(members: Sequence[Member]) -> bool:
    """True once all are in one generation of their group, and go on."""
    generations = {m.app.consumer_generation_id for m in members}
    if len(generations) > 1 or sorted(m.held for m in members) != [0, 1]:
        return False
    return all(m.app.consumer.flow_active and not m.app.rebalancing for m in members)


async def test_who_held_nothing_takes_all_that_it_fetched_as_it_was_given_partitions(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    members = [Member(kafka, topic, tmp_path), Member(kafka, topic, tmp_path)]
    async with members[0].running() as stop_first, members[1].running() as stop_second:
        # Who waits is known once both are in the group: before, whoever comes may be given the partition of the other.
        await until(lambda: are_shared_out(members))
        [spare] = [m for m in members if not m.held]
        spare.is_given_partitions_while_it_fetches(lambda: send(kafka, topic, b"1", b"2", b"3"))
        await (stop_second if spare is members[0] else stop_first)()
        await until(lambda: spare.begun and not spare.app.rebalancing)
        spare.go_on.set()
        await send(kafka, topic, b"4")
        await until(lambda: b"4" in spare.taken)
    assert spare.taken == [b"1", b"2", b"3", b"4"]


async def test_records_of_a_partition_that_began_anew_are_taken(kafka: str, topic: str, tmp_path: Path) -> None:
    """aiokafka goes to the beginning of a partition that ends before its place, as where a broker lost its end."""
    stage = Stage(kafka, topic, tmp_path)
    stage.dropped = True
    await send(kafka, topic, b"1", b"2", b"3")
    async with stage.running():
        await until(lambda: b"3" in stage.taken)
        thread = stage.app.consumer._thread
        await thread.call_thread(thread._consumer.seek_to_beginning)
        await send(kafka, topic, b"4")
        await until(lambda: b"4" in stage.taken)
    assert stage.taken == [b"1", b"2", b"3", b"1", b"2", b"3", b"4"]


async def test_a_stage_lives_where_no_broker_tells_its_place(kafka: str, topic: str, tmp_path: Path) -> None:
    """As long as the leader of a partition is away that begins anew, or in which nothing was committed."""
    stage = Stage(kafka, topic, tmp_path)
    stage.dropped = True
    await send(kafka, topic, b"1")
    async with stage.running():
        await until(lambda: b"1" in stage.taken)
        consumer = stage.app.consumer
        inner = consumer._thread._consumer
        place = inner._subscription.subscription.assignment.state_value(TopicPartition(topic, 0))

        async def lose_it_and_look() -> None:
            place._position = None
            await consumer.verify_all_partitions_active()
            assert await waiting(stage.app) == 0

        assert consumer.place(TopicPartition(topic, 0)) == 1
        async with asyncio.timeout(WAIT_S):
            await consumer._thread.call_thread(lose_it_and_look)
        await consumer._thread.call_thread(inner.seek_to_beginning)
        await send(kafka, topic, b"2")
        await until(lambda: b"2" in stage.taken)


async def test_what_is_taken_of_a_partition_that_ends_before_what_was_committed_is_committed(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    stage = Stage(kafka, topic, tmp_path)
    stage.dropped = True
    await commit(kafka, stage.app.conf.id, topic, 7)
    await send(kafka, topic, b"1", b"2")
    async with stage.running():
        await until(lambda: b"2" in stage.taken)
        await until_committed(kafka, stage.app.conf.id, topic, 2)


async def test_what_comes_again_because_the_group_refused_its_commit_is_committed(
    kafka: str, topic: str, tmp_path: Path
) -> None:
    """A group refuses the commit of whom it does not know any more; he hears so once his partitions are revoked."""
    stage = Stage(kafka, topic, tmp_path)
    stage.dropped = True
    refused = False
    async with stage.running():
        thread = stage.app.consumer._thread
        commit_there, on_revoked = thread.commit, stage.app.consumer._on_partitions_revoked
        revoked = asyncio.Event()

        async def revoke(partitions: Any) -> None:
            if partitions:
                revoked.set()
            await on_revoked(partitions)

        async def refuse_once(offsets: Any) -> bool:
            nonlocal refused
            if refused:
                return bool(await commit_there(offsets))
            refused = True
            await thread.call_thread(thread._consumer._coordinator.request_rejoin)
            await revoked.wait()
            return False

        stage.app.consumer._on_partitions_revoked = revoke
        thread.commit = refuse_once
        await send(kafka, topic, b"1")
        await until(lambda: stage.taken == [b"1", b"1"])
        await until_committed(kafka, stage.app.conf.id, topic, 1)
