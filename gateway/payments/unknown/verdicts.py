"""What the end of an exchange with a card network means for the payment.

The rule behind every case: money may have moved unless the network clearly said no, or nothing left. What is neither a
clear yes to exactly what was asked nor a clear no becomes a reversal, never a decline.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final, Protocol, assert_never

from msgspec import Struct, structs

from gateway.network.exchange import (
    Answered,
    ExchangeResult,
    NotSent,
    NotSentCause,
    TraceNumbers,
    Unanswered,
    UnansweredCause,
)
from gateway.network.response_codes import (
    NOT_SEEN,
    STANDARD,
    UNLISTED,
    FinancialMeaning,
    ResponseCodes,
    ReversalOutcome,
    is_response_code,
)
from gateway.payments.rules.lifecycle import PaymentEventKind
from gateway.payments.rules.payment import Change, PaymentKey
from schemas.primitives import NUMERIC_CODES
from schemas.reasons import Reason, ReasonCode


class Asked(Protocol):
    """What an answer to a 0200 is compared with: the request itself, or the payment that it was sent for."""

    @property
    def amount_minor(self) -> int:
        """DE4."""

    @property
    def currency(self) -> str:
        """ISO 4217 alphabetic."""

    @property
    def trace(self) -> TraceNumbers | None:
        """The numbers that it was sent under."""


@unique
class UnknownPolicy(StrEnum):
    """How a network's unknown outcomes are settled."""

    INQUIRE = "inquire"  # ask what became of it; reverse what even that does not settle
    REVERSE = "reverse"  # undo it at once


class Verdict(Struct, frozen=True, gc=False):
    """What an exchange does to the payment.

    Attributes:
        reason: for the partner; None exactly when approved.
        approval_code: the network's (DE38), when approved and given.
        incident: for the operators: something that must not happen; holds no input of the network but its codes.
    """

    event: PaymentEventKind
    reason: Reason | None
    approval_code: str | None = None
    incident: str | None = None

    def change_of(self, key: PaymentKey) -> Change:
        """What it asks of the payment."""
        return Change(key, self.event, self.reason, self.approval_code, self.incident)


_MISMATCH_REASON: Final = Reason(code=ReasonCode.MS03, text="the network's answer does not fit the request")

_UNANSWERED: Final[Mapping[UnansweredCause, Verdict]] = {
    UnansweredCause.TIMEOUT: Verdict(
        PaymentEventKind.UNANSWERED,
        Reason(code=ReasonCode.AB05, text="no answer in time"),
    ),
    UnansweredCause.LINK_LOST: Verdict(
        PaymentEventKind.UNANSWERED,
        Reason(code=ReasonCode.AB07, text="the link was lost before the answer"),
    ),
    UnansweredCause.GARBLED: Verdict(
        PaymentEventKind.UNANSWERED,
        Reason(code=ReasonCode.MS03, text="the answer could not be read"),
        incident="the network's answer could not be read",
    ),
}


_EVENTS: Final[Mapping[FinancialMeaning, PaymentEventKind]] = {
    FinancialMeaning.APPROVED: PaymentEventKind.APPROVED,
    FinancialMeaning.DECLINED: PaymentEventKind.DECLINED,
    FinancialMeaning.UNKNOWN: PaymentEventKind.UNANSWERED,
    FinancialMeaning.UNDO: PaymentEventKind.MISMATCHED,
}


def judge(
    asked: Asked,
    result: ExchangeResult,
    policy: UnknownPolicy = UnknownPolicy.REVERSE,
    codes: ResponseCodes = STANDARD,
) -> Verdict:
    """Turn the end of a 0200's exchange into the payment's event.

    An answer must echo what was asked (DE4, and DE49 and DE37 where it carries them): one that does not is MISMATCHED
    and an incident, whatever its response code says. Else ``codes`` decide.
    """
    match result:
        case Answered():
            return settled_by(_judge_answer(asked, result, codes), policy)
        case Unanswered():
            return settled_by(_UNANSWERED[result.cause], policy)
        case NotSent():
            return _judge_not_sent(result)
        case _:
            assert_never(result)


def settled_by(verdict: Verdict, policy: UnknownPolicy) -> Verdict:
    """An unknown outcome as the network's policy settles it; any other verdict as it is."""
    if verdict.event is PaymentEventKind.UNANSWERED and policy is UnknownPolicy.INQUIRE:
        return structs.replace(verdict, event=PaymentEventKind.INQUIRY_STARTED)
    return verdict


def abandoned(policy: UnknownPolicy) -> Verdict:
    """What becomes of a payment whose worker stopped before it knew the outcome."""
    reason = Reason(code=ReasonCode.AB05, text="outcome unknown: the worker that sent it stopped")
    return settled_by(Verdict(PaymentEventKind.UNANSWERED, reason), policy)


