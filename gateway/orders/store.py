"""Orders that wait, are withdrawn, come again and again, or come together."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from gateway.orders.bulk.rules import Bulk, BulkKey
from gateway.orders.standing.rules import StandingKey, StandingOrder
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.rules.waiting import ScheduledOrder


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
