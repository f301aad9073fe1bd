"""The archive's tables in PostgreSQL. What is archived is decided and moved by functions of the owner's there."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from asyncpg import Connection, Record

from gateway.base.errors import StoreConflictError
from gateway.database.queries import load
from gateway.payments.archive.store import ArchiveFile, ArchiveRecord, FileStatus, Page
from gateway.payments.rules.payment import PaymentKey

_SQL = load(__name__, "archive")

PAGE_BLOCKS: Final = 256
"""Of the table: some 4,000 payments, a quarter of a second."""


class PostgresArchiveStore:
    """Implements :class:`gateway.payments.archive.store.ArchiveStore` on one connection. Places are blocks."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def page(self, place: int, *, before: datetime) -> Page:
        end = place + PAGE_BLOCKS
        rows = await self._connection.fetch(_SQL.page, (place, 0), (end, 0), before)
        records = [ArchiveRecord((r["partner_id"], r["payment_id"]), r["original_id"], r["record"]) for r in rows]
        blocks = await self._connection.fetchval(_SQL.blocks)
        return Page(records, end if end < blocks else None)

    async def begin(self, now: datetime) -> ArchiveFile:
        [row] = await self._connection.fetch(_SQL.begin, now)
        return file_of(row)

    async def written(self, file_id: int, *, payments: int, sha256: bytes, now: datetime) -> None:
        if await self._connection.fetchval(_SQL.written, file_id, payments, sha256, now) is None:
            raise StoreConflictError(f"archive_file {file_id} is not being written any more")

    async def move(self, file_id: int, records: Sequence[ArchiveRecord], *, before: datetime) -> frozenset[PaymentKey]:
        partners, ids = [r.key[0] for r in records], [r.key[1] for r in records]
        rows = await self._connection.fetch(_SQL.move, file_id, partners, ids, [r.digest for r in records], before)
        return frozenset((r["partner_id"], r["payment_id"]) for r in rows)

    async def end(self, file_id: int, status: FileStatus, now: datetime) -> bool:
        return await self._connection.fetchval(_SQL.end, file_id, status.value, now) is not None

    async def unfinished(self) -> Sequence[ArchiveFile]:
        return [file_of(row) for row in await self._connection.fetch(_SQL.unfinished)]


def file_of(row: Record) -> ArchiveFile:
    """Build a file from its row."""
    return ArchiveFile(**{**row, "status": FileStatus(row["status"])})
