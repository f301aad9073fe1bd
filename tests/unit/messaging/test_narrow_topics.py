"""A topic that takes less at once than a producer packs is given less, until somebody may have let it take more."""

import pytest

from gateway.messaging.live_producer import LiveProducer
from gateway.messaging.narrow_topics import KEPT_S, TOPICS_MAX, NarrowTopics
from gateway.messaging.packing import pack, size_of
from gateway.messaging.records import Outgoing
from gateway.messaging.settings import KafkaSettings
from gateway.observability.recording import RecordingObserver


def test_half_of_what_was_refused_is_given_next_and_half_of_that() -> None:
    topics = NarrowTopics()
    assert topics.most("events", 0.0) is None
    topics.refused("events", 4001, 0.0)
    assert topics.most("events", 1.0) == 2000
    assert topics.most("others", 1.0) is None
    topics.refused("events", 2000, 1.0)
    assert topics.most("events", 1.0) == 1000


def test_it_is_forgotten_after_a_while() -> None:
    topics = NarrowTopics()
    topics.refused("events", 4000, 10.0)
    assert topics.most("events", 10.0 + KEPT_S - 0.001) == 2000
    assert topics.most("events", 10.0 + KEPT_S) is None


def test_as_many_are_remembered_as_have_room_those_of_last() -> None:
    topics = NarrowTopics()
    for number in range(TOPICS_MAX):
        topics.refused(f"t-{number}", 100, 0.0)
    topics.refused("t-0", 100, 0.0)
    topics.refused("new", 100, 0.0)
    assert [topics.most(t, 1.0) for t in ("t-0", "t-1", "t-2", "new")] == [50, None, 50, 50]


@pytest.mark.parametrize(
    ("most", "batches"), [(None, [5]), (25, [2, 2, 1]), (20, [2, 2, 1]), (19, [1, 1, 1, 1, 1]), (0, [1, 1, 1, 1, 1])]
)
async def test_a_batch_holds_no_more_than_a_topic_is_given_and_one_record_in_any_case(
    most: int | None, batches: list[int]
) -> None:
    records = [Outgoing("events", b"k", b"123456789", ()) for _ in range(5)]
    assert size_of(records[0]) == 10
    live = LiveProducer(
        KafkaSettings("127.0.0.1:1"),
        RecordingObserver(),
        stage="publisher",
        batch_bytes=1000,
        request_timeout_ms=1000,
        flushes=True,
    )
    producer, packed = live.make(), list[list[int]]()
    while sum(map(len, packed)) < 5:
        _, numbers = pack(producer, records, [0, 1, 2, 3, 4], sum(map(len, packed)), most=most)
        packed.append(numbers)
    assert [len(numbers) for numbers in packed] == batches
    assert [n for numbers in packed for n in numbers] == [0, 1, 2, 3, 4]
