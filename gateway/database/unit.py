"""The database: transactions that hand out one store a noun."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from gateway.consents.store import ConsentStore
from gateway.directory.store import Directory
from gateway.identity.store import AuthenticationStore
from gateway.orders.store import BulkStore, ScheduleStore, StandingOrderStore
from gateway.outbox.store import Outbox
from gateway.payments.cancellations.store import CancellationStore
from gateway.payments.store import PaymentStore
from gateway.payments.unknown.store import FollowUpStore
from gateway.settlement.store import ClearingStore


class UnitOfWork(Protocol):
    """One transaction. Everything written through it commits together or not at all."""

    @property
    def consents(self) -> ConsentStore:
        """Consents and usage."""

    @property
    def payments(self) -> PaymentStore:
        """Payments, ledger, refusals."""

    @property
    def reversals(self) -> FollowUpStore:
        """The reversal queue."""

    @property
    def inquiries(self) -> FollowUpStore:
        """The inquiry queue."""

    @property
    def schedule(self) -> ScheduleStore:
        """Orders that wait for their day."""

    @property
    def cancellations(self) -> CancellationStore:
        """Cancellations of orders."""

    @property
    def standing(self) -> StandingOrderStore:
        """Standing orders."""

    @property
    def bulks(self) -> BulkStore:
        """Bulks."""

    @property
    def clearing(self) -> ClearingStore:
        """Clearing records."""

    @property
    def outbox(self) -> Outbox:
        """Events."""

    @property
    def authentication(self) -> AuthenticationStore:
        """Identity links and used assertions."""

    @property
    def directory(self) -> Directory:
        """Merchants."""


class Store(Protocol):
    """The database."""

    def transaction(self) -> AbstractAsyncContextManager[UnitOfWork]:
        """Begin; commit at the end of the block, roll back when it raises.

        Raises:
            StoreUnavailableError, StoreConflictError: from any call inside, or at the commit.
        """

    def reading(self) -> AbstractAsyncContextManager[UnitOfWork]:
        """A connection without a transaction, for advice that nothing rests on."""
