"""Follow-ups: what was sent and not answered is asked about, and what may not stand is reversed, until it is settled.

One service works off one queue: it claims what is due under a lease, sends it once, and writes how each exchange ended.
What it asks and what an answer means is the kind's:
:mod:`gateway.payments.unknown.inquiry`, :mod:`gateway.payments.unknown.reversal`.

A dead worker's leases run out and another goes on. A live one that lost its lease (it was stopped for longer) may still
send: every follow-up may be repeated without effect. What it learns counts no more, for closing asks who holds the row.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.consents.store import ConsentUnit
from gateway.database.unit import Store
from gateway.directory.funding import OwnedToken
from gateway.directory.merchants import Merchant
from gateway.directory.store import OpenedCards, TokenVault
from gateway.messaging.isolation import write_isolated
from gateway.network.card_network import CardNetwork
from gateway.network.exchange import CardData, ExchangeResult, NetworkRequest, NotSent, NotSentCause, TraceNumbers
from gateway.payments.rules.payment import Change, Payment, PaymentKey, owned_token
from gateway.payments.store import UnknownUnit
from gateway.payments.telling import asking
from gateway.payments.transitions import Applied, apply_changes
from gateway.payments.unknown.incidents import report_settled, report_unopened, report_unwritable
from gateway.payments.unknown.store import FollowUp, FollowUpStore, FollowUpUnit
from schemas.primitives import NetworkId

DOUBLINGS_MAX = 16
"""Keeps the pause's computation small; the pause itself has its own bound."""


@dataclass(frozen=True, slots=True)
class FollowUpSettings:
    """Bounds of one queue; each has its reason.

    Attributes:
        batch: in flight at a time: a flood after an outage must leave room for payments.
        interval_s: pause after the first attempt; the network's own configuration says how fast it may be asked.
        interval_max_s: repeats wait twice as long each time, up to this.
        lease_s: longer than one exchange takes, so that a live worker never loses what it is doing.
        in_order: of each terminal one at a time, the oldest first.
    """

    batch: int = 100
    interval_s: float = 30.0
    interval_max_s: float = 300.0
    lease_s: float = 60.0
    in_order: bool = False

    def pause(self, attempts: int) -> timedelta:
        """How long to wait after the attempt number ``attempts`` + 1."""
        return timedelta(seconds=min(self.interval_s * 2 ** min(attempts, DOUBLINGS_MAX), self.interval_max_s))


class Outcome(NamedTuple):
    """What one attempt comes to.

    Attributes:
        code: what the network said last, kept in the queue.
        change: what happens to the payment, whose follow-up is closed with it; None: it is sent again.
        alert: one that is sent again, and that people must look at.
    """

    code: str
    change: Change | None
    alert: bool = False


class FollowUpKind(Protocol):
    """What is asked, and what an answer to it means."""

    @property
    def name(self) -> str:
        """The stage that metrics and notes name."""

    def queue(self, uow: FollowUpUnit) -> FollowUpStore:
        """Where those of this kind wait."""

    def request(
        self, follow_up: FollowUp, payment: Payment, merchant: Merchant, card: CardData | None
    ) -> NetworkRequest:
        """Make the message. ``card``: None where the service has no vault."""

    def judge(self, key: PaymentKey, payment: Payment | None, result: ExchangeResult, *, age_s: float) -> Outcome:
        """Turn the end of an exchange into what follows.

        Args:
            key: the payment's.
            payment: None where it cannot be read, so that nothing was sent.
            result: how the exchange ended.
            age_s: seconds since it was queued.
        """


_Prepared = tuple[FollowUp, Payment | None, NetworkRequest | None]
_Ended = tuple[FollowUp, Outcome]


