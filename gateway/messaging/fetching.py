"""What a fetch brings is bounded before it is unpacked, and what cannot be read stops nothing.

A batch of less than a topic's limit may unpack to a thousand times of that, and aiokafka 0.14 unpacks whatever comes
(read, ran): one such batch ends every consumer that reads its partition, again and again. Here

- a batch is unpacked into room of fixed size, whatever its codec; one that does not fit, holds more records than any
  honest one, or cannot be read, is passed over as a whole,
- a record above :data:`RECORD_BYTES_MAX`, or with more headers than :data:`HEADERS_MAX`, is passed over alone,
- of one fetch of one partition no more is unpacked than :data:`FETCH_UNPACKED_BYTES`; the rest is fetched again,
- a batch whose checksum is wrong is fetched again, and passed over if that does not mend it,
- a header name that is not UTF-8 is spelt with escapes (:mod:`gateway.messaging.header_names`).

What is passed over comes to the consumer as one record without content that tells its place (:class:`Unread`), so that
it is parked and counted, and offsets are committed past it.

This reaches into aiokafka, whose version is pinned; tests on a real broker tell if an upgrade breaks it.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import cramjam
from aiokafka.consumer import consumer as aiokafka_consumer
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch
from aiokafka.record.util import decode_varint

from gateway.messaging.fetch_waits import PatientFetcher
from gateway.messaging.group_sessions import YieldingCoordinator
from gateway.messaging.header_names import read_tolerantly
from gateway.messaging.records import Record, Unread

UNPACKED_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of one batch: sixteen times a topic's limit. Signed JSON shrinks to a tenth at best."""

RECORDS_MAX: Final = 50_000
"""Of one batch: what fits into that, of orders as small as they can be. Each record costs far more than its bytes."""

RECORD_BYTES_MAX: Final = 2 * 1024 * 1024
"""Twice a topic's limit: what is larger cannot even become a dead letter."""

HEADERS_MAX: Final = 1_000
"""Of one record: an order has seven."""

FETCH_UNPACKED_BYTES: Final = 8 * 1024 * 1024
"""Past this nothing more is unpacked of a fetch; so with 8 partitions no more than 192 MiB wait unpacked."""

CHECKSUM_TRIES: Final = 3
"""Fetches of a batch with a wrong checksum: what the network spoilt is whole again the next time, a disk's is not."""

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_CODEC_PLACE: Final = 22
"""The low byte of the attributes."""

_COUNT_PLACE: Final = 57
_MAGIC_PLACE: Final = 16
_LEGACY_CODEC_PLACE: Final = 17
_CODEC_BITS: Final = 0x07
_LENGTH: Final = struct.Struct(">i")
_OVERHEAD: Final = 12
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER: Final = 16

TOO_LARGE: Final = f"unpacks to more than {UNPACKED_BYTES_MAX} bytes"
TOO_MANY: Final = f"holds more than {RECORDS_MAX} records"
LARGE_RECORD: Final = f"is larger than {RECORD_BYTES_MAX} bytes"
MANY_HEADERS: Final = f"has more than {HEADERS_MAX} headers"
UNREADABLE: Final = "cannot be unpacked or read"
OLD_FORMAT: Final = "is compressed in a message format older than 2, which has no headers"
BAD_CHECKSUM: Final = "does not match its checksum"


class _UnreadableError(Exception):
    """The batch cannot be read; the text says why."""


class _UnreadBytes(bytes):
    """No bytes at all: the value of a record that stands for what was passed over."""

    unread: Unread


class _Placeholder:
    """Has what aiokafka asks a record for."""

    __slots__ = ("offset", "timestamp", "value")
    key = None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_type = 0
    checksum = None

    def __init__(self, unread: Unread, timestamp: int) -> None:
        self.offset = unread.last_offset
        self.timestamp = max(0, timestamp)
        self.value = _UnreadBytes()
        self.value.unread = unread


class _PackedBytes(bytes):
    """A batch's own bytes; ``said``: how many records it says it has; ``checked``: the bytes are what was sent."""

    said: int
    checked: bool


def whole_batches(value: bytes) -> bytes:
    """A ``value_deserializer`` that is never called: a consumer that has it is given a message a batch, still packed.

    So nothing is done for each record until :func:`records_of` unpacks them. A batch that the fetch begins within is
    given whole. Only on consumers under :func:`guard_fetches`.
    """
    return value


def guard_fetches() -> None:
    """Make every aiokafka consumer of this process (Faust's too) read so. Doing it twice changes nothing.

    How long fetches wait changes too: see :mod:`gateway.messaging.fetch_waits`; and for how long a member of a group
    may be silent: see :mod:`gateway.messaging.group_sessions`.
    """
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
        unread=value.unread if isinstance(value, _UnreadBytes) else None,
    )


