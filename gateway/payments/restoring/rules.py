"""What becomes of payments that a restored database has forgotten, by what was told of them.

A database that was restored to a point in time lacks what came after it. Kafka does not: execution's topics hold what
was handed to it, partners' topics what they were told. Whatever was handed to execution may have been sent, so none of
it is sent again:

- what was told as sent stands again under the numbers that it was sent under, and goes on by the lifecycle's own table:
  as it was told to have ended, or else asked about and undone as what a dead worker left
- what nobody was told of is in doubt: UNKNOWN without trace numbers, for these died with the database. The network's
  clearing tells whether it was executed
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Final

from msgspec import Struct, structs

from gateway.consents.rules.consent import Consent
from gateway.consents.rules.limits import Reserved, WindowKey, windows_at
from gateway.network.exchange import Operation, TraceNumbers
from gateway.network.trace import payment_trace
from gateway.payments.refunds.rules import ReceivedRefund, refund_payment
from gateway.payments.rules.lifecycle import PaymentEventKind, PaymentState
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.rules.purchase import ReceivedOrder, purchase_payment
from schemas.events import PaymentEvent
from schemas.primitives import ConsentId, NetworkId, OrderId, PaymentId
from schemas.reasons import Reason, ReasonCode

RESTORED: Final = "restored"
"""Stands for the worker of what was found again: one that never reports, so that execution takes over what it left."""

IN_DOUBT: Final = Reason(
    code=ReasonCode.AB05, text="outcome unknown: the database was restored, and nothing was told of this payment"
)
NOT_EXECUTED: Final = Reason(
    code=ReasonCode.AB05, text="the network's clearing does not have it: it was not executed before the restore"
)

_RRN_DAY_DIGITS: Final = 4


class Told(Struct, frozen=True, gc=False):
    """All that a partner was told of one payment.

    Attributes:
        last: the event with the highest version.
        sent: the one that told that it was sent; None where none did.
    """

    last: PaymentEvent
    sent: PaymentEvent | None = None

    @property
    def key(self) -> PaymentKey:
        """Of the payment."""
        return (self.last.partner_id, PaymentId(self.last.payment_id))

    @property
    def state(self) -> PaymentState:
        """The last one."""
        return PaymentState(self.last.state)

    @property
    def was_sent(self) -> bool:
        """True if bytes of it may have left."""
        return self.last.rrn is not None

    @property
    def ended_unsent(self) -> bool:
        """True if it was told to have ended, and was never sent: as its partner was told it stands again."""
        return not self.was_sent and self.state in NEVER_SENT

    def fits(self, received: ReceivedOrder | ReceivedRefund, network_id: NetworkId | None) -> bool:
        """True if this was told of what was handed on: the same payment, and where it was sent the same network.

        Another order under the same id became no payment; on another network the same one was taken and not sent.
        """
        message, last = received.message, self.last
        said = (message.consent_id, message.amount.currency, message.amount.minor)
        if said != (last.consent_id, last.amount.currency, last.amount.minor):
            return False
        if isinstance(received, ReceivedOrder):
            if last.original_payment_id is not None or received.order.merchant_id != last.merchant_id:
                return False
        elif last.original_payment_id != received.original_key[1]:
            return False
        return not self.was_sent or last.network_id == network_id


def told_further(before: Told | None, event: PaymentEvent) -> Told:
    """Add what was told; in whatever order, and however often."""
    sent = event if event.state == PaymentState.SENT else None
    if before is None:
        return Told(event, sent)
    # Of two tellings of SENT the first names the moment at which it was sent.
    first = min((e for e in (before.sent, sent) if e is not None), key=lambda e: e.version, default=None)
    return Told(event if event.version > before.last.version else before.last, first)


_E, _S = PaymentEventKind, PaymentState

NEVER_SENT: Final = frozenset((_S.REJECTED, _S.REVERSED))
"""States in which a payment without trace numbers has ended: refused, cancelled before its day, or found not executed.
"""

AFTER_SENT: Final[Mapping[PaymentState, PaymentEventKind | None]] = {
    _S.SCHEDULED: None,
    _S.SENT: None,
    _S.UNKNOWN: None,
    _S.APPROVED: _E.APPROVED,
    # Its clearing is taken in again, and settles it.
    _S.SETTLED: _E.APPROVED,
    _S.DECLINED: _E.DECLINED,
    # Undone, or being undone: the network is asked to do so again, which changes nothing more there.
    _S.REVERSING: _E.UNANSWERED,
    _S.REVERSED: _E.UNANSWERED,
    _S.REJECTED: _E.WITHDRAWN,
}
"""Last state that was told of a payment that is SENT here → what happens to it; None: nobody knows, recovery finds out.
"""


AFTER_ASKING: Final[Mapping[PaymentState, PaymentEventKind]] = {
    _S.APPROVED: _E.INQUIRY_APPROVED,
    _S.SETTLED: _E.INQUIRY_APPROVED,
    _S.DECLINED: _E.INQUIRY_DECLINED,
    _S.REVERSING: _E.INQUIRY_UNANSWERED,
    _S.REVERSED: _E.INQUIRY_UNANSWERED,
}
"""Last state that was told of a payment whose inquiry is open here → what happens to it, and the inquiry is closed.

