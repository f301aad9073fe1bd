"""Orders that wait, are withdrawn, come again and again, or come together."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from gateway.consents.store import ConsentUnit
from gateway.directory.store import DirectoryUnit
from gateway.identity.refusals import RefusingUnit
from gateway.identity.store import AuthenticationUnit
from gateway.orders.bulk.rules import Bulk, BulkKey
from gateway.orders.standing.rules import StandingKey, StandingOrder
from gateway.outbox.store import OutboxUnit
from gateway.payments.cancellations.store import CancellationUnit
from gateway.payments.rules.payment import PaymentKey
from gateway.payments.rules.waiting import ScheduledOrder
from gateway.payments.store import PaymentChangeUnit, PaymentUnit
from schemas.primitives import NetworkId


class ScheduleStore(Protocol):
    """Orders that wait for their day. Each belongs to a SCHEDULED payment; both are written in one transaction."""

    async def keep(self, orders: Sequence[ScheduledOrder]) -> None:
        """Add orders of payments that this transaction has inserted."""

    async def claim(
        self, *, now: datetime, lease_until: datetime, limit: int, after: str = "", held_for: str = ""
    ) -> Sequence[ScheduledOrder]:
        """Take orders that are due and that nobody leases; each counts one more dispatch.

        Only those that are held for this network; "": that are held for none.
        Partners take turns, in the order of their ids, beginning behind ``after``: an order each, each one's earliest
        first, and again. In this order the orders are returned, so that the last one tells whose turn was the last.
        """

    async def claim_expired(self, *, now: datetime, lease_until: datetime, limit: int) -> Sequence[ScheduledOrder]:
        """As that, of the orders that are past their ``expires_at``, those first that expired first."""

    async def held_for(self) -> Sequence[NetworkId]:
        """The networks that orders are held for."""

    async def lock(self, keys: Sequence[PaymentKey]) -> None:
        """Lock those that exist, in key order, until the transaction ends; before they are written in several calls."""

    async def hold(self, orders: Sequence[tuple[ScheduledOrder, NetworkId]], *, now: datetime) -> None:
        """Hold each, as it was claimed, for its network: due still, in the order of its day, and not dispatched.

        One that is held already, or was claimed anew, is left as it is.
        """

    async def put_off(self, until: Sequence[tuple[PaymentKey, datetime]]) -> None:
        """Look at each again then: whether the payment still waits."""

    async def close(self, keys: Sequence[PaymentKey], *, now: datetime) -> None:
        """Forget about orders whose payments wait no more."""


class StandingOrderStore(Protocol):
    """Standing orders."""

    async def lock(self, keys: Sequence[StandingKey]) -> Mapping[StandingKey, StandingOrder]:
        """Those that exist, locked in key order until the transaction ends."""

    async def insert(self, orders: Sequence[StandingOrder]) -> frozenset[StandingKey]:
        """Insert those that do not exist yet; return the keys of these. An existing one is left as it is."""

    async def claim_due(self, *, now: datetime, limit: int) -> Sequence[StandingOrder]:
        """Active ones whose next occurrence is due, locked; what another transaction holds is left.

        One of each partner's in turn, of a partner's the earliest first: who has many due holds up nobody else.
        """

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


class ScheduleUnit(Protocol):
    """Orders that wait for their day."""

    @property
    def schedule(self) -> ScheduleStore:
        """Orders that wait for their day."""


class StandingUnit(Protocol):
    """Standing orders."""

    @property
    def standing(self) -> StandingOrderStore:
        """Standing orders."""


class BulkUnit(Protocol):
    """Bulks."""

    @property
    def bulks(self) -> BulkStore:
        """Bulks that were decided."""


class JudgingUnit(PaymentUnit, ConsentUnit, DirectoryUnit, AuthenticationUnit, Protocol):
    """What judging an order reads."""


class FaultUnit(PaymentUnit, RefusingUnit, Protocol):
    """Tells partners of records with a fault."""


class WaitingUnit(PaymentUnit, CancellationUnit, ScheduleUnit, AuthenticationUnit, Protocol):
    """Accepts an order for a later day."""


class PaymentIntakeUnit(JudgingUnit, WaitingUnit, RefusingUnit, Protocol):
    """Takes in orders to pay, and refunds."""


class BulkIntakeUnit(JudgingUnit, RefusingUnit, BulkUnit, Protocol):
    """Takes bulks in."""


class CancellationIntakeUnit(PaymentChangeUnit, CancellationUnit, Protocol):
    """Cancels orders."""


class StandingIntakeUnit(StandingUnit, ConsentUnit, DirectoryUnit, AuthenticationUnit, RefusingUnit, Protocol):
    """Takes instructions on standing orders in."""


class OccurrenceUnit(StandingUnit, ConsentUnit, PaymentUnit, ScheduleUnit, OutboxUnit, Protocol):
    """Makes the payments of standing orders' days."""


class DueUnit(PaymentChangeUnit, ScheduleUnit, DirectoryUnit, Protocol):
    """Hands on orders whose day has come, and rejects those that expired first."""
