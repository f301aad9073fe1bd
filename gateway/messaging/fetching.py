"""What a fetch brings is bounded before it is unpacked, and what cannot be read stops nothing.

A batch of less than a topic's limit may unpack to a thousand times of that, and aiokafka 0.14 unpacks whatever comes
(read, ran): one such batch ends every consumer that reads its partition, again and again. Here

- a batch is unpacked into room of fixed size (:mod:`gateway.messaging.unpacking`); one that does not fit, holds more
  records than any honest one, or cannot be read, is passed over as a whole,
- a record that is too large, or has too many headers, is passed over alone (:mod:`gateway.messaging.bounded_batches`),
- of one fetch of one partition no more is unpacked than :data:`FETCH_UNPACKED_BYTES`; the rest is fetched again,
- a batch whose checksum is wrong is fetched again, and passed over if that does not mend it,
- a header name that is not UTF-8 is spelt with escapes (:mod:`gateway.messaging.header_names`).

What is passed over comes to the consumer as one record without content that tells its place (:class:`Unread`), so that
it is parked and counted, and offsets are committed past it.

This reaches into aiokafka, whose version is pinned; tests on a real broker tell if an upgrade breaks it.
"""

from collections.abc import Iterator
from typing import Any, Final

from aiokafka.consumer import consumer as aiokafka_consumer
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch

from gateway.messaging.bounded_batches import (
    HEADER_BYTES,
    MAGIC_PLACE,
    Batch,
    LegacyBatch,
    PackedBytes,
    UnreadBytes,
    WholeBatch,
    end_of,
    uncounted,
)
from gateway.messaging.connections import guard_connections
from gateway.messaging.fetch_waits import PatientFetcher
from gateway.messaging.group_sessions import YieldingCoordinator
from gateway.messaging.records import Record

FETCH_UNPACKED_BYTES: Final = 8 * 1024 * 1024
"""Past this nothing more is unpacked of a fetch; so with 8 partitions no more than 192 MiB wait unpacked."""

CHECKSUM_TRIES: Final = 3
"""Fetches of a batch with a wrong checksum: what the network spoilt is whole again the next time, a disk's is not."""


def whole_batches(value: bytes) -> bytes:
    """A ``value_deserializer`` that is never called: a consumer that has it is given a message a batch, still packed.

    So nothing is done for each record until :func:`records_of` unpacks them. A batch that the fetch begins within is
    given whole. Only on consumers under :func:`guard_fetches`.
    """
    return value


def guard_fetches() -> None:
    """Make every aiokafka consumer of this process (Faust's too) read so. Doing it twice changes nothing.

    How long fetches wait changes too: see :mod:`gateway.messaging.fetch_waits`; for how long a member of a group may be
    silent: see :mod:`gateway.messaging.group_sessions`; and how they are connected: see
    :mod:`gateway.messaging.connections`.
    """
    guard_connections()
    aiokafka_consumer.Fetcher = PatientFetcher
    aiokafka_consumer.GroupCoordinator = YieldingCoordinator
    fetcher.MemoryRecords = _Fetched
    fetcher.PartitionRecords = _PartitionRecords


def record_of(message: Any, timestamp_ms: int | None) -> Record:
    """Our record of a message as aiokafka or Faust gives it. A value or a header without bytes has ``b""``."""
    value = message.value
    return Record(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        # The oldest message format has no times.
        timestamp_ms=timestamp_ms or 0,
        key=message.key,
        value=b"" if value is None else value,
        headers=tuple([(name, b"" if header is None else header) for name, header in message.headers or ()]),
        unread=value.unread if isinstance(value, UnreadBytes) else None,
    )


def records_of(message: Any, timestamp_ms: int | None) -> Iterator[Record]:
    """Our records of a message: one, or those of the batch that it is."""
    value = message.value
    if not isinstance(value, PackedBytes):
        yield record_of(message, timestamp_ms)
        return
    topic, partition = message.topic, message.partition
    for record in Batch(value, uncounted, checked=value.checked):
        content = record.value
        yield Record(
            topic,
            partition,
            record.offset,
            record.timestamp or 0,
            record.key,
            b"" if content is None else content,
            tuple([(name, b"" if header is None else header) for name, header in record.headers or ()]),
            content.unread if isinstance(content, UnreadBytes) else None,
        )


def count_of(message: Any) -> int:
    """How many records a message says it holds; it may hold fewer."""
    value = message.value
    return max(1, value.said) if isinstance(value, PackedBytes) else 1


def is_unread(message: Any) -> bool:
    """True of a message that stands for what was passed over."""
    return isinstance(message.value, UnreadBytes)


class _PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """Tells a fetch's batches which partition they are of."""

    def __init__(
        self,
        tp: Any,
        records: "_Fetched",
        aborted_transactions: Any,
        fetch_offset: int,
        key_deserializer: Any,
        value_deserializer: Any,
        *rest: Any,
    ) -> None:
        records.partition = (tp.topic, tp.partition)
        if value_deserializer is whole_batches:
            records.whole, value_deserializer = True, None
        super().__init__(tp, records, aborted_transactions, fetch_offset, key_deserializer, value_deserializer, *rest)


class _Fetched:
    """The batches that one fetch brought of one partition, as aiokafka's ``MemoryRecords``."""

    _failed: dict[tuple[str, int, int], int] = {}  # noqa: RUF012 - of the process: a fetch is forgotten when it fails

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0
        self._unpacked = 0
        self.partition: tuple[str, int] = ("", 0)
        self.whole = False

    def size_in_bytes(self) -> int:
        return len(self._data)

    def has_next(self) -> bool:
        """True if there is a whole batch that is worth a try. After False the consumer fetches from its place again."""
        end = end_of(self._data, self._place)
        if end is None or self._unpacked > FETCH_UNPACKED_BYTES:
            return False
        return not self.partition[0] or self._may_try(end)

    def next_batch(self) -> Any:
        """The next batch, not unpacked yet."""
        begin, end = self._place, end_of(self._data, self._place)
        if end is None:
            return None
        self._place = end
        raw = self._data[begin:end]
        if raw[MAGIC_PLACE] < 2:
            return LegacyBatch(raw)
        checked = self._failed.pop(self._key(begin), 0) < CHECKSUM_TRIES
        return (WholeBatch if self.whole else Batch)(raw, self._count_unpacked, checked=checked)

    def _may_try(self, end: int) -> bool:
        begin = self._place
        if self._data[begin + MAGIC_PLACE] < 2 or end - begin < HEADER_BYTES:
            return True
        key = self._key(begin)
        tried = self._failed.get(key, 0)
        if tried >= CHECKSUM_TRIES or DefaultRecordBatch(self._data[begin:end]).validate_crc():
            return True
        if len(self._failed) > 1000:
            self._failed.clear()
        self._failed[key] = tried + 1
        return tried + 1 >= CHECKSUM_TRIES

    def _key(self, begin: int) -> tuple[str, int, int]:
        return (*self.partition, int.from_bytes(self._data[begin : begin + 8], "big"))

    def _count_unpacked(self, size: int) -> None:
        self._unpacked += size
