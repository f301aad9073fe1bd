"""What a cancellation does to its order, decided under the locks of the consent and of the payment.

====================== ===========================================================================================
the payment is         then
====================== ===========================================================================================
not there              the cancellation is remembered; the order is rejected when it comes (DS02)
SCHEDULED              cancelled
SENT, UNKNOWN          remembered, and judged anew once the outcome is known
APPROVED               reversed at the network, until its cut-over and unless something of it was refunded, or it was
                       settled and the network corrected its clearing
REVERSING              being undone already: nothing is added
SETTLED                refused: refund it instead
DECLINED, REJECTED     refused: there is nothing to undo
REVERSED               refused: undone already
====================== ===========================================================================================

A refund that has been sent cannot be cancelled: that would take the customer's money again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta, tzinfo
from typing import Final

from msgspec import structs

from gateway.base.keys import ConsentKey
from gateway.base.repetition import id_used
from gateway.base.validity import refuse_by_times
from gateway.network.exchange import Operation
from gateway.payments.rules.lifecycle import PaymentEventKind, PaymentState, transition
from gateway.payments.rules.payment import Change, Payment, PaymentKey
from schemas.cancellation import PaymentCancellation
from schemas.events import CancellationEffect
from schemas.primitives import ConsentId, NetworkId, OrderId, PartnerId, PaymentId, decimal_of
from schemas.reasons import Reason, ReasonCode

ORDER_CANCELLED: Final = Reason(code=ReasonCode.DS02, text="the order was cancelled")
"""Why a payment was rejected or undone that was cancelled."""

CancellationKey = tuple[PartnerId, str]
"""Partner and the partner's own id of the cancellation."""


@dataclass(frozen=True, slots=True)
class CutOver:
    """When a network closes its day: until then what it approved can be reversed. ``at``: local time in ``zone``."""

    at: time
    zone: tzinfo


def end_of_cycle(moment: datetime, cut_over: CutOver) -> datetime:
    """Return the first cut-over after ``moment`` (aware); what was sent at ``moment`` is cleared after it.

    A local time that a clock change skips or repeats counts as it would have before the change.
    """
    day = moment.astimezone(cut_over.zone).date()
    ends = datetime.combine(day, cut_over.at, cut_over.zone)
    # Compared as instants: two times of one zone would be compared by their clocks.
    if ends.timestamp() <= moment.timestamp():
        ends = datetime.combine(day + timedelta(days=1), cut_over.at, cut_over.zone)
    return ends


@dataclass(frozen=True, slots=True)
class ReceivedCancellation:
    """A verified cancellation.

    Attributes:
        digest: SHA-256 of the raw bytes; tells a redelivery from an id that is used again.
        reference: topic/partition/offset of the partner's record.
    """

    message: PaymentCancellation
    digest: bytes
    reference: str

    @property
    def key(self) -> CancellationKey:
        """Key of what is remembered of it."""
        return (self.message.partner_id, self.message.cancellation_id)

    @property
    def consent_key(self) -> ConsentKey:
        """Key of the consent that it names."""
        return (self.message.partner_id, self.message.consent_id)

    @property
    def payment_key(self) -> PaymentKey:
        """Key of the one payment that its order can have."""
        return (self.message.partner_id, self.message.payment_id)


@dataclass(frozen=True, slots=True)
class HandledCancellation:
    """A cancellation as it is remembered: accepted with an effect, or refused with a reason.

    Attributes:
        is_open: it waits for its payment's outcome.
        reference: the record that it came in first.
    """

    partner_id: PartnerId
    cancellation_id: str
    consent_id: ConsentId
    order_id: OrderId
    payment_id: PaymentId
    digest: bytes
    outcome: CancellationEffect | Reason
    is_open: bool
    reference: str
    handled_at: datetime

    @property
    def key(self) -> CancellationKey:
        """Primary key."""
        return (self.partner_id, self.cancellation_id)

    @property
    def payment_key(self) -> PaymentKey:
        """Key of the one payment that its order can have."""
        return (self.partner_id, self.payment_id)


