"""Reading records whose header names are not UTF-8.

Kafka stores any bytes as a header name, and brokers do not check them. aiokafka 0.14 raises ``UnicodeDecodeError`` on
such a record, every time it is fetched (ran): one record by any writer would stop its partition for ever. Here the name
is spelt with backslash escapes instead, so that the record goes its way with a header that nobody knows.
"""

from collections.abc import Iterator
from typing import Any, SupportsIndex

from aiokafka.record.default_records import _DefaultRecordBatchPy


def read_tolerantly(batch: Any, raw: bytes) -> Iterator[Any]:
    """The records of a batch as aiokafka's fast reader gives them, until a header name cannot be decoded.

    Args:
        batch: of format 2.
        raw: its bytes, not compressed.
    """
    read = 0
    try:
        for record in batch:
            read += 1
            yield record
    except UnicodeDecodeError:
        tolerant = iter(_DefaultRecordBatchPy(raw))
        tolerant._buffer = _TolerantBytes(tolerant._buffer)  # noqa: SLF001
        for number, record in enumerate(tolerant):
            if number >= read:
                yield record


class _TolerantBytes(bytearray):
    """Bytes whose parts decode whatever they are; the slow reader decodes nothing but header names."""

    def __getitem__(self, key: SupportsIndex | slice) -> Any:
        part = super().__getitem__(key)
        return _TolerantBytes(part) if isinstance(part, bytearray) else part

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:  # noqa: ARG002
        return bytes(self).decode(encoding, "backslashreplace")
