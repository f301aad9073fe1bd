"""Events that tell a partner something without moving a payment."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from uuid import UUID

from gateway.identity.refusals import Refusal, RefusingUnit
from gateway.outbox.store import OutboxEvent
from gateway.payments.rules.intent import OrderOrRefund
from gateway.payments.rules.payment import Payment, event_fields
from schemas.codec import encode, encode_fields
from schemas.events import EventType, OrderRefused
from schemas.primitives import PartnerId
from schemas.reasons import Reason
from schemas.topics import events_topic


@dataclass(frozen=True, slots=True)
class RefusedOrder:
    """An order that does not become a payment. ``payment_id``: the payment that stands under its id, or None."""

    partner_id: PartnerId
    order_id: str
    payment_id: UUID | None
    reason: Reason
    reference: str
    traceparent: str | None = None

    @classmethod
    def of(cls, refused: OrderOrRefund, reason: Reason, first: Payment | None = None) -> Self:
        """Refuse an order or a refund; ``first`` stands under its id."""
        message = refused.message
        stands = None if first is None else first.payment_id
        return cls(message.partner_id, message.order_id, stands, reason, refused.reference, refused.traceparent)


def reported_events(repeats: Sequence[tuple[Payment, str]], now: datetime) -> list[OutboxEvent]:
    """Tell again where payments stand whose orders came again; each with the reference of the repeated record."""
    return [
        OutboxEvent(
            topic=events_topic(payment.partner_id),
            key=str(payment.payment_id),
            event_id=f"{payment.payment_id}:{payment.version}:{reference}",
            event_type=EventType.PAYMENT_REPORTED,
            occurred_at=now,
            traceparent=payment.traceparent,
            body=encode_fields(event_fields(payment)),
        )
        for payment, reference in repeats
    ]


async def refuse_orders(uow: RefusingUnit, refused: Sequence[RefusedOrder], now: datetime) -> int:
    """Record refusals and tell the partners, once however often a record is delivered; return how many were new."""
    if not refused:
        return 0
    new = await uow.refusals.insert([Refusal(r.partner_id, r.order_id, r.reference, r.reason) for r in refused])
    await uow.outbox.append(
        [
            OutboxEvent(
                topic=events_topic(r.partner_id),
                key=str(r.payment_id or r.reference),
                event_id=r.reference,
                event_type=EventType.ORDER_REFUSED,
                occurred_at=now,
                traceparent=r.traceparent,
                body=encode(
                    OrderRefused.of_stored(
                        partner_id=r.partner_id,
                        order_id=r.order_id,
                        payment_id=r.payment_id,
                        reason=r.reason,
                        reference=r.reference,
                        occurred_at=now,
                    )
                ),
            )
            for r in refused
            if r.reference in new
        ]
    )
    return len(new)
