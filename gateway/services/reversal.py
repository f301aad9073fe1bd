"""Store-and-forward reversals: 0420, then 0421, until the network confirms; never dropped.

A claimed reversal is leased to one worker; a dead worker's leases run out and another goes on. The payment becomes
REVERSED in the transaction that closes the queue's row, so neither can happen without the other.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from gateway.domain.exchange import ExchangeResult, NotSent, NotSentCause, ReversalRequest, TraceNumbers
from gateway.domain.execution import ReversalOutcome, ReversalVerdict, judge_reversal
from gateway.domain.lifecycle import PaymentEventKind
from gateway.domain.payment import Change, Payment, PaymentKey
from gateway.ports import CardNetwork, Clock, Observer, QueuedReversal, Store, TokenVault
from gateway.services.retrying import until_done
from gateway.services.transitions import apply_changes
from schemas.primitives import NetworkId


@dataclass(frozen=True, slots=True)
class ReversalSettings:
    """Bounds of the reversal loop; each has its reason.

    Attributes:
        batch: reversals in flight at a time: a flood after an outage must leave room for payments.
        repeat_interval_s: pause between repeats; the network's own configuration says how fast it may be asked.
        alert_after_s: age at which people are told.
        lease_s: longer than one exchange takes, so that a live worker never loses what it is doing.
    """

    batch: int = 100
    repeat_interval_s: float = 30.0
    alert_after_s: float = 900.0
    lease_s: float = 60.0


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
        self._vault = vault
        self._network = network
        self._observer = observer
        self._clock = clock
        self._settings = settings

    async def work(self) -> int:
        """Send what is due once, and write how it ended; return how many were attempted."""
        await self._network.wait_open()
        places = await self._network.reserve(self._settings.batch)
        try:
            claimed = await until_done(lambda: self._claim(places))
            requests = await until_done(lambda: self._requests(claimed))
        except BaseException:
            self._network.release(places)
            raise
        self._network.release(places - len(claimed))
        verdicts = await asyncio.gather(*(self._exchange(requests.get(c.key)) for c in claimed))
        if claimed:
            await self._finish(list(zip(claimed, verdicts, strict=True)))
        return len(claimed)

    async def _claim(self, limit: int) -> Sequence[QueuedReversal]:
        now = self._clock.now()
        async with self._store.transaction() as uow:
            return await uow.reversals.claim(
                self._network_id,
                owner=self._worker,
                now=now,
                lease_until=now + timedelta(seconds=self._settings.lease_s),
                limit=limit,
            )

    async def _requests(self, claimed: Sequence[QueuedReversal]) -> dict[PaymentKey, ReversalRequest]:
        if not claimed:
            return {}
        async with self._store.reading() as uow:
            payments = await uow.payments.find([c.key for c in claimed])
            merchants = await uow.directory.merchants(sorted({p.merchant_id for p in payments.values()}))
        cards = await self._vault.open(sorted({p.funding_token for p in payments.values() if p.funding_token}))
        requests: dict[PaymentKey, ReversalRequest] = {}
        for queued in claimed:
            payment = payments.get(queued.key)
            card = cards.get(payment.funding_token) if payment and payment.funding_token else None
            merchant = merchants.get(payment.merchant_id) if payment else None
            if payment is None or payment.trace is None or card is None or merchant is None:
                self._observer.note(
                    "reversal_not_possible", level="error", payment_id=queued.key[1], network_id=self._network_id
                )
                continue
            requests[queued.key] = ReversalRequest(
                trace=_own_trace(queued, payment.trace),
                original=payment.trace,
                operation=payment.operation,
                amount_minor=payment.amount_minor,
                currency=payment.currency,
                acceptor=merchant.acceptor,
                card=card,
                repeat=queued.attempts > 0,
            )
        return requests

    async def _exchange(self, request: ReversalRequest | None) -> ReversalVerdict:
        if request is None:
            self._network.release(1)
            return judge_reversal(NotSent(NotSentCause.NOT_ENCODABLE))
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[ExchangeResult] = loop.create_future()
        # A late reversal does no harm: it may wait for the socket as long as its lease lasts.
        self._network.submit(request, send_before=loop.time() + self._settings.lease_s / 4, done=answer.set_result)
        return judge_reversal(await answer)

    async def _finish(self, ended: Sequence[tuple[QueuedReversal, ReversalVerdict]]) -> None:
        now = self._clock.now()
        confirmed = [q.key for q, v in ended if v.outcome is ReversalOutcome.CONFIRMED]
        open_ = [(q, v) for q, v in ended if v.outcome is not ReversalOutcome.CONFIRMED]

        async def write() -> list[Payment]:
            async with self._store.transaction() as uow:
                closed = await uow.reversals.confirm(confirmed, owner=self._worker, now=now)
                applied = await apply_changes(
                    uow, [Change(key=k, kind=PaymentEventKind.REVERSAL_CONFIRMED) for k in sorted(closed)], now=now
                )
                next_attempt = now + timedelta(seconds=self._settings.repeat_interval_s)
                for code in {_code(v) for _, v in open_}:
                    keys = [q.key for q, v in open_ if _code(v) == code]
                    await uow.reversals.retry(keys, owner=self._worker, next_attempt_at=next_attempt, code=code)
                return applied.changed

        changed = await until_done(write)
        self._observer.count("reversal", "reversed", n=len(changed))
        for queued, verdict in open_:
            self._tell(queued, verdict)

    def _tell(self, queued: QueuedReversal, verdict: ReversalVerdict) -> None:
        self._observer.count("reversal", "repeated", reason=_code(verdict))
        age = (self._clock.now() - queued.queued_at).total_seconds() if queued.queued_at else 0.0
        if verdict.outcome is ReversalOutcome.ALERT or age > self._settings.alert_after_s:
            self._observer.count("reversal", "alert")
            self._observer.note(
                "reversal_open",
                level="error",
                payment_id=queued.key[1],
                network_id=self._network_id,
                code=_code(verdict),
                seconds=age,
            )


def _code(verdict: ReversalVerdict) -> str:
    return verdict.network_code or "none"


def _own_trace(queued: QueuedReversal, original: TraceNumbers) -> TraceNumbers:
    return TraceNumbers(
        terminal_id=original.terminal_id,
        stan=queued.stan,
        rrn=original.rrn,
        transmitted_at=queued.transmitted_at,
    )
