"""Relay on fakes: outbox to Kafka in order, at least once, one relay at a time."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.base.errors import PublisherUnavailableError, StoreUnavailableError, TopicClosedError
from gateway.messaging.records import Outgoing
from gateway.outbox.relay import SOURCE, RelayService
from gateway.proving.memory import MemoryOutboxReader
from schemas.envelope import read_envelope
from schemas.events import EventType
from tests.support.builders import NOW, dispatched_record, later, numbered_order, outbox_event
from tests.support.deadline import in_time
from tests.support.narrow import Narrow
from tests.support.rig import Rig
from tests.support.traces import PARENT, Spans

AWAY = StoreUnavailableError("away")
UNCONFIRMED = PublisherUnavailableError("away")
TOPIC = "mypay.events.partner-1"


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def append(rig: Rig, *names: str) -> None:
    async with rig.store.transaction() as uow:
        await uow.outbox.append([outbox_event(name) for name in names])


def published(rig: Rig) -> list[str]:
    return [r.value.decode() for r in rig.kafka.records(TOPIC)]


@asynccontextmanager
async def running(relay: RelayService) -> AsyncIterator["asyncio.Task[Any]"]:
    task = asyncio.create_task(relay.run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until_published(rig: Rig, count: int) -> None:
    async with in_time(f"{count} events in Kafka"):
        while len(rig.kafka.records(TOPIC)) < count:
            await rig.kafka.wait_written()


async def test_an_event_is_published_as_a_cloud_event_under_its_key(rig: Rig) -> None:
    await rig.execute([dispatched_record(numbered_order(1), at=later(-1))])
    assert await rig.relay_all() == 2
    stored = rig.events()
    for record, event in zip(rig.kafka.records(TOPIC), stored, strict=True):
        envelope = read_envelope(record.headers)
        assert (record.key, record.value) == (event.key.encode(), event.body)
        assert (envelope.id, envelope.source, envelope.type) == (event.event_id, SOURCE, event.event_type)
        assert envelope.time == event.occurred_at
    assert [e.event_type for e in stored] == [EventType.PAYMENT_SENT, EventType.PAYMENT_APPROVED]
    assert len({r.partition for r in rig.kafka.records(TOPIC)}) == 1
    assert await rig.relay_all() == 0


async def test_events_keep_their_order_over_batches(rig: Rig) -> None:
    names = [f"{n:02}" for n in range(25)]
    await append(rig, *names)
    relay = rig.new_relay(batch=4)
    async with running(relay):
        await until_published(rig, 25)
    assert published(rig) == names
    assert [size for stage, size in rig.observer.batches if stage == "relay"] == [4, 4, 4, 4, 4, 4, 1]


async def test_what_kafka_did_not_confirm_is_published_again_and_the_cursor_waits(rig: Rig) -> None:
    await append(rig, "a", "b")
    rig.faults.plan("publisher.publish", UNCONFIRMED)
    rig.faults.plan("publisher.written", None, UNCONFIRMED)
    rig.faults.plan("publisher.confirmed", UNCONFIRMED)
    rig.faults.hold("relay.advance")
    relaying = asyncio.create_task(rig.relay_all())
    await rig.faults.reached("relay.advance")
    assert rig.database.outbox_cursor == (0, 0)
    rig.faults.open("relay.advance")
    assert await relaying == 2
    assert published(rig) == ["a", "b", "a", "b", "a", "b"]
    assert await rig.relay_all() == 0


async def test_a_relay_that_dies_before_the_cursor_moves_repeats_and_loses_nothing(rig: Rig) -> None:
    await append(rig, "a", "b")
    rig.faults.hold("relay.advance")
    async with running(rig.new_relay()):
        await rig.faults.reached("relay.advance")
    rig.faults.open("relay.advance")
    await append(rig, "c")
    assert await rig.relay_all() == 3
    assert published(rig) == ["a", "b", "a", "b", "c"]


async def test_a_relay_that_loses_its_session_gets_the_lead_back_and_goes_on(rig: Rig) -> None:
    await append(rig, "a", "b", "c")
    rig.faults.plan("relay.read", None, AWAY)
    rig.faults.plan("relay.advance", AWAY)
    rig.faults.plan("relay.acquire", None, AWAY)
    async with running(rig.new_relay(batch=2)):
        await until_published(rig, 5)
    assert published(rig) == ["a", "b", "a", "b", "c"]
    assert rig.faults.pending == 0
    assert [n.event for n in rig.observer.notes].count("relay_lost_lead") == 2


async def test_a_second_relay_stands_by_until_the_first_is_gone(rig: Rig) -> None:
    async with running(rig.new_relay()):
        await append(rig, "a")
        await until_published(rig, 1)
        async with running(rig.new_relay()):
            await rig.faults.visited("relay.acquire", 10)
            await append(rig, "b")
            await until_published(rig, 2)
            assert [n.event for n in rig.observer.notes] == ["relay_leads"]
    async with running(rig.new_relay()):
        await append(rig, "c")
        await until_published(rig, 3)
    assert published(rig) == ["a", "b", "c"]


async def test_a_slow_transaction_holds_up_nobody_elses_events(rig: Rig) -> None:
    reader = MemoryOutboxReader(rig.database)
    assert await reader.acquire()
    relay = rig.new_relay(reader=reader)
    async with rig.store.transaction() as slow:
        await slow.outbox.append([outbox_event("slow")])
        await append(rig, "fast")
        assert await relay.relay_once() == 1
        assert await relay.relay_once() == 0
        assert published(rig) == ["fast"]
    assert await relay.relay_once() == 1
    assert published(rig) == ["fast", "slow"]


async def test_a_relay_that_stands_still_makes_no_progress_and_one_that_stands_by_does(rig: Rig) -> None:
    """What its watchdog sees, on /healthz: see also test_watching."""
    turns = [0, 0]

    def counted(number: int) -> RelayService:
        relay = rig.new_relay()
        relay._progress = lambda: turns.__setitem__(number, turns[number] + 1)  # type: ignore[method-assign]
        return relay

    async with running(counted(0)), running(counted(1)):
        await rig.faults.visited("relay.acquire", 10)
        assert min(turns) > 0
        rig.faults.hold("publisher.publish")
        await append(rig, "a")
        await rig.faults.reached("publisher.publish")
        before = turns[0]
        await rig.faults.visited("relay.acquire", 10)
        assert turns[0] == before
        rig.faults.open("publisher.publish")
        await until_published(rig, 1)
    assert rig.observer.levels["relay_leader"] == 0


async def test_who_leads_is_told(rig: Rig) -> None:
    async with running(rig.new_relay()):
        await append(rig, "a")
        await until_published(rig, 1)
        assert rig.observer.levels["relay_leader"] == 1
    assert rig.observer.levels["relay_leader"] == 0


async def test_how_long_events_wait_is_observed(rig: Rig) -> None:
    await append(rig, "a")
    rig.clock.set(later(2.5))
    await rig.relay_all()
    assert rig.observer.walked == [("change_to_event", 2.5)]
    assert rig.observer.counted("relay", "published") == 1
    assert rig.clock.now() > NOW


# --- topics that Kafka does not take ---


class Picky:
    """A publisher before a Kafka that lacks some topics."""

    def __init__(self, rig: Rig) -> None:
        self._inner = rig.publisher
        self.missing: set[str] = set()
        self.refused = 0

    async def publish(self, records: Sequence[Outgoing]) -> None:
        for topic in sorted({r.topic for r in records} & self.missing):
            self.refused += 1
            raise TopicClosedError(topic)
        await self._inner.publish(records)


OTHER = "mypay.events.partner-2"


async def append_for(rig: Rig, *names: str) -> None:
    """``a1`` is for the first partner, ``b1`` for the second."""
    async with rig.store.transaction() as uow:
        await uow.outbox.append([replace(outbox_event(n), topic=TOPIC if n[0] == "a" else OTHER) for n in names])


def values(rig: Rig, topic: str) -> list[str]:
    return [r.value.decode() for r in rig.kafka.records(topic)]


async def test_a_missing_topic_holds_up_nobody_else_and_loses_nothing(rig: Rig) -> None:
    picky = Picky(rig)
    rig.publisher = picky  # type: ignore[assignment]
    relay, reader = await leading_relay(rig)
    picky.missing = {OTHER}
    await append_for(rig, "a1", "b1", "a2", "b2")
    assert await relay.relay_once() == 4
    assert (values(rig, TOPIC), values(rig, OTHER)) == (["a1", "a2"], [])
    await append_for(rig, "b3", "a3")
    assert await relay.relay_once() == 2
    assert picky.refused == 1  # what is known to be closed is not tried with every batch
    assert await relay.retry_parked() == 0
    picky.missing = set()
    # It is there again, but what is set aside goes first.
    await append_for(rig, "b4")
    await relay.relay_once()
    assert values(rig, OTHER) == []
    assert await relay.retry_parked() == 4
    await append_for(rig, "b5")
    await relay.relay_once()
    assert values(rig, OTHER) == ["b1", "b2", "b3", "b4", "b5"]
    assert values(rig, TOPIC) == ["a1", "a2", "a3"]
    await reader.release()


async def test_the_next_relay_knows_what_was_set_aside(rig: Rig) -> None:
    picky = Picky(rig)
    rig.publisher = picky  # type: ignore[assignment]
    picky.missing = {OTHER}
    relay, reader = await leading_relay(rig)
    await append_for(rig, "b1")
    await relay.relay_once()
    await reader.release()
    picky.missing = set()
    await append_for(rig, "b2")
    async with running(rig.new_relay()), in_time("what was set aside"):
        while values(rig, OTHER) != ["b1", "b2"]:
            await rig.kafka.wait_written()


async def narrow_relay(rig: Rig, limits: dict[str, int]) -> tuple[RelayService, MemoryOutboxReader, Narrow]:
    narrow = Narrow(rig.publisher, limits)
    rig.publisher = narrow  # type: ignore[assignment]
    return *await leading_relay(rig), narrow


async def test_what_is_larger_than_its_topic_takes_is_set_aside_and_holds_up_nothing(rig: Rig) -> None:
    """Tried for ever, it held up every event there was."""
    relay, reader, narrow = await narrow_relay(rig, {OTHER: 5})
    await append_for(rig, "a1", "b1", "b-large-1", "b2", "a-large", "b-large-2-is-larger", "b-large", "b3")
    assert await relay.relay_once() == 8
    assert (values(rig, TOPIC), values(rig, OTHER)) == (["a1", "a-large"], ["b1", "b2", "b3"])
    assert {row.event.event_id for row, _ in rig.database.outbox_parked.values()} == {
        *("b-large-1", "b-large-2-is-larger", "b-large")
    }
    # The second is larger than what was refused already: it is not even tried.
    assert narrow.refused == 2
    assert rig.observer.counted("relay", "parked") == 3
    assert rig.observer.counted("relay", "published") == 5
    assert {n.event for n in rig.observer.notes if n.level == "error"} == {"event_too_large"}
    assert await reader.parked_topics() == frozenset()
    await append_for(rig, "b4")
    assert await relay.relay_once() == 1
    assert values(rig, OTHER) == ["b1", "b2", "b3", "b4"]


async def append_bundle(rig: Rig, *names: str) -> None:
    """One row for each topic; names begin with the topic's letter, as those of :func:`append_for`."""
    async with rig.store.transaction() as uow:
        await uow.outbox.append_bundled([outbox_event(n, topic=TOPIC if n[0] == "a" else OTHER) for n in names])


