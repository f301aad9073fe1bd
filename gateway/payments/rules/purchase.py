"""An order to pay as execution takes it, and the payment that it begins as: sent, rejected, or waiting for its day."""

from datetime import datetime
from typing import Final

from msgspec import Struct, structs

from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import Consent
from gateway.consents.rules.limits import Reserved
from gateway.identity.assurance import Assertion
from gateway.identity.rules import is_made_for
from gateway.network.exchange import Operation, TraceNumbers
from gateway.payments.rules.lifecycle import PaymentEventKind, PaymentState, transition
from gateway.payments.rules.payment import Payment, PaymentKey
from schemas.orders import PaymentOrder
from schemas.primitives import NetworkId
from schemas.reasons import Reason


class ReceivedOrder(Struct, frozen=True, gc=False):
    """An accepted order as it reaches execution.

    Attributes:
        digest: SHA-256 of the order's raw bytes.
        ordered_at: Kafka timestamp of the partner's record.
        reference: topic/partition/offset of the partner's record.
        assertion: the customer's proof, its signature verified; why it does not hold; None where the order has none.
        signature: the partner's, already verified.
        is_due: it waited for its day as a SCHEDULED payment, which is decided now.
        proven: of one that is due: its proof was judged when it was accepted.
        problem: why its signature counts no more.
    """

    order: PaymentOrder
    digest: bytes
    ordered_at: datetime
    reference: str
    traceparent: str | None = None
    assertion: Assertion | Reason | None = None
    signature: str | None = None
    is_due: bool = False
    proven: bool = False
    problem: Reason | None = None

    @property
    def message(self) -> PaymentOrder:
        """What the partner sent."""
        return self.order

    @property
    def key(self) -> PaymentKey:
        """Key of the one payment that this order can have."""
        return (self.order.partner_id, self.order.payment_id)

    @property
    def consent_key(self) -> ConsentKey:
        """Key of the consent that this order names."""
        return (self.order.partner_id, self.order.consent_id)

    @property
    def proof_holds(self) -> bool:
        """True without a proof, or with one whose signature does and that was made for this order."""
        proof = self.assertion
        return proof is None or (isinstance(proof, Assertion) and is_made_for(proof, self.order))


def purchase_payment(
    received: ReceivedOrder,
    consent: Consent | None,
    outcome: Reserved | Reason,
    now: datetime,
    network_id: NetworkId | None = None,
    trace: TraceNumbers | None = None,
    worker: str | None = None,
) -> Payment:
    """The payment as it begins; ``network_id``, ``trace`` and ``worker`` are of one that is sent."""
    order = received.order
    purpose = consent.terms.payment if consent else None
    sent = not isinstance(outcome, Reason)
    return Payment(
        partner_id=order.partner_id,
        payment_id=order.payment_id,
        order_id=order.order_id,
        consent_id=order.consent_id,
        consent_version=consent.version if consent else 0,
        merchant_id=order.merchant_id,
        operation=Operation.PURCHASE,
        amount_minor=order.amount.minor,
        currency=order.amount.currency,
        funding_token=purpose.funding_token if purpose and sent else None,
        order_digest=received.digest,
        state=_INTENDED if sent else _REFUSED,
        version=1,
        reason=outcome if isinstance(outcome, Reason) else None,
        network_id=network_id,
        trace=trace,
        approval_code=None,
        windows=() if isinstance(outcome, Reason) else outcome.windows,
        ordered_at=received.ordered_at,
        decided_at=now,
        changed_at=now,
        traceparent=received.traceparent,
        sent_by=worker,
    )


def rejected(received: ReceivedOrder, reason: Reason, now: datetime) -> Payment:
    """The payment of an order that is refused before it reaches execution."""
    return purchase_payment(received, None, reason, now)


def scheduled(received: ReceivedOrder, consent: Consent | None, now: datetime) -> Payment:
    """The payment of an order that waits for its day: nothing is reserved, no card is named."""
    return structs.replace(purchase_payment(received, consent, Reserved(()), now), state=_SCHEDULED, funding_token=None)


def _first_state(event: PaymentEventKind) -> PaymentState:
    found = transition(None, event)
    if found is None:
        raise AssertionError(f"the lifecycle has no beginning by {event}")
    return found.state


_INTENDED: Final = _first_state(PaymentEventKind.INTENDED)
_REFUSED: Final = _first_state(PaymentEventKind.REFUSED)
_SCHEDULED: Final = _first_state(PaymentEventKind.SCHEDULED)
