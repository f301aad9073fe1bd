"""What a batch of records is packed with, undone in room of fixed size, whatever its codec."""

import struct
import threading
from collections.abc import Callable, Sequence
from mmap import mmap
from typing import Any, Final

import cramjam

UNPACKED_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of one batch: sixteen times a topic's limit. Signed JSON shrinks to a tenth at best."""

KEPT_BYTES_MAX: Final = 1024 * 1024
"""Room of which no more was used is used again: nearly every batch is smaller."""

TOO_LARGE: Final = f"unpacks to more than {UNPACKED_BYTES_MAX} bytes"
UNREADABLE: Final = "cannot be unpacked or read"

_LENGTH: Final = struct.Struct(">i")
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER: Final = 16


class UnreadableError(Exception):
    """The batch cannot be read; the text says why, without a word of what it holds."""


def unpack(codec: int, packed: bytes) -> bytes:
    """Unpack by Kafka's number of a codec, into no more than :data:`UNPACKED_BYTES_MAX`.

    Raises:
        UnreadableError: it does not fit, is no such stream, or the codec is unknown.
    """
    blocks = _snappy_blocks(packed) if codec == 2 else [packed]
    into = _INTO.get(codec)
    if into is None:
        raise UnreadableError(UNREADABLE)
    room = _KEPT.take()
    end = 0
    for block in blocks:
        try:
            end += into(block, memoryview(room)[end:] if end else room)
        except cramjam.DecompressionError as error:
            raise UnreadableError(TOO_LARGE if "buffer" in str(error) else UNREADABLE) from None
    if end <= KEPT_BYTES_MAX:
        _KEPT.room = room
    return bytes(memoryview(room)[:end])


class _Kept(threading.local):
    """Room to unpack into, one a thread, that is used again.

    To make it costs: the system gives each page when it is first written to. Pages that nothing was written to take no
    memory, so one of which more was used is not kept.
    """

    room: mmap | None = None

    def take(self) -> mmap:
        """It is the caller's until it is put back."""
        room, self.room = self.room, None
        # A bytearray would write to all of it at once.
        return mmap(-1, UNPACKED_BYTES_MAX) if room is None else room


_KEPT: Final = _Kept()


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
            raise UnreadableError(UNREADABLE)
        blocks.append(packed[begin:place])
    return blocks