@dataclass(frozen=True, slots=True)
class CancellationFacts:
    """What the database said, under the locks of this transaction.

    Attributes:
        consents: those that exist.
        handled: what became of these cancellations before.
        refunded: minor units of the refunds that were sent of these payments and may stand.
        cut_overs: of the networks that have one.
        now: read after the locks were granted.
    """

    consents: frozenset[ConsentKey]
    payments: Mapping[PaymentKey, Payment]
    handled: Mapping[CancellationKey, HandledCancellation]
    refunded: Mapping[PaymentKey, int]
    cut_overs: Mapping[NetworkId, CutOver]
    now: datetime


@dataclass(slots=True)
class CancellationsDecided:
    """What becomes of a batch of cancellations.

    Attributes:
        handled: to be remembered.
        answers: what each record is answered, in order.
        changes: what happens to payments.
    """

    handled: list[HandledCancellation] = field(default_factory=list)
    answers: list[tuple[ReceivedCancellation, CancellationEffect | Reason]] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


def _reason(code: ReasonCode, text: str) -> Reason:
    return Reason(code=code, text=text)


_NO_CONSENT: Final = _reason(ReasonCode.MD01, "consent_id names no consent of this partner")
_OTHER_CONSENT: Final = _reason(ReasonCode.NOOR, "order_id names no order under this consent")
_NOT_APPROVED: Final = _reason(ReasonCode.NOOR, "the payment was not made: there is nothing to undo")
_REVERSED: Final = _reason(ReasonCode.ARDT, "the payment is undone already")
_SETTLED: Final = _reason(ReasonCode.TM01, "the payment is settled: refund it instead")
_CLEARED: Final = _reason(ReasonCode.TM01, "the network has cleared the payment: refund it instead")
_PAST_CUT_OVER: Final = _reason(ReasonCode.TM01, "the network's cut-over has passed: refund the payment instead")
_IS_REFUND: Final = _reason(ReasonCode.AG13, "a refund that was sent cannot be cancelled")

_MAY_STAND: Final = (PaymentState.SENT, PaymentState.UNKNOWN, PaymentState.APPROVED, PaymentState.SETTLED)

_BY_STATE: Final[Mapping[PaymentState, CancellationEffect | Reason]] = {
    PaymentState.SCHEDULED: CancellationEffect.CANCELLED,
    PaymentState.SENT: CancellationEffect.ONCE_KNOWN,
    PaymentState.UNKNOWN: CancellationEffect.ONCE_KNOWN,
    PaymentState.REVERSING: CancellationEffect.REVERSING,
    PaymentState.SETTLED: _SETTLED,
    PaymentState.DECLINED: _NOT_APPROVED,
    PaymentState.REJECTED: _NOT_APPROVED,
    PaymentState.REVERSED: _REVERSED,
}
"""What the state alone decides: all but APPROVED."""


def _id_used(first: HandledCancellation, later: ReceivedCancellation) -> Reason:
    fields = ("consent_id", "order_id")
    return id_used(
        "cancellation_id",
        {f: getattr(first, f) for f in fields},
        {f: getattr(later.message, f) for f in fields},
    )


def decide_cancellations(
    cancellations: Sequence[ReceivedCancellation], facts: CancellationFacts
) -> CancellationsDecided:
    """Decide a batch, in its order: each sees what those before it did."""
    decided = CancellationsDecided()
    handled, payments = dict(facts.handled), dict(facts.payments)
    for received in cancellations:
        first = handled.get(received.key)
        if first is not None:
            decided.answers.append(
                (received, first.outcome if first.digest == received.digest else _id_used(first, received))
            )
            continue
        payment = payments.get(received.payment_key)
        outcome = _judge(received, payment, facts)
        if payment is not None and (change := _cancelling(payment, outcome)) is not None:
            decided.changes.append(change)
            payments[payment.key] = _after(payment, change)
        handled[received.key] = _remembered(received, outcome, facts.now)
        decided.handled.append(handled[received.key])
        decided.answers.append((received, outcome))
    return decided


def _judge(
    received: ReceivedCancellation, payment: Payment | None, facts: CancellationFacts
) -> CancellationEffect | Reason:
    message = received.message
    if received.consent_key not in facts.consents:
        return _NO_CONSENT
    refused = refuse_by_times("the cancellation", message.issued_at, message.expires_at, facts.now)
    if refused is not None:
        return refused
    if payment is None:
        return CancellationEffect.NOT_SENT
    if payment.consent_id != message.consent_id:
        return _OTHER_CONSENT
    return judge_payment(payment, facts.refunded.get(payment.key, 0), _cut_over_of(payment, facts.cut_overs), facts.now)


