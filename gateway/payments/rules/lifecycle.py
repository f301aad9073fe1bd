"""Life of a payment: one table of what each event does in each state, and one of why every other event does nothing.

Every (state, event) pair is in exactly one of :data:`TRANSITIONS` and :data:`IGNORED`; there is no default branch.
Each transition is one new version of the payment (1, 2, 3 …) and one event to its partner, written with its effects in
one transaction.

Two rules that the table cannot hold itself:

- ``INQUIRY_APPROVED`` and ``INQUIRY_DECLINED`` are for a payment whose inquiry is open: whoever brings such an answer
  closes the inquiry in the same transaction. Without one a reversal is queued, and the same answers are ``APPROVED``
  and ``DECLINED``, which UNKNOWN ignores: the reversal goes on until it is confirmed.
- Limit effects are for purchases. A refund takes nothing and gives nothing back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from gateway.payments.rules.ledger import TransferKind
from schemas.events import EventType
from schemas.reasons import PaymentStatus


@unique
class PaymentState(StrEnum):
    """Where a payment is. Next states beside each."""

    REJECTED = "rejected"  # refused before anything left; final
    SCHEDULED = "scheduled"  # waits for its day → SENT, REJECTED, REVERSED
    SENT = "sent"  # intent journaled, may have left → APPROVED, DECLINED, UNKNOWN, REJECTED
    APPROVED = "approved"  # the network captured it → SETTLED, REVERSING
    DECLINED = "declined"  # the network refused it; final
    UNKNOWN = "unknown"  # outcome not known → APPROVED, DECLINED (by inquiry), REVERSED
    REVERSING = "reversing"  # approved, reversal queued → REVERSED
    REVERSED = "reversed"  # undone; final
    SETTLED = "settled"  # cleared by the network; final, unless the network corrects its clearing → APPROVED


@unique
class PaymentEventKind(StrEnum):
    """What can happen to a payment."""

    REFUSED = "refused"  # a check refused the order, or the scheduled payment when it was due
    SCHEDULED = "scheduled"  # the order is for a later day
    INTENDED = "intended"  # counted in its limits, about to be sent
    WITHDRAWN = "withdrawn"  # certain that no byte of it left
    APPROVED = "approved"  # the network answered: approved as asked
    DECLINED = "declined"  # the network answered: declined
    UNANSWERED = "unanswered"  # no usable answer, and the network is not asked again
    MISMATCHED = "mismatched"  # the answer does not fit what was asked, or only a part was approved
    INQUIRY_STARTED = "inquiry_started"  # no answer; the network will be asked what became of it
    INQUIRY_APPROVED = "inquiry_approved"
    INQUIRY_DECLINED = "inquiry_declined"
    INQUIRY_NOT_SEEN = "inquiry_not_seen"  # the network never saw it; it may still arrive there
    INQUIRY_UNANSWERED = "inquiry_unanswered"  # past the inquiry's deadline
    REVERSAL_STARTED = "reversal_started"  # the gateway itself undoes an approved payment
    REVERSAL_CONFIRMED = "reversal_confirmed"  # the network confirmed that nothing of it stands
    CANCELLED = "cancelled"  # the customer or the partner asked for it to be undone
    CLEARED = "cleared"  # it is in the network's clearing, with the right numbers
    UNCLEARED = "uncleared"  # the network corrected its clearing: the record that settled it is not its own any more


@unique
class LimitEffect(StrEnum):
    """What a transition does to the windows that the payment counts in."""

    NONE = "none"
    TAKE = "take"  # counts from here on: it is about to be sent
    GIVE_BACK = "give_back"  # counts no more: nothing of it stands


@dataclass(frozen=True, slots=True)
class Transition:
    """The new state and everything that is written with it.

    Attributes:
        transfers: kinds of ledger transfers, see :mod:`gateway.payments.rules.ledger`.
        reverse: queue a reversal.
        inquire: queue an inquiry.
    """

    state: PaymentState
    limit: LimitEffect = LimitEffect.NONE
    transfers: tuple[TransferKind, ...] = ()
    reverse: bool = False
    inquire: bool = False


@dataclass(frozen=True, slots=True)
class Ignored:
    """Why an event does not move a payment.

    Attributes:
        incident: for people to see; else harmless (late, repeated, not possible now).
        undo: something may stand at the network that must not: queue a reversal of its own for it. The payment stays
            where it is, for nothing of it stands here.
        again: the network may have booked it after it answered the reversal, if that was sent: this answer does not
            count, and the reversal begins anew.
    """

    why: str
    incident: bool
    undo: bool = False
    again: bool = False


Pair = tuple[PaymentState | None, PaymentEventKind]

_S, _E, _L, _T = PaymentState, PaymentEventKind, LimitEffect, TransferKind

# fmt: off
TRANSITIONS: Final[Mapping[Pair, Transition]] = {
    (None,         _E.REFUSED):            Transition(_S.REJECTED),
    (None,         _E.SCHEDULED):          Transition(_S.SCHEDULED),
    (None,         _E.INTENDED):           Transition(_S.SENT,      _L.TAKE),
    (_S.SCHEDULED, _E.REFUSED):            Transition(_S.REJECTED),
    (_S.SCHEDULED, _E.INTENDED):           Transition(_S.SENT,      _L.TAKE),
    (_S.SCHEDULED, _E.CANCELLED):          Transition(_S.REVERSED),
    (_S.SENT,      _E.WITHDRAWN):          Transition(_S.REJECTED,  _L.GIVE_BACK),
    (_S.SENT,      _E.APPROVED):           Transition(_S.APPROVED,  transfers=(_T.AUTHORISED,)),
    (_S.SENT,      _E.DECLINED):           Transition(_S.DECLINED,  _L.GIVE_BACK),
    (_S.SENT,      _E.UNANSWERED):         Transition(_S.UNKNOWN,   reverse=True),
    (_S.SENT,      _E.MISMATCHED):         Transition(_S.UNKNOWN,   reverse=True),
    (_S.SENT,      _E.INQUIRY_STARTED):    Transition(_S.UNKNOWN,   inquire=True),
    (_S.UNKNOWN,   _E.INQUIRY_APPROVED):   Transition(_S.APPROVED,  transfers=(_T.AUTHORISED,)),
    (_S.UNKNOWN,   _E.INQUIRY_DECLINED):   Transition(_S.DECLINED,  _L.GIVE_BACK),
    (_S.UNKNOWN,   _E.INQUIRY_NOT_SEEN):   Transition(_S.UNKNOWN,   reverse=True),
    (_S.UNKNOWN,   _E.INQUIRY_UNANSWERED): Transition(_S.UNKNOWN,   reverse=True),
    (_S.UNKNOWN,   _E.REVERSAL_CONFIRMED): Transition(_S.REVERSED,  _L.GIVE_BACK),
    (_S.APPROVED,  _E.REVERSAL_STARTED):   Transition(_S.REVERSING, reverse=True),
    (_S.APPROVED,  _E.CANCELLED):          Transition(_S.REVERSING, reverse=True),
    (_S.APPROVED,  _E.CLEARED):            Transition(_S.SETTLED,   transfers=(_T.SETTLED,)),
    (_S.REVERSING, _E.REVERSAL_CONFIRMED): Transition(_S.REVERSED,  _L.GIVE_BACK, (_T.AUTHORISATION_UNDONE,)),
    (_S.SETTLED,   _E.UNCLEARED):          Transition(_S.APPROVED,  transfers=(_T.SETTLEMENT_UNDONE,)),
}
# fmt: on
"""Everything that can happen. A cancelled scheduled payment ends REVERSED: it is the state told as ISO 20022 CANC."""

_UNTIL_SENT = (None, _S.SCHEDULED)
_OVER_BEFORE_APPROVAL = (_S.REJECTED, _S.DECLINED)
_EXISTING = tuple(PaymentState)

# (event, states, is it an incident, why nothing is done)
_IGNORED_ROWS: Final[tuple[tuple[PaymentEventKind, tuple[PaymentState | None, ...], bool, str], ...]] = (
    (_E.REFUSED, tuple(s for s in _EXISTING if s is not _S.SCHEDULED), False, "the payment of this order stands"),
    (_E.SCHEDULED, _EXISTING, False, "the payment of this order stands"),
    (_E.INTENDED, tuple(s for s in _EXISTING if s is not _S.SCHEDULED), False, "the payment of this order stands"),
    (_E.WITHDRAWN, (_S.REJECTED,), False, "withdrawn already"),
    (_E.WITHDRAWN, (_S.UNKNOWN, _S.REVERSED), False, "taken for unknown meanwhile: the reversal settles it"),
    (_E.WITHDRAWN, (_S.APPROVED, _S.DECLINED, _S.REVERSING, _S.SETTLED), True, "the network answered what never left"),
    (_E.WITHDRAWN, _UNTIL_SENT, True, "there is no intent to withdraw"),
    (_E.APPROVED, (_S.APPROVED, _S.SETTLED), False, "approved already"),
    (_E.APPROVED, (_S.UNKNOWN, _S.REVERSING), False, "late or repeated: the queued reversal goes on"),
    (_E.APPROVED, (_S.REVERSED,), True, "the network approved what it confirmed as reversed: undone again"),
    (_E.APPROVED, (_S.DECLINED,), True, "the network approved what it declined: undone"),
    (_E.APPROVED, (_S.REJECTED,), True, "the network approved what never left: undone"),
    (_E.APPROVED, _UNTIL_SENT, True, "the network approved what was never sent"),
    (_E.DECLINED, (_S.DECLINED,), False, "declined already"),
    (_E.DECLINED, (_S.UNKNOWN,), False, "late: the queued reversal goes on and finds nothing to undo"),
    (_E.DECLINED, (_S.REVERSED,), False, "nothing stands at the network, as the reversal found"),
    (_E.DECLINED, (_S.APPROVED, _S.REVERSING, _S.SETTLED), True, "the network declined what it approved"),
    (_E.DECLINED, (_S.REJECTED,), True, "the network declined what never left"),
    (_E.DECLINED, _UNTIL_SENT, True, "the network declined what was never sent"),
    (_E.UNANSWERED, (_S.APPROVED, _S.REVERSING, _S.SETTLED), False, "an answer was found meanwhile"),
    (_E.UNANSWERED, _OVER_BEFORE_APPROVAL, False, "an answer was found meanwhile, or nothing left"),
    (_E.UNANSWERED, (_S.UNKNOWN, _S.REVERSED), False, "taken for unknown already"),
    (_E.UNANSWERED, _UNTIL_SENT, True, "nothing was asked"),
    (_E.MISMATCHED, (_S.UNKNOWN, _S.REVERSING), True, "an answer with other numbers; how it is settled stands"),
    (_E.MISMATCHED, (_S.REVERSED,), True, "an answer with other numbers after the reversal: undone again"),
    (_E.MISMATCHED, (_S.APPROVED, _S.SETTLED), True, "a second answer with other numbers; the first one stands"),
    (_E.MISMATCHED, _OVER_BEFORE_APPROVAL, True, "an answer with other numbers after the end: undone"),
    (_E.MISMATCHED, _UNTIL_SENT, True, "an answer to what was never sent"),
    (_E.INQUIRY_STARTED, (_S.UNKNOWN,), False, "taken for unknown already"),
    (_E.INQUIRY_STARTED, (_S.APPROVED, _S.REVERSING, _S.SETTLED), False, "the outcome was found meanwhile"),
    (_E.INQUIRY_STARTED, (*_OVER_BEFORE_APPROVAL, _S.REVERSED), False, "the outcome was found meanwhile"),
    (_E.INQUIRY_STARTED, _UNTIL_SENT, True, "nothing was asked"),
    (_E.INQUIRY_APPROVED, (_S.APPROVED, _S.SETTLED), False, "approved already"),
    (_E.INQUIRY_APPROVED, (_S.REVERSING,), False, "the queued reversal goes on"),
    (_E.INQUIRY_APPROVED, (_S.REVERSED,), True, "stands at the network after it confirmed the reversal: undone again"),
    (_E.INQUIRY_APPROVED, _OVER_BEFORE_APPROVAL, True, "stands at the network, but not here: undone"),
    (_E.INQUIRY_APPROVED, (*_UNTIL_SENT, _S.SENT), True, "no inquiry was started"),
    (_E.INQUIRY_DECLINED, (_S.DECLINED, _S.REVERSED), False, "nothing stands at the network, as known"),
    (_E.INQUIRY_DECLINED, (_S.REJECTED,), True, "the network declined what never left"),
    (_E.INQUIRY_DECLINED, (_S.APPROVED, _S.REVERSING, _S.SETTLED), True, "the network declined what it approved"),
    (_E.INQUIRY_DECLINED, (*_UNTIL_SENT, _S.SENT), True, "no inquiry was started"),
    (_E.INQUIRY_NOT_SEEN, (*_OVER_BEFORE_APPROVAL, _S.REVERSED), False, "nothing stands at the network, as known"),
    (_E.INQUIRY_NOT_SEEN, (_S.APPROVED, _S.REVERSING, _S.SETTLED), True, "the network lost what it approved"),
    (_E.INQUIRY_NOT_SEEN, (*_UNTIL_SENT, _S.SENT), True, "no inquiry was started"),
    (_E.INQUIRY_UNANSWERED, (_S.APPROVED, _S.REVERSING, _S.SETTLED), False, "the outcome was found meanwhile"),
    (_E.INQUIRY_UNANSWERED, (*_OVER_BEFORE_APPROVAL, _S.REVERSED), False, "the outcome was found meanwhile"),
    (_E.INQUIRY_UNANSWERED, (*_UNTIL_SENT, _S.SENT), True, "no inquiry was started"),
    (_E.REVERSAL_STARTED, (_S.UNKNOWN, _S.REVERSING, _S.REVERSED), False, "the reversal runs already or is done"),
    (_E.REVERSAL_STARTED, _OVER_BEFORE_APPROVAL, False, "there is nothing to undo"),
    (_E.REVERSAL_STARTED, (_S.SENT,), False, "in flight: wait for its outcome"),
    (_E.REVERSAL_STARTED, (_S.SCHEDULED,), False, "not sent yet: cancel it instead"),
    (_E.REVERSAL_STARTED, (_S.SETTLED,), False, "settled: refund it instead"),
    (_E.REVERSAL_STARTED, (None,), True, "there is no such payment"),
    (_E.REVERSAL_CONFIRMED, (_S.REVERSED,), False, "reversed already"),
    (_E.REVERSAL_CONFIRMED, (_S.SENT, _S.APPROVED, _S.SETTLED), True, "the network undid what nobody asked it to undo"),
    (_E.REVERSAL_CONFIRMED, _OVER_BEFORE_APPROVAL, False, "undone at the network; nothing of it stood here"),
    (_E.REVERSAL_CONFIRMED, _UNTIL_SENT, True, "no reversal was asked for"),
    (_E.CANCELLED, (_S.SENT,), False, "in flight: wait for its outcome"),
    (_E.CANCELLED, (_S.UNKNOWN, _S.REVERSING), False, "already asked about or undone at the network"),
    (_E.CANCELLED, (*_OVER_BEFORE_APPROVAL, _S.REVERSED), False, "there is nothing to undo"),
    (_E.CANCELLED, (_S.SETTLED,), False, "settled: refund it instead"),
    (_E.CANCELLED, (None,), False, "there is no such payment"),
    (_E.CLEARED, (_S.SETTLED,), True, "cleared twice: a break"),
    (_E.CLEARED, (_S.REVERSING, _S.REVERSED), True, "reversed but cleared: a break"),
    (
        _E.CLEARED,
        (*_OVER_BEFORE_APPROVAL, _S.SCHEDULED, _S.SENT, _S.UNKNOWN),
        True,
        "cleared but not approved: a break",
    ),
    (_E.CLEARED, (None,), True, "cleared but not known here: a break"),
    (_E.UNCLEARED, tuple(s for s in _EXISTING if s is not _S.SETTLED), True, "no clearing settled it"),
    (_E.UNCLEARED, (None,), True, "there is no such payment"),
)


_UNDONE: Final = frozenset(
    (state, event)
    for state in (*_OVER_BEFORE_APPROVAL, _S.REVERSED)
    for event in (_E.APPROVED, _E.INQUIRY_APPROVED, _E.MISMATCHED)
)
"""What the network may have captured although nothing of it stands here."""


_AGAIN: Final = frozenset((_S.UNKNOWN, event) for event in (_E.APPROVED, _E.MISMATCHED))
"""What the network may have captured after a reversal found nothing there."""


def _ignored_table() -> Mapping[Pair, Ignored]:
    table: dict[Pair, Ignored] = {}
    for event, states, incident, why in _IGNORED_ROWS:
        for state in states:
            if (state, event) in table or (state, event) in TRANSITIONS:
                raise ValueError(f"{state} × {event} is told twice")
            pair = (state, event)
            table[pair] = Ignored(why, incident, undo=pair in _UNDONE, again=pair in _AGAIN)
    return table


IGNORED: Final[Mapping[Pair, Ignored]] = _ignored_table()
"""Every pair that is not in :data:`TRANSITIONS`."""

_OUTCOMES: Final = frozenset({_S.APPROVED, _S.DECLINED, _S.REJECTED, _S.REVERSED})
_BEFORE_OUTCOME: Final = frozenset({None, _S.SCHEDULED, _S.SENT, _S.UNKNOWN})


def is_outcome(before: PaymentState | None, after: PaymentState) -> bool:
    """Whether a step is the one that tells what came of a payment: once in its life.

    What becomes of an approval later (its clearing, or its being undone) is another matter.
    """
    return after in _OUTCOMES and before in _BEFORE_OUTCOME


TERMINAL: Final[frozenset[PaymentState]] = frozenset(PaymentState) - {
    s for s, event in TRANSITIONS if s is not None and event is not _E.UNCLEARED
}
"""States that a payment ends in; any other needs a deadline and an owner. Corrections alone leave SETTLED."""

STATUS: Final[Mapping[PaymentState, PaymentStatus]] = {
    PaymentState.REJECTED: PaymentStatus.RJCT,
    PaymentState.SCHEDULED: PaymentStatus.PDNG,
    PaymentState.SENT: PaymentStatus.ACTC,
    PaymentState.APPROVED: PaymentStatus.ACSP,
    PaymentState.DECLINED: PaymentStatus.RJCT,
    PaymentState.UNKNOWN: PaymentStatus.PDNG,
    PaymentState.REVERSING: PaymentStatus.PDNG,
    PaymentState.REVERSED: PaymentStatus.CANC,
    PaymentState.SETTLED: PaymentStatus.ACSC,
}
"""The ISO 20022 status that each state is told as."""

EVENT_TYPE: Final[Mapping[PaymentState, EventType]] = {
    PaymentState.REJECTED: EventType.PAYMENT_REJECTED,
    PaymentState.SCHEDULED: EventType.PAYMENT_SCHEDULED,
    PaymentState.SENT: EventType.PAYMENT_SENT,
    PaymentState.APPROVED: EventType.PAYMENT_APPROVED,
    PaymentState.DECLINED: EventType.PAYMENT_DECLINED,
    PaymentState.UNKNOWN: EventType.PAYMENT_UNKNOWN,
    PaymentState.REVERSING: EventType.PAYMENT_REVERSING,
    PaymentState.REVERSED: EventType.PAYMENT_REVERSED,
    PaymentState.SETTLED: EventType.PAYMENT_SETTLED,
}
"""The type of the event that tells that a payment reached the state."""


def transition(state: PaymentState | None, event: PaymentEventKind) -> Transition | None:
    """Return what ``event`` does to a payment in ``state`` (None: no payment yet).

    None: nothing; :data:`IGNORED` says why, and whether it is an incident.
    """
    return TRANSITIONS.get((state, event))


def next_states(state: PaymentState | None) -> frozenset[PaymentState]:
    """Return the states that a payment in ``state`` can reach in one step."""
    return frozenset(done.state for (before, _), done in TRANSITIONS.items() if before is state)
