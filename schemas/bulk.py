"""Bulks: many orders in one signed message on ``mypay.orders``, and what is told of them as a whole.

A bulk is about acceptance. What is accepted of it becomes orders like any others: each is checked again, sent and told
as a payment of its own, whatever becomes of its neighbours.
"""

from enum import StrEnum, unique
from typing import Annotated, ClassVar, Final, Self

from pydantic import ConfigDict, Field, model_validator

from schemas.orders import CompactJws, PaymentOrder
from schemas.primitives import (
    AMOUNT_MINOR_MAX,
    NO_CARD_NUMBER,
    AmountText,
    ConsentIdField,
    CurrencyCode,
    MerchantIdField,
    Model,
    Money,
    OrderIdField,
    PartnerIdField,
    UtcTime,
    amount_rules,
    expires_after_issue,
    id_field,
    minor_of,
)
from schemas.reasons import Reason

BULK_TYPE: Final = "kr.mypay.payment.bulk.v1"
"""CloudEvents type of a bulk; also the ``typ`` that its signature must carry."""

ITEMS_MAX: Final = 2000
BULK_BYTES_MAX: Final = 1_000_000
"""With its headers it fits a record of 1 MiB. 2,000 items take about 450,000 bytes, an item with a proof 1,500."""

BulkIdField = Annotated[str, id_field(35), NO_CARD_NUMBER]

TransactionCount = Annotated[int, Field(ge=1, le=1_000_000)]


@unique
class Acceptance(StrEnum):
    """What becomes of a bulk with an item that is not accepted."""

    ALL_OR_NOTHING = "all_or_nothing"  # the whole bulk is refused, and no item becomes a payment
    PARTIAL = "partial"  # the others are accepted


@unique
class BulkStatus(StrEnum):
    """What became of a bulk."""

    ACCEPTED = "accepted"
    REFUSED = "refused"


class ControlSum(Model):
    """The sum of all items' amounts (ISO 20022 CtrlSum), in the one currency that they share."""

    model_config = ConfigDict(json_schema_extra=amount_rules(digits=len(str(ITEMS_MAX * AMOUNT_MINOR_MAX)), zero=True))

    currency: CurrencyCode
    value: AmountText

    @model_validator(mode="after")
    def _value_fits_currency(self) -> Self:
        if minor_of(self.value, self.currency) > ITEMS_MAX * AMOUNT_MINOR_MAX:
            raise ValueError("value is more than any bulk can hold")
        return self

    @property
    def minor(self) -> int:
        """The sum in minor units."""
        return minor_of(self.value, self.currency)


class BulkItem(Model):
    """One order of a bulk; partner and times are the bulk's.

    Attributes:
        order_id: among the partner's order ids, unique for ever.
        authentication: the customer's proof for exactly this order, as in an order of its own.
    """

    order_id: OrderIdField
    consent_id: ConsentIdField
    merchant_id: MerchantIdField
    amount: Money
    authentication: CompactJws | None = Field(default=None, repr=False)


class PaymentBulk(Model):
    """Many instructions to pay, at once. Closed: an unknown field is refused by name.

    Attributes:
        partner_id: the partner that signs.
        bulk_id: unique per partner for ever; also the record's Kafka key.
        acceptance: ``all_or_nothing`` or ``partial``: decided when the bulk comes, and about no more than that.
        number_of_transactions: how many items there are (ISO 20022 NbOfTxs).
        control_sum: the sum of their amounts.
        items: the orders, in the order in which they count.
        issued_at: when the partner issued the bulk.
        expires_at: past this moment what was not sent is refused, never sent late.
    """

    BYTES_MAX: ClassVar[int] = BULK_BYTES_MAX

    partner_id: PartnerIdField
    bulk_id: BulkIdField
    acceptance: Acceptance
    number_of_transactions: TransactionCount
    control_sum: ControlSum
    items: Annotated[tuple[BulkItem, ...], Field(min_length=1, max_length=ITEMS_MAX)]
    issued_at: UtcTime
    expires_at: UtcTime

    _expires_after_issue = model_validator(mode="after")(expires_after_issue)

    @property
    def record_key(self) -> str:
        """The record's Kafka key: a bulk has many consents, so it has a key of its own."""
        return self.bulk_id

    @property
    def instruction_id(self) -> str:
        """The partner's own id of the message."""
        return self.bulk_id

    def order(self, item: BulkItem) -> PaymentOrder:
        """An item as the order that it is."""
        return PaymentOrder.model_construct(
            partner_id=self.partner_id,
            order_id=item.order_id,
            consent_id=item.consent_id,
            merchant_id=item.merchant_id,
            amount=item.amount,
            issued_at=self.issued_at,
            expires_at=self.expires_at,
            authentication=item.authentication,
        )


class RejectedItem(Model):
    """An item that was not accepted. ``item`` counts from 1."""

    item: Annotated[int, Field(ge=1)]
    order_id: str
    reason: Reason


class BulkEvent(Model):
    """A bulk was accepted or refused (or, ``reported``, is told again because it came again).

    Attributes:
        accepted: how many items were handed on; each is told as the payment that it is.
        rejected: the others, with their reasons.
        reason: why the whole bulk was refused.
        reference: topic, partition and offset of the record that this answers: ``mypay.orders/3/1207``.
    """

    partner_id: PartnerIdField
    bulk_id: str
    status: BulkStatus
    number_of_transactions: Annotated[int, Field(ge=1)]
    accepted: Annotated[int, Field(ge=0)]
    rejected: tuple[RejectedItem, ...] = ()
    reason: Reason | None = None
    reference: str
    occurred_at: UtcTime
