"""Records that wait for their turn, as they stand in the topic of ours: many in one, under one mark.

A flood costs little more than reading it: one mark, one record to publish and to fetch, for some fifty of a sender's.
"""

import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import Final
from zlib import crc32

from gateway.messaging.records import Outgoing, Record
from gateway.orders.fairness import NOBODY
from gateway.payments.dispatch import MARK_HEADER
from gateway.sealing.marks import RecordMarks
from schemas.topics import WAITING_ORDERS

PACKED_HEADER: Final = "mypay-packed"
"""The first of the two headers of a record that holds others; its value is the number of its format."""

TOGETHER_MAX: Final = 50
"""Records in one: what is taken again after a crash in the middle of it."""

TOGETHER_BYTES: Final = 64 * 1024
"""Past this nothing is added to one: some fifty orders, or a bulk alone."""

WAITING_BYTES_MAX: Final = 1024 * 1024
"""Of a record that may wait, with its key and headers: with what is added the topic holds it. A larger one is refused
by its size or its key, which costs nothing."""

WAITING_HEADERS_MAX: Final = 100
"""Of a record that may wait. An order has seven."""

_FORMAT: Final = b"1"
_PLACE: Final = struct.Struct(">iqqiI")
"""Partition, offset, time, length of the key (-1: none), number of headers."""

_COUNT: Final = struct.Struct(">H")


@dataclass(frozen=True, slots=True)
class Waited:
    """A partner's own record that waited. ``ends``: the record that held it, where it is the last one in there."""

    record: Record
    ends: Record | None


def kept(later: Sequence[tuple[Record, str]], partitions: int, marks: RecordMarks) -> list[Outgoing]:
    """The records as they wait, each sender's in their order.

    Args:
        later: with whose each is.
        partitions: of the topic.
        marks: under the internal key.
    """
    together: defaultdict[tuple[str, str], list[bytes]] = defaultdict(list)
    sizes: defaultdict[tuple[str, str], int] = defaultdict(int)
    outgoing: list[Outgoing] = []
    for record, sender in later:
        place, packed = (sender, record.topic), _packed(record)
        full = len(together[place]) >= TOGETHER_MAX or sizes[place] + len(packed) > TOGETHER_BYTES
        if full and together[place]:
            outgoing.append(_closed(place, together.pop(place), partitions, marks))
            sizes[place] = 0
        together[place].append(packed)
        sizes[place] += len(packed)
    return outgoing + [_closed(place, some, partitions, marks) for place, some in together.items()]


def one_by_one(records: Sequence[Record], marks: RecordMarks) -> Iterator[Waited]:
    """The partners' own records, from each partition of the topic in turn."""
    lines: defaultdict[int, list[Record]] = defaultdict(list)
    for record in records:
        lines[record.partition].append(record)
    left = [chain.from_iterable(_waited(r, marks) for r in line) for line in lines.values()]
    while left:
        still = []
        for line in left:
            if (waited := next(line, None)) is not None:
                yield waited
                still.append(line)
        left = still


def _waited(record: Record, marks: RecordMarks) -> Iterator[Waited]:
    own = restored(record, marks)
    for number, one in enumerate(own, 1):
        yield Waited(one, record if number == len(own) else None)


def restored(record: Record, marks: RecordMarks) -> list[Record]:
    """The partner's own records of one that waited; one that we did not write stays as it is, and is judged so."""
    if [name for name, _ in record.headers] != [PACKED_HEADER, MARK_HEADER]:
        return [record]
    (_, format_), (_, mark) = record.headers
    if format_ != _FORMAT or marks.check(mark, _marked(record.key or b"", record.value)) is not None:
        return [record]
    return list(_unpacked(record.value))


def partition_of(sender: str, partitions: int) -> int:
    """Where a sender's records wait; those of nobody have a partition for themselves."""
    if sender == NOBODY or partitions == 1:
        return 0
    return 1 + crc32(sender.encode()) % (partitions - 1)


def may_wait(record: Record) -> bool:
    """True if the record can be published again, with what is added, and read."""
    if len(record.headers) > WAITING_HEADERS_MAX:
        return False
    # In bytes, names too; a quick look is enough for nearly all.
    size = len(record.key or b"") + len(record.value) + sum([4 * len(n) + len(v) for n, v in record.headers])
    if size > WAITING_BYTES_MAX:
        size -= sum(4 * len(n) - len(_name(n)) for n, _ in record.headers)
    return size <= WAITING_BYTES_MAX


def _closed(place: tuple[str, str], together: Sequence[bytes], partitions: int, marks: RecordMarks) -> Outgoing:
    sender, topic = place
    key, value = sender.encode(), b"".join([_COUNT.pack(len(topic)), topic.encode(), *together])
    return Outgoing(
        topic=WAITING_ORDERS,
        key=key,
        value=value,
        headers=[(PACKED_HEADER, _FORMAT), (MARK_HEADER, marks.mark(_marked(key, value)))],
        partition=partition_of(sender, partitions),
    )


def _marked(key: bytes, value: bytes) -> list[bytes | None]:
    """What a mark vouches for: everything but the record's place and time in the topic where it waits."""
    return [WAITING_ORDERS.encode(), _FORMAT, key, value]


def _packed(record: Record) -> bytes:
    key, headers = record.key, record.headers
    parts = [_name(name) for name, _ in headers]
    parts += [value for _, value in headers]
    parts.append(record.value)
    head = _PLACE.pack(
        record.partition, record.offset, record.timestamp_ms, -1 if key is None else len(key), len(headers)
    )
    return b"".join([head, struct.pack(f">{len(parts)}I", *map(len, parts)), key or b"", *parts])


def _unpacked(packed: bytes) -> Iterator[Record]:
    (length,) = _COUNT.unpack_from(packed)
    at = _COUNT.size + length
    topic = packed[_COUNT.size : at].decode()
    while at < len(packed):
        partition, offset, timestamp_ms, key_length, count = _PLACE.unpack_from(packed, at)
        at += _PLACE.size
        lengths = struct.unpack_from(f">{2 * count + 1}I", packed, at)
        at += 4 * len(lengths)
        key = None if key_length < 0 else packed[at : at + key_length]
        at += max(0, key_length)
        parts = [packed[begin:end] for begin, end in pairwise(accumulate(lengths, initial=at))]
        at += sum(lengths)
        names = [part.decode("utf-8", "surrogatepass") for part in parts[:count]]
        headers = tuple(zip(names, parts[count:-1], strict=True))
        yield Record(topic, partition, offset, timestamp_ms, key, parts[-1], headers)


def _name(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")
