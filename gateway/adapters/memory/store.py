"""The database in memory as the use cases see it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.adapters.memory.authentication import MemoryAuthenticationStore
from gateway.adapters.memory.boundary import Boundary, no_boundary
from gateway.adapters.memory.bulks import MemoryBulkStore
from gateway.adapters.memory.cancellations import MemoryCancellationStore
from gateway.adapters.memory.clearing import MemoryClearingStore
from gateway.adapters.memory.consents import MemoryConsentStore
from gateway.adapters.memory.database import Database, Transaction
from gateway.adapters.memory.directory import MemoryDirectory
from gateway.adapters.memory.follow_ups import MemoryFollowUpStore
from gateway.adapters.memory.outbox import MemoryOutbox
from gateway.adapters.memory.payments import MemoryPaymentStore
from gateway.adapters.memory.schedule import MemoryScheduleStore
from gateway.adapters.memory.standing import MemoryStandingOrderStore


class MemoryUnitOfWork:
    """Implements :class:`gateway.ports.UnitOfWork` in one transaction."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self.consents = MemoryConsentStore(transaction, boundary)
        self.payments = MemoryPaymentStore(transaction, boundary)
        database = transaction.database
        self.reversals = MemoryFollowUpStore(transaction, boundary, database.reversals, "reversals")
        self.inquiries = MemoryFollowUpStore(transaction, boundary, database.inquiries, "inquiries")
        self.schedule = MemoryScheduleStore(transaction, boundary)
        self.cancellations = MemoryCancellationStore(transaction, boundary)
        self.standing = MemoryStandingOrderStore(transaction, boundary)
        self.bulks = MemoryBulkStore(transaction, boundary)
        self.clearing = MemoryClearingStore(transaction, boundary)
        self.outbox = MemoryOutbox(transaction, boundary)
        self.authentication = MemoryAuthenticationStore(transaction, boundary)
        self.directory = MemoryDirectory(transaction, boundary)


class MemoryStore:
    """Implements :class:`gateway.ports.Store` over a database that other workers' stores share.

    Args:
        boundary: awaited before every call, and as ``store.begin``, ``store.commit`` and ``store.committed``.
    """

    def __init__(self, database: Database, boundary: Boundary = no_boundary) -> None:
        self.database = database
        self._boundary = boundary

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[MemoryUnitOfWork]:
        """One transaction at READ COMMITTED."""
        await self._boundary("store.begin")
        transaction = self.database.begin()
        try:
            yield MemoryUnitOfWork(transaction, self._boundary)
            await self._boundary("store.commit")
            transaction.commit()
        finally:
            if transaction.is_open:
                transaction.rollback()
        await self._boundary("store.committed")

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[MemoryUnitOfWork]:
        """No transaction; writing or locking in it is refused as a bug."""
        await self._boundary("store.reading")
        yield MemoryUnitOfWork(self.database.begin(read_only=True), self._boundary)
