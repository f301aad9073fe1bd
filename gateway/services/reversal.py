"""Store-and-forward reversals: 0420, then 0421, until the network confirms; never dropped.

The payment becomes REVERSED in the transaction that closes the queue's row, so neither can happen without the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.domain.consent import Merchant
from gateway.domain.exchange import CardData, NotSent, NotSentCause, ReversalRequest
from gateway.domain.execution import ReversalVerdict, judge_reversal
from gateway.domain.lifecycle import PaymentEventKind, PaymentState
from gateway.domain.payment import Change, Payment, PaymentKey
from gateway.domain.response_codes import STANDARD, ResponseCodes, ReversalOutcome
from gateway.ports import UNSENDABLE, CardNetwork, Clock, FollowUp, Observer, Store, TokenVault
from gateway.services.follow_ups import Attempt, FollowUpSender, FollowUpSettings, original_trace, own_trace
from gateway.services.incidents import report_incidents, report_unwritable
from gateway.services.isolation import write_apart
from gateway.services.transitions import Applied, apply_changes
from schemas.primitives import NetworkId


@dataclass(frozen=True, slots=True)
class ReversalSettings:
    """Bounds of the reversal loop.

    Attributes:
        alert_after_s: age at which people are told; a reversal goes on after it all the same.
        codes: what DE39 means at the network.
    """

    queue: FollowUpSettings = field(default_factory=FollowUpSettings)
    alert_after_s: float = 900.0
    codes: ResponseCodes = STANDARD


class _Ended(NamedTuple):
    follow_up: FollowUp
    verdict: ReversalVerdict
    code: str


class ReversalService:
    """Works off one network's reversal queue."""

    def __init__(
        self,
        *,
        network_id: NetworkId,
        worker: str,
        store: Store,
        vault: TokenVault,
        network: CardNetwork,
        observer: Observer,
        clock: Clock,
        settings: ReversalSettings,
    ) -> None:
        self._network_id = network_id
        self._worker = worker
        self._store = store
        self._observer = observer
        self._clock = clock
        self._settings = settings
        self._sender = FollowUpSender(
            network_id=network_id,
            worker=worker,
            store=store,
            vault=vault,
            network=network,
            observer=observer,
            clock=clock,
            settings=settings.queue,
            queue=lambda uow: uow.reversals,
            build=_request,
        )

    async def work(self) -> int:
        """Send what is due once, and write how it ended; return how many were attempted."""
        attempts = await self._sender.send_due()
        if attempts:
            await self._finish([self._judge(a) for a in attempts])
        return len(attempts)

    def _judge(self, attempt: Attempt) -> _Ended:
        approved = attempt.payment is not None and attempt.payment.state is PaymentState.REVERSING
        verdict = judge_reversal(attempt.payment, attempt.result, approved=approved, codes=self._settings.codes)
        never = isinstance(attempt.result, NotSent) and attempt.result.cause is NotSentCause.NOT_ENCODABLE
        return _Ended(attempt.follow_up, verdict, UNSENDABLE if never else verdict.network_code or "none")

    async def _finish(self, ended: Sequence[_Ended]) -> None:
        now = self._clock.now()

        async def write(part: Sequence[_Ended]) -> Applied:
            confirmed = {e.follow_up.key: e for e in part if e.verdict.outcome is ReversalOutcome.CONFIRMED}
            open_ = [(e.follow_up, e.code) for e in part if e.verdict.outcome is not ReversalOutcome.CONFIRMED]
            async with self._store.transaction() as uow:
                codes = {key: one.code for key, one in confirmed.items()}
                closed = await uow.reversals.close(codes, owner=self._worker, now=now)
                applied = await apply_changes(uow, [_change(k, confirmed[k].verdict) for k in sorted(closed)], now=now)
                await self._sender.give_back(uow, open_, owner=self._worker, now=now)
                return applied

        def failed(one: _Ended, error: Exception) -> None:
            # Its lease runs out, and it is sent and tried again: a reversal is never dropped.
            report_unwritable(self._observer, "reversal", self._network_id, one.follow_up.key, error)

        for applied in await write_apart(ended, write, failed):
            self._observer.count("reversal", "reversed", n=len(applied.changed))
            report_incidents(self._observer, "reversal", self._network_id, applied)
        for one in ended:
            if one.verdict.outcome is not ReversalOutcome.CONFIRMED:
                self._tell(*one)

    def _tell(self, follow_up: FollowUp, verdict: ReversalVerdict, code: str) -> None:
        self._observer.count("reversal", "repeated", reason=code)
        age = (self._clock.now() - follow_up.queued_at).total_seconds() if follow_up.queued_at else 0.0
        if verdict.outcome is ReversalOutcome.ALERT or age > self._settings.alert_after_s:
            self._observer.count("reversal", "alert")
            self._observer.note(
                "reversal_open",
                level="error",
                payment_id=follow_up.key[1],
                network_id=self._network_id,
                code=code,
                seconds=age,
            )


def _change(key: PaymentKey, verdict: ReversalVerdict) -> Change:
    return Change(key=key, kind=PaymentEventKind.REVERSAL_CONFIRMED, incident=verdict.incident)


def _request(follow_up: FollowUp, payment: Payment, merchant: Merchant, card: CardData | None) -> ReversalRequest:
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
