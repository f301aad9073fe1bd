"""What a refund is, what refuses it, and the payment that it becomes.

:mod:`gateway.payments.rules.intent` decides a batch of them.

What was sent and is not known to have failed counts as refunded: never is more given back than was taken.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from msgspec import Struct

from gateway.base.keys import ConsentKey
from gateway.base.validity import refuse_by_times
from gateway.network.exchange import Operation, TraceNumbers
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment, PaymentKey
from schemas.primitives import decimal_of
from schemas.reasons import Reason, ReasonCode
from schemas.refunds import PaymentRefund

NOT_REFUNDED: Final = frozenset({PaymentState.REJECTED, PaymentState.DECLINED, PaymentState.REVERSED})
"""States of a refund that gave nothing back and never will."""

_REFUNDABLE: Final = (PaymentState.APPROVED, PaymentState.SETTLED)


class ReceivedRefund(Struct, frozen=True, gc=False):
    """A verified refund.

    Attributes:
        digest: SHA-256 of the raw bytes.
        ordered_at: Kafka timestamp of the partner's record; reference: its topic/partition/offset.
        signature: the partner's, already verified.
        problem: why that counts no more.
    """

    refund: PaymentRefund
    digest: bytes
    ordered_at: datetime
    reference: str
    traceparent: str | None = None
    signature: str | None = None
    problem: Reason | None = None

    @property
    def message(self) -> PaymentRefund:
        """What the partner sent."""
        return self.refund

    @property
    def key(self) -> PaymentKey:
        """Key of the one payment that this refund can be."""
        return (self.refund.partner_id, self.refund.payment_id)

    @property
    def original_key(self) -> PaymentKey:
        """Key of the payment that it refunds."""
        return (self.refund.partner_id, self.refund.original_payment_id)

    @property
    def consent_key(self) -> ConsentKey:
        """Key of the consent that it names."""
        return (self.refund.partner_id, self.refund.consent_id)


def _reason(code: ReasonCode, text: str) -> Reason:
    return Reason(code=code, text=text)


NO_ORIGINAL: Final = _reason(ReasonCode.NOOR, "original_order_id names no payment of this partner under this consent")
"""Why a refund becomes no payment. One answer for what is not there and what is another's, so that ids leak nothing."""

_OF_A_REFUND: Final = _reason(ReasonCode.AG13, "the original is a refund itself")
_NOT_MADE: Final = _reason(ReasonCode.AG01, "the original was not paid: there is nothing to refund")
_OPEN: Final = _reason(ReasonCode.AG01, "the original's outcome is not known yet: refund it once it is approved")
_UNDONE: Final = _reason(ReasonCode.ARDT, "the original was cancelled or undone: there is nothing to refund")
_ARCHIVED: Final = _reason(ReasonCode.TM01, "the original is in the archive: it is too old to be refunded")
_OTHER_CURRENCY: Final = _reason(ReasonCode.AM03, "the refund's currency is not the original's")
NO_MERCHANT: Final = _reason(ReasonCode.AC03, "the original's merchant is not in the merchant directory any more")

_BY_STATE: Final[Mapping[PaymentState, Reason]] = {
    PaymentState.REJECTED: _NOT_MADE,
    PaymentState.DECLINED: _NOT_MADE,
    PaymentState.SCHEDULED: _OPEN,
    PaymentState.SENT: _OPEN,
    PaymentState.UNKNOWN: _OPEN,
    PaymentState.REVERSING: _UNDONE,
    PaymentState.REVERSED: _UNDONE,
}
"""Why a payment in a state that is not refundable is not refunded."""


def is_of(refund: PaymentRefund, original: Payment | None) -> bool:
    """True if there is such a payment under the consent that the refund names."""
    return original is not None and original.consent_id == refund.consent_id


def refuse_before_dispatch(refund: PaymentRefund, original: Payment, now: datetime) -> Reason | None:
    """Return why a refund need not be sent on to the original's network: what no later moment could change."""
    refused = refuse_by_times("the refund", refund.issued_at, refund.expires_at, now)
    if refused is not None:
        return refused
    if original.operation is Operation.REFUND:
        return _OF_A_REFUND
    if original.is_archived:
        return _ARCHIVED
    if refund.amount.currency != original.currency:
        return _OTHER_CURRENCY
    return _NOT_MADE if original.network_id is None else None


def refuse_refund(refund: PaymentRefund, original: Payment, refunded_minor: int, now: datetime) -> Reason | None:
    """Return why a refund may not be sent, or None.

    Args:
        refund: what is asked for.
        original: locked.
        refunded_minor: of the original's refunds so far that may stand.
        now: read after the lock was granted.
    """
    refused = refuse_before_dispatch(refund, original, now)
    if refused is not None:
        return refused
    if original.state not in _REFUNDABLE:
        return _BY_STATE[original.state]
    remaining = original.amount_minor - refunded_minor
    if refund.amount.minor > remaining:
        left = decimal_of(remaining, original.currency)
        return _reason(ReasonCode.AM02, f"{left} {original.currency} of the original remain to be refunded")
    return None


def refund_payment(
    received: ReceivedRefund,
    original: Payment,
    refused: Reason | None,
    now: datetime,
    trace: TraceNumbers | None = None,
    worker: str | None = None,
) -> Payment:
    """The payment of a refund: SENT under ``trace`` by ``worker``, or REJECTED.

    It counts in no limit, and gives none back.
    """
    refund, sent = received.refund, refused is None
    return Payment(
        partner_id=refund.partner_id,
        payment_id=refund.payment_id,
        order_id=refund.order_id,
        consent_id=refund.consent_id,
        consent_version=original.consent_version,
        merchant_id=original.merchant_id,
        operation=Operation.REFUND,
        amount_minor=refund.amount.minor,
        currency=refund.amount.currency,
        funding_token=original.funding_token if sent else None,
        order_digest=received.digest,
        state=PaymentState.SENT if sent else PaymentState.REJECTED,
        version=1,
        reason=refused,
        network_id=original.network_id if sent else None,
        trace=trace,
        approval_code=None,
        windows=(),
        ordered_at=received.ordered_at,
        decided_at=now,
        changed_at=now,
        traceparent=received.traceparent,
        original_payment_id=original.payment_id,
        sent_by=worker if sent else None,
    )
