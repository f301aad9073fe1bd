"""Making the cluster's topics what the topic table says, and telling where they differ.

Running it twice changes nothing the second time. Partitions only ever grow: Kafka cannot take any away, and a key's
records keep their order only as long as the number stays.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any, Final

from aiokafka.admin import NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from gateway.base.errors import UnansweredError
from gateway.messaging.administration import administration, unanswered
from gateway.messaging.probe import denied
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.wire import set_topic_configs
from schemas.topics import Topic

_CLOCK: Final = "message.timestamp.type"
_LATE: Final = "message.timestamp.before.max.ms"
_LARGEST: Final = "max.message.bytes"

_KEPT: Final = {"retention.bytes": "-1", "unclean.leader.election.enable": "false"}
"""By Kafka's own defaults so; brokers with others would drop what nobody has read yet, or what was confirmed."""

_VISIBLE_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.1


class TopicAdminError(UnansweredError):
    """The cluster cannot be reached or refused a change. The text names the topic and Kafka's error."""


@unique
class TopicState(StrEnum):
    """What was found, or done."""

    OK = "ok"
    MISSING = "missing"
    CREATED = "created"
    GROWN = "grown"
    CHANGED = "changed"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class TopicStatus:
    """One topic after the run.

    Attributes:
        differences: what is not as the table says, a phrase each: ``retention.ms is 1000, should be 604800000``.
        settles: applying would leave none of them.
    """

    name: str
    state: TopicState
    differences: tuple[str, ...] = ()
    settles: bool = False


async def ensure_topics(
    settings: KafkaSettings, topics: Sequence[Topic], *, replication_factor: int, apply: bool
) -> list[TopicStatus]:
    """Compare topics with the cluster; with ``apply``, create what is missing, add partitions, set what is taken.

    What is taken: whose clock counts, how late a record may be, how large. Other differences (fewer partitions wanted,
    other configuration, replication) are told, never changed: each can lose data or order and is an operator's
    decision. Returns one status a topic, in the order given, once Kafka serves them all.

    Raises:
        TopicAdminError: the cluster cannot be reached or refused a change.
        KafkaDeniedError: it does not let us in, or not do this.
    """
    try:
        async with administration(settings) as client:
            return await _ensure(client, topics, replication_factor, apply=apply)
    except (KafkaError, TimeoutError) as error:
        if (told := await denied(settings, error)) is not None:
            raise told from error
        raise TopicAdminError(unanswered(error)) from error


def topic_configuration(topic: Topic, replication_factor: int) -> dict[str, str]:
    """Topic-level configuration by Kafka's names.

    ``min.insync.replicas`` is one below the replicas: a record is confirmed once two brokers have it, and one broker
    may be away.
    """
    return {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "retention.ms": str(topic.retention_ms),
        "min.insync.replicas": str(max(1, replication_factor - 1)),
        **_KEPT,
        **_taken(topic),
    }


def _taken(topic: Topic) -> dict[str, str]:
    """Which records it takes. Set where it differs: that decides of new records, and leaves those that are there."""
    late = {} if topic.late_ms is None else {_LATE: str(topic.late_ms)}
    return {_LARGEST: str(topic.max_message_bytes), _CLOCK: topic.timestamp_type.value, **late}


