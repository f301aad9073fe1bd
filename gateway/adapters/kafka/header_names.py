"""Reading records whose header names are not UTF-8.

Kafka stores any bytes as a header name, and brokers do not check them. aiokafka 0.14 raises ``UnicodeDecodeError`` on
such a record, every time it is fetched (ran): one record by any writer would stop its partition for ever. Here the name
is spelt with backslash escapes instead, so that the record goes its way with a header that nobody knows.

This reaches into aiokafka, whose version is pinned; a test on a real broker tells if an upgrade breaks it.
"""

from collections.abc import Iterator
from typing import Any, SupportsIndex

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy


def tolerate_bad_header_names() -> None:
    """Make every aiokafka consumer of this process (Faust's too) read such records. Doing it twice changes nothing."""
    fetcher.MemoryRecords = _TolerantRecords


class _TolerantRecords(_MemoryRecordsPy):  # type: ignore[misc]
    """What a fetch returned: batches that fall back to slow, tolerant reading where fast reading fails."""

    def next_batch(self) -> Any:
        raw = self._next_slice
        batch = super().next_batch()
        return batch if batch is None else _TolerantBatch(batch, raw)


class _TolerantBatch:
    """A batch as aiokafka's fast reader gives it, until a header name cannot be decoded."""

    __slots__ = ("_batch", "_raw")

    def __init__(self, batch: Any, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        read = 0
        try:
            for record in self._batch:
                read += 1
                yield record
        except UnicodeDecodeError:
            tolerant = iter(_DefaultRecordBatchPy(self._raw))
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
