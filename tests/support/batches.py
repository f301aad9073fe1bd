"""Record batches of Kafka as anybody may send them, byte by byte."""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import cramjam
from aiokafka.record._crc32c import crc as crc32c
from aiokafka.record.util import encode_varint

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
CODECS: Final = {"gzip": GZIP, "snappy": SNAPPY, "lz4": LZ4, "zstd": ZSTD}

Headers = Sequence[tuple[bytes, bytes]]

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_CHUNK: Final = 1 << 20


def varint(value: int) -> bytes:
    out = bytearray()
    encode_varint(value, out.append)
    return bytes(out)


def record_parts(number: int, key: bytes, size: int, headers: bytes, count: int) -> tuple[bytes, bytes]:
    """What stands before and behind a value of that size, in a record of format 2."""
    inner = b"\x00" + varint(0) + varint(number) + varint(len(key)) + key + varint(size)
    behind = varint(count) + headers
    return varint(len(inner) + size + len(behind)) + inner, behind


def record(number: int, key: bytes, value: bytes, headers: Headers = ()) -> bytes:
    raw = b"".join(varint(len(n)) + n + varint(len(v)) + v for n, v in headers)
    before, behind = record_parts(number, key, len(value), raw, len(headers))
    return before + value + behind


def bomb_chunks(number: int, size: int) -> Iterator[bytes]:
    """One record with a value of so many zeros."""
    before, behind = record_parts(number, b"bomb", size, b"", 0)
    yield before
    for begin in range(0, size, _CHUNK):
        yield bytes(min(_CHUNK, size - begin))
    yield behind


def pack(codec: int, chunks: Iterator[bytes] | Sequence[bytes]) -> bytes:
    """Compress as Kafka's clients do; never holds more than a chunk unpacked."""
    if codec == GZIP:
        gzip = zlib.compressobj(9, wbits=31)
        return b"".join([*(gzip.compress(c) for c in chunks), gzip.flush()])
    if codec == SNAPPY:
        blocks = (bytes(cramjam.snappy.compress_raw(c)) for c in chunks)
        return b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1) + b"".join(struct.pack(">i", len(b)) + b for b in blocks)
    if codec == NONE:
        return b"".join(chunks)
    compressor: Any = cramjam.lz4.Compressor(content_checksum=False, block_linked=False) if codec == LZ4 else None
    compressor = compressor or cramjam.zstd.Compressor()
    for chunk in chunks:
        compressor.compress(chunk)
    return bytes(compressor.finish())


def batch(count: int, body: bytes, *, codec: int = NONE, base: int = 0, timestamp: int = 1_700_000_000_000) -> bytes:
    """A batch of format 2 around the (packed) records."""
    raw = bytearray(
        _HEADER.pack(
            base, _HEADER.size - 12 + len(body), -1, 2, 0, codec, count - 1, timestamp, timestamp, -1, -1, -1, count
        )
    )
    raw += body
    return sealed(raw)


def sealed(raw: bytearray) -> bytes:
    """With the right checksum."""
    struct.pack_into(">I", raw, 17, crc32c(bytes(raw[21:])))
    return bytes(raw)


def small_batch(values: Sequence[bytes], *, codec: int = NONE, base: int = 0) -> bytes:
    body = b"".join(record(n, b"k", v) for n, v in enumerate(values))
    return batch(len(values), pack(codec, [body]), codec=codec, base=base)


def bomb(codec: int, size: int, *, base: int = 0) -> bytes:
    """A batch of one record that unpacks to ``size`` zeros."""
    return batch(1, pack(codec, bomb_chunks(0, size)), codec=codec, base=base)


async def send_raw(producer: Any, raw: bytes, topic: str, partition: int = 0) -> int:
    """Send a batch as it is with an aiokafka producer; return the first of its offsets."""
    made = producer.create_batch()
    made.append(timestamp=None, key=b"k", value=b"v", headers=[])
    build: Callable[[], bytes] = lambda: raw  # noqa: E731 - replaces a method
    made._build = build
    return int((await (await producer.send_batch(made, topic, partition=partition))).offset)


def rename_header(builder: Any, name: bytes, other: bytes) -> None:
    """Have one of aiokafka's batches hold a header under another name of the same length, which need not be UTF-8."""
    build = builder._build

    def tampered() -> bytes:
        data = bytearray(build())
        place = data.index(name)
        data[place : place + len(name)] = other
        return sealed(data)

    builder._build = tampered
