"""Clearing: what the network says it cleared, against what the gateway knows.

A record that fits is :class:`Matched` and settles its payment. Any other is a :class:`Break`: stored, told, and left to
people; it changes no payment. A network that corrects a record supersedes it: what it settled is not settled any more,
and the record is matched anew.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Final, Self

from msgspec import Struct

from gateway.network.exchange import Operation
from gateway.payments.rules.lifecycle import PaymentEventKind, PaymentState, Transition, transition
from gateway.payments.rules.payment import Payment, PaymentKey
from schemas.clearing import ClearingKind, ClearingRecord
from schemas.events import MerchantPosition
from schemas.primitives import MerchantId, PartnerId, PaymentId


@unique
class BreakKind(StrEnum):
    """How a clearing record and the gateway's books disagree."""

    MISSING_HERE = "missing_here"  # the gateway knows no payment with that RRN
    MISSING_THERE = "missing_there"  # approved here, and not in the clearing of its cycle
    TRACE_DIFFERS = "trace_differs"  # the RRN is known, with another STAN or terminal
    DUPLICATE = "duplicate"  # cleared before
    KIND_DIFFERS = "kind_differs"  # purchase here, refund there, or the other way round
    REVERSED_BUT_CLEARED = "reversed_but_cleared"
    NOT_APPROVED = "not_approved"  # the network never approved it to us
    ACCEPTOR_DIFFERS = "acceptor_differs"  # another merchant is paid: an acceptor that the payment's has never been
    AMOUNT_DIFFERS = "amount_differs"  # another amount or currency


class ClearedPayment(Struct, frozen=True, gc=False):
    """The payment that a clearing record's (network, RRN) names."""

    partner_id: PartnerId
    payment_id: PaymentId
    state: PaymentState
    operation: Operation
    amount_minor: int
    currency: str
    merchant_id: MerchantId
    stan: int
    terminal_id: str

    @classmethod
    def of(cls, payment: Payment) -> Self:
        """What matching looks at of a payment that was sent."""
        if payment.trace is None:
            raise AssertionError("a payment with an RRN has trace numbers")
        return cls(
            partner_id=payment.partner_id,
            payment_id=payment.payment_id,
            state=payment.state,
            operation=payment.operation,
            amount_minor=payment.amount_minor,
            currency=payment.currency,
            merchant_id=payment.merchant_id,
            stan=payment.trace.stan,
            terminal_id=payment.trace.terminal_id,
        )


class Matched(Struct, frozen=True, gc=False):
    """The record settles the payment: apply ``transition`` to it."""

    record: ClearingRecord
    payment: ClearedPayment
    transition: Transition


@dataclass(frozen=True, slots=True)
class Break:
    """The record or the payment stands alone or differs.

    Attributes:
        detail: one sentence for finance; amounts in minor units.
    """

    kind: BreakKind
    detail: str


CREATED_AHEAD_MAX: Final = timedelta(days=1)
"""How far ahead of the gateway's clock a file's own may be."""


def is_from_the_future(created_at: datetime, now: datetime) -> bool:
    """True for a file that is not taken: every correction of it would be stale until then, for it would be older."""
    return created_at > now + CREATED_AHEAD_MAX


OPERATION_OF: Final[Mapping[ClearingKind, Operation]] = {
    ClearingKind.PURCHASE: Operation.PURCHASE,
    ClearingKind.REFUND: Operation.REFUND,
}


def match_record(
    record: ClearingRecord,
    payment: ClearedPayment | None,
    *,
    already_cleared: bool,
    acceptors: Collection[str] = (),
) -> Matched | Break:
    """Match one clearing record with the payment found by its network and RRN.

    The first disagreement in the order of the code is told: whether it is this payment at all, whether it may be
    cleared, and only then who is paid, and how much.

    Args:
        record: the network's word.
        payment: None when no payment of that network has that RRN.
        already_cleared: another record matched this payment before.
        acceptors: ids of the payment's merchant, of now and of before: it was sent with one of them. None at all: the
            merchant is not known, and nothing is compared.
    """
    if payment is None:
        return Break(BreakKind.MISSING_HERE, "no payment of this network has this RRN")
    other = _other_payment(record, payment, already_cleared=already_cleared)
    if other is not None:
        return other
    settled = transition(payment.state, PaymentEventKind.CLEARED)
    if settled is None:
        reversed_here = payment.state in (PaymentState.REVERSING, PaymentState.REVERSED)
        kind = BreakKind.REVERSED_BUT_CLEARED if reversed_here else BreakKind.NOT_APPROVED
        return Break(kind, f"the payment is {payment.state}")
    if acceptors and record.acceptor_id.rstrip() not in acceptors:
        return Break(BreakKind.ACCEPTOR_DIFFERS, "the payment's merchant has never had this acceptor id")
    if (record.amount_minor, record.currency) != (payment.amount_minor, payment.currency):
        there, here = f"{record.amount_minor} {record.currency}", f"{payment.amount_minor} {payment.currency}"
        return Break(BreakKind.AMOUNT_DIFFERS, f"cleared {there}, approved {here} (minor units)")
    return Matched(record, payment, settled)


