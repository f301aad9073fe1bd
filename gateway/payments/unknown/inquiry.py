"""Inquiries: ask the network what became of a payment whose answer did not come, until it tells or a deadline passes.

Asking first keeps sales that a reversal would lose. What asking does not settle is reversed: the inquiry's row is
closed and the reversal queued in one transaction, so a payment always has exactly one of the two.
"""

from dataclasses import dataclass

from gateway.directory.merchants import Merchant
from gateway.network.exchange import CardData, ExchangeResult, InquiryRequest
from gateway.network.response_codes import STANDARD, ResponseCodes
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.unknown.follow_ups import Outcome, original_trace, own_trace
from gateway.payments.unknown.rules import judge_inquiry
from gateway.payments.unknown.store import FollowUp, FollowUpStore, FollowUpUnit


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A :class:`gateway.payments.unknown.follow_ups.FollowUpKind`: 0100.

    Attributes:
        deadline_s: age at which asking ends and the payment is reversed.
        codes: what DE39 means at the network.
    """

    deadline_s: float = 60.0
    codes: ResponseCodes = STANDARD

    @property
    def name(self) -> str:
        """Names its metrics."""
        return "inquiry"

    def queue(self, uow: FollowUpUnit) -> FollowUpStore:
        """The inquiries' own."""
        return uow.inquiries

    def request(
        self, follow_up: FollowUp, payment: Payment, merchant: Merchant, card: CardData | None
    ) -> InquiryRequest:
        """Ask about the payment by its numbers; no card is named."""
        if card is not None:
            raise AssertionError("an inquiry names no card, and none is opened for it")
        original = original_trace(payment)
        return InquiryRequest(
            trace=own_trace(follow_up, original),
            original=original,
            amount_minor=payment.amount_minor,
            currency=payment.currency,
            acceptor=merchant.acceptor,
        )

    def judge(self, key: PaymentKey, payment: Payment | None, result: ExchangeResult, *, age_s: float) -> Outcome:
        """Settle it, reverse it, or ask again."""
        if payment is None:
            raise AssertionError("an inquiry's payment exists: they are written together, and payments stay")
        found = judge_inquiry(payment, result, past_deadline=age_s >= self.deadline_s, codes=self.codes)
        change = found.verdict.change_of(key) if found.verdict is not None else None
        return Outcome(found.network_code or "none", change)
