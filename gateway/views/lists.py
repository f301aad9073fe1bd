"""Lists for operators' commands: what stands, by state and age. Each goes through an index, and has an end."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.database.queries import load
from gateway.orders.standing.postgres import standing_of
from gateway.orders.standing.rules import StandingOrder
from gateway.payments.postgres import payment_of
from gateway.payments.rules.payment import Payment
from gateway.views.view import View

_SQL = load(__name__, "lists")


@dataclass(frozen=True, slots=True)
class StoredBulk:
    """A bulk that was decided.

    Attributes:
        control_minor: its items' sum.
        rejected: JSON: its items that were turned away, and why.
        dispatched_at: when the others were in Kafka; None while they are not.
    """

    partner_id: str
    bulk_id: str
    status: str
    items: int
    control_minor: int
    currency: str
    rejected: str
    reason_code: str | None
    reason_text: str | None
    reference: str
    decided_at: datetime
    dispatched_at: datetime | None


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """An event that Kafka did not take, put aside so that those behind it could go on; or a bundle, by its last one."""

    topic: str
    key: str
    event_id: str
    event_type: str
    occurred_at: datetime
    reason: str
    parked_at: datetime


class ListsView(View):
    """Lists."""

    async def open_payments(
        self, states: Sequence[str], *, before: datetime, network_id: str | None, partner_id: str | None, limit: int
    ) -> list[Payment]:
        """Payments in these of the open states, decided before then, the oldest first."""
        rows = await self._fetch(_SQL.open_payments, list(states), before, network_id, partner_id, limit)
        return [payment_of(r) for r in rows]

    async def standing_orders(self, *, partner_id: str | None, status: str | None, limit: int) -> list[StandingOrder]:
        """Standing orders by partner and id."""
        return [standing_of(r) for r in await self._fetch(_SQL.standing_orders, partner_id, status, limit)]

    async def bulks(self, bulk_id: str, *, partner_id: str | None) -> list[StoredBulk]:
        """Bulks with this id: one a partner at most."""
        return [StoredBulk(**dict(r)) for r in await self._fetch(_SQL.bulks, bulk_id, partner_id)]

    async def parked_events(self, *, limit: int) -> list[ParkedEvent]:
        """Events that were put aside, the oldest first."""
        return [ParkedEvent(**dict(r)) for r in await self._fetch(_SQL.parked_events, limit)]