async def test_each_event_of_a_bundle_is_a_record_of_its_own(rig: Rig) -> None:
    relay, _ = await leading_relay(rig)
    await append_for(rig, "a1")
    await append_bundle(rig, "a2", "b1", "a3", "b2")
    assert len(rig.database.outbox) == 3
    assert await relay.relay_once() == 3
    assert (values(rig, TOPIC), values(rig, OTHER)) == (["a1", "a2", "a3"], ["b1", "b2"])
    record = rig.kafka.records(OTHER)[0]
    envelope = read_envelope(record.headers)
    assert (record.key, envelope.id, envelope.type, envelope.time) == (b"k", "b1", EventType.PAYMENT_SENT, NOW)
    assert rig.observer.counted("relay", "published") == 5
    assert await relay.relay_once() == 0


class Counting:
    """A publisher that notes how many records come at a time."""

    def __init__(self, rig: Rig) -> None:
        self._inner = rig.publisher
        self.sizes: list[int] = []

    async def publish(self, records: Sequence[Outgoing]) -> None:
        self.sizes.append(len(records))
        await self._inner.publish(records)


async def test_a_backlog_of_bundles_is_told_about_a_batch_of_events_at_a_time(rig: Rig) -> None:
    rig.publisher = counting = Counting(rig)  # type: ignore[assignment]
    rows = [[f"a{row}{n}" for n in range(4)] for row in range(5)]
    for names in rows:
        await append_bundle(rig, *names)
    await append_for(rig, "a5")
    reader = MemoryOutboxReader(rig.database)
    assert await reader.acquire()
    assert await rig.new_relay(reader=reader, batch=6).relay_once() == 6
    assert counting.sizes == [8, 8, 5]
    assert values(rig, TOPIC) == [*(n for names in rows for n in names), "a5"]
    assert rig.observer.counted("relay", "published") == 21
    assert [size for stage, size in rig.observer.batches if stage == "relay"] == [21]


