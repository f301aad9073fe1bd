"""What is told of an order id that comes again with other content."""

from typing import assert_never

from gateway.base.repetition import Facts, id_used
from gateway.network.exchange import Operation
from gateway.payments.rules.payment import Payment
from schemas.orders import PaymentOrder
from schemas.primitives import decimal_of
from schemas.reasons import Reason
from schemas.refunds import PaymentRefund


def order_id_used(
    first: PaymentOrder | PaymentRefund | Payment, later: PaymentOrder | PaymentRefund | Payment
) -> Reason:
    """Refuse an order, a refund or a bulk's item whose order id has, or is about to have, one with other content."""
    return id_used("order_id", _facts(first), _facts(later), stands="the first payment stands")


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
