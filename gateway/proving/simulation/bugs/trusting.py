"""Bugs in what execution believes, and in what cancellations, refunds and clearing do."""

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Final, TypeVar

from gateway.consents.rules.limits import Reserved, reserve
from gateway.network.exchange import (
    Operation,
)
from gateway.orders import judging as intake
from gateway.orders import payment_kinds, refunds
from gateway.payments import dispatch, execution
from gateway.payments.rules import intent as intents
from gateway.payments.rules.ledger import RECEIVABLE_GROWS, TransferKind
from gateway.payments.rules.lifecycle import LimitEffect, PaymentEventKind, PaymentState
from gateway.proving.simulation.bugs.planting import Mutant, edited, replaced, swapped, together
from gateway.settlement import corrections as clearing_corrections
from gateway.settlement import rules as settlement
from schemas.reasons import Reason

T = TypeVar("T")
_S, _E, _L = PaymentState, PaymentEventKind, LimitEffect


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
        edited(intents, "_decide_refund", ("if received.reference in facts.refused:", "if False:")),
        edited(
            payment_kinds.PaymentKind,
            "judge",
            (
                "if i.received.reference not in refused",
                'if self.counted_as == "refund" or i.received.reference not in refused',
            ),
        ),
        edited(
            refunds.RefundKind, "hold", ("if await uow.refusals.find(", "if not decided and await uow.refusals.find(")
        ),
    )


def _mark_unchecked() -> AbstractContextManager[None]:
    return edited(dispatch.Dispatch, "read", ("if problem is not None:", "if problem is None and not mark:"))


def _mark_without_network() -> AbstractContextManager[None]:
    return edited(dispatch, "_parts", ("network_id.encode()", 'b""'))


def _keys_not_looked_at_again() -> AbstractContextManager[None]:
    def blind(_: Any, signatures: Any, __: Any) -> list[None]:
        return [None] * len(signatures)

    return replaced(execution, "recheck_signatures", blind)


def _exemption_uncapped() -> AbstractContextManager[None]:
    def unbound(exemption: Any, _: Any) -> Any:
        return exemption

    return together(replaced(intents, "capped", unbound), replaced(intake, "capped", unbound))


def _correction_dropped() -> AbstractContextManager[None]:
    return replaced(clearing_corrections, "judge_repeated", lambda *_: settlement.Repeated.SAME)


def _correction_booked_forth() -> AbstractContextManager[None]:
    undone = {(operation, TransferKind.SETTLEMENT_UNDONE) for operation in Operation}
    return swapped(RECEIVABLE_GROWS, {pair: not RECEIVABLE_GROWS[pair] for pair in undone})


def _correction_keeps_settled() -> AbstractContextManager[None]:
    return edited(clearing_corrections, "_correct", ("if before.settled is not None:", "if False:"))


def _stale_clearing_wins() -> AbstractContextManager[None]:
    def judged(*repeated: Any) -> settlement.Repeated:
        found = before(*repeated)
        return settlement.Repeated.CORRECTION if found is settlement.Repeated.STALE else found

    before = settlement.judge_repeated
    return replaced(clearing_corrections, "judge_repeated", judged)


def _rejected_counts() -> AbstractContextManager[None]:
    def refuse(received: Any, consent: Any, facts: Any, usage: Any, decided: Any) -> Any:
        outcome = before(received, consent, facts, usage, decided)
        if isinstance(outcome, Reason) and consent is not None:
            order = received.order
            fits = reserve(consent.terms, order.amount.minor, order.amount.currency, facts.now, {})
            if isinstance(fits, Reserved):
                intents._count(received.consent_key, order.amount.minor, fits, usage, decided)  # noqa: SLF001
        return outcome

    before = intents._outcome  # noqa: SLF001 - planted around it
    return replaced(intents, "_outcome", refuse)


TRUSTING: Final = (
    Mutant("cancellation-forgotten", "sends an order that was cancelled before it came", _cancellation_forgotten),
    Mutant("refunds-uncounted", "counts no earlier refunds of a payment", _refunds_not_counted),
    Mutant("refused-refund-paid", "pays a refused refund when it is delivered again", _refused_refund_paid),
    Mutant("mark-unchecked", "believes a dispatched record whose mark does not match", _mark_unchecked),
    Mutant("mark-without-network", "believes what was written for another network", _mark_without_network),
    Mutant("key-unchecked", "does not look again at the keys of what was handed on", _keys_not_looked_at_again),
    Mutant("exemption-uncapped", "lets as much pass without a proof as a consent's terms say", _exemption_uncapped),
    Mutant("correction-dropped", "drops a corrected clearing record", _correction_dropped),
    Mutant("correction-unbooked", "books forth instead of back when clearing is corrected", _correction_booked_forth),
    Mutant("correction-half-done", "leaves settled what a correction took back", _correction_keeps_settled),
    Mutant("stale-clearing-wins", "lets a superseded clearing record supersede", _stale_clearing_wins),
    Mutant("rejected-counts", "counts a rejected order in its limits", _rejected_counts),
)
