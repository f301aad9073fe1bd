"""What partners send on ``mypay.orders``: payment-initiation orders."""

from functools import cached_property
from typing import Annotated, Final

from pydantic import StringConstraints, model_validator

from schemas.assertions import ASSERTION_CHARS_MAX
from schemas.primitives import (
    ConsentIdField,
    MerchantIdField,
    Model,
    Money,
    OrderIdField,
    PaidOrderIdField,
    PartnerIdField,
    PaymentId,
    SeoulDate,
    UtcTime,
    expires_after_issue,
    payment_id_of,
)

CompactJws = Annotated[
    str,
    StringConstraints(
        max_length=ASSERTION_CHARS_MAX, pattern=r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$", strict=True
    ),
]

ORDER_TYPE: Final = "kr.mypay.payment.order.v1"
"""CloudEvents type of a payment order; also the ``typ`` that its signature must carry."""

OCCURRENCE_TYPE: Final = "kr.mypay.payment.occurrence.v1"
"""CloudEvents type of one occurrence of a standing order. The gateway makes it; nobody can send it."""


class PaymentOrder(Model):
    """One instruction to pay, under one consent. Closed: an unknown field is refused by name.

    The signature over the raw bytes covers every field; nothing that matters travels in a header alone.

    Attributes:
        partner_id: the partner that signs.
        order_id: unique per partner for ever; with ``partner_id`` it determines the payment id.
        consent_id: the customer's consent to pay under; also the record's Kafka key.
        merchant_id: whom to pay, from the gateway's merchant directory.
        amount: what to pay.
        issued_at: when the partner issued the order.
        expires_at: past this moment the order is refused, never sent late.
        requested_execution_date: the day in Asia/Seoul on which to pay (ISO 20022 ReqdExctnDt): the order waits for it,
            and must then be valid until some time on that day. Left out: at once.
        authentication: the customer's proof for exactly this order, a compact JWS of either group's identity provider
            (:mod:`schemas.assertions`). Needed where the assurance policy asks for one and no exemption applies.
    """

    partner_id: PartnerIdField
    order_id: OrderIdField
    consent_id: ConsentIdField
    merchant_id: MerchantIdField
    amount: Money
    issued_at: UtcTime
    expires_at: UtcTime
    requested_execution_date: SeoulDate | None = None
    authentication: CompactJws | None = None

    _expires_after_issue = model_validator(mode="after")(expires_after_issue)

    @property
    def record_key(self) -> str:
        """The record's Kafka key: records of one consent keep their order."""
        return self.consent_id

    @property
    def instruction_id(self) -> str:
        """The partner's own id of the message."""
        return self.order_id

    @cached_property
    def payment_id(self) -> PaymentId:
        """The id of the one payment that this order can have."""
        return payment_id_of(self.partner_id, self.order_id)


class OccurrenceOrder(PaymentOrder):
    """One occurrence of a standing order, as the gateway makes it: its order id is one that no partner can choose."""

    order_id: PaidOrderIdField
