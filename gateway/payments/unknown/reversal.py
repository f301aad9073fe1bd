"""Store-and-forward reversals: 0420, then 0421, until the network confirms; never dropped.

The payment becomes REVERSED in the transaction that closes the queue's row, so neither can happen without the other.
"""

from dataclasses import dataclass

from gateway.directory.merchants import Merchant
from gateway.network.exchange import CardData, ExchangeResult, NotSent, NotSentCause, ReversalRequest
from gateway.network.response_codes import STANDARD, ResponseCodes, ReversalOutcome
from gateway.payments.rules.lifecycle import PaymentEventKind, PaymentState
from gateway.payments.rules.payment import Change, Payment, PaymentKey
from gateway.payments.unknown.follow_ups import Outcome, original_trace, own_trace
from gateway.payments.unknown.store import UNSENDABLE, FollowUp, FollowUpStore, FollowUpUnit
from gateway.payments.unknown.verdicts import judge_reversal


@dataclass(frozen=True, slots=True)
class Reversal:
    """A :class:`gateway.payments.unknown.follow_ups.FollowUpKind`: 0420, repeated as 0421.

    Attributes:
        alert_after_s: age at which people are told; a reversal goes on after it all the same.
        codes: what DE39 means at the network.
    """

    alert_after_s: float = 900.0
    codes: ResponseCodes = STANDARD

    @property
    def name(self) -> str:
        """Names its metrics."""
        return "reversal"

    def queue(self, uow: FollowUpUnit) -> FollowUpStore:
        """The reversals' own."""
        return uow.reversals

    def request(
        self, follow_up: FollowUp, payment: Payment, merchant: Merchant, card: CardData | None
    ) -> ReversalRequest:
        """Undo the payment; a repeat once it was sent."""
        if card is None:
            raise AssertionError("a reversal names the card, and is prepared with it")
        original = original_trace(payment)
        return ReversalRequest(
            trace=own_trace(follow_up, original),
            original=original,
            operation=payment.operation,
            amount_minor=payment.amount_minor,
            currency=payment.currency,
            acceptor=merchant.acceptor,
            card=card,
            repeat=follow_up.attempts > 0,
        )

    def judge(self, key: PaymentKey, payment: Payment | None, result: ExchangeResult, *, age_s: float) -> Outcome:
        """Confirmed, or to be sent again; what is not confirmed for long is told."""
        approved = payment is not None and payment.state is PaymentState.REVERSING
        verdict = judge_reversal(payment, result, approved=approved, codes=self.codes)
        never = isinstance(result, NotSent) and result.cause is NotSentCause.NOT_ENCODABLE
        code = UNSENDABLE if never else verdict.network_code or "none"
        if verdict.outcome is ReversalOutcome.CONFIRMED:
            return Outcome(code, Change(key, PaymentEventKind.REVERSAL_CONFIRMED, incident=verdict.incident))
        return Outcome(code, None, alert=verdict.outcome is ReversalOutcome.ALERT or age_s > self.alert_after_s)
