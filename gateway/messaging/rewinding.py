"""Setting a consumer group back in time, while none of its members lives."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, KafkaError, UnknownMemberIdError

from gateway.messaging.administration import administration, unanswered
from gateway.messaging.reader import KafkaUnavailableError, read_since
from gateway.messaging.records import Record
from gateway.messaging.settings import KafkaSettings

_PATIENCE_S: Final = 60.0
"""Above the longest session of a group: a member that was killed is a member for that long."""

_POLL_S: Final = 0.5


class GroupAliveError(Exception):
    """Somebody still reads as a member of this group: stop it first."""


@asynccontextmanager
async def _admin(settings: KafkaSettings) -> AsyncIterator[Any]:
    try:
        async with administration(settings) as client:
            yield client
    except (KafkaError, OSError) as error:
        raise KafkaUnavailableError(unanswered(error)) from error


async def topics_like(settings: KafkaSettings, prefix: str) -> list[str]:
    """Names of the topics that begin so, sorted.

    Raises:
        KafkaUnavailableError: no broker answers.
    """
    async with _admin(settings) as client:
        return sorted(name for name in await client.list_topics() if name.startswith(prefix))


async def read_each_since(settings: KafkaSettings, prefix: str, since: datetime) -> AsyncIterator[tuple[str, Record]]:
    """Every record of the topics that begin so, topic by topic, each with what the topic's name goes on with.

    Raises as :func:`topics_like` and :func:`gateway.messaging.reader.read_since`.
    """
    for topic in await topics_like(settings, prefix):
        async for record in read_since(settings, topic, since):
            yield topic.removeprefix(prefix), record


async def committed(settings: KafkaSettings, group: str) -> Mapping[tuple[str, int], int]:
    """(topic, partition) → the offset that a group has committed; none of a partition without one.

    Raises:
        KafkaUnavailableError: no broker answers.
    """
    async with _admin(settings) as client:
        found = await client.list_consumer_group_offsets(group)
    return {(p.topic, p.partition): at.offset for p, at in found.items() if at.offset >= 0}


async def lag_of(settings: KafkaSettings, group: str, topics: Sequence[str]) -> int:
    """Records of these topics that a group has not committed yet.

    Raises:
        KafkaUnavailableError: no broker answers.
    """
    at = await committed(settings, group)
    async with _reader(settings, None) as reader:
        partitions = await _partitions(reader, topics)
        ends = await reader.end_offsets(partitions)
        begins = await reader.beginning_offsets(partitions)
    return sum(end - max(at.get((p.topic, p.partition), 0), begins[p]) for p, end in ends.items())


async def rewind(settings: KafkaSettings, group: str, topics: Sequence[str], to: datetime) -> int:
    """Let a group begin at the first record of that time; never further on than it is. Returns by how many.

    Raises:
        GroupAliveError: a member of it lives.
        KafkaUnavailableError: no broker answers.
    """
    at = await committed(settings, group)
    async with _reader(settings, group) as reader:
        partitions = await _partitions(reader, topics)
        reader.assign(partitions)
        found = await reader.offsets_for_times(dict.fromkeys(partitions, int(to.timestamp() * 1000)))
        back: dict[TopicPartition, int] = {}
        for partition, place in found.items():
            now = at.get((partition.topic, partition.partition))
            if now is not None and place is not None and place.offset < now:
                back[partition] = place.offset
        if back:
            await _commit(reader, group, back)
        return sum(at[p.topic, p.partition] - offset for p, offset in back.items())


async def _commit(reader: Any, group: str, offsets: Mapping[TopicPartition, int]) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE_S
    while True:
        try:
            await reader.commit(offsets)
        # While a member lives, or was killed less than its session ago: aiokafka says so in either way.
        except (CommitFailedError, UnknownMemberIdError):
            if loop.time() > deadline:
                raise GroupAliveError(f"a member of the group {group} still lives") from None
            await asyncio.sleep(_POLL_S)
        else:
            return


async def _partitions(reader: Any, topics: Sequence[str]) -> list[TopicPartition]:
    found = []
    for topic in topics:
        # Asked of the cluster, for a consumer that is subscribed to nothing knows of no topic.
        await reader._client.add_topic(topic)  # noqa: SLF001
        found += [TopicPartition(topic, n) for n in sorted(reader.partitions_for_topic(topic) or ())]
    return found


@asynccontextmanager
async def _reader(settings: KafkaSettings, group: str | None) -> AsyncIterator[Any]:
    reader = AIOKafkaConsumer(**settings.client_arguments(), group_id=group, enable_auto_commit=False)
    try:
        await reader.start()
        yield reader
    except (KafkaError, OSError) as error:
        raise KafkaUnavailableError(unanswered(error)) from error
    finally:
        await reader.stop()
