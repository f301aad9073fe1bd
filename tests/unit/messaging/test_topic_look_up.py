"""How many partitions a topic has is asked for until the deadline: a broker that hangs may answer by then."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import TopicAuthorizationFailedError

from gateway.base.errors import PublisherUnavailableError, TopicClosedError
from gateway.messaging import packing
from gateway.messaging.packing import Partition, by_partition
from gateway.messaging.records import Outgoing

TOPIC = "orders"
RECORDS = [Outgoing(TOPIC, b"k", b"v", (), partition=1)]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "TOPIC_LOOK_UP_SECONDS", 0.01)
    monkeypatch.setattr(packing, "_METADATA_SECONDS", 0.01)


class Cluster:
    """A producer's. ``hangs``: questions after which the brokers answer; ``topics``: what they tell then and before."""

    def __init__(self, *, hangs: int, topics: set[str] | None = None, closed: bool = False) -> None:
        self.client = SimpleNamespace(fetch_all_metadata=self._all)
        self.asked = 0
        self._hangs, self._topics, self._closed = hangs, topics, closed

    async def partitions_for(self, topic: str) -> set[int]:
        self.asked += 1
        if self.asked <= self._hangs:
            await asyncio.Event().wait()
        if self._closed:
            raise TopicAuthorizationFailedError(topic)
        return {0, 1}

    async def _all(self) -> Any:
        if self._topics is None:
            await asyncio.Event().wait()
        return SimpleNamespace(topics=lambda: self._topics)


def in_s(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


@pytest.mark.parametrize("topics", [None, {TOPIC}], ids=["all hang", "others are told"])
async def test_a_broker_that_hangs_is_asked_again(topics: set[str] | None) -> None:
    cluster = Cluster(hangs=3, topics=topics)
    assert await by_partition(cluster, RECORDS, [0], in_s(60)) == {Partition(TOPIC, 1): [0]}
    assert cluster.asked == 4


async def test_one_that_hangs_until_the_deadline_is_away() -> None:
    with pytest.raises(PublisherUnavailableError, match=f"did not tell the partitions of {TOPIC}") as told:
        await by_partition(Cluster(hangs=10**9), RECORDS, [0], in_s(0.05))
    assert not isinstance(told.value, TopicClosedError)


@pytest.mark.parametrize(
    "cluster", [Cluster(hangs=10**9, topics={"others"}), Cluster(hangs=1, closed=True)], ids=["missing", "closed"]
)
async def test_a_topic_that_is_not_there_for_us_is_not_waited_for(cluster: Cluster) -> None:
    with pytest.raises(TopicClosedError):
        await by_partition(cluster, RECORDS, [0], in_s(60))
