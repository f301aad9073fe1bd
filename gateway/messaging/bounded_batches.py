"""A batch of records as a fetch brings it, read within bounds. What is beyond them, or cannot be read, is passed over.

In its place stands one record without content that tells its place (:class:`gateway.messaging.records.Unread`).
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch
from aiokafka.record.util import decode_varint

from gateway.messaging.header_names import read_tolerantly
from gateway.messaging.records import Unread
from gateway.messaging.unpacking import UNREADABLE, UnreadableError, unpack

RECORDS_MAX: Final = 50_000
"""Of one batch: of orders as small as they can be, what fits its room. Each record costs far more than its bytes."""

RECORD_BYTES_MAX: Final = 2 * 1024 * 1024
"""Twice a topic's limit: what is larger cannot even become a dead letter."""

HEADERS_MAX: Final = 1_000
"""Of one record: an order has seven."""

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES: Final = _HEADER.size
"""Of a batch of format 2; what is shorter is none."""

MAGIC_PLACE: Final = 16
"""Where a batch says of which format it is."""

_CODEC_PLACE: Final = 22
"""The low byte of the attributes."""

_COUNT_PLACE: Final = 57
_LEGACY_CODEC_PLACE: Final = 17
_CODEC_BITS: Final = 0x07
_LENGTH: Final = struct.Struct(">i")
_OVERHEAD: Final = 12

TOO_MANY: Final = f"holds more than {RECORDS_MAX} records"
LARGE_RECORD: Final = f"is larger than {RECORD_BYTES_MAX} bytes"
MANY_HEADERS: Final = f"has more than {HEADERS_MAX} headers"
OLD_FORMAT: Final = "is compressed in a message format older than 2, which has no headers"
BAD_CHECKSUM: Final = "does not match its checksum"


class UnreadBytes(bytes):
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
        self.value = UnreadBytes()
        self.value.unread = unread


class PackedBytes(bytes):
    """A batch's own bytes; ``said``: how many records it says it has; ``checked``: the bytes are what was sent."""

    said: int
    checked: bool


def end_of(data: bytes, place: int) -> int | None:
    """Where the batch ends that begins at ``place``; None where no whole one stands there."""
    if len(data) - place < HEADER_BYTES:
        # Shorter than any batch of format 2; one of an older format with room for headers is none of ours.
        return None
    end = place + _OVERHEAD + int(_LENGTH.unpack_from(data, place + 8)[0])
    return end if place + _OVERHEAD < end <= len(data) else None


class LegacyBatch:
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
            yield from LegacyRecordBatch(self._raw, self._raw[MAGIC_PLACE])
        except _DAMAGE:
            yield _Placeholder(Unread(self.base_offset, self.base_offset, UNREADABLE), 0)


_DAMAGE: Final = (CorruptRecordException, ValueError, IndexError, AssertionError, OverflowError, struct.error)
"""What aiokafka's readers raise over bytes that are not what they should be."""


class Batch:
    """A batch of format 2, unpacked within bounds when it is read: an aborted one never is.

    Args:
        raw: its bytes, header included.
        on_unpacked: told how many bytes were unpacked.
        checked: its checksum is right; else it is passed over as a whole.
    """

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
        """Decided before: see :mod:`gateway.messaging.fetching`."""
        return True

    def __next__(self) -> Any:
        return next(self._inner)

    def __iter__(self) -> Iterator[Any]:
        reached = self.base_offset
        try:
            for record in self._records():
                yield record
                reached = record.offset + 1
        except (UnreadableError, *_DAMAGE) as error:
            if reached < self.next_offset:
                reason = str(error) if isinstance(error, UnreadableError) else UNREADABLE
                whole = Unread(reached, self.next_offset - 1, reason)
                yield _Placeholder(whole, self._inner.max_timestamp)

    def _records(self) -> Iterator[Any]:
        if not self._checked:
            raise UnreadableError(BAD_CHECKSUM)
        if not 0 <= self.count <= RECORDS_MAX:
            raise UnreadableError(TOO_MANY)
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
                raise UnreadableError(UNREADABLE)
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


class WholeBatch(Batch):
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
        batch = Batch(raw, uncounted, checked=checked)
        self.offset = batch.next_offset - 1
        self.timestamp = max(0, batch.timestamp)
        self.value = PackedBytes(raw)
        self.value.said, self.value.checked = batch.count, checked


def uncounted(size: int) -> None:
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
