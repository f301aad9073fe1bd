"""An id that comes again with other content: which field differs is told, and nothing of its value."""

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.repetition import id_taken, order_id_taken
from gateway.ports import Record
from schemas.codec import encode
from schemas.primitives import Money
from tests.builders import dispatched_record, numbered_order, order_record, payment
from tests.support.instructions import cancellation, instruction_record, refund
from tests.support.rig import Rig
from tests.unit.domain_samples import krw


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
    text = order_id_taken(first, later).text
    assert all(value not in text for value in ("12345", "54321", "secret", "other-shop"))
    assert "amount.value and merchant_id differ" in text


def test_fields_that_are_known_of_one_side_only_are_not_compared() -> None:
    assert "byte for byte" in id_taken("x_id", {"a": 1, "b": 2}, {"a": 1, "c": 3}).text
