"""How an unknown outcome is settled: what the answer to an inquiry means, and what a late answer does.

An inquiry (0100, DE3 380000, DE90) is answered with the original's own DE39, or with 25 when the host never saw it.
A host that cannot or will not look refuses the inquiry itself, with a code that an original could have ended with as
well. Where one code can mean both, it settles nothing: the reversal does, which undoes what stands and finds nothing
to undo otherwise, and so it is with a code that no table lists. Taking either for the original's refusal could leave a
capture that nobody knows of.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final, assert_never

from msgspec import structs

from gateway.network.exchange import Answered, ExchangeResult, NotSent, NotSentCause, Unanswered
from gateway.network.response_codes import STANDARD, InquiryUse, ResponseCodes, is_response_code
from gateway.payments.rules.lifecycle import PaymentEventKind
from gateway.payments.unknown.verdicts import Asked, UnknownPolicy, Verdict, judge
from schemas.reasons import Reason, ReasonCode


@unique
class InquiryStep(StrEnum):
    """What follows from one attempt at an inquiry."""

    SETTLED = "settled"  # the network told what became of it
    REVERSE = "reverse"  # it never saw it, or asking will not settle it: undo it
    ASK_AGAIN = "ask_again"


@dataclass(frozen=True, slots=True)
class InquiryVerdict:
    """Outcome of one 0100.

    Attributes:
        verdict: the payment's event; None with ASK_AGAIN.
        network_code: raw DE39; None when there was no answer.
        detail: one sentence for the trace and the operators.
    """

    step: InquiryStep
    verdict: Verdict | None
    network_code: str | None
    detail: str


AS_OF_INQUIRY: Final[Mapping[PaymentEventKind, PaymentEventKind]] = {
    PaymentEventKind.APPROVED: PaymentEventKind.INQUIRY_APPROVED,
    PaymentEventKind.DECLINED: PaymentEventKind.INQUIRY_DECLINED,
}
"""What an answer tells that is clear → the same of a payment whose inquiry is open: it takes the inquiry's place."""


_REVERSING: Final = "the network did not settle it when asked"


def judge_inquiry(
    asked: Asked, result: ExchangeResult, *, past_deadline: bool, codes: ResponseCodes = STANDARD
) -> InquiryVerdict:
    """Turn the end of an inquiry's exchange into what to do next.

    Args:
        asked: the payment.
        result: of the 0100.
        past_deadline: asking has lasted long enough: whatever is still open is reversed.
        codes: what DE39 means at this network.
    """
    match result:
        case Answered():
            found = _judge_answer(asked, result, codes)
        case Unanswered():
            found = _again(None, f"no answer: {result.cause}")
        case NotSent():
            never = result.cause is NotSentCause.NOT_ENCODABLE
            detail = f"not sent: {result.cause}"
            found = _reverse(PaymentEventKind.INQUIRY_UNANSWERED, None, detail) if never else _again(None, detail)
        case _:
            assert_never(result)
    if found.step is InquiryStep.ASK_AGAIN and past_deadline:
        return _reverse(PaymentEventKind.INQUIRY_UNANSWERED, found.network_code, f"deadline passed; {found.detail}")
    return found


def _judge_answer(asked: Asked, answer: Answered, codes: ResponseCodes) -> InquiryVerdict:
    code = answer.response_code
    match codes.of_inquiry(code):
        case InquiryUse.NOT_SEEN:
            # It may still arrive there: only a reversal keeps it from taking effect.
            return _reverse(PaymentEventKind.INQUIRY_NOT_SEEN, code, "the network never saw it")
        case InquiryUse.ASK_AGAIN:
            return _again(code, "the network cannot tell yet")
        case InquiryUse.NOTHING:
            raw = code if is_response_code(code) else None
            return _reverse(PaymentEventKind.INQUIRY_UNANSWERED, raw, "it may refuse the inquiry itself")
        case InquiryUse.SETTLES:
            return _settle(asked, answer, codes)
        case _ as never:
            assert_never(never)


def _settle(asked: Asked, answer: Answered, codes: ResponseCodes) -> InquiryVerdict:
    code = answer.response_code
    verdict = judge(asked, answer, codes=codes)
    event = AS_OF_INQUIRY.get(verdict.event)
    if event is None:
        return _reverse(PaymentEventKind.INQUIRY_UNANSWERED, code, "not approved as asked", incident=verdict.incident)
    settled = Verdict(event, verdict.reason, verdict.approval_code)
    return InquiryVerdict(InquiryStep.SETTLED, settled, code, "the network told what became of it")


def _again(code: str | None, detail: str) -> InquiryVerdict:
    return InquiryVerdict(InquiryStep.ASK_AGAIN, None, code, detail)


def _reverse(event: PaymentEventKind, code: str | None, detail: str, *, incident: str | None = None) -> InquiryVerdict:
    reason = Reason(code=ReasonCode.AB05, text=_REVERSING, network_code=code)
    return InquiryVerdict(InquiryStep.REVERSE, Verdict(event, reason, incident=incident), code, detail)


def judge_late_answer(
    asked: Asked,
    answer: Answered,
    *,
    inquiry_open: bool,
    policy: UnknownPolicy = UnknownPolicy.REVERSE,
    codes: ResponseCodes = STANDARD,
) -> Verdict:
    """What an answer does that belongs to no exchange in flight: late, repeated, or after a restart.

    With an open inquiry it settles the payment as the inquiry's own answer would, if it is clear. Else it is what it
    says, and :mod:`gateway.payments.rules.lifecycle` knows what that does in each state: an approval of what does not
    stand here is undone, and one that tells no outcome of what is in flight is settled by ``policy``.
    """
    verdict = judge(asked, answer, policy, codes)
    event = AS_OF_INQUIRY.get(verdict.event) if inquiry_open else None
    return verdict if event is None else structs.replace(verdict, event=event)