async def test_what_is_shown_of_a_trace_is_the_time_of_its_own_event(rig: Rig) -> None:
    """There are more events than rows."""
    relay, _ = await leading_relay(rig)
    rig.observer.traces = traces = Spans().traces()
    with traces.arriving("mypay.orders", [PARENT]) as (carried,):
        pass
    await append_bundle(rig, "a1", "a2", "a3")
    async with rig.store.transaction() as uow:
        await uow.outbox.append([replace(outbox_event("a4"), traceparent=carried)])
    assert await relay.relay_once() == 2
    assert [(hop, shown.place) for hop, shown in rig.observer.exemplars] == [("change_to_event", 3)]


async def test_a_row_that_cannot_be_read_is_set_aside_alone_and_holds_up_nothing(rig: Rig) -> None:
    relay, reader = await leading_relay(rig)
    await append_bundle(rig, "a1", "a2")
    whole = rig.database.outbox[0]
    rig.database.outbox[0] = damaged = replace(whole, event=replace(whole.event, body=b"?"))
    await append_for(rig, "a3", "b1")
    assert await relay.relay_once() == 3
    assert (values(rig, TOPIC), values(rig, OTHER)) == (["a3"], ["b1"])
    assert (rig.observer.counted("relay", "published"), rig.observer.counted("relay", "parked")) == (2, 1)
    assert [(n.event, n.level) for n in rig.observer.notes if n.level == "error"] == [("bundle_unreadable", "error")]
    assert await relay.retry_parked() == 0
    assert await reader.parked_topics() == frozenset()
    assert await reader.read_unreadable(9) == [damaged]
    await reader.release()

    # Another release understands it.
    rig.database.outbox_parked = {place: (whole, why) for place, (_, why) in rig.database.outbox_parked.items()}
    async with running(rig.new_relay()), in_time("what was set aside"):
        while values(rig, TOPIC) != ["a3", "a1", "a2"]:
            await rig.kafka.wait_written()
    assert rig.database.outbox_parked == {}


