"""Bulks in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from gateway.orders.bulk.rules import Bulk, BulkKey
from gateway.proving.memory.boundary import Boundary
from gateway.proving.memory.database import Transaction


class MemoryBulkStore:
    """Implements :class:`gateway.orders.store.BulkStore` in one transaction."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self._tx = transaction
        self._db = transaction.database
        self._boundary = boundary

    async def find(self, keys: Sequence[BulkKey]) -> Mapping[BulkKey, Bulk]:
        await self._boundary("bulks.find")
        return {k: row for k in keys if (row := self._tx.get(self._db.bulks, k)) is not None}

    async def insert(self, bulks: Sequence[Bulk]) -> frozenset[BulkKey]:
        await self._boundary("bulks.insert")
        return frozenset([b.key for b in bulks if await self._tx.insert(self._db.bulks, b.key, b)])

    async def dispatched(self, keys: Sequence[BulkKey], *, now: datetime) -> None:
        await self._boundary("bulks.dispatched")
        for key, row in (await self._tx.lock(self._db.bulks, keys)).items():
            if row.dispatched_at is None:
                self._tx.update(self._db.bulks, key, replace(row, dispatched_at=now))
