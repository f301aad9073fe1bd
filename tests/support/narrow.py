"""A publisher before a Kafka some of whose topics take no record beyond a size."""

from collections.abc import Sequence

from gateway.base.errors import TooLargeForTopicError
from gateway.messaging.records import Outgoing, Publisher


class Narrow:
    """Refuses as :class:`gateway.messaging.producer.KafkaPublisher` does: what stands before it is there all the same.

    Attributes:
        limits: topic → bytes of a value that it takes.
        refused: how often one was.
    """

    def __init__(self, inner: Publisher, limits: dict[str, int]) -> None:
        self._inner = inner
        self.limits = limits
        self.refused = 0

    async def publish(self, records: Sequence[Outgoing]) -> None:
        for number, record in enumerate(records):
            if len(record.value) > self.limits.get(record.topic, len(record.value)):
                self.refused += 1
                await self._inner.publish(records[:number])
                error = TooLargeForTopicError(record.topic, frozenset([number]))
                error.confirmed = frozenset(range(number))
                raise error
        await self._inner.publish(records)
