"""What partners send on ``mypay.orders``: payment-initiation orders."""

from functools import cached_property
from typing import Annotated, Any, Final, Self

from msgspec import UNSET, Struct, UnsetType
from msgspec.json import Decoder
from pydantic import Field, StringConstraints, model_validator

from schemas.assertions import ASSERTION_CHARS_MAX
from schemas.plain import PlainAmount, built, is_spelt_once, lines, whole
from schemas.primitives import (
    TIME_PATTERN,
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
    lines_hold_card_number,
    payment_id_of,
    time_of,
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
    authentication: CompactJws | None = Field(default=None, repr=False)

    _expires_after_issue = model_validator(mode="after")(expires_after_issue)

    @property
    def record_key(self) -> str:
        """The record's Kafka key: records of one consent keep their order."""
        return self.consent_id

    @property
    def instruction_id(self) -> str:
        """The partner's own id of the message."""
        return self.order_id

    @classmethod
    def of_plain(cls, body: bytes) -> Self | None:
        """Read an order that is paid at once."""
        try:
            plain = _decode_plain(body)
            proof = plain.authentication
            if not is_spelt_once(body, _QUOTES if proof is UNSET else _QUOTES_WITH_PROOF):
                return None
            values = _plain_values(plain)
        except ValueError:
            return None
        return None if values is None else built(cls, values, _GIVEN if proof is UNSET else _GIVEN_WITH_PROOF)

    @cached_property
    def payment_id(self) -> PaymentId:
        """The id of the one payment that this order can have."""
        return payment_id_of(self.partner_id, self.order_id)


class OccurrenceOrder(PaymentOrder):
    """One occurrence of a standing order, as the gateway makes it: its order id is one that no partner can choose."""

    order_id: PaidOrderIdField


class _PlainOrder(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """An order that is paid at once, as it is written."""

    partner_id: str
    order_id: str
    consent_id: str
    merchant_id: str
    amount: PlainAmount
    issued_at: str
    expires_at: str
    authentication: str | UnsetType = UNSET


_decode_plain = Decoder(_PlainOrder).decode
_ids = (PartnerIdField, OrderIdField, ConsentIdField, MerchantIdField)
_LINES: Final = lines(*map(whole, _ids), TIME_PATTERN, TIME_PATTERN)
_PROOF: Final = lines(whole(CompactJws))

_GIVEN: Final = frozenset(_PlainOrder.__struct_fields__) - {"authentication"}
_GIVEN_WITH_PROOF: Final = _GIVEN | {"authentication"}
_QUOTES: Final = 2 * (2 * len(_GIVEN) - 1 + 2 * len(PlainAmount.__struct_fields__))
"""Of each name and each text; the amount's value is none."""

_QUOTES_WITH_PROOF: Final = _QUOTES + 4


def _plain_values(plain: _PlainOrder) -> dict[str, Any] | None:
    ids = f"{plain.partner_id}\n{plain.order_id}\n{plain.consent_id}\n{plain.merchant_id}"
    if _LINES.fullmatch(f"{ids}\n{plain.issued_at}\n{plain.expires_at}") is None or lines_hold_card_number(ids):
        return None
    proof = None if plain.authentication is UNSET else plain.authentication
    if proof is not None and _PROOF.fullmatch(proof) is None:
        return None
    issued_at, expires_at = time_of(plain.issued_at), time_of(plain.expires_at)
    if expires_at <= issued_at:
        return None
    return {
        "partner_id": plain.partner_id,
        "order_id": plain.order_id,
        "consent_id": plain.consent_id,
        "merchant_id": plain.merchant_id,
        "amount": Money.of_plain_parts(plain.amount),
        "issued_at": issued_at,
        "expires_at": expires_at,
        "requested_execution_date": None,
        "authentication": proof,
    }
