"""Planted bugs, each of which the invariants must find: the checkers are checked.

Each is one mistake that somebody could make in the real code, planted in this process for as long as it is hunted.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from gateway.base.errors import PublisherUnavailableError, StoreConflictError, StoreUnavailableError
from gateway.consents.rules import change as consent_change
from gateway.consents.rules import consent as consents
from gateway.consents.rules.limits import Reserved, Usage, reserve
from gateway.directory.funding import OwnedToken
from gateway.directory.store import OpenedCards
from gateway.network import matching as matches
from gateway.network import response_codes
from gateway.network.exchange import (
    Answered,
    ExchangeResult,
    NotSent,
    NotSentCause,
    Operation,
    TraceNumbers,
    Unanswered,
)
from gateway.network.iso8583.breaker import CircuitBreaker
from gateway.network.trace import payment_trace
from gateway.orders import judging as intake
from gateway.orders import payment_kinds, refunds
from gateway.orders import turns as fair_intake
from gateway.outbox import relay
from gateway.payments import dispatch, execution, results, transitions
from gateway.payments.rules import intent as intents
from gateway.payments.rules.ledger import RECEIVABLE_GROWS, TransferKind
from gateway.payments.rules.lifecycle import TRANSITIONS, LimitEffect, PaymentEventKind, PaymentState, Transition
from gateway.payments.unknown import inquiry, late_answers, recovery, reversal, verdicts
from gateway.payments.unknown import rules as resolution
from gateway.proving.memory import MemoryVault
from gateway.proving.simulation import workers
from gateway.proving.simulation.audit import UNEXPECTED
from gateway.proving.simulation.planting import Instead, edited, replaced, swapped, together
from gateway.proving.simulation.world import simulate
from gateway.settlement import corrections as clearing_corrections
from gateway.settlement import rules as settlement
from schemas.reasons import Reason

T = TypeVar("T")
_S, _E, _L = PaymentState, PaymentEventKind, LimitEffect

BUDGET: Final = 3_000
"""Worlds in which a bug is hunted; most are found in the first dozen."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug.

    Attributes:
        breaks: what it does, in a few words.
        plant: makes the program have it while the context lasts.
    """

    name: str
    breaks: str
    plant: Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Hunted:
    """How the hunt for one bug ended. ``invariant`` is None if it was not found in ``seeds`` worlds."""

    name: str
    breaks: str
    seeds: int
    invariant: str | None = None
    seed: int | None = None
    text: str = ""


def hunt(name: str, first: int = 0, budget: int = BUDGET) -> Hunted:
    """Plant one bug and run worlds until a promise is broken."""
    mutant = MUTANTS[name]
    with mutant.plant():
        for number in range(budget):
            outcome = simulate(first + number)
            if outcome.violations:
                # An unexpected error comes first: then the bug may be one of planting it.
                found = min(outcome.violations, key=lambda v: v.invariant != UNEXPECTED)
                return Hunted(name, mutant.breaks, number + 1, found.invariant, outcome.seed, found.text)
    return Hunted(name, mutant.breaks, budget)


# --- the wire ---------------------------------------------------------------------------------------------------------


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
        return replace(payment_trace(number, *rest), stan=number % 5 + 1)

    return replaced(intents, "payment_trace", reusing)


# --- unknown outcomes -------------------------------------------------------------------------------------------------


def _unanswered_is_declined() -> AbstractContextManager[None]:
    def judging(asked: Any, result: ExchangeResult, *policy: Any) -> verdicts.Verdict:
        verdict = verdicts.judge(asked, result, *policy)
        return replace(verdict, event=_E.DECLINED) if isinstance(result, Unanswered) else verdict

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
        return replace(trace, stan=trace.stan + 1)

    return replaced(reversal, "original_trace", shifted)


def _not_seen_is_declined() -> AbstractContextManager[None]:
    def judging(asked: Any, result: ExchangeResult, **known: Any) -> Any:
        found = resolution.judge_inquiry(asked, result, **known)
        if found.network_code == "25" and found.verdict is not None:
            return replace(found, verdict=replace(found.verdict, event=_E.INQUIRY_DECLINED))
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
        declined = replace(found.verdict, event=_E.INQUIRY_DECLINED)
        return replace(found, step=resolution.InquiryStep.SETTLED, verdict=declined)

    return replaced(inquiry, "judge_inquiry", judging)


def _takeover_withdraws() -> AbstractContextManager[None]:
    def withdrawn(policy: verdicts.UnknownPolicy) -> verdicts.Verdict:
        return replace(verdicts.abandoned(policy), event=_E.WITHDRAWN)

    return replaced(recovery, "abandoned", withdrawn)


def _nobody_takes_over() -> AbstractContextManager[None]:
    async def nothing(_: recovery.RecoveryService) -> int:
        return 0

    return replaced(recovery.RecoveryService, "take_over", nothing)


# --- limits and consents ----------------------------------------------------------------------------------------------


def _effects(rows: Mapping[Any, LimitEffect]) -> AbstractContextManager[None]:
    return swapped(TRANSITIONS, {pair: replace(TRANSITIONS[pair], limit=effect) for pair, effect in rows.items()})


def _signs(effect: LimitEffect, reserved: int, consumed: int) -> AbstractContextManager[None]:
    return swapped(transitions._USAGE_SIGNS, {effect: (reserved, consumed)})  # noqa: SLF001 - planted inside of it


def _release_on_unknown() -> AbstractContextManager[None]:
    return _effects(
        {
            (_S.SENT, _E.UNANSWERED): LimitEffect.RELEASE,
            (_S.SENT, _E.MISMATCHED): LimitEffect.RELEASE,
            (_S.UNKNOWN, _E.REVERSAL_CONFIRMED): LimitEffect.NONE,
        }
    )


def _unlocked() -> AbstractContextManager[None]:
    async def facts(self: Any, uow: Any, orders: Any) -> Any:
        consents = Instead(uow.consents, lock=uow.consents.read)
        return await before(self, Instead(uow, consents=consents), orders)

    before = execution.ExecutionService._facts  # noqa: SLF001 - planted inside of it
    return replaced(execution.ExecutionService, "_facts", facts)


def _not_checked_again() -> AbstractContextManager[None]:
    def passing(order: Any, *, consent: Any, merchant: Any, now: Any) -> Any:
        known = consent is not None and merchant is not None
        return None if known else before(order, consent=consent, merchant=merchant, now=now)

    before = consents.refuse_order
    return replaced(intents, "refuse_order", passing)


def _in_flight_not_counted() -> AbstractContextManager[None]:
    def blind(terms: Any, minor: int, currency: str, now: Any, usage: Mapping[Any, Any]) -> Any:
        settled = {k: Usage(0, 0, u.consumed_minor, u.consumed_count) for k, u in usage.items()}
        return reserve(terms, minor, currency, now, settled)

    return replaced(intents, "reserve", blind)


# --- events, offsets, ledger ------------------------------------------------------------------------------------------


def _outbox_row_dropped() -> AbstractContextManager[None]:
    def some(payments: Any) -> Any:
        return before([p for p in payments if p.state is not _S.UNKNOWN])

    before = transitions.payment_events
    return replaced(transitions, "payment_events", some)


def _relay_gives_up() -> AbstractContextManager[None]:
    async def once(action: Callable[[], Awaitable[T]]) -> T | None:
        try:
            return await action()
        except (StoreConflictError, StoreUnavailableError, PublisherUnavailableError):
            return None

    return replaced(relay, "until_done", once)


def _offsets_first() -> AbstractContextManager[None]:
    return edited(
        workers.Worker,
        "_consume",
        (
            "await isolated.run(take, records)\n        await member.commit()",
            "await member.commit()\n        await isolated.run(take, records)",
        ),
    )


def _waiting_lost() -> AbstractContextManager[None]:
    return edited(fair_intake.FairIntake, "_let_wait", ("await self._publisher.publish(outgoing)", "pass"))


def _waiting_committed_first() -> AbstractContextManager[None]:
    return edited(
        workers.Worker,
        "_take_waiting",
        (
            "await intake.take_waiting(records)\n        await member.commit()",
            "await member.commit()\n        await intake.take_waiting(records)",
        ),
    )


def _half_a_turn() -> AbstractContextManager[None]:
    return edited(
        fair_intake.FairIntake,
        "take_waiting",
        ("    if turn:\n        await self._take_turn(turn)\n        await taken(turn)", "    pass"),
    )


def _overtaken_order_dropped() -> AbstractContextManager[None]:
    return edited(payment_kinds, "_write", ("raise OvertakenError", "pass"))


def _unledgered() -> AbstractContextManager[None]:
    row: Transition = replace(TRANSITIONS[_S.UNKNOWN, _E.INQUIRY_APPROVED], transfers=())
    return swapped(TRANSITIONS, {(_S.UNKNOWN, _E.INQUIRY_APPROVED): row})


def _topic_skipped() -> AbstractContextManager[None]:
    return edited(relay.RelayService, "relay_once", ("parked=parked", "parked=()"))


# --- cancellations and refunds ----------------------------------------------------------------------------------------


def _cancellation_forgotten() -> AbstractContextManager[None]:
    async def facts(self: Any, *arguments: Any) -> Any:
        return replace(await before(self, *arguments), cancelled={})

    before = execution.ExecutionService._facts  # noqa: SLF001 - planted inside of it
    return replaced(execution.ExecutionService, "_facts", facts)


def _refunds_not_counted() -> AbstractContextManager[None]:
    async def facts(self: Any, *arguments: Any) -> Any:
        return replace(await before(self, *arguments), refunded={})

    before = execution.ExecutionService._facts  # noqa: SLF001 - planted inside of it
    return replaced(execution.ExecutionService, "_facts", facts)


def _refused_refund_paid() -> AbstractContextManager[None]:
    return together(
        edited(intents, "_decide_refund", ("if taken.reference in facts.refused:", "if False:")),
        edited(
            payment_kinds.PaymentKind,
            "judge",
            (
                "if i.taken.reference not in refused",
                'if self.counted_as == "refund" or i.taken.reference not in refused',
            ),
        ),
        edited(
            refunds.RefundKind, "hold", ("if await uow.refusals.find(", "if not decided and await uow.refusals.find(")
        ),
    )


# --- whose card -------------------------------------------------------------------------------------------------------


def _owner_unchecked_at_grant() -> AbstractContextManager[None]:
    return replaced(consent_change, "_refuse_token", lambda *_: None)


_ASKED: Final = "await uow.directory.usable_tokens(token_uses(c.terms for c in paying.values()))"


def _permission_unchecked_under_lock() -> AbstractContextManager[None]:
    return edited(
        execution.ExecutionService, "_facts", (_ASKED, "frozenset(token_uses(c.terms for c in paying.values()))")
    )


def _owner_unchecked_under_lock() -> AbstractContextManager[None]:
    """Both walls are gone: any customer's permission will do, and the vault opens for anybody."""

    async def open_for_anybody(self: MemoryVault, tokens: Sequence[OwnedToken]) -> OpenedCards:
        by_token = {owned.token: card for owned, card in self.cards.items()}
        return OpenedCards({owned: by_token[owned.token] for owned in tokens})

    anybodys = """frozenset(
            use
            for use in token_uses(c.terms for c in paying.values())
            if use.partner_id in uow.directory._db.tokens.rows[use.token].partners
        )"""
    return together(
        edited(execution.ExecutionService, "_facts", (_ASKED, anybodys)),
        replaced(MemoryVault, "open", open_for_anybody),
    )


