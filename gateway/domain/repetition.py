"""What is told of an id that comes again with other content: which fields differ from what stands under it.

Compared is what is kept of the first one. Where none of that differs the bytes do all the same: other times, another
day or proof, or only blanks. The very same bytes would have been a repetition, and told where the first one stands.
"""

from collections.abc import Mapping
from typing import assert_never

from gateway.domain.exchange import Operation
from gateway.domain.payment import Payment
from schemas.orders import PaymentOrder
from schemas.primitives import decimal_of
from schemas.reasons import Reason, ReasonCode
from schemas.refunds import PaymentRefund

Facts = Mapping[str, object]
"""Field → value, for the fields that are kept of a message. One that is missing on either side is not compared."""


def id_taken(name: str, first: Facts, later: Facts, *, stands: str = "the first one stands") -> Reason:
    """Refuse an id, of field ``name``, under which ``first`` stands; the fields of ``later`` that differ are named.

    Nothing of their values is told.
    """
    differing = [field for field in first if field in later and first[field] != later[field]]
    if differing:
        text = (
            f"{name} was used before with other content: {' and '.join(differing)} differ{'s' * (len(differing) == 1)}"
        )
    else:
        text = (
            f"{name} was used before with other bytes that say the same but for times, days, proof or blanks: send a"
            " repetition byte for byte"
        )
    return Reason(code=ReasonCode.AM05, text=f"{text}; {stands}")


def order_id_taken(first: Payment, later: PaymentOrder | PaymentRefund | Payment) -> Reason:
    """Refuse an order, a refund or a bulk's item whose order id has a payment with other content."""
    return id_taken("order_id", _facts(first), _facts(later), stands="the first payment stands")


def _facts(of: PaymentOrder | PaymentRefund | Payment) -> Facts:
    match of:
        case Payment():
            facts = {
                "the kind": of.operation,
                "consent_id": of.consent_id,
                "amount.currency": of.currency,
                "amount.value": decimal_of(of.amount_minor, of.currency),
            }
            if of.operation is Operation.REFUND:
                return {**facts, "original_order_id": of.original_payment_id}
            return {**facts, "merchant_id": of.merchant_id}
        case PaymentOrder():
            return {
                "the kind": Operation.PURCHASE,
                "consent_id": of.consent_id,
                "amount.currency": of.amount.currency,
                "amount.value": of.amount.value,
                "merchant_id": of.merchant_id,
            }
        case PaymentRefund():
            return {
                "the kind": Operation.REFUND,
                "consent_id": of.consent_id,
                "amount.currency": of.amount.currency,
                "amount.value": of.amount.value,
                "original_order_id": of.original_payment_id,
            }
        case _:
            assert_never(of)
