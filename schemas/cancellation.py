"""What partners send on ``mypay.orders`` to have an order undone: before it is sent, or by a reversal after it."""

from functools import cached_property
from typing import Annotated, Final

from pydantic import StringConstraints, model_validator

from schemas.primitives import (
    NO_CARD_NUMBER,
    ConsentIdField,
    Model,
    PaidOrderIdField,
    PartnerIdField,
    PaymentId,
    UtcTime,
    expires_after_issue,
    id_field,
    payment_id_of,
)

CANCEL_TYPE: Final = "kr.mypay.payment.cancel.v1"
"""CloudEvents type of a cancellation; also the ``typ`` that its signature must carry."""

CancellationIdField = Annotated[str, id_field(64), NO_CARD_NUMBER]


class PaymentCancellation(Model):
    """An instruction to undo one order. Closed: an unknown field is refused by name.

    Attributes:
        partner_id: the partner that signs.
        cancellation_id: unique per partner for ever: the same id again has no second effect and is answered alike.
        consent_id: the consent of the order; also the record's Kafka key.
        order_id: the order to undo; it may come later than its cancellation.
        issued_at: when the partner issued the cancellation.
        expires_at: past this moment it is refused.
        reason_text: why, for the partner's own records; never sent to a network.
    """

    partner_id: PartnerIdField
    cancellation_id: CancellationIdField
    consent_id: ConsentIdField
    order_id: PaidOrderIdField
    issued_at: UtcTime
    expires_at: UtcTime
    reason_text: Annotated[str, StringConstraints(min_length=1, max_length=140, strict=True), NO_CARD_NUMBER] | None = (
        None
    )

    _expires_after_issue = model_validator(mode="after")(expires_after_issue)

    @property
    def record_key(self) -> str:
        """The record's Kafka key: a cancellation keeps its order behind the order that it names."""
        return self.consent_id

    @property
    def instruction_id(self) -> str:
        """The partner's own id of the message."""
        return self.cancellation_id

    @cached_property
    def payment_id(self) -> PaymentId:
        """The id of the one payment that the cancelled order can have."""
        return payment_id_of(self.partner_id, self.order_id)
