"""What a settled payment's event says itself: as its row would, or nothing."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.network.exchange import Operation
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.transitions import payment_events
from gateway.sharing.rules.told import ToldPurchase, purchase_of
from schemas.codec import encode_json, parse_strictly
from tests.support.builders import NOW, later, payment

PAID = payment(
    state=PaymentState.SETTLED, version=3, decided_at=NOW, changed_at=later(9), amount_minor=705, currency="USD"
)
NAMED = (PAID.partner_id, str(PAID.payment_id))
[EVENT] = payment_events([PAID])
SAID = parse_strictly(EVENT.body)


def said(named: tuple[str, str] = NAMED, **changed: object) -> ToldPurchase | None:
    body = {name: value for name, value in (SAID | changed).items() if value is not None}
    return purchase_of(named, json.dumps(body).encode())


def test_an_event_says_what_its_payments_row_says() -> None:
    found = purchase_of(NAMED, EVENT.body)
    assert found == ToldPurchase(PAID.consent_key, PAID.merchant_id, 705, "USD", NOW)
    assert said(more="of later releases") == found


@pytest.mark.parametrize(
    "changed",
    [
        *({name: None} for name in ("payment_id", "partner_id", "consent_id", "merchant_id", "amount", "paid_at")),
        *({"paid_at": at} for at in ("2026-01-01T00:00:00", "yesterday", 7)),
        *({name: value} for name in ("consent_id", "merchant_id") for value in ("\0", "\ud800", 7)),
        *(
            {"amount": {"currency": c, "value": v}}
            for c, v in (("USD", "7"), ("XXX", "7"), ("KRW", "7.0"), ("KRW", "-7"))
        ),
        {"named": ("partner-2", NAMED[1])},
        {"named": (NAMED[0], str(payment(2).payment_id))},
    ],
)
def test_of_what_an_event_does_not_say_the_row_is_asked(changed: dict[str, Any]) -> None:
    assert said(**changed) is None


def test_a_refund_is_no_purchase() -> None:
    refund = payment(2, state=PaymentState.SETTLED, operation=Operation.REFUND, original_payment_id=PAID.payment_id)
    [event] = payment_events([refund])
    assert purchase_of((refund.partner_id, str(refund.payment_id)), event.body) is None


@given(st.binary(max_size=40) | st.dictionaries(st.sampled_from(sorted(SAID)), st.text()).map(encode_json))
def test_what_is_no_event_of_a_payment_says_nothing(body: bytes) -> None:
    assert purchase_of(NAMED, body) is None


def test_what_is_nested_too_deep_says_nothing() -> None:
    assert purchase_of(NAMED, b'{"more":' + b"[" * 100_000) is None
