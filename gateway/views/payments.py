"""One payment's whole story, without an index that payments would pay for.

A payment's events are found by the moments that its other rows tell: an event carries the very time that its
transaction wrote there. What is no longer in the outbox is still told by those rows.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from gateway.database.queries import load
from gateway.payments.postgres import payment_of
from gateway.payments.rules.payment import Payment
from gateway.views.view import View

_SQL = load(__name__, "payments")

_UNTOLD: Final = timedelta(minutes=5)
"""Only the moment at which an inquiry began is in no other row: an answer's time-out after the intent."""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event in the outbox. ``relayed``: Kafka has confirmed it."""

    event_id: str
    event_type: str
    occurred_at: datetime
    body: bytes
    relayed: bool


@dataclass(frozen=True, slots=True)
class StoredTransfer:
    """A ledger transfer."""

    kind: str
    debit: str
    credit: str
    amount_minor: int
    currency: str
    posted_at: datetime


@dataclass(frozen=True, slots=True)
class StoredFollowUp:
    """A payment's inquiry or reversal (``kind``), the last one. ``attempts``: how often it was taken to be sent."""

    kind: str
    stan: int
    transmitted_at: datetime
    attempts: int
    next_attempt_at: datetime
    last_code: str | None
    queued_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredLateAnswer:
    """An answer that nobody waited for, and what it did."""

    received_at: datetime
    mti: str
    response_code: str
    amount_minor: int
    outcome: str


@dataclass(frozen=True, slots=True)
class StoredSchedule:
    """When a payment that waited is, or was, due. ``dispatches``: how often it was handed on to execution."""

    due_at: datetime
    expires_at: datetime
    dispatches: int


@dataclass(frozen=True, slots=True)
class StoredClearing:
    """A clearing record that names the payment: what settled it, or a break."""

    cycle_id: str
    record_no: int
    kind: str
    amount_minor: int
    currency: str
    break_kind: str | None
    break_detail: str | None
    imported_at: datetime
    superseded_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoredRefusal:
    """A refused order under a partner's order id."""

    reference: str
    reason_code: str
    reason_text: str
    refused_at: datetime


@dataclass(frozen=True, slots=True)
class PaymentFacts:
    """Everything that the database knows of one payment."""

    payment: Payment
    events: tuple[StoredEvent, ...]
    transfers: tuple[StoredTransfer, ...]
    follow_ups: tuple[StoredFollowUp, ...]
    clearing: tuple[StoredClearing, ...]
    schedule: StoredSchedule | None = None
    late_answers: tuple[StoredLateAnswer, ...] = ()


class PaymentsView(View):
    """Payments and what is known of them."""

    async def find(self, payment_id: UUID, *, partner_id: str | None = None) -> list[Payment]:
        """Payments with this id; one at most, unless ids were made elsewhere."""
        if partner_id is None:
            rows = await self._fetch(_SQL.payment_of_any_partner, payment_id)
        else:
            rows = await self._fetch(_SQL.payment, partner_id, payment_id)
        return [payment_of(row) for row in rows]

    async def facts(self, payment: Payment) -> PaymentFacts:
        """Everything about a payment: a few queries, each through an index."""
        transfers = tuple(StoredTransfer(**dict(r)) for r in await self._fetch(_SQL.transfers, *payment.key))
        follow_ups = tuple(StoredFollowUp(**dict(r)) for r in await self._fetch(_SQL.follow_ups, *payment.key))
        late = tuple(StoredLateAnswer(**dict(r)) for r in await self._fetch(_SQL.late_answers, *payment.key))
        clearing: tuple[StoredClearing, ...] = ()
        if payment.network_id is not None:
            rows = await self._fetch(_SQL.clearing, *payment.key, payment.network_id, payment.changed_at)
            clearing = tuple(StoredClearing(**dict(r)) for r in rows)
        moments = {payment.decided_at, payment.changed_at, *(t.posted_at for t in transfers)}
        moments.update(f.queued_at for f in follow_ups)
        waits = [StoredSchedule(**dict(r)) for r in await self._fetch(_SQL.schedule, *payment.key)]
        events = await self._events(payment, moments, waited=bool(waits))
        return PaymentFacts(payment, events, transfers, follow_ups, clearing, waits[0] if waits else None, late)

    async def _events(
        self, payment: Payment, moments: set[datetime], *, waited: bool = False
    ) -> tuple[StoredEvent, ...]:
        key = str(payment.payment_id)
        rows = await self._fetch(_SQL.events_at, key, sorted(moments))
        if waited and payment.version > 1:
            # The row tells when it was decided on its day; it was accepted a moment after it had been ordered.
            accepted = (payment.ordered_at, payment.ordered_at + _UNTOLD)
            rows += await self._fetch(_SQL.events_between, key, *accepted)
        if len({r["event_id"] for r in rows}) < payment.version:
            end = min(payment.changed_at, payment.decided_at + _UNTOLD)
            rows += await self._fetch(_SQL.events_between, key, payment.decided_at, end)
        found = {r["event_id"]: StoredEvent(**dict(r)) for r in rows}
        return tuple(sorted(found.values(), key=lambda e: (e.occurred_at, e.event_id)))

    async def refusals(self, partner_id: str, order_id: str) -> list[StoredRefusal]:
        """Refused orders under an order id, oldest first; reads all of the partner's refusals."""
        return [StoredRefusal(**dict(r)) for r in await self._fetch(_SQL.refusals, partner_id, order_id)]