async def _ensure(client: Any, topics: Sequence[Topic], replication_factor: int, *, apply: bool) -> list[TopicStatus]:
    names = [t.name for t in topics]
    found = await _partitions(client, names)
    missing = [t for t in topics if t.name not in found]
    grow = [t for t in topics if t.name in found and len(found[t.name]) < t.partitions]
    if apply:
        await _create(client, missing, replication_factor)
        await _grow(client, grow)
        if missing or grow:
            await _wait_visible(client, topics)
    configured = await _configurations(client, [n for n in names if n in found])
    set_anew = [t for t in topics if t.name in found and not _taken(t).items() <= configured[t.name].items()]
    if apply and set_anew:
        await _set_taken(client, set_anew)
        configured |= {t.name: configured[t.name] | _taken(t) for t in set_anew}
    created = TopicState.CREATED if apply else TopicState.MISSING
    result = []
    for topic in topics:
        if topic.name not in found:
            result.append(TopicStatus(topic.name, created))
            continue
        grown = apply and topic in grow
        partitions = topic.partitions if grown else len(found[topic.name])
        has = found[topic.name], configured[topic.name]
        differences = _differences(topic, partitions, *has, replication_factor)
        applied = max(partitions, topic.partitions), has[0], has[1] | _taken(topic)
        settles = bool(differences) and not _differences(topic, *applied, replication_factor)
        done = TopicState.GROWN if grown else TopicState.CHANGED if apply and topic in set_anew else TopicState.OK
        state = TopicState.DIFFERS if differences else done
        result.append(TopicStatus(topic.name, state, differences, settles))
    return result


def _differences(
    topic: Topic, partitions: int, replicas: Sequence[int], configured: Mapping[str, str], replication_factor: int
) -> tuple[str, ...]:
    differences = []
    if partitions != topic.partitions:
        differences.append(f"partitions is {partitions}, should be {topic.partitions}")
    if min(replicas) != replication_factor:
        differences.append(f"replication factor is {min(replicas)}, should be {replication_factor}")
    for name, wanted in topic_configuration(topic, replication_factor).items():
        if configured.get(name) != wanted:
            differences.append(f"{name} is {configured.get(name)}, should be {wanted}")
    return tuple(differences)


async def _partitions(client: Any, names: Sequence[str]) -> dict[str, list[int]]:
    """Replicas of each partition of the topics that exist."""
    # Asked for all: asking for a topic by name makes a cluster with auto-creation create it.
    described = {t["topic"]: t for t in await client.describe_topics() if t["error_code"] == 0}
    return {n: [len(p["replicas"]) for p in described[n]["partitions"]] for n in names if n in described}


async def _configurations(client: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    wanted = dict.fromkeys(("cleanup.policy", "retention.ms", "min.insync.replicas", *_KEPT, _LARGEST, _CLOCK, _LATE))
    responses = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, n, wanted) for n in names])
    result: dict[str, dict[str, str]] = {}
    for response in responses:
        for error_code, _, _, name, entries in response.resources:
            if error_code:
                raise for_code(error_code)
            result[name] = {entry[0]: entry[1] for entry in entries}
    return result


async def _create(client: Any, topics: Sequence[Topic], replication_factor: int) -> None:
    if not topics:
        return
    response = await client.create_topics(
        [
            NewTopic(t.name, t.partitions, replication_factor, topic_configs=topic_configuration(t, replication_factor))
            for t in topics
        ]
    )
    for error in response.topic_errors:
        failure = for_code(error[1])
        # Somebody else, doing the same at the same time, is no failure.
        if error[1] and failure is not TopicAlreadyExistsError:
            raise TopicAdminError(f"Kafka did not create {error[0]}: {failure.__name__}")


async def _grow(client: Any, topics: Sequence[Topic]) -> None:
    if topics:
        await client.create_partitions({t.name: NewPartitions(t.partitions) for t in topics})


async def _set_taken(client: Any, topics: Sequence[Topic]) -> None:
    request = set_topic_configs({t.name: _taken(t) for t in topics})
    response = await client._send_request(request)  # noqa: SLF001 - aiokafka has no public way to send one's own
    for error_code, _, _, name in response.responses:
        if error_code:
            raise TopicAdminError(f"Kafka did not set what {name} takes: {for_code(error_code).__name__}")


async def _wait_visible(client: Any, topics: Sequence[Topic]) -> None:
    async with asyncio.timeout(_VISIBLE_SECONDS):
        while True:
            found = await _partitions(client, [t.name for t in topics])
            if all(len(found.get(t.name, ())) >= t.partitions for t in topics):
                return
            await asyncio.sleep(_POLL_SECONDS)