def _judge_answer(request: Asked, answer: Answered, codes: ResponseCodes) -> Verdict:
    mismatch = _mismatch(request, answer)
    if mismatch is not None:
        return Verdict(PaymentEventKind.MISMATCHED, _MISMATCH_REASON, incident=mismatch)
    meaning = codes.of_financial(answer.response_code)
    if meaning is None:
        return Verdict(
            PaymentEventKind.MISMATCHED, _MISMATCH_REASON, incident="DE39 of the answer is not a response code"
        )
    if meaning.reason_code is None:
        return Verdict(_EVENTS[meaning.meaning], None, answer.approval_code)
    reason = Reason(code=meaning.reason_code, text=meaning.text, network_code=answer.response_code)
    told = meaning.incident or meaning is UNLISTED
    incident = f"DE39 {answer.response_code}: {meaning.text}" if told else None
    return Verdict(_EVENTS[meaning.meaning], reason, incident=incident)


def _mismatch(request: Asked, answer: Answered, *, amount_may_lack: bool = False) -> str | None:
    if answer.amount_minor != request.amount_minor and (answer.amount_minor or not amount_may_lack):
        return "DE4 of the answer is another amount than was asked for"
    if answer.currency_numeric is not None and answer.currency_numeric != NUMERIC_CODES[request.currency]:
        return "DE49 of the answer is another currency than was asked for"
    if answer.rrn is not None and (request.trace is None or answer.rrn != request.trace.rrn):
        return "DE37 of the answer is another RRN than was asked for"
    return None


def _judge_not_sent(result: NotSent) -> Verdict:
    match result.cause:
        case NotSentCause.NO_LINK:
            return _withdrawn(ReasonCode.AB07, "the network cannot be reached; nothing was sent")
        case NotSentCause.TOO_LATE:
            return _withdrawn(ReasonCode.TM01, "it could not be sent in time; nothing was sent")
        case NotSentCause.NOT_ENCODABLE:
            return _withdrawn(
                ReasonCode.FF02,
                "it cannot be expressed in the network's format; nothing was sent",
                incident=f"a request could not be encoded: {result.detail}",
            )
        case _:
            assert_never(result.cause)


def _withdrawn(code: ReasonCode, text: str, *, incident: str | None = None) -> Verdict:
    return Verdict(PaymentEventKind.WITHDRAWN, Reason(code=code, text=text), incident=incident)


@dataclass(frozen=True, slots=True)
class ReversalVerdict:
    """Outcome of one 0420 or 0421.

    Attributes:
        network_code: raw DE39 of the 0430; None when there was no answer.
        detail: one sentence for the trace and the operators.
        incident: for the operators, as :attr:`Verdict.incident`.
    """

    outcome: ReversalOutcome
    network_code: str | None
    detail: str
    incident: str | None = None


_OTHER_REVERSAL: Final = "the answer is not to this reversal"
_LOST_ORIGINAL: Final = "DE39 25 to the reversal: the network holds nothing of what it approved"


def judge_reversal(
    asked: Asked | None, result: ExchangeResult, *, approved: bool = False, codes: ResponseCodes = STANDARD
) -> ReversalVerdict:
    """Turn the end of a reversal's exchange into what to do next; only CONFIRMED ends it.

    An answer that carries another payment's numbers (DE4, DE37, DE49) confirms nothing, whatever its code says: STANs
    come again, and only a part may have been undone. Numbers that are left out, or are all zeros in DE4, are none.

    Args:
        asked: the payment that is to be undone; None where it could not be read, so that nothing was sent.
        result: of the 0420 or 0421.
        approved: the network is known to have approved the original. That it holds none (25) then ends the reversal
            all the same, for a host may forget what it has undone, but it is an incident.
        codes: what DE39 means at this network.
    """
    match result:
        case Answered():
            raw = result.response_code
            if not is_response_code(raw):
                return ReversalVerdict(ReversalOutcome.ALERT, None, "DE39 of the answer is not a response code")
            other = _mismatch(asked, result, amount_may_lack=True) if asked is not None else None
            if other is not None:
                # The code is another message's.
                return ReversalVerdict(ReversalOutcome.ALERT, None, f"{_OTHER_REVERSAL}: {other}")
            outcome, detail = codes.of_reversal(raw)
            lost = approved and raw == NOT_SEEN
            return ReversalVerdict(outcome, raw, detail, incident=_LOST_ORIGINAL if lost else None)
        case Unanswered():
            return ReversalVerdict(ReversalOutcome.RETRY, None, f"no answer: {result.cause}")
        case NotSent():
            outcome = ReversalOutcome.ALERT if result.cause is NotSentCause.NOT_ENCODABLE else ReversalOutcome.RETRY
            return ReversalVerdict(outcome, None, f"not sent: {result.cause}")
        case _:
            assert_never(result)
