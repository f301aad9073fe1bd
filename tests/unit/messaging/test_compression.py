"""What the producer's batches are compressed with."""

import cramjam
from aiokafka.producer.message_accumulator import BatchBuilder

from gateway.messaging.live_producer import LZ4_LEVEL
from gateway.messaging.producer import BATCH_BYTES

LZ4 = 3
HEADER_BYTES = 61
"""Of a record batch, version 2: the records come behind it."""


def compressed(records: bytes, level: int) -> bytes:
    compressor = cramjam.lz4.Compressor(level=level, content_checksum=False, block_linked=False)
    compressor.compress(records)
    return bytes(compressor.finish())


def test_batches_are_compressed_at_the_light_level() -> None:
    batch = BatchBuilder(BATCH_BYTES, LZ4)
    for number in range(200):
        batch.append(timestamp=None, key=b"%d" % number, value=b'{"state":"approved","version":%d}' % number)
    batch.close()
    sent = bytes(batch._builder.build())[HEADER_BYTES:]
    records = bytes(cramjam.lz4.decompress(sent))
    assert sent == compressed(records, LZ4_LEVEL)
    assert sent != compressed(records, 9)
