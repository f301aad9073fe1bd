"""What a fetch brings is bounded before it is unpacked; what cannot be read is told by its place, and nothing else."""

import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder

from gateway.messaging import bounded_batches, fetching, unpacking
from gateway.messaging.fetching import count_of, guard_fetches, record_of, records_of, whole_batches
from gateway.messaging.records import Unread
from tests.support.batches import CODECS, GZIP, NONE, batch, bomb, bomb_chunks, pack, record, sealed, small_batch

PLACE = TopicPartition("t", 0)
MIB = 1 << 20

Told = bytes | Unread


@pytest.fixture(params=[None, whole_batches], ids=["records", "batches"])
def reader(request: pytest.FixtureRequest) -> Any:
    """The ``value_deserializer`` of the consumer: it reads records, or batches that are unpacked later."""
    return request.param


def fetched(data: bytes, *, offset: int = 0, place: TopicPartition = PLACE, reader: Any = None) -> Any:
    guard_fetches()
    records = fetcher.MemoryRecords(data)
    return fetcher.PartitionRecords(place, records, [], offset, None, reader, True, fetcher.READ_COMMITTED)


def told(data: bytes, reader: Any = None, *, offset: int = 0) -> list[Told]:
    messages = list(fetched(data, offset=offset, reader=reader))
    records = [r for m in messages for r in records_of(m, m.timestamp)]
    assert all(r.topic == PLACE.topic and r.partition == PLACE.partition for r in records)
    assert [r.offset for r in records] == sorted({r.offset for r in records})
    assert not records or messages[-1].offset == records[-1].offset
    assert all(r.value == b"" and r.key is None and r.headers == () for r in records if r.unread)
    return [r.unread or r.value for r in records]


@pytest.mark.parametrize("codec", [NONE, *CODECS.values()])
def test_honest_batches_are_read_as_they_are(codec: int, reader: Any) -> None:
    assert told(small_batch([b"a", b"", b"c" * 1000], codec=codec), reader) == [b"a", b"", b"c" * 1000]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_batch_that_unpacks_without_end_is_told_by_its_place_and_never_held(codec: int, reader: Any) -> None:
    data = small_batch([b"before"], codec=codec) + bomb(codec, 64 * MIB, base=1) + small_batch([b"behind"], base=2)
    tracemalloc.start()
    try:
        assert told(data, reader) == [b"before", Unread(1, 1, unpacking.TOO_LARGE), b"behind"]
        assert tracemalloc.get_traced_memory()[1] < unpacking.UNPACKED_BYTES_MAX + MIB + 4 * len(data)
    finally:
        tracemalloc.stop()


def test_the_place_of_a_batch_is_all_its_offsets(reader: Any) -> None:
    body = pack(GZIP, [record(0, b"k", b"v"), *bomb_chunks(1, 20 * MIB)])
    assert told(batch(2, body, codec=GZIP, base=10), reader, offset=10) == [Unread(10, 11, unpacking.TOO_LARGE)]


def test_more_records_than_any_honest_batch_has_are_not_read(reader: Any) -> None:
    count = bounded_batches.RECORDS_MAX + 1
    body = pack(GZIP, [b"".join(record(n, b"", b"") for n in range(count))])
    assert told(batch(count, body, codec=GZIP), reader) == [Unread(0, count - 1, bounded_batches.TOO_MANY)]


def test_a_record_that_is_too_large_goes_alone(reader: Any) -> None:
    large = bytes(bounded_batches.RECORD_BYTES_MAX)
    parts = [record(0, b"k", b"a"), record(1, b"k", large), record(2, b"k", b"b"), record(3, b"k", large)]
    body = pack(GZIP, parts)
    first, second = (Unread(n, n, bounded_batches.LARGE_RECORD) for n in (1, 3))
    assert told(batch(4, body, codec=GZIP), reader) == [b"a", first, b"b", second]


def test_a_record_with_headers_without_end_goes_alone(reader: Any) -> None:
    many = [(b"", b"")] * (bounded_batches.HEADERS_MAX + 1)
    parts = [record(0, b"k", b"a"), record(1, b"k", b"b", many), record(2, b"k", b"c", many[1:])]
    assert told(batch(3, b"".join(parts)), reader) == [b"a", Unread(1, 1, bounded_batches.MANY_HEADERS), b"c"]


