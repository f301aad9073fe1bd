"""How many records wait for a group: what is asked of the brokers, and of which."""

from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition

from gateway.base.process import SilentObserver
from gateway.messaging.backlog import Backlogs
from gateway.messaging.settings import KafkaSettings

PARTITIONS = [TopicPartition("t", 0), TopicPartition("t", 1)]


class Brokers:
    """Two; one of them keeps the group's offsets, and the other answers without any."""

    def __init__(self) -> None:
        self.keeper = 1
        self.loads = False
        self.offset = 3
        self.asked: list[str] = []

    async def describe_topics(self) -> Any:
        return [{"topic": "t", "error_code": 0, "partitions": [{"partition": p.partition} for p in PARTITIONS]}]

    async def find_coordinator(self, _: str) -> int:
        self.asked.append("where")
        return self.keeper

    async def list_consumer_group_offsets(self, _: str, *, group_coordinator_id: int, partitions: Any) -> Any:
        self.asked.append(f"offsets of {group_coordinator_id}")
        if self.loads or group_coordinator_id != self.keeper:
            return {}
        return {p: SimpleNamespace(offset=self.offset) for p in partitions}

    async def end_offsets(self, partitions: Any) -> Any:
        return dict.fromkeys(partitions, 5)

    async def beginning_offsets(self, partitions: Any) -> Any:
        return dict.fromkeys(partitions, 1)

    async def close(self) -> None: ...

    async def stop(self) -> None: ...


def looking_at(brokers: Brokers) -> Backlogs:
    backlogs = Backlogs(KafkaSettings("127.0.0.1:1"), SilentObserver())
    backlogs._admin = backlogs._reader = brokers
    return backlogs


async def test_where_the_offsets_are_kept_is_asked_once() -> None:
    brokers = Brokers()
    backlogs = looking_at(brokers)
    for _ in range(3):
        assert await backlogs.of([("t", "g")]) == {("t", 0): 2, ("t", 1): 2}
    assert brokers.asked == ["where", *["offsets of 1"] * 3]


async def test_it_is_asked_again_where_they_have_moved() -> None:
    """A group that seems to have read nothing would leave no room for anybody."""
    brokers = Brokers()
    backlogs = looking_at(brokers)
    await backlogs.of([("t", "g")])
    brokers.keeper = 2
    brokers.asked.clear()
    assert await backlogs.of([("t", "g")]) == {("t", 0): 2, ("t", 1): 2}
    assert brokers.asked == ["offsets of 1", "where", "offsets of 2"]


async def test_where_no_broker_tells_the_offsets_nothing_is_known() -> None:
    """A coordinator that still loads them answers without any: that is no group at the topic's beginning."""
    brokers = Brokers()
    backlogs = looking_at(brokers)
    brokers.loads = True
    assert await backlogs.of([("t", "g")]) is None
    backlogs = looking_at(brokers)
    brokers.loads = False
    assert await backlogs.of([("t", "g")]) == {("t", 0): 2, ("t", 1): 2}


async def test_a_group_that_has_committed_nothing_is_at_the_beginning() -> None:
    brokers = Brokers()
    brokers.offset = -1
    assert await looking_at(brokers).of([("t", "g")]) == {("t", 0): 4, ("t", 1): 4}
