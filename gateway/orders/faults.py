"""What a partner is told of its own records on ``mypay.orders`` that are no message: which field, and what it must be.

Each is answered as its kind is refused (:meth:`gateway.orders.kinds.Kind.answer_fault`), where what that answer names
can be read. Otherwise by ``order.refused``, whose ``order_id`` is then the message's own id, whatever its kind, or the
record's place where that cannot be read either.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import TypeAdapter

from gateway.identity.door import Faulty
from gateway.identity.refusals import Refusal
from gateway.orders.kinds import FaultAnswer
from gateway.orders.store import FaultUnit
from gateway.outbox.store import OutboxEvent
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.store import PaymentUnit
from schemas.codec import encode
from schemas.events import EventType, OrderRefused
from schemas.primitives import Model, PaidOrderIdField, payment_id_of
from schemas.topics import events_topic

_ORDER_ID: Final[TypeAdapter[str]] = TypeAdapter(PaidOrderIdField)

Answer = Callable[[Faulty, datetime], FaultAnswer | None]


async def tell_faults(uow: FaultUnit, faults: Sequence[Faulty], answer: Answer, now: datetime) -> None:
    """Write faults down and tell the partners, once however often a record is delivered.

    ``answer`` is the kind's own, or None where it is told as an order is: of orders, of refunds, and of what does not
    say what it is.
    """
    if not faults:
        return
    payments = await _find_payments(uow, faults)
    told = [_told(f, answer(f, now), payments, now) for f in faults]
    new = await uow.refusals.insert(
        [Refusal(t.fault.partner_id, t.written_id, t.fault.reference, t.fault.reason) for t in told]
    )
    await uow.outbox.append(
        [
            OutboxEvent(
                topic=events_topic(t.fault.partner_id),
                key=t.key,
                event_id=t.fault.reference,
                event_type=t.event_type,
                occurred_at=now,
                traceparent=t.fault.traceparent,
                body=encode(t.body),
            )
            for t in told
            if t.fault.reference in new
        ]
    )


async def _find_payments(uow: PaymentUnit, faults: Sequence[Faulty]) -> Mapping[PaymentKey, Payment]:
    """Payments under the order ids that are named: who reads the refusal must not take such a payment for gone."""
    keys = {
        (f.partner_id, payment_id_of(f.partner_id, order_id))
        for f in faults
        if (order_id := f.member("order_id", _ORDER_ID))
    }
    return await uow.payments.find(sorted(keys)) if keys else {}


@dataclass(frozen=True, slots=True)
class _Told:
    """The answer to one faulty record. ``written_id``: it is written down under; of what is no order it has a "+"."""

    fault: Faulty
    event_type: EventType
    key: str
    body: Model
    written_id: str


def _told(fault: Faulty, answer: FaultAnswer | None, payments: Mapping[PaymentKey, Payment], now: datetime) -> _Told:
    if answer is None:
        order_id = fault.member("order_id", _ORDER_ID) or fault.reference
        payment = payments.get((fault.partner_id, payment_id_of(fault.partner_id, order_id)))
        return _refused(fault, order_id, payment, now, written_id=order_id)
    own_id = answer.own_id or fault.reference
    if answer.told is None:
        return _refused(fault, own_id, None, now, written_id=f"{own_id}+")
    event_type, key, body = answer.told
    return _Told(fault, event_type, key, body, f"{own_id}+")


def _refused(fault: Faulty, order_id: str, payment: Payment | None, now: datetime, *, written_id: str) -> _Told:
    body = OrderRefused.of_stored(
        partner_id=fault.partner_id,
        order_id=order_id,
        payment_id=payment.payment_id if payment else None,
        reason=fault.reason,
        reference=fault.reference,
        occurred_at=now,
    )
    return _Told(
        fault, EventType.ORDER_REFUSED, str(payment.payment_id) if payment else fault.reference, body, written_id
    )
