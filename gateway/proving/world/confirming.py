"""What a measurement may count: orders on the topic, payments that both books confirm, and times that Kafka set."""

import hashlib
from typing import Any, Final

from pydantic_core import from_json

from gateway.proving.books import Ending, Evidence, OrderFacts, Produced
from gateway.proving.collect.topics import read_topics
from schemas.primitives import minor_of, payment_id_of
from schemas.topics import ORDERS

HALF_RATE: Final = "half rate"
SAME_RATE: Final = "same rate"
"""As another commit was measured at."""

_LABELS: Final = {"b": "backlog", "w": "warm-up", "s": "sustained", "h": HALF_RATE, "e": SAME_RATE, "o": "one consent"}
_SETTLES: Final = frozenset((Ending.SETTLED,))
SKIPPED_S: Final = 3.0
"""The first seconds at a steady rate are not measured: the load has just begun."""


async def produced_on_topic(bootstrap_servers: str) -> list[Produced]:
    """Read back every order of a measurement; the first letter of its id tells the phase it was sent in."""
    return [_produced(r) async for r in read_topics(bootstrap_servers, [ORDERS])]


def _produced(record: Any) -> Produced:
    order = from_json(record.value)
    currency = order["amount"]["currency"]
    facts = OrderFacts(
        partner_id=order["partner_id"],
        order_id=order["order_id"],
        payment_id=payment_id_of(order["partner_id"], order["order_id"]),
        consent_id=order["consent_id"],
        merchant_id=order["merchant_id"],
        amount_minor=minor_of(order["amount"]["value"], currency),
        currency=currency,
    )
    digest = hashlib.sha256(record.value).digest()
    label = _LABELS[facts.order_id[0]]
    return Produced(record.partition, record.offset, record.timestamp, digest, facts, _SETTLES, label)


def confirmed_between(evidence: Evidence, began: float, ended: float) -> int:
    """Payments settled in the window that the network approved and cleared for the same amount."""
    there = {
        (e.network_id, e.rrn): (e.amount_minor, e.currency)
        for e in evidence.network
        if e.state == "approved" and e.cleared
    }
    return sum(
        p.state == "settled"
        and began <= p.changed_at_s < ended
        and there.get((p.network_id or "", p.rrn or "")) == (p.amount_minor, p.currency)
        for p in evidence.payments.values()
    )


def latencies_at_rate(evidence: Evidence, label: str) -> list[int]:
    """Order to approved event, both by Kafka's time, of the orders at a steady rate; milliseconds, sorted."""
    told = {e.subject: e.timestamp_ms for e in evidence.events if e.kind == "payment.approved"}
    sent = [r for r in evidence.produced if r.label == label]
    since = min((r.timestamp_ms for r in sent), default=0) + SKIPPED_S * 1000
    return sorted(
        told[str(r.order.payment_id)] - r.timestamp_ms for r in sent if r.order is not None and r.timestamp_ms >= since
    )
