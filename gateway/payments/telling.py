"""Telling operators what came of payments."""

from collections import Counter
from collections.abc import Iterable

from gateway.base.process import Observer
from gateway.payments.rules.payment import Payment


def tell_outcomes(observer: Observer, payments: Iterable[Payment]) -> None:
    """Count payments by what came of them; each is told once, by whoever committed it."""
    found = Counter((p.state.value, p.reason.code.value if p.reason else "", p.network_id or "") for p in payments)
    for (state, reason, network_id), n in found.items():
        observer.count("payment", state, reason=reason, network=network_id, n=n)