# --- what execution believes ------------------------------------------------------------------------------------------


def _mark_unchecked() -> AbstractContextManager[None]:
    return edited(dispatch.Dispatch, "read", ("if problem is not None:", "if problem is None and not mark:"))


def _mark_without_network() -> AbstractContextManager[None]:
    return edited(dispatch, "_parts", ("network_id.encode()", 'b""'))


def _keys_not_looked_at_again() -> AbstractContextManager[None]:
    async def blind(_: Any, __: Any, signatures: Any, ___: Any) -> list[None]:
        return [None] * len(signatures)

    return replaced(execution, "recheck_signatures", blind)


def _exemption_uncapped() -> AbstractContextManager[None]:
    def unbound(exemption: Any, _: Any) -> Any:
        return exemption

    return together(replaced(intents, "capped", unbound), replaced(intake, "capped", unbound))


# --- clearing, and what a rejected order must leave alone -------------------------------------------------------------


def _correction_dropped() -> AbstractContextManager[None]:
    return replaced(clearing_corrections, "judge_repeated", lambda *_: settlement.Repeated.SAME)


def _correction_booked_forth() -> AbstractContextManager[None]:
    undone = {(operation, TransferKind.SETTLEMENT_UNDONE) for operation in Operation}
    return swapped(RECEIVABLE_GROWS, {pair: not RECEIVABLE_GROWS[pair] for pair in undone})


