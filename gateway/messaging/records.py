"""Kafka: records as consumed and published, and where those go that nobody can read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple, Protocol

from gateway.base.discreet import Discreet


@dataclass(frozen=True, slots=True)
class Unread:
    """What a consumer passed over without unpacking it.

    Attributes:
        first_offset, last_offset: where it stands, in its partition.
        reason: why, in words that tell nothing of it.
    """

    first_offset: int
    last_offset: int
    reason: str


class UnreadError(Exception):
    """Records were passed over unread: the text tells where they stand, and why."""

    def __init__(self, unread: Unread) -> None:
        first, last = unread.first_offset, unread.last_offset
        place = f"offset {first}" if first == last else f"offsets {first} to {last}"
        super().__init__(f"{place}: what stands there {unread.reason}")


_HIDDEN: Final = frozenset({"key", "value", "headers"})
"""Of strangers' records any of these may hold a card number."""


class Record(Discreet, frozen=True, gc=False):
    """One Kafka record as consumed.

    Attributes:
        timestamp_ms: since the epoch, as the broker or producer set it.
        unread: set where the record has no content and stands for others that were passed over; its offset is the
            last one's. A stage parks it (:class:`gateway.messaging.isolation.IsolatedBatch`).
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    unread: Unread | None = None

    HIDDEN: ClassVar[frozenset[str]] = _HIDDEN

    @property
    def reference(self) -> str:
        """``topic/partition/offset``: names the record for ever, without showing any of it."""
        return f"{self.topic}/{self.partition}/{self.offset}"


def first_offsets(records: Iterable[Record]) -> dict[tuple[str, int], int]:
    """Topic and partition → where the first of these records stands."""
    first: dict[tuple[str, int], int] = {}
    for record in records:
        place = (record.topic, record.partition)
        first[place] = min(first.get(place, record.offset), record.offset)
    return first


class Outgoing(Discreet, frozen=True, gc=False):
    """One Kafka record to publish.

    Attributes:
        partition: None leaves it to the key, as Java's producers do.
        at_ms: when it was decided, milliseconds since the epoch: of a topic that takes nothing old
            (:attr:`schemas.topics.Topic.late_ms`) it comes to stand there by then, or never. None: it may come whenever
            it can, and has the time at which it is packed.
    """

    topic: str
    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]]
    partition: int | None = None
    at_ms: int | None = None

    HIDDEN: ClassVar[frozenset[str]] = _HIDDEN


class Receipt(NamedTuple):
    """Where a record stands that Kafka has confirmed.

    Attributes:
        timestamp_ms: since the epoch by the broker's clock; -1 where the topic keeps the producer's.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int

    @property
    def reference(self) -> str:
        """``topic/partition/offset``, as events name the record that they answer."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class Publisher(Protocol):
    """An idempotent Kafka producer."""

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Return when every record is durably in Kafka; records with one topic and key keep their order.

        Raises:
            PublisherUnavailableError: not all were confirmed; :class:`TopicClosedError` or
                :class:`TooLargeForTopicError` where one topic is the cause.
        """


class DeadLetters(Protocol):
    """Where records go that no stage can read."""

    async def park(self, stage: str, records: Sequence[tuple[Record, Exception]]) -> None:
        """Publish each record to the dead-letter topic with the reason; return when all are durably there.

        Raises:
            PublisherUnavailableError: not all were confirmed.
        """
