"""Bugs in what is sent, and in what is made of no answer."""

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Final, TypeVar

from msgspec import structs

from gateway.network import matching as matches
from gateway.network import response_codes
from gateway.network.exchange import (
    Answered,
    ExchangeResult,
    NotSent,
    NotSentCause,
    TraceNumbers,
    Unanswered,
)
from gateway.network.iso8583.breaker import CircuitBreaker
from gateway.network.trace import payment_trace
from gateway.payments import execution, results
from gateway.payments.rules import intent as intents
from gateway.payments.rules.lifecycle import TRANSITIONS, LimitEffect, PaymentEventKind, PaymentState
from gateway.payments.unknown import inquiry, late_answers, recovery, reversal, verdicts
from gateway.payments.unknown import rules as resolution
from gateway.proving.simulation.bugs.planting import Mutant, edited, replaced, swapped

T = TypeVar("T")
_S, _E, _L = PaymentState, PaymentEventKind, LimitEffect


def _submit_before_commit() -> AbstractContextManager[None]:
    return edited(
        execution.ExecutionService,
        "_commit_intents",
        (
            "before_commit = asyncio.get_running_loop().time()\n",
            """before_commit = asyncio.get_running_loop().time()
        self._network.release(-len(intents))
        for intent in intents:
            self.results.submit(intent, send_before=before_commit + 2.0)
""",
        ),
        ("return decided, intents, before_commit", "return decided, [], before_commit"),
    )


def _resend_after_timeout() -> AbstractContextManager[None]:
    return edited(
        results.ResultWriter,
        "submit",
        (
            "self._results.put_nowait((intent, result))",
            """if type(result).__name__ == "Unanswered" and intent.payment.key not in self.__dict__:
            self.__dict__[intent.payment.key] = True
            self._network.release(-1)
            self.submit(intent, send_before=send_before + 3600.0)
        else:
            self._results.put_nowait((intent, result))""",
        ),
    )


def _resend_after_restart() -> AbstractContextManager[None]:
    return edited(
        execution.ExecutionService,
        "_commit_intents",
        ("for p in decided.begun if", "for p in [*decided.begun, *(q for _, q in decided.repeats)] if"),
    )


def _ignore_wire_bound() -> AbstractContextManager[None]:
    return edited(
        execution.ExecutionService, "_intend", ("self._settings.intent_to_wire_s", "3600.0 + len(self._network_id)")
    )


def _reuse_stan() -> AbstractContextManager[None]:
    def reusing(number: int, *rest: Any) -> TraceNumbers:
        return structs.replace(payment_trace(number, *rest), stan=number % 5 + 1)

    return replaced(intents, "payment_trace", reusing)


def _unanswered_is_declined() -> AbstractContextManager[None]:
    def judging(asked: Any, result: ExchangeResult, *policy: Any) -> verdicts.Verdict:
        verdict = verdicts.judge(asked, result, *policy)
        return structs.replace(verdict, event=_E.DECLINED) if isinstance(result, Unanswered) else verdict

    return replaced(results, "judge", judging)


def _unanswered_is_withdrawn() -> AbstractContextManager[None]:
    def judging(asked: Any, result: ExchangeResult, *policy: Any) -> verdicts.Verdict:
        lost = NotSent(NotSentCause.NO_LINK)
        return verdicts.judge(asked, lost if isinstance(result, Unanswered) else result, *policy)

    return replaced(results, "judge", judging)


def _late_answer_flips() -> AbstractContextManager[None]:
    flipped = replace(TRANSITIONS[_S.SENT, _E.APPROVED], limit=LimitEffect.NONE)
    return swapped(TRANSITIONS, {(_S.REVERSED, _E.APPROVED): flipped, (_S.DECLINED, _E.APPROVED): flipped})


def _late_answer_beats_reversal() -> AbstractContextManager[None]:
    return swapped(TRANSITIONS, {(_S.UNKNOWN, _E.APPROVED): TRANSITIONS[_S.UNKNOWN, _E.INQUIRY_APPROVED]})


def _late_answer_of_any_time() -> AbstractContextManager[None]:
    def matching(trace: TraceNumbers, echoed: Any, _: Any) -> bool:
        return bool(matches.answers_to(trace, echoed, matches.MatchBy.TERMINAL))

    return replaced(late_answers, "answers_to", matching)


def _unreadable_is_silence() -> AbstractContextManager[None]:
    return edited(
        CircuitBreaker,
        "ended",
        ("self.unreadable(generation)\n            return False", "return self.failed(generation, now_s)"),
    )


def _follow_ups_decide_the_trial() -> AbstractContextManager[None]:
    return edited(CircuitBreaker, "_counts", ("is_order or self.state is BreakerState.CLOSED", "True"))


