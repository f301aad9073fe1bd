"""Inquiries: ask the network what became of a payment whose answer did not come, until it tells or a deadline passes.

Asking first keeps sales that a reversal would lose. What asking does not settle is reversed: the inquiry's row is
closed and the reversal queued in one transaction, so a payment always has exactly one of the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.domain.consent import Merchant
from gateway.domain.exchange import CardData, InquiryRequest
from gateway.domain.execution import Verdict
from gateway.domain.payment import Change, Payment, PaymentKey
from gateway.domain.resolution import InquiryStep, InquiryVerdict, judge_inquiry
from gateway.domain.response_codes import STANDARD, ResponseCodes
from gateway.ports import CardNetwork, Clock, FollowUp, Observer, Store
from gateway.services.follow_ups import Attempt, FollowUpSender, FollowUpSettings, original_trace, own_trace
from gateway.services.incidents import report_incidents, report_unwritable
from gateway.services.isolation import write_apart
from gateway.services.transitions import Applied, apply_changes
from schemas.primitives import NetworkId


@dataclass(frozen=True, slots=True)
class InquirySettings:
    """Bounds of the inquiry loop.

    Attributes:
        deadline_s: age at which asking ends and the payment is reversed.
        codes: what DE39 means at the network.
    """

    queue: FollowUpSettings = field(default_factory=lambda: FollowUpSettings(interval_s=5.0, interval_max_s=20.0))
    deadline_s: float = 60.0
    codes: ResponseCodes = STANDARD


_Ended = tuple[FollowUp, InquiryVerdict]


class InquiryService:
    """Works off one network's inquiry queue."""

    def __init__(
        self,
        *,
        network_id: NetworkId,
        worker: str,
        store: Store,
        network: CardNetwork,
        observer: Observer,
        clock: Clock,
        settings: InquirySettings,
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
            network=network,
            observer=observer,
            clock=clock,
            settings=settings.queue,
            queue=lambda uow: uow.inquiries,
            build=_request,
        )

    async def work(self) -> int:
        """Ask about what is due once, and write what was learnt; return how many were asked about."""
        attempts = await self._sender.send_due()
        if attempts:
            await self._finish([(a.follow_up, self._judge(a)) for a in attempts])
        return len(attempts)

    def _judge(self, attempt: Attempt) -> InquiryVerdict:
        payment, queued_at = attempt.payment, attempt.follow_up.queued_at
        if payment is None:
            raise AssertionError("an inquiry's payment exists: they are written together, and payments stay")
        age = (self._clock.now() - queued_at).total_seconds() if queued_at else 0.0
        past_deadline = age >= self._settings.deadline_s
        return judge_inquiry(payment, attempt.result, past_deadline=past_deadline, codes=self._settings.codes)

    async def _finish(self, ended: Sequence[_Ended]) -> None:
        now = self._clock.now()

        async def write(part: Sequence[_Ended]) -> Applied:
            verdicts = {f.key: v.verdict for f, v in part if v.verdict is not None}
            codes = {f.key: _code(v) for f, v in part if f.key in verdicts}
            open_ = [(f, _code(v)) for f, v in part if v.step is InquiryStep.ASK_AGAIN]
            async with self._store.transaction() as uow:
                closed = await uow.inquiries.close(codes, owner=self._worker, now=now)
                applied = await apply_changes(uow, [_change(k, verdicts[k]) for k in sorted(closed)], now=now)
                await self._sender.give_back(uow, open_, owner=self._worker, now=now)
                return applied

        def failed(one: _Ended, error: Exception) -> None:
            # Its lease runs out, and it is asked about again.
            report_unwritable(self._observer, "inquiry", self._network_id, one[0].key, error)

        for applied in await write_apart(ended, write, failed):
            report_incidents(self._observer, "inquiry", self._network_id, applied)
            for payment in applied.changed:
                self._observer.count("inquiry", payment.state.value)
        for _, verdict in ended:
            if verdict.step is InquiryStep.ASK_AGAIN:
                self._observer.count("inquiry", "repeated", reason=_code(verdict))


def _change(key: PaymentKey, verdict: Verdict) -> Change:
    return Change(
        key=key,
        kind=verdict.event,
        reason=verdict.reason,
        approval_code=verdict.approval_code,
        incident=verdict.incident,
    )


def _code(verdict: InquiryVerdict) -> str:
    return verdict.network_code or "none"


def _request(follow_up: FollowUp, payment: Payment, merchant: Merchant, _card: CardData | None) -> InquiryRequest:
    original = original_trace(payment)
    return InquiryRequest(
        trace=own_trace(follow_up, original),
        original=original,
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        acceptor=merchant.acceptor,
    )
