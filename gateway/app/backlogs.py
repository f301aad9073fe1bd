"""What waits in Kafka for each stage, as operators look at it from outside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.app.initiation import WAITING_GROUP
from gateway.app.stages import STAGES, Stage
from gateway.base.process import Observer
from gateway.messaging.backlog import Backlogs
from gateway.messaging.settings import KafkaSettings
from schemas.topics import WAITING_ORDERS

_NETWORK: Final = "{network}"


@dataclass(frozen=True, slots=True)
class Queue:
    """A topic that a stage reads. ``network``: whose, of a stage that has a process a network; or empty."""

    stage: str
    topic: str
    group: str
    network: str = ""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many records of a topic wait for its stage."""

    queue: Queue
    records: int


def queues(networks: Sequence[str]) -> list[Queue]:
    """Every topic that a stage reads, in the order of the stages."""
    found = []
    for stage in STAGES:
        for topic in stage.topics():
            for network in networks if _NETWORK in topic.name else ("",):
                name = topic.name.replace(_NETWORK, network)
                found.append(Queue(stage.name, name, group_of(stage, name, network), network))
    return found


def group_of(stage: Stage, topic: str, network: str = "") -> str:
    """The consumer group in which a stage reads a topic."""
    return WAITING_GROUP if topic == WAITING_ORDERS else stage.principal(network)


class BacklogView:
    """Looks at all of them. Connects when it is first asked."""

    def __init__(self, kafka: KafkaSettings, observer: Observer, networks: Sequence[str]) -> None:
        self._backlogs = Backlogs(kafka, observer)
        self._queues = queues(networks)

    async def look(self) -> Sequence[Backlog] | None:
        """What waits, those with nothing too; None where Kafka does not answer."""
        found = await self._backlogs.of([(q.topic, q.group) for q in self._queues])
        if found is None:
            return None
        waiting: Mapping[str, int] = _by_topic(found)
        return [Backlog(q, waiting.get(q.topic, 0)) for q in self._queues]

    async def stop(self) -> None:
        """Close its connections."""
        await self._backlogs.stop()


def _by_topic(found: Mapping[tuple[str, int], int]) -> dict[str, int]:
    by_topic: dict[str, int] = {}
    for (topic, _), records in found.items():
        by_topic[topic] = by_topic.get(topic, 0) + records
    return by_topic