def _reversal_taken_for_done() -> AbstractContextManager[None]:
    def judging(asked: verdicts.Asked, result: ExchangeResult, **known: Any) -> verdicts.ReversalVerdict:
        if isinstance(result, Answered):
            return verdicts.judge_reversal(asked, result, **known)
        return verdicts.ReversalVerdict(response_codes.ReversalOutcome.CONFIRMED, None, "sent")

    return replaced(reversal, "judge_reversal", judging)


def _reversal_not_queued() -> AbstractContextManager[None]:
    without = {pair: replace(step, reverse=False) for pair, step in TRANSITIONS.items() if step.reverse}
    return swapped(TRANSITIONS, without)


def _reversal_of_another() -> AbstractContextManager[None]:
    def shifted(payment: Any) -> TraceNumbers:
        trace: TraceNumbers = payment.trace
        return structs.replace(trace, stan=trace.stan + 1)

    return replaced(reversal, "original_trace", shifted)


def _not_seen_is_declined() -> AbstractContextManager[None]:
    def judging(asked: Any, result: ExchangeResult, **known: Any) -> Any:
        found = resolution.judge_inquiry(asked, result, **known)
        if found.network_code == "25" and found.verdict is not None:
            return replace(found, verdict=structs.replace(found.verdict, event=_E.INQUIRY_DECLINED))
        return found

    return replaced(inquiry, "judge_inquiry", judging)


def _unlisted_is_declined() -> AbstractContextManager[None]:
    return replaced(response_codes, "UNLISTED", response_codes.RESPONSE_CODES["05"])


def _unlisted_settles_inquiry() -> AbstractContextManager[None]:
    def judging(asked: Any, result: ExchangeResult, **known: Any) -> Any:
        found = resolution.judge_inquiry(asked, result, **known)
        unlisted = isinstance(result, Answered) and result.response_code not in response_codes.STANDARD.inquiry
        if not unlisted or found.verdict is None:
            return found
        declined = structs.replace(found.verdict, event=_E.INQUIRY_DECLINED)
        return replace(found, step=resolution.InquiryStep.SETTLED, verdict=declined)

    return replaced(inquiry, "judge_inquiry", judging)


def _takeover_withdraws() -> AbstractContextManager[None]:
    def withdrawn(policy: verdicts.UnknownPolicy) -> verdicts.Verdict:
        return structs.replace(verdicts.abandoned(policy), event=_E.WITHDRAWN)

    return replaced(recovery, "abandoned", withdrawn)


def _nobody_takes_over() -> AbstractContextManager[None]:
    async def nothing(_: recovery.RecoveryService) -> int:
        return 0

    return replaced(recovery.RecoveryService, "take_over", nothing)


SENDING: Final = (
    Mutant("submit-before-commit", "sends while the intent is still being committed", _submit_before_commit),
    Mutant("resend-after-timeout", "sends the 0200 again when no answer came", _resend_after_timeout),
    Mutant("resend-after-restart", "sends again what a redelivered order finds SENT", _resend_after_restart),
    Mutant("late-send", "ignores the bound from intent to wire", _ignore_wire_bound),
    Mutant("reuse-stan", "gives STANs out twice a day", _reuse_stan),
    Mutant("unanswered-declined", "takes no answer for a decline", _unanswered_is_declined),
    Mutant("unanswered-withdrawn", "takes no answer for not sent", _unanswered_is_withdrawn),
    Mutant("late-answer-flips", "approves after the end, on a late answer", _late_answer_flips),
    Mutant("late-answer-wins", "approves what is being reversed", _late_answer_beats_reversal),
    Mutant("late-answer-of-any-time", "takes another day's answer for a payment's own", _late_answer_of_any_time),
    Mutant("unreadable-is-silence", "counts answers that cannot be read as silence", _unreadable_is_silence),
    Mutant("follow-ups-decide", "lets reversals close a network that is tried again", _follow_ups_decide_the_trial),
    Mutant("reversal-assumed", "takes an unanswered reversal for done", _reversal_taken_for_done),
    Mutant("reversal-lost", "queues no reversal", _reversal_not_queued),
    Mutant("reversal-of-another", "reverses under other trace numbers", _reversal_of_another),
    Mutant("not-seen-declined", "declines what the host has not seen yet", _not_seen_is_declined),
    Mutant("unlisted-declined", "takes a code of no known meaning for a decline", _unlisted_is_declined),
    Mutant("unlisted-settles", "takes such an answer to an inquiry for a decline", _unlisted_settles_inquiry),
    Mutant("takeover-withdraws", "takes a dead worker's payments for not sent", _takeover_withdraws),
    Mutant("nobody-takes-over", "leaves a dead worker's payments alone", _nobody_takes_over),
)
