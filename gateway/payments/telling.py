"""Telling operators what came of payments: a count of each outcome, and a line of the log a step."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from gateway.base.process import Observer
from gateway.payments.notices import RefusedOrder
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment

_ROUTINE: Final = frozenset(
    {
        *(PaymentState.SCHEDULED, PaymentState.SENT, PaymentState.APPROVED, PaymentState.DECLINED),
        PaymentState.SETTLED,
    }
)
"""States of a payment that nobody need look at: their steps are logged only where every step is asked for."""

_TRACE_ID: Final = slice(3, 35)
"""Where a W3C ``traceparent`` has it."""


def tell_outcomes(observer: Observer, payments: Iterable[Payment]) -> None:
    """Count payments by what came of them; each is told once, by whoever committed it."""
    found = Counter((p.state.value, p.reason.code.value if p.reason else "", p.network_id or "") for p in payments)
    for (state, reason, network_id), n in found.items():
        observer.count("payment", state, reason=reason, network=network_id, n=n)


def tell_steps(observer: Observer, payments: Iterable[Payment]) -> None:
    """Log the state that each payment came into."""
    for p in payments:
        observer.step(
            f"payment_{p.state.value}",
            routine=p.state in _ROUTINE,
            payment_id=p.payment_id,
            order_id=p.order_id,
            partner_id=p.partner_id,
            network_id=p.network_id,
            reason=p.reason.code.value if p.reason else None,
            trace_id=p.traceparent[_TRACE_ID] if p.traceparent else None,
        )


def tell_refused(observer: Observer, refused: Iterable[RefusedOrder]) -> None:
    """Log orders that became no payment."""
    for one in refused:
        observer.step(
            "order_refused",
            routine=False,
            payment_id=one.payment_id,
            order_id=one.order_id,
            partner_id=one.partner_id,
            reference=one.reference,
            reason=one.reason.code.value,
        )