It is not asked about again: a network remembers for a while only, and what it says it never saw is undone.
"""


def catch_up(here: PaymentState, told: PaymentState, *, inquiry_open: bool = False) -> PaymentEventKind | None:
    """What happens to a payment that the database has in an earlier state than was told of it."""
    if here is _S.SENT:
        return AFTER_SENT[told]
    if here is _S.UNKNOWN and inquiry_open:
        return AFTER_ASKING.get(told)
    if here is _S.APPROVED and told in (_S.REVERSING, _S.REVERSED):
        return _E.CANCELLED
    if here is _S.SCHEDULED and told is _S.REJECTED:
        return _E.REFUSED
    if here is _S.SCHEDULED and told is _S.REVERSED:
        return _E.CANCELLED
    # An open reversal goes on; what is cleared is taken in again; the rest has ended.
    return None


AMBIGUOUS: Final = "it was handed on more than once, and nobody was told which of these was sent"


class UnplacedError(Exception):
    """What was told does not fit what stands here; the text says why. People must look at it."""


def trace_of(sent: PaymentEvent, terminals: tuple[str, ...]) -> TraceNumbers:
    """The numbers that a payment was sent under, from the event that told of it.

    Raises:
        UnplacedError: the RRN is none that these terminals can have had then.
    """
    rrn = sent.rrn or ""
    try:
        trace = payment_trace(number_of(rrn), terminals, sent.occurred_at)
    except ValueError:
        raise UnplacedError(f"RRN {rrn!r} is none of the gateway's") from None
    if trace.rrn != rrn:
        raise UnplacedError(f"RRN {rrn} is not of the day of its event")
    return trace


def number_of(rrn: str) -> int:
    """The payment's number in an RRN.

    Raises:
        ValueError: it holds none.
    """
    number = int(rrn[_RRN_DAY_DIGITS:], 36)
    if number < 1:
        raise ValueError("numbers count from 1")
    return number


def counted_windows(consent: Consent | None, currency: str, at: datetime) -> tuple[WindowKey, ...]:
    """The windows that a payment counted in at that moment. Whether it fits is not asked: it was decided then."""
    if consent is None:
        return ()
    return tuple(w.key for w in windows_at(consent.terms, at) if w.currency in (None, currency))


def forgotten_purchase(
    received: ReceivedOrder,
    consent: Consent | None,
    told: Told | None,
    network_id: NetworkId,
    terminals: tuple[str, ...],
    *,
    judged_at: datetime,
    now: datetime,
    exempt: WindowKey | None = None,
) -> Payment:
    """An order's payment as it stands again: SENT under its numbers, ended without them as told, or in doubt.

    Args:
        received: as it was handed to execution.
        consent: as it stands now; that of a payment that was sent may have ended since.
        told: what its partner was told; None: nothing.
        network_id: where it was handed on to.
        terminals: the network's.
        judged_at: when it was handed on.
        now: the moment.
        exempt: the window of the consent's exemption, of an order without a proof.

    Raises:
        UnplacedError: see there.
    """
    if told is not None and told.ended_unsent:
        refused = purchase_payment(received, consent, told.last.reason or IN_DOUBT, told.last.occurred_at)
        return _ended(refused, told)
    trace, decided_at = _sent_under(told, terminals, judged_at)
    windows = counted_windows(consent, received.order.amount.currency, decided_at)
    outcome = Reserved(windows if exempt is None else (*windows, exempt))
    payment = purchase_payment(received, consent, outcome, decided_at, network_id, trace, RESTORED)
    return _standing(payment, told, now)


def forgotten_refund(
    received: ReceivedRefund,
    original: Payment,
    told: Told | None,
    terminals: tuple[str, ...],
    *,
    judged_at: datetime,
    now: datetime,
) -> Payment:
    """The same of a refund.

    Raises:
        UnplacedError: see there.
    """
    if told is not None and told.ended_unsent:
        refused = refund_payment(received, original, told.last.reason or IN_DOUBT, told.last.occurred_at)
        return _ended(refused, told)
    trace, decided_at = _sent_under(told, terminals, judged_at)
    return _standing(refund_payment(received, original, None, decided_at, trace, RESTORED), told, now)


def _ended(refused: Payment, told: Told) -> Payment:
    return structs.replace(refused, state=told.state, reason=told.last.reason, version=told.last.version)


def _sent_under(
    told: Told | None, terminals: tuple[str, ...], judged_at: datetime
) -> tuple[TraceNumbers | None, datetime]:
    if told is None or not told.was_sent:
        return None, judged_at
    if told.sent is None:
        raise UnplacedError("it was told without the event that it was sent: read further back")
    return trace_of(told.sent, terminals), told.sent.occurred_at


def _standing(payment: Payment, told: Told | None, now: datetime) -> Payment:
    """SENT, or in doubt, after all that was told of it: versions go on."""
    version = (told.last.version if told is not None else 0) + 1
    if payment.trace is None:
        return structs.replace(payment, state=_S.UNKNOWN, reason=IN_DOUBT, version=version, changed_at=now)
    return structs.replace(payment, version=version, changed_at=now)


class Doubt(Struct, frozen=True, gc=False):
    """A payment of which nobody was told, and that may have been sent.

    Attributes:
        terms: operation, the merchant's DE42 (:func:`shops`), minor units, currency.
    """

    key: PaymentKey
    terms: tuple[str, str, int, str]


class Executed(Struct, frozen=True, gc=False):
    """What a network cleared and nobody here knows."""

    cycle_id: str
    record_no: int
    rrn: str
    stan: int
    terminal_id: str
    terms: tuple[str, str, int, str]


class Settled(Struct, frozen=True, gc=False):
    """What clearing says of doubts.

    Attributes:
        executed: each with its record.
        not_executed: only where all is cleared.
        open: which of these were executed cannot be told from what they have in common, or more may yet be cleared.
    """

    executed: tuple[tuple[Doubt, Executed], ...]
    not_executed: tuple[Doubt, ...]
    open: tuple[Doubt, ...]


def shops(acceptors: Iterable[Collection[str]]) -> Mapping[str, str]:
    """Acceptor ids (DE42) → one name for all that a merchant has had: a payment was sent with one of them.

    Args:
        acceptors: of each merchant those of now and of before. Merchants that have had the same one are one here: which
            of them is meant people decide.
    """
    found: dict[str, str] = {}
    for own in acceptors:
        joined = {found.get(one, one) for one in own}
        found |= dict.fromkeys([*own, *(one for one, name in found.items() if name in joined)], min(joined))
    return found


def settle_doubts(doubts: tuple[Doubt, ...], cleared: tuple[Executed, ...], *, complete: bool) -> Settled:
    """Find out which payments in doubt were executed, by what was cleared.

    Payments that agree in everything that clearing names are told apart by their number alone, which died with the
    database. Where all of them were cleared, each was executed. Where some were, people decide which: the first one may
    have been declined, and the second approved.

    Args:
        doubts: in their order.
        cleared: records that fit no payment here, in the order of their numbers.
        complete: everything that the network executed before the loss is cleared and taken in: what is not there was
            not executed.
    """
    executed: list[tuple[Doubt, Executed]] = []
    not_executed: list[Doubt] = []
    left: list[Doubt] = []
    for terms in dict.fromkeys(d.terms for d in doubts):
        ours = [d for d in doubts if d.terms == terms]
        theirs = [c for c in cleared if c.terms == terms]
        if 0 < len(theirs) < len(ours):
            left += ours
            continue
        executed += zip(ours, theirs, strict=False)
        (not_executed if complete else left).extend(ours[len(theirs) :])
    return Settled(tuple(executed), tuple(not_executed), tuple(left))


def told_ended(told: Told, digest: bytes, ordered_at: datetime) -> Payment:
    """The payment of an order that was rejected, or cancelled, before it was handed on, as its partner was told.

    It stands again, or the order would be judged anew, by another day's rules.
    """
    last = told.last
    return Payment(
        partner_id=last.partner_id,
        payment_id=PaymentId(last.payment_id),
        order_id=OrderId(last.order_id),
        consent_id=ConsentId(last.consent_id),
        consent_version=0,
        merchant_id=last.merchant_id,
        operation=Operation.PURCHASE if last.original_payment_id is None else Operation.REFUND,
        amount_minor=last.amount.minor,
        currency=last.amount.currency,
        funding_token=None,
        order_digest=digest,
        state=told.state,
        version=last.version,
        reason=last.reason,
        network_id=None,
        trace=None,
        approval_code=None,
        windows=(),
        ordered_at=ordered_at,
        decided_at=last.occurred_at,
        changed_at=last.occurred_at,
        original_payment_id=None if last.original_payment_id is None else PaymentId(last.original_payment_id),
    )
