import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as reference
from hypothesis import given
from hypothesis import strategies as st

from gateway.messaging import partitioner
from gateway.messaging.partitioner import KEPT_BYTES_MAX, murmur2, partition_of


@given(st.binary(max_size=70))
def test_hash_is_the_java_clients(data: bytes) -> None:
    assert murmur2(data) == reference(data) & 0xFFFF_FFFF


# From Kafka's own UtilsTest.testMurmur2.
@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_published_hashes(data: bytes, value: int) -> None:
    assert murmur2(data) == value & 0xFFFF_FFFF


@given(
    st.binary(max_size=40) | st.binary(min_size=KEPT_BYTES_MAX - 2, max_size=KEPT_BYTES_MAX + 9), st.integers(1, 200)
)
def test_a_key_always_goes_to_the_same_partition(key: bytes, partitions: int) -> None:
    every = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, every, every)


def test_records_without_a_key_are_spread() -> None:
    assert {partition_of(None, 4) for _ in range(200)} == {0, 1, 2, 3}


def test_a_strangers_long_keys_are_not_kept() -> None:
    """Of 64 KiB each, which a dead letter shows, those that are kept would take a gigabyte."""
    partitioner._kept.cache_clear()
    for n in range(50):
        partition_of(b"%d" % n + b"x" * KEPT_BYTES_MAX, 8)
        partition_of(b"%d" % n, 8)
    assert partitioner._kept.cache_info().currsize == 50
