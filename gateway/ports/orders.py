"""Orders that wait, are withdrawn, come again and again, or come together."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from gateway.domain.bulk import Bulk, BulkKey
from gateway.domain.cancellation import CancellationKey, HandledCancellation
from gateway.domain.payment import Payment, PaymentKey
from gateway.domain.scheduling import ScheduledOrder
from gateway.domain.standing import StandingKey, StandingOrder
from schemas.primitives import ConsentId, PartnerId


class ScheduleStore(Protocol):
    """Orders that wait for their day. Each belongs to a SCHEDULED payment; both are written in one transaction."""

    async def keep(self, orders: Sequence[ScheduledOrder]) -> None:
        """Add orders of payments that this transaction has inserted."""

    async def claim(self, *, now: datetime, lease_until: datetime, limit: int) -> Sequence[ScheduledOrder]:
        """Take orders that are due and that nobody holds, earliest first; each counts one more dispatch."""

    async def put_off(self, until: Sequence[tuple[PaymentKey, datetime]]) -> None:
        """Look at each again then: whether the payment still waits."""

    async def close(self, keys: Sequence[PaymentKey], *, now: datetime) -> None:
        """Forget about orders whose payments wait no more."""

    async def begin(self, payments: Sequence[Payment]) -> None:
        """Write what was decided of SCHEDULED payments that this transaction has locked: SENT or REJECTED, in full."""


class CancellationStore(Protocol):
    """Cancellations and what became of them."""

    async def handled(self, keys: Sequence[CancellationKey]) -> Mapping[CancellationKey, HandledCancellation]:
        """Cancellations that were handled before."""

    async def remember(self, handled: Sequence[HandledCancellation]) -> frozenset[CancellationKey]:
        """Remember cancellations that are not remembered yet; return the keys of these."""

    async def answer(self, references: Sequence[tuple[PartnerId, str]]) -> frozenset[tuple[PartnerId, str]]:
        """Note that these records are answered; return those that were not answered before."""

    async def not_sent(self, orders: Sequence[PaymentKey]) -> Mapping[PaymentKey, frozenset[ConsentId]]:
        """Orders that were cancelled before they came, with the consents that their cancellations name."""

    async def lock_due(self, *, limit: int) -> Sequence[HandledCancellation]:
        """Open ones whose payments' outcomes are known, locked; those that another transaction holds are left."""

    async def update(self, handled: Sequence[HandledCancellation]) -> None:
        """Write outcome and openness of cancellations that this transaction has locked."""


class StandingOrderStore(Protocol):
    """Standing orders."""

    async def lock(self, keys: Sequence[StandingKey]) -> Mapping[StandingKey, StandingOrder]:
        """Those that exist, locked in key order until the transaction ends."""

    async def insert(self, orders: Sequence[StandingOrder]) -> frozenset[StandingKey]:
        """Insert those that do not exist yet; return the keys of these. An existing one is left as it is."""

    async def claim_due(self, *, now: datetime, limit: int) -> Sequence[StandingOrder]:
        """Active ones whose next occurrence is due, earliest first, locked; what another transaction holds is left."""

    async def active(self, *, after: StandingKey | None, limit: int) -> Sequence[StandingOrder]:
        """Active ones behind a key, in key order, locked; what another transaction holds is left."""

    async def update(self, orders: Sequence[StandingOrder]) -> None:
        """Write status, version, occurrences, next due time, reason and time of orders that are locked."""


class BulkStore(Protocol):
    """Bulks that were decided."""

    async def find(self, keys: Sequence[BulkKey]) -> Mapping[BulkKey, Bulk]:
        """Those that exist, without a lock."""

    async def insert(self, bulks: Sequence[Bulk]) -> frozenset[BulkKey]:
        """Insert those that do not exist yet; return the keys of these. An existing one is left as it is."""

    async def dispatched(self, keys: Sequence[BulkKey], *, now: datetime) -> None:
        """Note that every accepted item was handed on, where that is not noted yet."""
