"""Which partition a key belongs to: murmur2, as the Java client's default partitioner does it.

aiokafka carries the same function; this one reads four bytes at a time and takes less than half of its time, which
counts where every event has a key of its own.
"""

import random
import struct
from functools import lru_cache
from typing import Final

_KEYS_KEPT: Final = 16_384
"""A payment's events and a consent's orders come close together: most keys are seen again soon."""

KEPT_BYTES_MAX: Final = 128
"""Keys of ours are shorter. A dead letter keeps its sender's key, and those would fill the memory."""

_MASK: Final = 0xFFFF_FFFF
_M: Final = 0x5BD1_E995
_SEED: Final = 0x9747_B28C


def partition_of(key: bytes | None, partitions: int) -> int:
    """0 … ``partitions`` - 1; any of them where there is no key."""
    if key is None:
        return random.randrange(partitions)  # noqa: S311 - spreading load, not a secret
    value = _kept(key) if len(key) <= KEPT_BYTES_MAX else murmur2(key)
    return (value & 0x7FFF_FFFF) % partitions


def murmur2(data: bytes) -> int:
    """32-bit hash, unsigned. Source: ``org.apache.kafka.common.utils.Utils.murmur2``."""
    words = len(data) >> 2
    value = _SEED ^ len(data)
    for word in struct.unpack_from(f"<{words}I", data):
        mixed = (word * _M) & _MASK
        value = ((value * _M) & _MASK) ^ (((mixed ^ (mixed >> 24)) * _M) & _MASK)
    if len(data) & 3:
        value = ((value ^ int.from_bytes(data[words * 4 :], "little")) * _M) & _MASK
    value = ((value ^ (value >> 13)) * _M) & _MASK
    return value ^ (value >> 15)


_kept = lru_cache(maxsize=_KEYS_KEPT)(murmur2)
