"""What partners send on ``mypay.orders`` to give money back: refunds, in full or in part, of earlier payments."""

from functools import cached_property
from typing import Final, Self

from pydantic import model_validator

from schemas.primitives import (
    ConsentIdField,
    Model,
    Money,
    OrderIdField,
    PaidOrderIdField,
    PartnerIdField,
    PaymentId,
    UtcTime,
    expires_after_issue,
    payment_id_of,
)

REFUND_TYPE: Final = "kr.mypay.payment.refund.v1"
"""CloudEvents type of a refund; also the ``typ`` that its signature must carry."""


class PaymentRefund(Model):
    """An instruction to give an approved payment's amount back, or a part of it. A payment of its own.

    Closed: an unknown field is refused by name.

    Attributes:
        partner_id: the partner that signs.
        order_id: the refund's own, among the partner's order ids: with ``partner_id`` it determines its payment id.
        consent_id: the consent that the original was made under; also the record's Kafka key. It may have ended since.
        original_order_id: the order whose payment is refunded.
        amount: what to give back, in the original's currency; all refunds of a payment together are at most its amount.
        issued_at: when the partner issued the refund.
        expires_at: past this moment it is refused, never sent late.
    """

    partner_id: PartnerIdField
    order_id: OrderIdField
    consent_id: ConsentIdField
    original_order_id: PaidOrderIdField
    amount: Money
    issued_at: UtcTime
    expires_at: UtcTime

    @model_validator(mode="after")
    def _is_another_order_and_expires_after_issue(self) -> Self:
        if self.order_id == self.original_order_id:
            raise ValueError("order_id must be the refund's own, not original_order_id")
        expires_after_issue(self)
        return self

    @property
    def record_key(self) -> str:
        """The record's Kafka key: a refund keeps its order behind the payment that it refunds."""
        return self.consent_id

    @property
    def instruction_id(self) -> str:
        """The partner's own id of the message."""
        return self.order_id

    @cached_property
    def payment_id(self) -> PaymentId:
        """The id of the one payment that this refund can be."""
        return payment_id_of(self.partner_id, self.order_id)

    @cached_property
    def original_payment_id(self) -> PaymentId:
        """The id of the payment that is refunded."""
        return payment_id_of(self.partner_id, self.original_order_id)
