"""What partners are told of standing orders."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from gateway.base.calendar import BusinessDays
from gateway.identity.door import Authentic
from gateway.identity.refusals import Refusal, RefusingUnit
from gateway.orders.kinds import SignedInstruction
from gateway.orders.standing.rules import StandingOrder, occurrence
from gateway.outbox.store import OutboxEvent
from schemas.codec import encode
from schemas.events import EventType
from schemas.reasons import Reason
from schemas.standing import StandingOrderEvent, StandingOrderRefused, StandingStatus
from schemas.topics import events_topic

_TOLD: Final = {
    StandingStatus.ACTIVE: EventType.STANDING_CREATED,
    StandingStatus.CANCELLED: EventType.STANDING_CANCELLED,
    StandingStatus.COMPLETED: EventType.STANDING_COMPLETED,
}


def standing_event(
    row: StandingOrder, days: BusinessDays, now: datetime, *, repeated: str | None = None
) -> OutboxEvent:
    """Tell where a standing order stands; again, where the record ``repeated`` found it so."""
    following = occurrence(row.schedule, row.occurrences, days) if row.next_due_at is not None else None
    name = f"{row.partner_id}/{row.standing_order_id}:{row.version}"
    return OutboxEvent(
        topic=events_topic(row.partner_id),
        key=row.standing_order_id,
        event_id=f"{name}:{repeated}" if repeated else name,
        event_type=EventType.STANDING_REPORTED if repeated else _TOLD[row.status],
        occurred_at=now,
        traceparent=row.traceparent,
        body=encode(
            StandingOrderEvent.of_stored(
                partner_id=row.partner_id,
                standing_order_id=row.standing_order_id,
                consent_id=row.consent_id,
                merchant_id=row.merchant_id,
                amount=row.amount,
                status=row.status,
                version=row.version,
                occurrences=row.occurrences,
                next_date=following.day if following else None,
                reason=row.reason,
                occurred_at=row.changed_at,
            )
        ),
    )


async def tell_standing_refusals(
    uow: RefusingUnit, refused: Sequence[tuple[Authentic[SignedInstruction], Reason]], now: datetime
) -> None:
    """Tell of what was refused: once, however often a record is delivered."""
    # Written down with a "+", which no order's id has: these are no orders.
    if not refused:
        return
    new = await uow.refusals.insert(
        [Refusal(i.message.partner_id, f"{i.message.instruction_id}+", i.reference, reason) for i, reason in refused]
    )
    await uow.outbox.append([_refused(i, reason, now) for i, reason in refused if i.reference in new])


def _refused(instruction: Authentic[SignedInstruction], reason: Reason, now: datetime) -> OutboxEvent:
    partner_id, standing_order_id = (instruction.message.partner_id, instruction.message.instruction_id)
    return OutboxEvent(
        topic=events_topic(partner_id),
        key=standing_order_id,
        event_id=instruction.reference,
        event_type=EventType.STANDING_REFUSED,
        occurred_at=now,
        traceparent=instruction.envelope.traceparent,
        body=encode(
            StandingOrderRefused.of_stored(
                partner_id=partner_id,
                standing_order_id=standing_order_id,
                consent_id=instruction.message.record_key,
                reason=reason,
                reference=instruction.reference,
                occurred_at=now,
            )
        ),
    )
