"""What partners are told of a payment is a PaymentEvent of the contract, in every state."""

from datetime import timedelta

import pytest

from gateway.network.exchange import Operation
from gateway.payments.rules.lifecycle import STATUS, PaymentState
from gateway.payments.rules.payment import event_fields
from schemas.codec import decode, encode, encode_fields, encode_json
from schemas.events import PaymentEvent
from schemas.primitives import Money
from schemas.reasons import Reason, ReasonCode
from tests.support.builders import NOW, payment

REASON = Reason(code=ReasonCode.AM04, text="insufficient funds", network_code="51")


@pytest.mark.parametrize("state", list(PaymentState))
@pytest.mark.parametrize("reason", [None, REASON, Reason(code=ReasonCode.MD01, text="no consent")])
@pytest.mark.parametrize("currency", ["KRW", "USD"])
def test_an_event_reads_back_as_the_payment_it_tells_of(
    state: PaymentState, reason: Reason | None, currency: str
) -> None:
    told = payment(state=state, reason=reason, currency=currency, approval_code="A1B2C3", version=3, consent_version=4)
    body = encode_fields(event_fields(told))
    assert body == encode_json(event_fields(told))
    event = decode(PaymentEvent, body)
    assert event == PaymentEvent(
        payment_id=told.payment_id,
        version=3,
        partner_id=told.partner_id,
        order_id=told.order_id,
        consent_id=told.consent_id,
        status=STATUS[state],
        state=state.value,
        amount=Money.of(told.amount_minor, currency),
        merchant_id=told.merchant_id,
        occurred_at=told.changed_at,
        reason=reason,
        network_id=told.network_id,
        rrn=told.trace.rrn if told.trace else None,
        approval_code="A1B2C3",
        consent_version=4 if state is PaymentState.SENT else None,
        paid_at=told.decided_at if state is PaymentState.SETTLED else None,
    )
    assert encode(event) == body


def test_a_refunds_event_names_the_payment_that_it_gives_back() -> None:
    original = payment(9).payment_id
    told = payment(operation=Operation.REFUND, original_payment_id=original)
    assert decode(PaymentEvent, encode_fields(event_fields(told))).original_payment_id == original


def test_a_payment_is_the_stored_one_by_its_record_and_the_moment_of_its_decision() -> None:
    ours = payment()
    later = NOW + timedelta(seconds=1)
    assert ours.matches_stored(payment(state=PaymentState.APPROVED, version=2))
    assert not ours.matches_stored(None)
    for other in ({"order_digest": b"another"}, {"decided_at": later}, {"ordered_at": later}):
        assert not ours.matches_stored(payment(**other)), other