def _correction_keeps_settled() -> AbstractContextManager[None]:
    return edited(clearing_corrections, "_correct", ("if before.settled is not None:", "if False:"))


def _stale_clearing_wins() -> AbstractContextManager[None]:
    def judged(record: Any, created_at: Any, stored: Any, earlier: Any) -> settlement.Repeated:
        found = before(record, created_at, stored, earlier)
        return settlement.Repeated.CORRECTION if found is settlement.Repeated.STALE else found

    before = settlement.judge_repeated
    return replaced(clearing_corrections, "judge_repeated", judged)


def _rejected_counts() -> AbstractContextManager[None]:
    def refuse(taken: Any, consent: Any, facts: Any, usage: Any, decided: Any) -> Any:
        outcome = before(taken, consent, facts, usage, decided)
        if isinstance(outcome, Reason) and consent is not None:
            order = taken.order
            fits = reserve(consent.terms, order.amount.minor, order.amount.currency, facts.now, {})
            if isinstance(fits, Reserved):
                intents._count(taken.consent_key, order.amount.minor, fits, usage, decided)  # noqa: SLF001
        return outcome

    before = intents._outcome  # noqa: SLF001 - planted around it
    return replaced(intents, "_outcome", refuse)


_ALL: Final = (
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
    Mutant("release-twice", "gives limits back twice", lambda: _signs(LimitEffect.RELEASE, -2, 0)),
    Mutant("release-on-unknown", "gives limits back before the outcome is known", _release_on_unknown),
    Mutant("consume-twice", "uses limits up twice", lambda: _signs(LimitEffect.CONSUME, -1, 2)),
    Mutant("in-flight-uncounted", "counts limits without what is in flight", _in_flight_not_counted),
    Mutant("consent-unlocked", "reads the consent without its lock", _unlocked),
    Mutant("consent-unchecked", "does not check the consent again under its lock", _not_checked_again),
    Mutant("outbox-row-dropped", "writes no event for an unknown outcome", _outbox_row_dropped),
    Mutant("relay-gives-up", "moves its cursor past what Kafka refused", _relay_gives_up),
    Mutant("offsets-first", "commits Kafka's offsets before the work", _offsets_first),
    Mutant("waiting-order-lost", "drops what has to wait for its turn", _waiting_lost),
    Mutant("waiting-offsets-first", "commits what waited before the work", _waiting_committed_first),
    Mutant("half-a-turn", "drops the end of a turn of what waited", _half_a_turn),
    Mutant("overtaken-order-dropped", "drops an order that lost its id to another", _overtaken_order_dropped),
    Mutant("closed-topic-skipped", "drops the events of a closed topic", _topic_skipped),
    Mutant("cancellation-forgotten", "sends an order that was cancelled before it came", _cancellation_forgotten),
    Mutant("refunds-uncounted", "counts no earlier refunds of a payment", _refunds_not_counted),
    Mutant("owner-unchecked-at-grant", "lets a consent name another customer's card", _owner_unchecked_at_grant),
    Mutant("owner-unchecked-when-sent", "pays with another customer's card", _owner_unchecked_under_lock),
    Mutant("permission-unchecked-when-sent", "pays with a card that was withdrawn", _permission_unchecked_under_lock),
    Mutant("refused-refund-paid", "pays a refused refund when it is delivered again", _refused_refund_paid),
    Mutant(
        "undone-still-used", "gives nothing back when an approved payment is undone", lambda: _signs(_L.RETURN, 0, 0)
    ),
    Mutant("mark-unchecked", "believes a dispatched record whose mark does not match", _mark_unchecked),
    Mutant("mark-without-network", "believes what was written for another network", _mark_without_network),
    Mutant("key-unchecked", "does not look again at the keys of what was handed on", _keys_not_looked_at_again),
    Mutant("exemption-uncapped", "lets as much pass without a proof as a consent's terms say", _exemption_uncapped),
    Mutant("correction-dropped", "drops a corrected clearing record", _correction_dropped),
    Mutant("correction-unbooked", "books forth instead of back when clearing is corrected", _correction_booked_forth),
    Mutant("correction-half-done", "leaves settled what a correction took back", _correction_keeps_settled),
    Mutant("stale-clearing-wins", "lets a superseded clearing record supersede", _stale_clearing_wins),
    Mutant("rejected-counts", "counts a rejected order in its limits", _rejected_counts),
    Mutant("ledger-row-lost", "posts nothing when an inquiry finds an approval", _unledgered),
)

MUTANTS: Final[Mapping[str, Mutant]] = {m.name: m for m in _ALL}
"""Every planted bug by name."""
