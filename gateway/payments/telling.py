"""Telling operators what came of payments: a count of each outcome, and a line of the log and a span a step."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, assert_never

from gateway.base.process import Observer
from gateway.base.tracing import Traces, trace_id_of
from gateway.network.exchange import (
    Answered,
    ExchangeResult,
    FinancialRequest,
    InquiryRequest,
    NetworkRequest,
    NotSent,
    ReversalRequest,
    Unanswered,
)
from gateway.payments.notices import RefusedOrder
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment
from schemas.primitives import NetworkId

_ROUTINE: Final = frozenset(
    {
        *(PaymentState.SCHEDULED, PaymentState.SENT, PaymentState.APPROVED, PaymentState.DECLINED),
        PaymentState.SETTLED,
    }
)
"""States of a payment that nobody need look at: their steps are logged only where every step is asked for."""


def tell_outcomes(observer: Observer, payments: Iterable[Payment]) -> None:
    """Count payments by what came of them; each is told once, by whoever committed it."""
    payments = list(payments)
    found = Counter((p.state.value, p.reason.code.value if p.reason else "", p.network_id or "") for p in payments)
    for (state, reason, network_id), n in found.items():
        observer.count("payment", state, reason=reason, network=network_id, n=n)
    for (partner_id, state), n in Counter((p.partner_id, p.state.value) for p in payments).items():
        observer.count("partner", state, reason=partner_id, n=n)


def tell_steps(observer: Observer, payments: Iterable[Payment]) -> None:
    """Log the state that each payment came into; of one that is traced, since when it was decided."""
    traces = observer.traces
    for p in payments:
        reason = p.reason.code.value if p.reason else None
        observer.step(
            f"payment_{p.state.value}",
            routine=p.state in _ROUTINE,
            payment_id=p.payment_id,
            order_id=p.order_id,
            partner_id=p.partner_id,
            network_id=p.network_id,
            reason=reason,
            trace_id=trace_id_of(p.traceparent),
        )
        if traces is not None and p.traceparent is not None:
            traces.step(
                f"payment {p.state.value}",
                p.traceparent,
                began=p.changed_at,
                payment_id=p.payment_id,
                partner_id=p.partner_id,
                network_id=p.network_id,
                state=p.state.value,
                reason=reason,
            )


def tell_refused(observer: Observer, refused: Iterable[RefusedOrder]) -> None:
    """Count orders that became no payment by their partner, and log each."""
    refused = list(refused)
    for partner_id, n in Counter(one.partner_id for one in refused).items():
        observer.count("partner", "refused", reason=partner_id, n=n)
    for one in refused:
        observer.step(
            "order_refused",
            routine=False,
            payment_id=one.payment_id,
            order_id=one.order_id,
            partner_id=one.partner_id,
            reference=one.reference,
            reason=one.reason.code.value,
            trace_id=trace_id_of(one.traceparent),
        )


def asking(
    traces: Traces, network_id: NetworkId, payment: Payment, request: NetworkRequest
) -> Callable[[ExchangeResult], None] | None:
    """A request leaves for the network: call what is returned when the exchange has ended. None: it is not traced."""
    if payment.traceparent is None:
        return None
    told = traces.asking(
        f"{_mti(request)} {network_id}",
        payment.traceparent,
        payment_id=payment.payment_id,
        partner_id=payment.partner_id,
        network_id=network_id,
    )
    if told is None:
        return None

    def ended(result: ExchangeResult) -> None:
        match result:
            case Answered():
                told(outcome="answered", code=result.response_code)
            case Unanswered() | NotSent():
                told(outcome=result.cause.value)
            case _:
                assert_never(result)

    return ended


def _mti(request: NetworkRequest) -> str:
    match request:
        case FinancialRequest():
            return "0200"
        case ReversalRequest():
            return "0421" if request.repeat else "0420"
        case InquiryRequest():
            return "0100"
        case _:
            assert_never(request)
