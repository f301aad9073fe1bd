"""What a partner is told of its own records on ``mypay.orders`` that are no message: which field, and what it must be.

Each is answered as its kind is refused, where what that answer names can be read. Otherwise by ``order.refused``, whose
``order_id`` is then the message's own id, whatever its kind, or where that cannot be read either the record's place.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.identity.door import Faulty, read_field
from gateway.identity.refusals import Refusal
from gateway.orders.store import FaultUnit
from gateway.outbox.store import OutboxEvent
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.store import PaymentUnit
from schemas.bulk import BULK_TYPE, BulkEvent, BulkStatus
from schemas.cancellation import CANCEL_TYPE
from schemas.codec import encode
from schemas.events import CancellationRefused, EventType, OrderRefused
from schemas.primitives import Model, payment_id_of
from schemas.standing import STANDING_CANCEL_TYPE, STANDING_CREATE_TYPE, StandingOrderRefused
from schemas.topics import events_topic


async def tell_faults(uow: FaultUnit, faults: Sequence[Faulty], now: datetime) -> None:
    """Write faults down and tell the partners, once however often a record is delivered."""
    if not faults:
        return
    payments = await _find_payments(uow, faults)
    told = [_KINDS.get(f.type_ or "", _order)(f, payments, now) for f in faults]
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
        (f.partner_id, payment_id_of(f.partner_id, order_id)) for f in faults if (order_id := read_field(f, "order_id"))
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


def _order(fault: Faulty, payments: Mapping[PaymentKey, Payment], now: datetime) -> _Told:
    return _refused(fault, read_field(fault, "order_id"), payments, now, suffix="")


def _refused(
    fault: Faulty, own_id: str | None, payments: Mapping[PaymentKey, Payment], now: datetime, *, suffix: str = "+"
) -> _Told:
    order_id = own_id or fault.reference
    key = (fault.partner_id, payment_id_of(fault.partner_id, order_id))
    payment = payments.get(key) if not suffix else None
    body = OrderRefused.of_stored(
        partner_id=fault.partner_id,
        order_id=order_id,
        payment_id=payment.payment_id if payment else None,
        reason=fault.reason,
        reference=fault.reference,
        occurred_at=now,
    )
    event_key = str(payment.payment_id) if payment else fault.reference
    return _Told(fault, EventType.ORDER_REFUSED, event_key, body, f"{order_id}{suffix}")


def _cancellation(fault: Faulty, payments: Mapping[PaymentKey, Payment], now: datetime) -> _Told:
    own, consent, order = (read_field(fault, n) for n in ("cancellation_id", "consent_id", "order_id"))
    if own is None or consent is None or order is None:
        return _refused(fault, own, payments, now)
    body = CancellationRefused.of_stored(
        partner_id=fault.partner_id,
        cancellation_id=own,
        consent_id=consent,
        order_id=order,
        payment_id=payment_id_of(fault.partner_id, order),
        reason=fault.reason,
        reference=fault.reference,
        occurred_at=now,
    )
    return _Told(fault, EventType.CANCELLATION_REFUSED, str(body.payment_id), body, f"{own}+")


def _standing_order(fault: Faulty, payments: Mapping[PaymentKey, Payment], now: datetime) -> _Told:
    own, consent = (read_field(fault, n) for n in ("standing_order_id", "consent_id"))
    if own is None or consent is None:
        return _refused(fault, own, payments, now)
    body = StandingOrderRefused.of_stored(
        partner_id=fault.partner_id,
        standing_order_id=own,
        consent_id=consent,
        reason=fault.reason,
        reference=fault.reference,
        occurred_at=now,
    )
    return _Told(fault, EventType.STANDING_REFUSED, own, body, f"{own}+")


def _bulk(fault: Faulty, payments: Mapping[PaymentKey, Payment], now: datetime) -> _Told:
    own, number = (read_field(fault, n) for n in ("bulk_id", "number_of_transactions"))
    if own is None or number is None:
        return _refused(fault, own, payments, now)
    body = BulkEvent.of_stored(
        partner_id=fault.partner_id,
        bulk_id=own,
        status=BulkStatus.REFUSED,
        number_of_transactions=number,
        accepted=0,
        reason=fault.reason,
        reference=fault.reference,
        occurred_at=now,
    )
    return _Told(fault, EventType.BULK_REFUSED, own, body, f"{own}+")


_KINDS: Final[Mapping[str, Callable[[Faulty, Mapping[PaymentKey, Payment], datetime], _Told]]] = {
    CANCEL_TYPE: _cancellation,
    STANDING_CREATE_TYPE: _standing_order,
    STANDING_CANCEL_TYPE: _standing_order,
    BULK_TYPE: _bulk,
}
"""CloudEvents type → its answer; orders, refunds and what does not say what it is are told as orders."""