def records_of(message: Any, timestamp_ms: int | None) -> Iterator[Record]:
    """Our records of a message: one, or those of the batch that it is."""
    value = message.value
    if not isinstance(value, _PackedBytes):
        yield record_of(message, timestamp_ms)
        return
    topic, partition = message.topic, message.partition
    for record in _Batch(value, _uncounted, checked=value.checked):
        content = record.value
        yield Record(
            topic,
            partition,
            record.offset,
            record.timestamp or 0,
            record.key,
            b"" if content is None else content,
            tuple([(name, b"" if header is None else header) for name, header in record.headers or ()]),
            content.unread if isinstance(content, _UnreadBytes) else None,
        )


def count_of(message: Any) -> int:
    """How many records a message says it holds; it may hold fewer."""
    value = message.value
    return max(1, value.said) if isinstance(value, _PackedBytes) else 1


def is_unread(message: Any) -> bool:
    """True of a message that stands for what was passed over."""
    return isinstance(message.value, _UnreadBytes)


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
        end = self._end()
        if end is None or self._unpacked > FETCH_UNPACKED_BYTES:
            return False
        return not self.partition[0] or self._may_try(end)

    def next_batch(self) -> Any:
        """The next batch, not unpacked yet."""
        begin, end = self._place, self._end()
        if end is None:
            return None
        self._place = end
        raw = self._data[begin:end]
        if raw[_MAGIC_PLACE] < 2:
            return _LegacyBatch(raw)
        checked = self._failed.pop(self._key(begin), 0) < CHECKSUM_TRIES
        return (_WholeBatch if self.whole else _Batch)(raw, self._count_unpacked, checked=checked)

    def _end(self) -> int | None:
        if len(self._data) - self._place < _HEADER.size:
            # Shorter than any batch of format 2; one of an older format with room for headers is none of ours.
            return None
        end = self._place + _OVERHEAD + int(_LENGTH.unpack_from(self._data, self._place + 8)[0])
        return end if self._place + _OVERHEAD < end <= len(self._data) else None

    def _may_try(self, end: int) -> bool:
        begin = self._place
        if self._data[begin + _MAGIC_PLACE] < 2 or end - begin < _HEADER.size:
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