def _other_payment(record: ClearingRecord, payment: ClearedPayment, *, already_cleared: bool) -> Break | None:
    """Return a break when the record cannot be the first one of this very payment."""
    if (record.stan, record.terminal_id) != (payment.stan, payment.terminal_id):
        return Break(BreakKind.TRACE_DIFFERS, "the payment with this RRN has another STAN or terminal")
    if already_cleared or payment.state is PaymentState.SETTLED:
        return Break(BreakKind.DUPLICATE, "the payment was cleared before")
    operation = OPERATION_OF[record.kind]
    if operation is not payment.operation:
        return Break(BreakKind.KIND_DIFFERS, f"cleared as {operation}, sent as {payment.operation}")
    return None


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A clearing record as it was recorded before.

    Attributes:
        created_at: when the network made the file that it is from, where that is known.
        payment: which one it named or settled; ``found``: the break, None where it settled the payment.
    """

    record: ClearingRecord
    created_at: datetime | None
    payment: PaymentKey | None
    found: Break | None

    @property
    def settled(self) -> PaymentKey | None:
        """The payment that it settled."""
        return self.payment if self.found is None else None


@unique
class Repeated(StrEnum):
    """What a record is whose number was recorded before."""

    SAME = "same"
    CORRECTION = "correction"  # it supersedes the one before
    STALE = "stale"  # the one before superseded it


def judge_repeated(
    record: ClearingRecord,
    created_at: datetime,
    stored: StoredRecord,
    earlier: Collection[ClearingRecord],
    now: datetime,
) -> Repeated:
    """Judge a record whose number was recorded before, by its content and by the age of its file.

    A later file always wins. Of two files of one age the one that came later does, unless the record had its content
    before: then it is the superseded one, delivered again. A stored file that is from the future tells no age, as one
    that was taken before such were refused: it counts as one of the same age.

    Args:
        record: as it comes now.
        created_at: when the network made its file.
        stored: as it stands.
        earlier: what the stored one has superseded.
        now: the gateway's clock.
    """
    if content(record) == content(stored.record):
        return Repeated.SAME
    if stored.created_at is None or created_at > stored.created_at:
        return Repeated.CORRECTION
    is_older = created_at < stored.created_at and not is_from_the_future(stored.created_at, now)
    if is_older or any(content(e) == content(record) for e in earlier):
        return Repeated.STALE
    return Repeated.CORRECTION


def content(record: ClearingRecord) -> ClearingRecord:
    """What of a record is kept and compared."""
    return record.model_copy(update={"approval_code": None})


def changed_fields(before: ClearingRecord, now: ClearingRecord) -> tuple[str, ...]:
    """Names of the fields that a correction changed."""
    old, new = content(before).model_dump(), content(now).model_dump()
    return tuple(name for name in new if old[name] != new[name])


def missing_there(payments: Iterable[ClearedPayment]) -> tuple[tuple[ClearedPayment, Break], ...]:
    """Find the payments that a complete clearing should have settled and did not.

    Args:
        payments: those whose cycle was cut over and wholly imported; in any state.
    """
    lone = Break(BreakKind.MISSING_THERE, "approved, and not in the clearing of its cycle")
    return tuple((p, lone) for p in payments if transition(p.state, PaymentEventKind.CLEARED) is not None)


def positions(
    matched: Iterable[tuple[ClearingRecord, MerchantId]], undone: Iterable[tuple[ClearingRecord, MerchantId]] = ()
) -> tuple[MerchantPosition, ...]:
    """Net what was matched, less what corrections undid, by merchant and currency, sorted.

    Purchases less refunds, minor units.
    """
    count: dict[tuple[MerchantId, str], int] = {}
    net: dict[tuple[MerchantId, str], int] = {}
    for sign, records in ((1, matched), (-1, undone)):
        for record, merchant_id in records:
            key = (merchant_id, record.currency)
            signed = record.amount_minor if record.kind is ClearingKind.PURCHASE else -record.amount_minor
            count[key] = count.get(key, 0) + sign
            net[key] = net.get(key, 0) + sign * signed
    return tuple(
        MerchantPosition.of_stored(
            merchant_id=merchant_id, currency=currency, count=count[merchant_id, currency], net_minor=minor
        )
        for (merchant_id, currency), minor in sorted(net.items())
    )
