"""The database as the use cases see it: transactions that hand out one store a noun."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any

import asyncpg

from gateway.consents.postgres import PostgresConsentStore, TermsCache
from gateway.database.pool import ConnectionPool
from gateway.directory.postgres import PostgresDirectory
from gateway.disclosure.postgres import PostgresDisclosureContents, PostgresOldRows
from gateway.identity.postgres import PostgresAuthenticationStore, PostgresRefusalStore
from gateway.marketing.postgres import PostgresMarketingStore
from gateway.orders.bulk.postgres import PostgresBulkStore
from gateway.orders.scheduled.postgres import PostgresScheduleStore
from gateway.orders.standing.postgres import PostgresStandingOrderStore
from gateway.outbox.postgres import PostgresOutbox
from gateway.payments.archive.postgres import PostgresArchiveStore
from gateway.payments.cancellations.postgres import PostgresCancellationStore
from gateway.payments.postgres import PaymentNumbers, PostgresPaymentStore
from gateway.payments.unknown.postgres import PostgresFollowUpStore
from gateway.portability.api.postgres import PostgresPullStore
from gateway.portability.postgres import PostgresPortabilityStore
from gateway.settlement.postgres import PostgresClearingStore
from gateway.sharing.postgres import PostgresSharingStore


class PostgresUnitOfWork:
    """Implements :class:`gateway.app.unit.GatewayUnit` on one connection."""

    def __init__(
        self, connection: "asyncpg.Connection[Any]", cache: TermsCache, numbers: PaymentNumbers | None = None
    ) -> None:
        self.consents = PostgresConsentStore(connection, cache)
        self.payments = PostgresPaymentStore(connection, numbers)
        self.reversals = PostgresFollowUpStore(connection, "reversal")
        self.inquiries = PostgresFollowUpStore(connection, "inquiry")
        self.schedule = PostgresScheduleStore(connection)
        self.archive = PostgresArchiveStore(connection)
        self.cancellations = PostgresCancellationStore(connection)
        self.standing = PostgresStandingOrderStore(connection)
        self.bulks = PostgresBulkStore(connection)
        self.clearing = PostgresClearingStore(connection)
        self.outbox = PostgresOutbox(connection)
        self.disclosures = PostgresDisclosureContents(connection)
        self.old_rows = PostgresOldRows(connection)
        self.authentication = PostgresAuthenticationStore(connection)
        self.refusals = PostgresRefusalStore(connection)
        self.directory = PostgresDirectory(connection)
        self.portability = PostgresPortabilityStore(connection)
        self.sharing = PostgresSharingStore(connection)
        self.marketing = PostgresMarketingStore(connection)
        self.pulls = PostgresPullStore(connection)


class PostgresStore(ConnectionPool):
    """Implements :class:`gateway.database.unit.Store` over a connection pool."""

    @cached_property
    def _cache(self) -> TermsCache:
        return TermsCache()

    @cached_property
    def _numbers(self) -> PaymentNumbers:
        return PaymentNumbers()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresUnitOfWork]:
        """One transaction (:meth:`transacting`)."""
        async with self.transacting() as connection:
            uow = PostgresUnitOfWork(connection, self._cache, self._numbers)
            yield uow
        uow.payments.keep_numbers()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[PostgresUnitOfWork]:
        """A connection without a transaction."""
        async with self.connection() as connection:
            yield PostgresUnitOfWork(connection, self._cache, self._numbers)
