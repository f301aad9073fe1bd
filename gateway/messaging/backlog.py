"""How many records wait for a consumer group, looked at from outside of it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

from gateway.base.process import Observer
from gateway.messaging.settings import KafkaSettings

_WAIT_S: Final = 5.0
_CLOSE_S: Final = 2.0
_KNOWN_S: Final = 60.0
"""For so long a topic is taken to have the partitions that it had: operators add some, or make it again with others."""


class Backlogs:
    """Looks at topics and groups. Connects when it is first asked; nothing raises while no broker answers."""

    def __init__(self, settings: KafkaSettings, observer: Observer) -> None:
        self._settings = settings
        self._observer = observer
        self._admin: Any = None
        self._reader: Any = None
        self._partitions: dict[str, list[TopicPartition]] = {}
        self._known_at = 0.0
        # Group → the broker that keeps its offsets.
        self._coordinators: dict[str, int] = {}
        # One look at a time: whoever fails closes the connections of all.
        self._looking = asyncio.Lock()

    async def of(self, waited: Sequence[tuple[str, str]]) -> Mapping[tuple[str, int], int] | None:
        """Return (topic, partition) → records that the group has not committed, for each (topic, group).

        Partitions without any are left out. None where Kafka does not answer.
        """
        async with self._looking:
            try:
                async with asyncio.timeout(_WAIT_S):
                    if self._reader is None:
                        await self._connect()
                    found: dict[tuple[str, int], int] = {}
                    for topic, group in waited:
                        found.update(await self._of(topic, group))
            except (KafkaError, TimeoutError, OSError) as error:
                self._observer.count("backlog", "unknown", reason=type(error).__name__)
                await self._close()
                return None
            return found

    async def stop(self) -> None:
        """Close the connections, within a bound."""
        async with self._looking:
            await self._close()

    async def _close(self) -> None:
        admin, reader = self._admin, self._reader
        self._admin = self._reader = None
        self._coordinators.clear()
        self._partitions.clear()
        for close in (admin and admin.close, reader and reader.stop):
            if close:
                try:
                    async with asyncio.timeout(_CLOSE_S):
                        await close()
                except (KafkaError, TimeoutError, OSError):
                    pass  # it holds nothing

    async def _connect(self) -> None:
        self._admin = AIOKafkaAdminClient(**self._settings.client_arguments())
        # Subscribed to nothing: it fetches nothing.
        self._reader = AIOKafkaConsumer(**self._settings.client_arguments(), group_id=None, enable_auto_commit=False)
        await self._admin.start()
        await self._reader.start()

    async def _of(self, topic: str, group: str) -> Mapping[tuple[str, int], int]:
        partitions = await self._partitions_of(topic)
        if not partitions:
            return {}
        committed = await self._committed(group, partitions)
        ends = await self._reader.end_offsets(partitions)
        begins: Mapping[Any, int] = {}
        if any(committed[p].offset < 0 for p in partitions):
            begins = await self._reader.beginning_offsets(partitions)
        waiting = {}
        for p, end in ends.items():
            at = committed[p].offset if committed[p].offset >= 0 else begins[p]
            if at < end:
                waiting[p.topic, p.partition] = end - at
        return waiting

    async def _committed(self, group: str, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Any]:
        """What is asked many times a second is asked of the group's broker, and not first where that is.

        One that keeps the offsets no more, or cannot read them yet, answers without them (read: 0.14): aiokafka does
        not look why. A partition that the group has not committed is told as -1.

        Raises:
            GroupCoordinatorNotAvailableError: how far the group is, is not known.
        """
        if (known := self._coordinators.get(group)) is not None:
            found: Mapping[TopicPartition, Any] = await self._admin.list_consumer_group_offsets(
                group, group_coordinator_id=known, partitions=partitions
            )
            if all(p in found for p in partitions):
                return found
        self._coordinators[group] = known = await self._admin.find_coordinator(group)
        found = await self._admin.list_consumer_group_offsets(group, group_coordinator_id=known, partitions=partitions)
        if any(p not in found for p in partitions):
            raise GroupCoordinatorNotAvailableError(group)
        return found

    async def _partitions_of(self, topic: str) -> Sequence[TopicPartition]:
        """As they were a while ago at most; none if there is no such topic.

        Asked of the cluster: a consumer that is subscribed to nothing knows of no topic (read: 0.14).
        """
        now = asyncio.get_running_loop().time()
        if now - self._known_at > _KNOWN_S:
            self._partitions.clear()
            self._known_at = now
        if topic not in self._partitions:
            for found in await self._admin.describe_topics():
                if found["error_code"] == 0:
                    numbers = sorted(p["partition"] for p in found["partitions"])
                    self._partitions[found["topic"]] = [TopicPartition(found["topic"], n) for n in numbers]
        return self._partitions.get(topic, ())