class FollowUpService:
    """Works off one network's queue of one kind.

    Args:
        vault: opens the cards of messages that name them; None where they name none.
    """

    def __init__(
        self,
        *,
        kind: FollowUpKind,
        network_id: NetworkId,
        worker: str,
        store: Store[UnknownUnit],
        network: CardNetwork,
        observer: Observer,
        clock: Clock,
        settings: FollowUpSettings,
        vault: TokenVault | None = None,
    ) -> None:
        self._kind = kind
        self._network_id = network_id
        self._worker = worker
        self._store = store
        self._vault = vault
        self._network = network
        self._observer = observer
        self._clock = clock
        self._settings = settings

    async def work(self) -> int:
        """Send what is due once, when the network is open, and write how it ended; return how many were attempted."""
        await self._network.wait_open()
        places = await self._network.reserve(self._settings.batch, follow_up=True)
        try:
            claimed = await until_done(lambda: self._claim(places))
            prepared = await until_done(lambda: self._prepare(claimed))
        except BaseException:
            self._network.release(places, follow_up=True)
            raise
        self._network.release(places - len(claimed), follow_up=True)
        results = await asyncio.gather(*(self._exchange(payment, request) for _, payment, request in prepared))
        if prepared:
            await self._finish([(f, self._judge(f, p, r)) for (f, p, _), r in zip(prepared, results, strict=True)])
        return len(prepared)

    # --- claim and send ---

    async def _claim(self, limit: int) -> Sequence[FollowUp]:
        now = self._clock.now()
        async with self._store.transaction() as uow:
            return await self._kind.queue(uow).claim(
                self._network_id,
                owner=self._worker,
                now=now,
                lease_until=now + timedelta(seconds=self._settings.lease_s),
                limit=limit,
                in_order=self._settings.in_order,
            )

    async def _prepare(self, claimed: Sequence[FollowUp]) -> list[_Prepared]:
        if not claimed:
            return []
        async with self._store.reading() as uow:
            payments = await uow.payments.find([c.key for c in claimed])
            merchants = await uow.directory.merchants(sorted({p.merchant_id for p in payments.values()}))
            owned = await self._owned(uow, payments.values())
        opened = await self._vault.open(sorted(set(owned.values()))) if self._vault else OpenedCards()
        report_unopened(self._observer, "follow_up", opened)
        prepared: list[_Prepared] = []
        for follow_up in claimed:
            payment = payments.get(follow_up.key)
            token = owned.get(follow_up.key)
            card = opened.cards.get(token) if token else None
            merchant = merchants.get(payment.merchant_id) if payment else None
            no_card = self._vault is not None and card is None
            if payment is None or payment.trace is None or merchant is None or no_card:
                self._observer.note(
                    "follow_up_not_possible", level="error", payment_id=follow_up.key[1], network_id=self._network_id
                )
                prepared.append((follow_up, payment, None))
            else:
                prepared.append((follow_up, payment, self._kind.request(follow_up, payment, merchant, card)))
        return prepared

    async def _owned(self, uow: ConsentUnit, payments: Collection[Payment]) -> Mapping[PaymentKey, OwnedToken]:
        if self._vault is None:
            return {}
        consents = await uow.consents.read(sorted({p.consent_key for p in payments}))
        return {p.key: owned for p in payments if (owned := owned_token(p, consents)) is not None}

    async def _exchange(self, payment: Payment | None, request: NetworkRequest | None) -> ExchangeResult:
        if payment is None or request is None:
            self._network.release(1, follow_up=True)
            return NotSent(NotSentCause.NOT_ENCODABLE)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[ExchangeResult] = loop.create_future()
        traces = self._observer.traces
        ended = None if traces is None else asking(traces, self._network_id, payment, request)

        def done(result: ExchangeResult) -> None:
            if ended is not None:
                ended(result)
            # A stop cancels whoever waits, and what is in flight ends all the same: its lease runs out.
            if not answer.done():
                answer.set_result(result)

        # A late follow-up does no harm: it may wait for the socket for as long as its lease lasts.
        self._network.submit(request, send_before=loop.time() + self._settings.lease_s / 4, done=done)
        return await answer

    # --- judge and write ---

    def _judge(self, follow_up: FollowUp, payment: Payment | None, result: ExchangeResult) -> Outcome:
        return self._kind.judge(follow_up.key, payment, result, age_s=self._age(follow_up))

    def _age(self, follow_up: FollowUp) -> float:
        queued_at = follow_up.queued_at
        return (self._clock.now() - queued_at).total_seconds() if queued_at else 0.0

    async def _finish(self, ended: Sequence[_Ended]) -> None:
        now = self._clock.now()

        async def write(part: Sequence[_Ended]) -> Applied:
            return await self._write(part, now)

        def failed(one: _Ended, error: Exception) -> None:
            # Its lease runs out, and it is sent again: a follow-up is never dropped.
            report_unwritable(self._observer, self._kind.name, self._network_id, one[0].key, error)

        for applied in await write_isolated(ended, write, failed):
            report_settled(self._observer, self._kind.name, self._network_id, applied)
        for follow_up, outcome in ended:
            if outcome.change is None:
                self._tell_open(follow_up, outcome)

    async def _write(self, ended: Sequence[_Ended], now: datetime) -> Applied:
        """Close what is settled together with its payment's change; nothing of what this worker holds no more."""
        changes = {f.key: (outcome.code, outcome.change) for f, outcome in ended if outcome.change is not None}
        async with self._store.transaction() as uow:
            queue = self._kind.queue(uow)
            codes = {key: code for key, (code, _) in changes.items()}
            # Payments first, as whoever else settles some locks them: else the two could wait for each other. Those of
            # what is put back, too.
            locked = await uow.payments.lock(sorted(f.key for f, _ in ended))
            closed = await queue.close(codes, owner=self._worker, now=now)
            applied = await apply_changes(uow, [changes[key][1] for key in sorted(closed)], now=now, locked=locked)
            await self._give_back(queue, [(f, o.code) for f, o in ended if o.change is None], now)
            return applied

    async def _give_back(self, queue: FollowUpStore, open_: Sequence[tuple[FollowUp, str]], now: datetime) -> None:
        """Put back what is not settled, each with the code of its last answer, until its next attempt is due."""
        for code, attempts in sorted({(code, f.attempts) for f, code in open_}):
            keys = [f.key for f, c in open_ if (c, f.attempts) == (code, attempts)]
            next_attempt = now + self._settings.pause(attempts)
            await queue.retry(keys, owner=self._worker, next_attempt_at=next_attempt, code=code)

    def _tell_open(self, follow_up: FollowUp, outcome: Outcome) -> None:
        self._observer.count(self._kind.name, "repeated", reason=outcome.code)
        self._observer.step(
            f"{self._kind.name}_repeated",
            routine=follow_up.attempts > 1,
            payment_id=follow_up.key[1],
            partner_id=follow_up.key[0],
            network_id=self._network_id,
            code=outcome.code,
            count=follow_up.attempts,
        )
        if outcome.alert:
            self._observer.count(self._kind.name, "alert")
            self._observer.note(
                f"{self._kind.name}_open",
                level="error",
                payment_id=follow_up.key[1],
                network_id=self._network_id,
                code=outcome.code,
                seconds=self._age(follow_up),
            )


def own_trace(follow_up: FollowUp, original: TraceNumbers) -> TraceNumbers:
    """A follow-up's own numbers: the original's terminal and RRN, its own STAN and time."""
    return TraceNumbers(
        terminal_id=original.terminal_id,
        stan=follow_up.stan,
        rrn=original.rrn,
        transmitted_at=follow_up.transmitted_at,
    )


def original_trace(payment: Payment) -> TraceNumbers:
    """The numbers that the payment was sent under."""
    if payment.trace is None:
        raise AssertionError("only what was sent is followed up")
    return payment.trace