@pytest.mark.parametrize("aside", ["parked", "large"])
async def test_what_was_set_aside_and_cannot_be_read_any_more_holds_up_nothing(rig: Rig, aside: str) -> None:
    """As where an older release follows one that told in bundles."""
    relay, reader = await leading_relay(rig)
    await append_bundle(rig, "b1", "b2")
    await append_for(rig, "b-3")
    bundle, single = await reader.read(9)
    damaged = replace(bundle, event=replace(bundle.event, body=b"?"))
    await reader.advance(single, **{aside: [damaged, single]})
    await relay.look_for_parked()
    assert await relay.retry_parked() == 1
    assert values(rig, OTHER) == ["b-3"]
    assert await reader.read_unreadable(9) == [damaged]
    assert (await reader.parked_topics(), await reader.read_large()) == (frozenset(), [])


async def test_a_bundle_for_a_missing_topic_is_set_aside_and_told_as_a_whole(rig: Rig) -> None:
    rig.publisher = picky = Picky(rig)  # type: ignore[assignment]
    relay, reader = await leading_relay(rig)
    picky.missing = {OTHER}
    await append_bundle(rig, "b1", "a1", "b2", "a2")
    await relay.relay_once()
    assert (values(rig, TOPIC), values(rig, OTHER)) == (["a1", "a2"], [])
    assert await reader.parked_topics() == frozenset({OTHER})
    assert (rig.observer.counted("relay", "published"), rig.observer.counted("relay", "parked")) == (2, 2)
    picky.missing = set()
    assert await relay.retry_parked() == 2
    assert values(rig, OTHER) == ["b1", "b2"]
    assert await relay.retry_parked() == 0