class _LegacyBatch:
    """A message of format 0 or 1, without unpacking: nothing that we read may come in them."""

    producer_id = None
    is_control_batch = False
    is_transactional = False

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.base_offset = int.from_bytes(raw[:8], "big", signed=True)
        self.next_offset = self.base_offset + 1

    def validate_crc(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        whole = Unread(self.base_offset, self.base_offset, OLD_FORMAT)
        if self._raw[_LEGACY_CODEC_PLACE] & _CODEC_BITS:
            yield _Placeholder(whole, 0)
            return
        try:
            yield from LegacyRecordBatch(self._raw, self._raw[_MAGIC_PLACE])
        except _DAMAGE:
            yield _Placeholder(Unread(self.base_offset, self.base_offset, UNREADABLE), 0)


_DAMAGE: Final = (CorruptRecordException, ValueError, IndexError, AssertionError, OverflowError, struct.error)
"""What aiokafka's readers raise over bytes that are not what they should be."""


class _Batch:
    """A batch of format 2, unpacked within bounds when it is read: an aborted one never is."""

    __slots__ = (
        "_checked",
        "_codec",
        "_inner",
        "_on_unpacked",
        "_raw",
        "base_offset",
        "count",
        "is_control_batch",
        "is_transactional",
        "next_offset",
        "producer_id",
    )

    def __init__(self, raw: bytes, on_unpacked: Callable[[int], None], *, checked: bool) -> None:
        self._inner = inner = DefaultRecordBatch(raw)
        self._raw = raw
        self._on_unpacked = on_unpacked
        self._checked = checked
        self._codec = raw[_CODEC_PLACE] & _CODEC_BITS
        self.count = int(_LENGTH.unpack_from(raw, _COUNT_PLACE)[0])
        self.base_offset = int(inner.base_offset)
        # Never back: the next fetch begins there.
        self.next_offset = max(self.base_offset + 1, int(inner.next_offset))
        self.producer_id = inner.producer_id
        self.is_control_batch = inner.is_control_batch
        self.is_transactional = inner.is_transactional

    @property
    def timestamp(self) -> int:
        """The latest of its records."""
        return int(self._inner.max_timestamp)

    def validate_crc(self) -> bool:
        """Decided before: see :meth:`_Fetched.has_next`."""
        return True

    def __next__(self) -> Any:
        return next(self._inner)

    def __iter__(self) -> Iterator[Any]:
        reached = self.base_offset
        try:
            for record in self._records():
                yield record
                reached = record.offset + 1
        except (_UnreadableError, *_DAMAGE) as error:
            if reached < self.next_offset:
                reason = str(error) if isinstance(error, _UnreadableError) else UNREADABLE
                whole = Unread(reached, self.next_offset - 1, reason)
                yield _Placeholder(whole, self._inner.max_timestamp)

    def _records(self) -> Iterator[Any]:
        if not self._checked:
            raise _UnreadableError(BAD_CHECKSUM)
        if not 0 <= self.count <= RECORDS_MAX:
            raise _UnreadableError(TOO_MANY)
        raw, body = self._raw, self._body()
        self._on_unpacked(len(body))
        left_out: list[_Placeholder] = []
        count = self.count
        if len(body) > RECORD_BYTES_MAX:
            body, left_out = self._without_large(body)
            count -= len(left_out)
        elif not self._codec:
            yield from _bounded(read_tolerantly(self._inner, raw), self._told)
            return
        plain = _plain_header(raw, len(body), count) + body
        for record in _bounded(read_tolerantly(DefaultRecordBatch(plain), plain), self._told):
            while left_out and left_out[0].offset < record.offset:
                yield left_out.pop(0)
            yield record
        yield from left_out

    def _body(self) -> bytes:
        packed = self._raw[_HEADER.size :]
        return unpack(self._codec, packed) if self._codec else packed

    def _without_large(self, body: bytes) -> tuple[bytes, list[_Placeholder]]:
        """Leave records out that are too large to be looked at: each would be copied, with every header of its."""
        kept: list[bytes] = []
        left_out: list[_Placeholder] = []
        buffer = bytearray(body)
        place = 0
        for _ in range(self.count):
            length, begin = decode_varint(buffer, place)
            end = begin + length
            if length < 0 or end > len(body):
                raise _UnreadableError(UNREADABLE)
            if length > RECORD_BYTES_MAX:
                _, after_time = decode_varint(buffer, begin + 1)
                delta, _ = decode_varint(buffer, after_time)
                left_out.append(self._told(self.base_offset + max(0, delta), LARGE_RECORD))
            else:
                kept.append(body[place:end])
            place = end
        return b"".join(kept), left_out

    def _told(self, offset: int, reason: str) -> _Placeholder:
        return _Placeholder(Unread(offset, offset, reason), self._inner.max_timestamp)


class _WholeBatch(_Batch):
    """A batch as one record that is not unpacked yet, at the place of its last."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        yield _Packed(self._raw, self._checked)


class _Packed:
    """Has what aiokafka asks a record for."""

    __slots__ = ("offset", "timestamp", "value")
    key = None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_type = 0
    checksum = None

    def __init__(self, raw: bytes, checked: bool) -> None:  # noqa: FBT001
        # What it unpacks to is bounded by whoever does that, not by the fetch.
        batch = _Batch(raw, _uncounted, checked=checked)
        self.offset = batch.next_offset - 1
        self.timestamp = max(0, batch.timestamp)
        self.value = _PackedBytes(raw)
        self.value.said, self.value.checked = batch.count, checked


def _uncounted(size: int) -> None:
    """Nobody counts."""


def _bounded(records: Iterator[Any], told: Callable[[int, str], _Placeholder]) -> Iterator[Any]:
    for record in records:
        yield record if len(record.headers) <= HEADERS_MAX else told(record.offset, MANY_HEADERS)


def _plain_header(raw: bytes, body: int, count: int) -> bytes:
    """The batch's header, of an uncompressed batch with so many bytes and records. Its checksum is not looked at."""
    header = bytearray(raw[: _HEADER.size])
    header[_CODEC_PLACE] &= ~_CODEC_BITS
    _LENGTH.pack_into(header, 8, _HEADER.size - _OVERHEAD + body)
    _LENGTH.pack_into(header, _COUNT_PLACE, count)
    return bytes(header)


def unpack(codec: int, packed: bytes) -> bytes:
    """Unpack by Kafka's number of a codec, into no more than :data:`UNPACKED_BYTES_MAX`.

    Raises:
        _UnreadableError: it does not fit, is no such stream, or the codec is unknown.
    """
    blocks = _snappy_blocks(packed) if codec == 2 else [packed]
    into = _INTO.get(codec)
    if into is None:
        raise _UnreadableError(UNREADABLE)
    # Zeroed pages that are not touched cost nothing, so this takes as much memory as comes out.
    room = bytearray(UNPACKED_BYTES_MAX)
    end = 0
    for block in blocks:
        try:
            end += into(block, memoryview(room)[end:] if end else room)
        except cramjam.DecompressionError as error:
            raise _UnreadableError(TOO_LARGE if "buffer" in str(error) else UNREADABLE) from None
    return bytes(memoryview(room)[:end])


_INTO: Final[dict[int, Callable[[bytes, Any], int]]] = {
    1: cramjam.gzip.decompress_into,
    2: cramjam.snappy.decompress_raw_into,
    3: cramjam.lz4.decompress_into,
    4: cramjam.zstd.decompress_into,
}


def _snappy_blocks(packed: bytes) -> Sequence[bytes]:
    """Java's stream of length-prefixed blocks, or one block alone."""
    if not packed.startswith(_XERIAL):
        return [packed]
    blocks: list[bytes] = []
    place = _XERIAL_HEADER
    while place < len(packed):
        size = int(_LENGTH.unpack_from(packed, place)[0])
        begin, place = place + 4, place + 4 + size
        if size < 0 or place > len(packed):
            raise _UnreadableError(UNREADABLE)
        blocks.append(packed[begin:place])
    return blocks
