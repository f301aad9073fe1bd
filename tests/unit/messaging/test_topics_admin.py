"""What of a topic's differences applying settles, and what is left to people."""

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.cli.doctor import _todo
from gateway.messaging.topics_admin import TopicState, _ensure, topic_configuration
from schemas.topics import ORDERS, TOPICS

TOPIC = next(t for t in TOPICS if t.name == ORDERS)
TIMES = "message.timestamp.type"
LARGEST = "max.message.bytes"


class Cluster:
    """Has one topic, and changes nothing."""

    def __init__(self, partitions: int, replicas: int, configured: dict[str, str]) -> None:
        parts = [{"partition": n, "replicas": list(range(replicas))} for n in range(partitions)]
        self._topics = [{"topic": TOPIC.name, "error_code": 0, "partitions": parts}]
        self._entries = list(configured.items())

    async def describe_topics(self) -> list[dict[str, Any]]:
        return self._topics

    async def describe_configs(self, _: object) -> list[Any]:
        return [SimpleNamespace(resources=[(0, None, 2, TOPIC.name, self._entries)])]


@pytest.mark.parametrize(
    ("lacking", "replicas", "changed", "todo"),
    [
        (0, 1, {TIMES: "other"}, "`mypay topics apply` sets it."),
        (0, 1, {LARGEST: "1"}, "`mypay topics apply` sets it."),
        (0, 1, {LARGEST: "99999999"}, "`mypay topics apply` sets it."),
        (0, 1, {LARGEST: "1", "retention.ms": "1"}, "An operator decides."),
        (1, 1, {}, "`mypay topics apply` sets it."),
        (1, 1, {TIMES: "other"}, "`mypay topics apply` sets it."),
        (-1, 1, {}, "An operator decides."),
        (0, 2, {}, "An operator decides."),
        (0, 1, {"retention.ms": "1"}, "An operator decides."),
        (0, 1, {"retention.bytes": "1073741824"}, "An operator decides."),
        (0, 1, {"unclean.leader.election.enable": "true"}, "An operator decides."),
        (1, 1, {"retention.ms": "1", TIMES: "other"}, "An operator decides."),
    ],
)
async def test_a_difference_is_settled_by_applying_or_left_to_people(
    lacking: int, replicas: int, changed: dict[str, str], todo: str
) -> None:
    cluster = Cluster(TOPIC.partitions - lacking, replicas, topic_configuration(TOPIC, 1) | changed)
    [told] = await _ensure(cluster, [TOPIC], 1, apply=False)
    assert told.state is TopicState.DIFFERS
    assert len(told.differences) == len(changed) + bool(lacking) + (replicas != 1)
    assert _todo(told) == todo


async def test_a_topic_that_is_right_has_nothing_to_settle() -> None:
    [told] = await _ensure(Cluster(TOPIC.partitions, 1, topic_configuration(TOPIC, 1)), [TOPIC], 1, apply=False)
    assert (told.state, told.differences, told.settles) == (TopicState.OK, (), False)