def judge_payment(
    payment: Payment, refunded_minor: int, cut_over: CutOver | None, now: datetime
) -> CancellationEffect | Reason:
    """Decide what a cancellation does to a payment in its present state, by this module's table.

    Args:
        payment: locked.
        refunded_minor: what was refunded of it and may stand.
        cut_over: its network's; None: it can be reversed until it is cleared.
        now: read after the lock was granted.
    """
    if payment.operation is Operation.REFUND and payment.state in _MAY_STAND:
        return _IS_REFUND
    if payment.state is PaymentState.APPROVED:
        return _judge_approved(payment, refunded_minor, cut_over, now)
    return _BY_STATE[payment.state]


def _judge_approved(
    payment: Payment, refunded_minor: int, cut_over: CutOver | None, now: datetime
) -> CancellationEffect | Reason:
    if payment.reason is not None:
        # Nothing else is told with an approval: it was settled, and the network corrected what had settled it. Whatever
        # stands there now, to undo it beside what was cleared could give the money back twice.
        return _CLEARED
    if refunded_minor:
        refunded = decimal_of(refunded_minor, payment.currency)
        text = f"{refunded} {payment.currency} of the payment are refunded or being refunded: refund the rest instead"
        return _reason(ReasonCode.ARDT, text)
    sent_at = payment.trace.transmitted_at if payment.trace else payment.decided_at
    if cut_over is not None and now.timestamp() >= end_of_cycle(sent_at, cut_over).timestamp():
        return _PAST_CUT_OVER
    return CancellationEffect.REVERSING


def carry_out(
    waiting: Sequence[HandledCancellation],
    *,
    payments: Mapping[PaymentKey, Payment],
    refunded: Mapping[PaymentKey, int],
    cut_overs: Mapping[NetworkId, CutOver],
    now: datetime,
) -> tuple[list[HandledCancellation], list[Change]]:
    """Judge cancellations that waited for their payments' outcomes anew.

    Where nothing stands of the payment a cancellation has what it wanted and stays accepted.

    Args:
        waiting: locked.
        payments: theirs, locked.
        refunded: as :attr:`CancellationFacts.refunded`.
        cut_overs: of the networks that have one.
        now: read after the locks were granted.
    """
    judged: list[HandledCancellation] = []
    changes: list[Change] = []
    current = dict(payments)
    for cancellation in waiting:
        payment = current[cancellation.payment_key]
        outcome = judge_payment(payment, refunded.get(payment.key, 0), _cut_over_of(payment, cut_overs), now)
        if outcome in (_NOT_APPROVED, _REVERSED):
            judged.append(replace(cancellation, is_open=False))
            continue
        judged.append(replace(cancellation, outcome=outcome, is_open=outcome is CancellationEffect.ONCE_KNOWN))
        change = _cancelling(payment, outcome)
        if change is not None:
            changes.append(change)
            current[payment.key] = _after(payment, change)
    return judged, changes


def _cancelling(payment: Payment, outcome: CancellationEffect | Reason) -> Change | None:
    """The change that an accepted cancellation makes to the payment; None where it moves nothing (now)."""
    if isinstance(outcome, Reason) or transition(payment.state, PaymentEventKind.CANCELLED) is None:
        return None
    return Change(key=payment.key, kind=PaymentEventKind.CANCELLED, reason=ORDER_CANCELLED)


def _cut_over_of(payment: Payment, cut_overs: Mapping[NetworkId, CutOver]) -> CutOver | None:
    return cut_overs.get(payment.network_id) if payment.network_id is not None else None


def _after(payment: Payment, change: Change) -> Payment:
    step = transition(payment.state, change.kind)
    return payment if step is None else structs.replace(payment, state=step.state)


def _remembered(
    received: ReceivedCancellation, outcome: CancellationEffect | Reason, now: datetime
) -> HandledCancellation:
    message = received.message
    return HandledCancellation(
        partner_id=message.partner_id,
        cancellation_id=message.cancellation_id,
        consent_id=message.consent_id,
        order_id=message.order_id,
        payment_id=message.payment_id,
        digest=received.digest,
        outcome=outcome,
        is_open=outcome is CancellationEffect.ONCE_KNOWN,
        reference=received.reference,
        handled_at=now,
    )
