"""An id that comes again with other content: which field differs is told, and nothing of its value."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.base.repetition import id_used
from gateway.messaging.records import Record
from gateway.network.exchange import Operation
from gateway.payments.rules.payment import Payment
from gateway.payments.rules.repetition import order_id_used
from schemas.codec import encode
from schemas.orders import PaymentOrder
from schemas.primitives import ConsentId, MerchantId, Money
from schemas.refunds import PaymentRefund
from tests.support.builders import dispatched_record, numbered_order, order_record, payment
from tests.support.domain_samples import krw
from tests.support.instructions import cancellation, instruction_record, refund
from tests.support.rig import Rig


@pytest.fixture
def rig() -> Rig:
    return Rig()


LATER = numbered_order(1).expires_at.replace(microsecond=7)

# fmt: off
DIFFERENT: dict[str, tuple[dict[str, Any], str]] = {
    "another amount":        ({"amount": krw(1)},                                   "amount.value differs"),
    "another currency":      ({"amount": Money.of(100, "USD")},            "amount.currency and amount.value differ"),
    "another payee":         ({"merchant_id": "merchant-2"},                        "merchant_id differs"),
    "another consent":       ({"consent_id": "consent-2"},                          "consent_id differs"),
    "payee and amount":      ({"merchant_id": "merchant-2", "amount": krw(1)},   "value and merchant_id differ"),
    "another time alone":    ({"expires_at": LATER},                                "say the same but for"),
}
# fmt: on


@pytest.mark.parametrize("case", DIFFERENT)
async def test_an_order_under_a_taken_id_is_told_what_differs(rig: Rig, case: str) -> None:
    fields, text = DIFFERENT[case]
    await rig.execute([dispatched_record(numbered_order(1))])
    await rig.initiation.take([order_record(numbered_order(1, **fields), offset=7)])
    reason = json.loads(rig.events()[-1].body)["reason"]
    assert (reason["code"], text in reason["text"]) == ("AM05", True), reason["text"]


async def test_blanks_alone_are_told_as_such(rig: Rig) -> None:
    await rig.execute([dispatched_record(numbered_order(1))])
    await rig.initiation.take([order_record(encode(numbered_order(1)) + b" ", offset=7, key=b"consent-1")])
    assert "byte for byte" in json.loads(rig.events()[-1].body)["reason"]["text"]


async def test_execution_and_intake_tell_the_same(rig: Rig) -> None:
    """Two orders of one id in one batch: the second is met by execution, behind the first."""
    await rig.execute(
        [dispatched_record(numbered_order(1)), dispatched_record(numbered_order(1, amount=krw(1)), offset=1)]
    )
    (told,) = [json.loads(e.body) for e in rig.events() if e.event_type == "kr.mypay.order.refused.v1"]
    assert "amount.value differs" in told["reason"]["text"]


async def test_a_refund_under_a_taken_id_is_told_what_differs(rig: Rig) -> None:
    await rig.execute([dispatched_record(numbered_order(1))])
    first: Record = instruction_record(refund(order_id="order-1", original_order_id="order-9"), 3)
    await rig.initiation.take([first])
    assert "the kind and amount.value differ" in json.loads(rig.events()[-1].body)["reason"]["text"]


async def test_a_cancellation_under_a_taken_id_is_told_what_differs(rig: Rig) -> None:
    await rig.initiation.take([instruction_record(cancellation(), 1)])
    await rig.initiation.take([instruction_record(cancellation(order_id="order-9"), 2)])
    await rig.initiation.take([instruction_record(cancellation(reason_text="other"), 3)])
    other, same = [json.loads(e.body)["reason"]["text"] for e in rig.events()[-2:]]
    assert "order_id differs" in other
    assert "byte for byte" in same


def test_nothing_of_the_values_is_told() -> None:
    first = payment(1, amount_minor=12_345, merchant_id="secret-shop", consent_id="secret-consent")
    later = replace(first, amount_minor=54_321, merchant_id="other-shop")
    text = order_id_used(first, later).text
    assert all(value not in text for value in ("12345", "54321", "secret", "other-shop"))
    assert "amount.value and merchant_id differ" in text


def test_fields_that_are_known_of_one_side_only_are_not_compared() -> None:
    assert "byte for byte" in id_used("x_id", {"a": 1, "b": 2}, {"a": 1, "c": 3}).text


# Under one id stands the first; the later one differs from it in what is beside it.
PURCHASE = payment(1)
REFUND = replace(PURCHASE, operation=Operation.REFUND, original_payment_id=refund().original_payment_id)
AN_ORDER, A_REFUND = numbered_order(1), refund(amount=krw(PURCHASE.amount_minor))
LATER_ONES: dict[str, tuple[Payment, PaymentOrder | PaymentRefund | Payment, list[str]]] = {
    "order, payee": (PURCHASE, AN_ORDER.model_copy(update={"merchant_id": "m-2"}), ["merchant_id"]),
    "order, consent": (PURCHASE, AN_ORDER.model_copy(update={"consent_id": "c-2"}), ["consent_id"]),
    "order, value": (PURCHASE, AN_ORDER.model_copy(update={"amount": krw(1)}), ["amount.value"]),
    "order, currency": (replace(PURCHASE, currency="JPY"), AN_ORDER, ["amount.currency"]),
    "item, payee": (PURCHASE, replace(PURCHASE, merchant_id=MerchantId("m-2")), ["merchant_id"]),
    "item, consent": (PURCHASE, replace(PURCHASE, consent_id=ConsentId("c-2")), ["consent_id"]),
    "item, value": (PURCHASE, replace(PURCHASE, amount_minor=1), ["amount.value"]),
    "item, currency": (PURCHASE, replace(PURCHASE, currency="JPY"), ["amount.currency"]),
    "refund, consent": (REFUND, A_REFUND.model_copy(update={"consent_id": "c-2"}), ["consent_id"]),
    "refund, value": (REFUND, A_REFUND.model_copy(update={"amount": krw(1)}), ["amount.value"]),
    "refund, currency": (replace(REFUND, currency="JPY"), A_REFUND, ["amount.currency"]),
    "refund, of another": (REFUND, A_REFUND.model_copy(update={"original_order_id": "o-2"}), ["original_order_id"]),
    "refund where an order stands": (PURCHASE, A_REFUND, ["the kind"]),
    "order where a refund stands": (REFUND, AN_ORDER, ["the kind"]),
}


@pytest.mark.parametrize("case", LATER_ONES)
def test_whatever_stands_and_whatever_comes_the_id_and_the_differing_fields_are_named(case: str) -> None:
    first, later, differing = LATER_ONES[case]
    words = f"{' and '.join(differing)} differs"
    reason = order_id_used(first, later)
    assert reason.text == f"order_id was used before with other content: {words}; the first payment stands"