async def test_one_of_a_bundle_that_is_too_large_holds_up_none_of_the_others(rig: Rig) -> None:
    relay, _, narrow = await narrow_relay(rig, {OTHER: 5})
    await append_bundle(rig, "b1", "b-large", "b2")
    await append_for(rig, "b3")
    assert await relay.relay_once() == 2
    assert values(rig, OTHER) == ["b1", "b2", "b3"]
    narrow.limits = {}
    assert await relay.retry_parked() == 3
    # What was told before is told again with it: readers know it by its id.
    assert values(rig, OTHER) == ["b1", "b2", "b3", "b1", "b-large", "b2"]
    assert await relay.retry_parked() == 0


async def test_what_was_too_large_is_told_once_its_topic_takes_it(rig: Rig) -> None:
    relay, _, narrow = await narrow_relay(rig, {OTHER: 5, TOPIC: 5})
    await append_for(rig, "b-large", "a-large", "b-large-2", "b-large-is-largest")
    await relay.relay_once()
    assert await relay.retry_parked() == 0
    # A topic whose smallest is refused is asked no more of.
    assert narrow.refused == 2 * 2
    narrow.limits = {OTHER: 9}
    assert await relay.retry_parked() == 3
    assert (values(rig, TOPIC), values(rig, OTHER)) == (["a-large"], ["b-large", "b-large-2"])
    assert [row.event.event_id for row, _ in rig.database.outbox_parked.values()] == ["b-large-is-largest"]
    narrow.limits = {}
    assert await relay.retry_parked() == 1
    assert await relay.retry_parked() == 0
    assert values(rig, OTHER) == ["b-large", "b-large-2", "b-large-is-largest"]


async def test_the_next_relay_tries_what_was_too_large_for_the_one_before(rig: Rig) -> None:
    relay, reader, narrow = await narrow_relay(rig, {OTHER: 5})
    await append_for(rig, "b-large")
    await relay.relay_once()
    await reader.release()
    narrow.limits = {}
    async with running(rig.new_relay()), in_time("what was set aside"):
        while values(rig, OTHER) != ["b-large"]:
            await rig.kafka.wait_written()


async def test_of_a_topic_that_is_open_again_only_what_is_too_large_stays(rig: Rig) -> None:
    picky = Picky(rig)
    narrow = Narrow(picky, {OTHER: 5})
    rig.publisher = narrow  # type: ignore[assignment]
    relay, reader = await leading_relay(rig)
    picky.missing = {OTHER}
    await append_for(rig, "b1", "b-large", "b2")
    await relay.relay_once()
    picky.missing = set()
    assert await relay.retry_parked() == 2
    assert values(rig, OTHER) == ["b1", "b2"]
    assert [r.event.event_id for r in await reader.read_large()] == ["b-large"]
    await append_for(rig, "b3")
    await relay.relay_once()
    assert values(rig, OTHER) == ["b1", "b2", "b3"]


async def leading_relay(rig: Rig) -> tuple[RelayService, MemoryOutboxReader]:
    reader = MemoryOutboxReader(rig.database)
    assert await reader.acquire()
    relay = rig.new_relay(reader=reader)
    return relay, reader
