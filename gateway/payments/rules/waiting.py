"""What is kept of an order that waits for its day."""

from dataclasses import dataclass, field
from datetime import datetime

from gateway.payments.rules.payment import PaymentKey


@dataclass(frozen=True, slots=True)
class ScheduledOrder:
    """What is kept of an order that waits, to be handed on as it came.

    Attributes:
        due_at: when its day begins.
        expires_at: past this moment it is refused.
        order_type: CloudEvents type of ``body``; signature: the partner's, as it came.
        proven: the customer's proof was judged when the order was accepted.
        reference: topic/partition/offset of the partner's record; ordered_at: its Kafka timestamp.
        dispatches: how often it was handed on already.
    """

    key: PaymentKey
    due_at: datetime
    expires_at: datetime
    order_type: str
    body: bytes = field(repr=False)
    signature: str | None
    proven: bool
    reference: str
    ordered_at: datetime
    traceparent: str | None = None
    dispatches: int = 0
