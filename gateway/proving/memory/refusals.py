"""Refused records of partners in memory."""

from collections.abc import Sequence

from gateway.identity.refusals import Refusal
from gateway.proving.memory.boundary import Boundary
from gateway.proving.memory.database import Transaction
from schemas.primitives import PartnerId


class MemoryRefusalStore:
    """Implements :class:`gateway.identity.refusals.RefusalStore` in one transaction."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self._tx = transaction
        self._db = transaction.database
        self._boundary = boundary

    async def insert(self, refusals: Sequence[Refusal]) -> frozenset[str]:
        await self._boundary("refusals.insert")
        return frozenset(
            [r.reference for r in refusals if await self._tx.insert(self._db.refusals, (r.partner_id, r.reference), r)]
        )

    async def find(self, records: Sequence[tuple[PartnerId, str]]) -> frozenset[str]:
        await self._boundary("refusals.find")
        return frozenset(key[1] for key in records if self._tx.get(self._db.refusals, key) is not None)
