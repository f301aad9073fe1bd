"""Payment orders."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from schemas.orders import ORDER_TYPE, PaymentOrder
from schemas.primitives import payment_id_of
from tests.support.messages import NOW, ORDER


def test_an_order_s_payment_id_comes_of_partner_and_order_id_alone() -> None:
    other = PaymentOrder(**{**ORDER.model_dump(), "amount": ORDER.amount, "consent_id": "other", "merchant_id": "m"})
    assert other.payment_id == ORDER.payment_id == payment_id_of("acme", "order-1")


@pytest.mark.parametrize("after", [timedelta(0), timedelta(microseconds=-1)])
def test_an_order_expires_after_it_was_issued(after: timedelta) -> None:
    with pytest.raises(ValidationError, match="later than issued_at"):
        PaymentOrder(**{**ORDER.model_dump(), "amount": ORDER.amount, "expires_at": NOW + after})


def test_an_order_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        ORDER.merchant_id = "other"  # type: ignore[misc,assignment]


def test_the_type_is_part_of_the_contract() -> None:
    assert ORDER_TYPE == "kr.mypay.payment.order.v1"
