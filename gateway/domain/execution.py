"""What the end of an exchange with a card network means for the payment.

The rule behind every case: money may have moved unless the network clearly said no, or nothing left. What is neither a
clear yes to exactly what was asked nor a clear no becomes a reversal, never a decline.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum, unique
from typing import Final, Protocol, assert_never

from gateway.domain.exchange import (
    Answered,
    ExchangeResult,
    NotSent,
    NotSentCause,
    TraceNumbers,
    Unanswered,
    UnansweredCause,
)
from gateway.domain.lifecycle import PaymentEventKind
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


@dataclass(frozen=True, slots=True)
class Verdict:
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


@dataclass(frozen=True, slots=True)
class ResponseCode:
    """Meaning of one DE39 value in the answer to a 0200.

    Attributes:
        event: APPROVED, DECLINED, UNANSWERED (the network does not know either) or MISMATCHED (to be undone).
        reason_code: ISO 20022; None when approved.
        text: one sentence for the partner.
        incident: True: also for the operators' eyes.
    """

    event: PaymentEventKind
    reason_code: ReasonCode | None
    text: str
    incident: bool = False


def _approved() -> ResponseCode:
    return ResponseCode(PaymentEventKind.APPROVED, None, "approved")


def _declined(code: ReasonCode, text: str) -> ResponseCode:
    return ResponseCode(PaymentEventKind.DECLINED, code, text)


def _unknown(code: ReasonCode, text: str) -> ResponseCode:
    return ResponseCode(PaymentEventKind.UNANSWERED, code, text)


def _undo(code: ReasonCode, text: str, *, incident: bool = False) -> ResponseCode:
    return ResponseCode(PaymentEventKind.MISMATCHED, code, text, incident)


_R = ReasonCode
RESPONSE_CODES: Final[Mapping[str, ResponseCode]] = {
    "00": _approved(),
    "11": _approved(),  # approved (VIP)
    "16": _approved(),  # approved, update track 3
    # Approved, but not as asked: undone, for neither a plain approval nor a decline would be true.
    "08": _undo(_R.MS03, "approved on a condition (identification) that cannot be met; being reversed"),
    "10": _undo(_R.AM12, "approved for a part of the amount only; being reversed"),
    "32": _undo(_R.AM12, "completed in part only; being reversed"),
    # We send a 0200 once: a duplicate is another message with its numbers, or a copy whose first answer is lost.
    "94": _undo(_R.DUPL, "the network takes it for a duplicate; being reversed", incident=True),
    "09": _unknown(_R.AB05, "the network is still working on it; being settled with the network"),
    "68": _unknown(_R.AB05, "the network got its answer too late; being settled with the network"),
    "12": _declined(_R.AG01, "transaction not valid"),
    "13": _declined(_R.AM12, "amount not valid"),
    "14": _declined(_R.AC16, "card number not valid"),
    "15": _declined(_R.AGNT, "no such issuer"),
    "26": _declined(_R.DUPL, "duplicate record"),
    "30": _declined(_R.FF02, "the network could not read the request"),
    "31": _declined(_R.AGNT, "issuer not supported by the network"),
    "34": _declined(_R.FRAD, "suspected fraud"),
    "40": _declined(_R.AG01, "function not supported"),
    "41": _declined(_R.AC06, "card reported lost"),
    "43": _declined(_R.AC06, "card reported stolen"),
    "51": _declined(_R.AM04, "insufficient funds"),
    "57": _declined(_R.AG01, "transaction not permitted to this card"),
    "58": _declined(_R.AG01, "transaction not permitted to this terminal"),
    "59": _declined(_R.FRAD, "suspected fraud"),
    "61": _declined(_R.AM14, "over the card's amount limit"),
    "62": _declined(_R.AC06, "restricted card"),
    "63": _declined(_R.FRAD, "security violation"),
    "65": _declined(_R.AM21, "over the card's number of payments"),
    "91": _declined(_R.AB08, "issuer not available"),
    "92": _declined(_R.AGNT, "the network cannot reach the issuer"),
}
"""ISO 8583:1987 DE39 of an 0210. A code that is not here is a decline for an unspecified reason (MS03)."""

UNLISTED: Final = _declined(_R.MS03, "declined by the network")


def response_code(raw: str) -> ResponseCode | None:
    """Return what a DE39 value means; None when it is none at all (not two ASCII letters or digits)."""
    if not (len(raw) == 2 and raw.isascii() and raw.isalnum()):
        return None
    return RESPONSE_CODES.get(raw, UNLISTED)


_MISMATCH_REASON: Final = Reason(
    code=ReasonCode.MS03, text="the network's answer does not fit the request; being reversed"
)

_UNANSWERED: Final[Mapping[UnansweredCause, Verdict]] = {
    UnansweredCause.TIMEOUT: Verdict(
        PaymentEventKind.UNANSWERED,
        Reason(code=ReasonCode.AB05, text="no answer in time; being settled with the network"),
    ),
    UnansweredCause.LINK_LOST: Verdict(
        PaymentEventKind.UNANSWERED,
        Reason(code=ReasonCode.AB07, text="the link was lost before the answer; being settled with the network"),
    ),
    UnansweredCause.GARBLED: Verdict(
        PaymentEventKind.UNANSWERED,
        Reason(code=ReasonCode.MS03, text="the answer could not be read; being settled with the network"),
        incident="the network's answer could not be read",
    ),
}


def judge(asked: Asked, result: ExchangeResult, policy: UnknownPolicy = UnknownPolicy.REVERSE) -> Verdict:
    """Turn the end of a 0200's exchange into the payment's event.

    An answer must echo what was asked (DE4, and DE49 and DE37 where it carries them): one that does not is MISMATCHED
    and an incident, whatever its response code says. Else :data:`RESPONSE_CODES` decides.
    """
    match result:
        case Answered():
            return settled_by(_judge_answer(asked, result), policy)
        case Unanswered():
            return settled_by(_UNANSWERED[result.cause], policy)
        case NotSent():
            return _judge_not_sent(result)
        case _:
            assert_never(result)


def settled_by(verdict: Verdict, policy: UnknownPolicy) -> Verdict:
    """An unknown outcome as the network's policy settles it; any other verdict as it is."""
    if verdict.event is PaymentEventKind.UNANSWERED and policy is UnknownPolicy.INQUIRE:
        return replace(verdict, event=PaymentEventKind.INQUIRY_STARTED)
    return verdict


