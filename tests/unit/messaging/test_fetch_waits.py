"""When fetches are sent and how long they may wait: real aiokafka, with a broker that is only thought of."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher

from gateway.messaging.fetch_waits import FETCH_WAIT_MS, HELD_S, MISSED_S, PARTIAL_WAIT_MS, PatientFetcher

PARTITIONS = [TopicPartition("t", n) for n in range(3)]
LEADERS = {0: 1, 1: 1, 2: 2}


class Assignment:
    """Three partitions with valid positions; ``paused`` says which of them nothing is asked for."""

    def __init__(self, paused: frozenset[int] = frozenset()) -> None:
        self.tps = PARTITIONS
        self.paused = paused

    def state_value(self, partition: TopicPartition) -> Any:
        return SimpleNamespace(
            has_valid_position=True, paused=partition.partition in self.paused, resume_fut=None, position=0
        )


@pytest.fixture
async def fetching() -> PatientFetcher:
    """A fetcher that is connected to nothing, and in whose loop nothing runs."""
    made = PatientFetcher.__new__(PatientFetcher)
    cluster = SimpleNamespace(
        leader_for_partition=lambda partition: LEADERS[partition.partition],
        partitions_for_topic=lambda topic: {0, 1, 2} if topic == "t" else None,
    )
    made.__dict__ |= {
        "_client": SimpleNamespace(cluster=cluster),
        "_subscriptions": SimpleNamespace(subscription=SimpleNamespace(topics={"t"})),
        "_records": {},
        "_in_flight": set(),
        "_preferred_read_replica": {},
        "_wait_consume_future": None,
        "_fetch_max_wait_ms": FETCH_WAIT_MS,
        "_fetch_min_bytes": 1,
        "_fetch_max_bytes": 1000,
        "_max_partition_fetch_bytes": 1000,
        "_isolation_level": 1,
        "_client_rack": None,
        "_fetcher_timeout": 10.0,
    }
    return made


def waits(fetching: PatientFetcher, **how: Any) -> dict[int, int]:
    """Broker → how long its fetch may wait, of those that would be sent now."""
    return {node: request._max_wait_ms for node, request in fetching._get_actions_per_node(Assignment(**how))[0]}


async def test_a_fetch_for_all_of_a_brokers_partitions_waits_long(fetching: PatientFetcher) -> None:
    assert waits(fetching) == {1: FETCH_WAIT_MS, 2: FETCH_WAIT_MS}


async def test_a_topic_that_is_not_there_is_asked_for_now_and_then(fetching: PatientFetcher) -> None:
    def asks() -> bool:
        stale: bool = fetching._get_actions_per_node(Assignment())[3]
        return stale

    assert not asks()
    fetching._subscriptions.subscription.topics.add("away")
    for _ in range(2):
        fetching._looked_at = asyncio.get_running_loop().time() - MISSED_S
        assert asks()
        assert not asks()


async def test_a_fetch_for_some_of_them_waits_shortly(fetching: PatientFetcher) -> None:
    # What was fetched of one for a long time and not taken yet holds the others up no more.
    fetching._records = {PARTITIONS[0]: SimpleNamespace(calculate_backoff=lambda: 0)}
    assert waits(fetching) == {1: PARTIAL_WAIT_MS, 2: FETCH_WAIT_MS}


async def test_who_takes_little_of_much_asks_for_the_rest_seldom(fetching: PatientFetcher) -> None:
    loop = asyncio.get_running_loop()
    fetching.partial_every_s = 1000.0
    fetching._records = {PARTITIONS[0]: SimpleNamespace(calculate_backoff=lambda: 0)}
    assert waits(fetching) == {1: PARTIAL_WAIT_MS, 2: FETCH_WAIT_MS}
    # The second one waits; a fetch for all of a broker's partitions does not. It is looked again in time.
    assert waits(fetching) == {2: FETCH_WAIT_MS}
    fetching._partial_at = loop.time() - 999.0
    fetches, _, timeout, *_ = fetching._get_actions_per_node(Assignment())
    assert [node for node, _ in fetches] == [2]
    assert 0.0 < timeout <= 1.0
    fetching._partial_at = loop.time() - 1000.0
    assert waits(fetching) == {1: PARTIAL_WAIT_MS, 2: FETCH_WAIT_MS}


async def test_a_paused_partition_may_be_asked_for_at_any_time(fetching: PatientFetcher) -> None:
    assert waits(fetching, paused=frozenset({1})) == {1: PARTIAL_WAIT_MS, 2: FETCH_WAIT_MS}


@pytest.mark.parametrize(
    ("holds_back", "drained", "max_records", "held"),
    [
        pytest.param(True, {PARTITIONS[0]: [1, 2]}, 3, True, id="part of a batch: the next has all that comes"),
        pytest.param(True, {PARTITIONS[0]: [1, 2], PARTITIONS[1]: [3]}, 3, False, id="full: there is more"),
        pytest.param(True, {}, 3, False, id="nothing: it is waited for"),
        pytest.param(False, {PARTITIONS[0]: [1, 2]}, 3, False, id="whoever does not want it"),
    ],
)
async def test_fetches_are_held_back_from_part_of_a_batch_until_more_is_asked_for(
    fetching: PatientFetcher,
    monkeypatch: pytest.MonkeyPatch,
    holds_back: bool,
    drained: Any,
    max_records: int,
    held: bool,
) -> None:
    sent_while_waiting: list[Any] = []

    async def fetched(_: Any, *__: Any) -> Any:
        sent_while_waiting.append(waits(fetching))
        return drained

    monkeypatch.setattr(Fetcher, "fetched_records", fetched)
    fetching.holds_back = holds_back
    for _ in range(2):
        fetching._wait_consume_future = asyncio.get_running_loop().create_future()
        await fetching.fetched_records((), 1.0, max_records)
        assert (waits(fetching) == {}) is held
    # Where they were held back whoever sends them is woken; and nothing is held while records are waited for.
    assert fetching._wait_consume_future.done() is held
    assert all(sent_while_waiting)


async def test_fetches_are_held_back_for_a_while_only(
    fetching: PatientFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage that stands still comes to know what waits for it."""
    held_s = 1000 * HELD_S  # however long the machine takes until the next line
    fetching._held_until = asyncio.get_running_loop().time() + held_s
    fetches, _, timeout, *_ = fetching._get_actions_per_node(Assignment())
    assert not fetches
    assert 0 < timeout <= held_s
    fetching._held_until = asyncio.get_running_loop().time()
    assert waits(fetching)
