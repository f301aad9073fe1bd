"""The database in memory as the use cases see it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.proving.memory.archive import MemoryArchiveStore
from gateway.proving.memory.authentication import MemoryAuthenticationStore
from gateway.proving.memory.boundary import Boundary, no_boundary
from gateway.proving.memory.bulks import MemoryBulkStore
from gateway.proving.memory.cancellations import MemoryCancellationStore
from gateway.proving.memory.clearing import MemoryClearingStore
from gateway.proving.memory.consents import MemoryConsentStore
from gateway.proving.memory.database import Database, Transaction
from gateway.proving.memory.directory import MemoryDirectory
from gateway.proving.memory.disclosure_contents import MemoryDisclosureContents
from gateway.proving.memory.follow_ups import MemoryFollowUpStore
from gateway.proving.memory.marketing import MemoryMarketingStore
from gateway.proving.memory.old_rows import MemoryOldRows
from gateway.proving.memory.outbox import MemoryOutbox
from gateway.proving.memory.payments import MemoryPaymentStore
from gateway.proving.memory.portability import MemoryPortabilityStore
from gateway.proving.memory.pulls import MemoryPullStore
from gateway.proving.memory.refusals import MemoryRefusalStore
from gateway.proving.memory.schedule import MemoryScheduleStore
from gateway.proving.memory.sharing import MemorySharingStore
from gateway.proving.memory.standing import MemoryStandingOrderStore


class MemoryUnitOfWork:
    """Implements :class:`gateway.app.unit.GatewayUnit` in one transaction."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self.consents = MemoryConsentStore(transaction, boundary)
        self.payments = MemoryPaymentStore(transaction, boundary)
        database = transaction.database
        self.reversals = MemoryFollowUpStore(transaction, boundary, database.reversals, "reversals")
        self.inquiries = MemoryFollowUpStore(transaction, boundary, database.inquiries, "inquiries")
        self.schedule = MemoryScheduleStore(transaction, boundary)
        self.archive = MemoryArchiveStore(transaction, boundary)
        self.cancellations = MemoryCancellationStore(transaction, boundary)
        self.standing = MemoryStandingOrderStore(transaction, boundary)
        self.bulks = MemoryBulkStore(transaction, boundary)
        self.clearing = MemoryClearingStore(transaction, boundary)
        self.outbox = MemoryOutbox(transaction, boundary)
        self.disclosures = MemoryDisclosureContents(transaction, boundary)
        self.old_rows = MemoryOldRows(transaction, boundary)
        self.authentication = MemoryAuthenticationStore(transaction, boundary)
        self.refusals = MemoryRefusalStore(transaction, boundary)
        self.directory = MemoryDirectory(transaction, boundary)
        self.portability = MemoryPortabilityStore(transaction, boundary)
        self.sharing = MemorySharingStore(transaction, boundary)
        self.marketing = MemoryMarketingStore(transaction, boundary)
        self.pulls = MemoryPullStore(transaction, boundary)


class MemoryStore:
    """Implements :class:`gateway.database.unit.Store` over a database that other workers' stores share.

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