def abandoned(policy: UnknownPolicy) -> Verdict:
    """What becomes of a payment whose worker stopped before it knew the outcome."""
    reason = Reason(
        code=ReasonCode.AB05, text="outcome unknown: the worker that sent it stopped; being settled with the network"
    )
    return settled_by(Verdict(PaymentEventKind.UNANSWERED, reason), policy)


def _judge_answer(request: Asked, answer: Answered) -> Verdict:
    mismatch = _mismatch(request, answer)
    if mismatch is not None:
        return Verdict(PaymentEventKind.MISMATCHED, _MISMATCH_REASON, incident=mismatch)
    meaning = response_code(answer.response_code)
    if meaning is None:
        return Verdict(
            PaymentEventKind.MISMATCHED, _MISMATCH_REASON, incident="DE39 of the answer is not a response code"
        )
    if meaning.reason_code is None:
        return Verdict(meaning.event, None, answer.approval_code)
    reason = Reason(code=meaning.reason_code, text=meaning.text, network_code=answer.response_code)
    incident = f"DE39 {answer.response_code}: {meaning.text}" if meaning.incident else None
    return Verdict(meaning.event, reason, incident=incident)


def _mismatch(request: Asked, answer: Answered) -> str | None:
    if answer.amount_minor != request.amount_minor:
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


@unique
class ReversalOutcome(StrEnum):
    """What follows from one attempt at a reversal."""

    CONFIRMED = "confirmed"  # nothing of the original stands at the network
    RETRY = "retry"  # repeat it (0421)
    ALERT = "alert"  # repeat it too, for a reversal is never dropped, but repeating alone may never help: tell people


@dataclass(frozen=True, slots=True)
class ReversalVerdict:
    """Outcome of one 0420 or 0421.

    Attributes:
        network_code: raw DE39 of the 0430; None when there was no answer.
        detail: one sentence for the trace and the operators.
    """

    outcome: ReversalOutcome
    network_code: str | None
    detail: str


REVERSAL_CODES: Final[Mapping[str, tuple[ReversalOutcome, str]]] = {
    "00": (ReversalOutcome.CONFIRMED, "reversed"),
    "25": (ReversalOutcome.CONFIRMED, "the network holds no such original: nothing to undo"),
    "94": (ReversalOutcome.CONFIRMED, "reversed by an earlier attempt"),
    "09": (ReversalOutcome.RETRY, "the network is still working on it"),
    "19": (ReversalOutcome.RETRY, "the network asks to repeat it"),
    "22": (ReversalOutcome.RETRY, "suspected malfunction"),
    "68": (ReversalOutcome.RETRY, "the network got its answer too late"),
    "90": (ReversalOutcome.RETRY, "cut-over in progress"),
    "91": (ReversalOutcome.RETRY, "issuer not available"),
    "96": (ReversalOutcome.RETRY, "system malfunction"),
}
"""ISO 8583:1987 DE39 of an 0430. Any other code refuses the reversal: ALERT."""


def judge_reversal(result: ExchangeResult) -> ReversalVerdict:
    """Turn the end of a reversal's exchange into what to do next; only CONFIRMED ends it."""
    match result:
        case Answered():
            raw = result.response_code
            if response_code(raw) is None:
                return ReversalVerdict(ReversalOutcome.ALERT, None, "DE39 of the answer is not a response code")
            outcome, detail = REVERSAL_CODES.get(raw, (ReversalOutcome.ALERT, "the network refuses the reversal"))
            return ReversalVerdict(outcome, raw, detail)
        case Unanswered():
            return ReversalVerdict(ReversalOutcome.RETRY, None, f"no answer: {result.cause}")
        case NotSent():
            outcome = ReversalOutcome.ALERT if result.cause is NotSentCause.NOT_ENCODABLE else ReversalOutcome.RETRY
            return ReversalVerdict(outcome, None, f"not sent: {result.cause}")
        case _:
            assert_never(result)