@pytest.mark.parametrize(
    ("count", "body", "codec", "expected"),
    [
        (2, b"not a stream", GZIP, [Unread(0, 1, unpacking.UNREADABLE)]),
        (2, pack(GZIP, [record(0, b"k", b"a")])[:-6], GZIP, [Unread(0, 1, unpacking.UNREADABLE)]),
        (2, b"\x82SNAPPY\x00" + bytes(8) + b"\x7f\xff\xff\xff", 2, [Unread(0, 1, unpacking.UNREADABLE)]),
        (2, b"x", 5, [Unread(0, 1, unpacking.UNREADABLE)]),
        (3, record(0, b"k", b"a") + b"\xff" * 9, NONE, [b"a", Unread(1, 2, unpacking.UNREADABLE)]),
        (1, record(0, b"k", b"a") + b"more", NONE, [b"a"]),
        (2, record(0, b"k", b"a")[:-3], NONE, [Unread(0, 1, unpacking.UNREADABLE)]),
    ],
    ids=["garbage", "cut off", "endless block", "unknown codec", "broken record", "more than it says", "cut record"],
)
def test_what_cannot_be_read_is_told_by_its_place(
    count: int, body: bytes, codec: int, expected: Sequence[Told], reader: Any
) -> None:
    behind = small_batch([b"behind"], base=count)
    assert told(batch(count, body, codec=codec) + behind, reader) == [*expected, b"behind"]


def spoilt(raw: bytes) -> bytes:
    data = bytearray(raw)
    data[-1] ^= 1
    return bytes(data)


def test_a_wrong_checksum_is_fetched_again_and_then_passed_over() -> None:
    data = small_batch([b"a"], base=7) + spoilt(small_batch([b"b", b"c"], base=8)) + small_batch([b"d"], base=10)
    fetches = []
    for _ in range(fetching.CHECKSUM_TRIES):
        fetch = fetched(data, offset=7)
        fetches.append(([m.value for m in fetch], fetch.next_fetch_offset))
    assert fetches[:-1] == [([b"a"], 8)] * (fetching.CHECKSUM_TRIES - 1)
    assert fetches[-1] == ([b"a", b"", b"d"], 11)


def test_what_the_way_spoilt_is_read_when_it_comes_whole(reader: Any) -> None:
    whole = small_batch([b"b"], base=20)
    assert told(spoilt(whole), reader, offset=20) == []
    assert told(whole, reader, offset=20) == [b"b"]


def test_of_one_fetch_no_more_is_unpacked_than_fits_and_the_rest_is_fetched_again() -> None:
    one = bytes(bounded_batches.RECORD_BYTES_MAX - 100)
    count = 10
    data = b"".join(small_batch([one], codec=GZIP, base=n) for n in range(count))
    read, fetches, offset = 0, 0, 0
    while offset < count:
        fetch = fetched(data[sum(len(small_batch([one], codec=GZIP, base=n)) for n in range(offset)) :], offset=offset)
        got = len(list(fetch))
        assert 0 < got * len(one) <= fetching.FETCH_UNPACKED_BYTES + bounded_batches.RECORD_BYTES_MAX
        read, fetches, offset = read + got, fetches + 1, fetch.next_fetch_offset
    assert (read, fetches) == (count, 2)


@pytest.mark.parametrize("magic", [0, 1])
def test_old_formats_are_read_without_unpacking_anything(magic: Any) -> None:
    plain = LegacyRecordBatchBuilder(magic, 0, 1 << 16)
    plain.append(0, 1, b"k", b"a" * 100)
    packed = LegacyRecordBatchBuilder(magic, 1, 1 << 16)
    packed.append(0, 1, b"k", b"b" * 100)
    wrapped = bytearray(packed.build())
    wrapped[7] = 1
    data = bytes(plain.build()) + bytes(wrapped)
    assert told(data) == [b"a" * 100, Unread(1, 1, bounded_batches.OLD_FORMAT)]
    assert [record_of(m, m.timestamp).timestamp_ms for m in fetched(data)] == [magic, 0]


def test_the_place_of_the_next_batch_is_never_before() -> None:
    raw = bytearray(small_batch([b"a"], base=5))
    raw[23:27] = (-9).to_bytes(4, "big", signed=True)
    fetch = fetched(sealed(raw), offset=5)
    assert ([m.value for m in fetch], fetch.next_fetch_offset) == ([b"a"], 6)


def test_a_message_is_a_batch_that_costs_what_it_holds_and_is_not_unpacked_before_it_is_asked_for() -> None:
    data = bomb(GZIP, 64 * MIB) + small_batch([b"a", b"b"], codec=GZIP, base=1)
    tracemalloc.start()
    try:
        large, small = fetched(data, reader=whole_batches)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
    assert (count_of(small), small.offset, [r.value for r in records_of(small, 0)]) == (2, 2, [b"a", b"b"])
    assert len(small.value) < len(data)
    assert large.offset == 0
    [single] = fetched(small_batch([b"a"]))
    assert count_of(single) == 1
