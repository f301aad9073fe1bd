"""The check of the books, from three sides: what was sent, what the gateway recorded and told, what the network booked.

evidence = await collect(…)                 # gateway.proving.books.collect
endings = endings_of(evidence)
checked = check_books(evidence, endings)
balanced(checked)
"""

from gateway.proving.books import consents, events, money, orders
from gateway.proving.books.endings import Endings, endings_of
from gateway.proving.books.evidence import (
    Checked,
    Ending,
    Evidence,
    Forged,
    OrderFacts,
    Produced,
    ProducedCancellation,
    balanced,
)

__all__ = [
    "Checked",
    "Ending",
    "Endings",
    "Evidence",
    "Forged",
    "OrderFacts",
    "Produced",
    "ProducedCancellation",
    "balanced",
    "check_books",
    "endings_of",
]


def check_books(
    evidence: Evidence, endings: Endings, *, redelivery: bool = False, breaks_allowed: bool = False
) -> list[Checked]:
    """Run every check on what was collected at rest.

    Args:
        evidence: all three sides.
        endings: of the same evidence.
        redelivery: stages were killed or restarted: repeated events and answers without effect are allowed.
        breaks_allowed: the network's clearing files were made to lie.
    """
    return [
        orders.records_end_once(evidence, endings),
        orders.ends_as_planned(evidence, endings),
        orders.payments_are_orders(evidence),
        orders.nothing_open(evidence),
        money.network_agrees(evidence),
        money.refunds_fit(evidence),
        money.nothing_sent_twice(evidence),
        money.reversals_closed(evidence),
        money.clearing_fits(evidence, breaks_allowed=breaks_allowed),
        money.ledger_fits(evidence),
        money.obligations_fit(evidence),
        consents.consent_use_exact(evidence),
        consents.limits_hold(evidence),
        consents.proofs_hold(evidence),
        consents.cards_are_their_customers(evidence),
        events.events_complete(evidence, redelivery=redelivery),
        events.refusals_told(evidence, redelivery=redelivery),
        events.cancellations_told(evidence, redelivery=redelivery),
        events.consents_told(evidence, redelivery=redelivery),
        events.outbox_relayed(evidence),
        orders.dead_letters_whole(evidence),
        orders.forged_refused(evidence),
    ]
