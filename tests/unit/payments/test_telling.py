"""What is counted and logged of payments: each outcome once, and a line for what is out of the ordinary."""

import pytest

from gateway.network.exchange import Operation
from gateway.observability.recording import RecordingObserver
from gateway.payments.notices import RefusedOrder
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.telling import tell_outcomes, tell_refused, tell_steps
from schemas.reasons import Reason, ReasonCode
from tests.support.builders import payment

TRACE = "0af7651916cd43dd8448eb211c80319c"
UNUSUAL = {PaymentState.REJECTED, PaymentState.UNKNOWN, PaymentState.REVERSING, PaymentState.REVERSED}


@pytest.mark.parametrize("state", PaymentState)
def test_a_step_is_told_with_whose_it_is_and_whether_it_is_routine(state: PaymentState) -> None:
    observer = RecordingObserver()
    one = payment(1, state=state, traceparent=f"00-{TRACE}-b7ad6b7169203331-01", operation=Operation.PURCHASE)
    tell_steps(observer, [one])
    [line] = observer.steps
    assert line.event == f"payment_{state.value}"
    assert line.level == ("info" if state in UNUSUAL else "debug")
    assert {name: line.fields[name] for name in ("payment_id", "order_id", "partner_id", "network_id", "trace_id")} == {
        "payment_id": one.payment_id,
        "order_id": one.order_id,
        "partner_id": one.partner_id,
        "network_id": one.network_id,
        "trace_id": TRACE,
    }


def test_outcomes_are_counted_by_network_state_and_reason() -> None:
    observer = RecordingObserver()
    reason = Reason(code=ReasonCode.AM04, text="x")
    declined = [payment(n, state=PaymentState.DECLINED, reason=reason) for n in (1, 2)]
    tell_outcomes(observer, [*declined, payment(3, state=PaymentState.APPROVED, network_id="net-b")])
    by_partner = {("partner", "declined", "partner-1"): 2, ("partner", "approved", "partner-1"): 1}
    assert observer.counts == {("payment", "declined", "AM04"): 2, ("payment", "approved", ""): 1} | by_partner
    assert observer.of_networks["payment", "approved", "net-b"] == 1


def test_a_refused_order_is_told() -> None:
    observer = RecordingObserver()
    one = payment(1)
    tell_refused(
        observer,
        [RefusedOrder(one.partner_id, one.order_id, None, Reason(code=ReasonCode.DUPL, text="x"), "mypay.orders/0/1")],
    )
    assert observer.counts == {("partner", "refused", one.partner_id): 1}
    [line] = observer.steps
    assert (line.event, line.level, line.fields["reason"]) == ("order_refused", "info", "DUPL")
    assert (line.fields["order_id"], line.fields["reference"]) == (one.order_id, "mypay.orders/0/1")
