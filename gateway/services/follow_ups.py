"""What reversals and inquiries share: claim what is due under a lease, send it once, and tell how each exchange ended.

A dead worker's leases run out and another goes on. A live one that lost its lease (it was stopped for longer) may still
send: every follow-up may be repeated without effect. What it learns counts no more, for closing asks who holds the row.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from gateway.domain.consent import Merchant
from gateway.domain.exchange import CardData, ExchangeResult, NetworkRequest, NotSent, NotSentCause, TraceNumbers
from gateway.domain.funding import OwnedToken
from gateway.domain.payment import Payment, PaymentKey
from gateway.ports import (
    CardNetwork,
    Clock,
    FollowUp,
    FollowUpStore,
    Observer,
    OpenedCards,
    Store,
    TokenVault,
    UnitOfWork,
)
from gateway.services.incidents import report_unopened
from gateway.services.retrying import until_done
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


class Attempt(NamedTuple):
    """One follow-up, its payment (None: it cannot be read) and how the exchange ended."""

    follow_up: FollowUp
    payment: Payment | None
    result: ExchangeResult


Build = Callable[[FollowUp, Payment, Merchant, CardData | None], NetworkRequest]


class FollowUpSender:
    """Sends what is due of one network's queue.

    Args:
        queue: which one.
        build: makes the message.
        vault: opens the cards of messages that name them; None where they name none.
    """

    def __init__(
        self,
        *,
        network_id: NetworkId,
        worker: str,
        store: Store,
        network: CardNetwork,
        observer: Observer,
        clock: Clock,
        settings: FollowUpSettings,
        queue: Callable[[UnitOfWork], FollowUpStore],
        build: Build,
        vault: TokenVault | None = None,
    ) -> None:
        self._network_id = network_id
        self._worker = worker
        self._store = store
        self._vault = vault
        self._network = network
        self._observer = observer
        self._clock = clock
        self._settings = settings
        self._queue = queue
        self._build = build

    async def send_due(self) -> list[Attempt]:
        """Wait until the network is open, then send what is due once."""
        await self._network.wait_open()
        places = await self._network.reserve(self._settings.batch, follow_up=True)
        try:
            claimed = await until_done(lambda: self._claim(places))
            prepared = await until_done(lambda: self._prepare(claimed))
        except BaseException:
            self._network.release(places, follow_up=True)
            raise
        self._network.release(places - len(claimed), follow_up=True)
        results = await asyncio.gather(*(self._exchange(request) for _, _, request in prepared))
        return [Attempt(f, p, result) for (f, p, _), result in zip(prepared, results, strict=True)]

    async def give_back(
        self, uow: UnitOfWork, open_: Sequence[tuple[FollowUp, str]], *, owner: str, now: datetime
    ) -> None:
        """Put back what is not settled, each with the code of its last answer, until its next attempt is due."""
        for code, attempts in sorted({(code, f.attempts) for f, code in open_}):
            keys = [f.key for f, c in open_ if (c, f.attempts) == (code, attempts)]
            next_attempt = now + self._settings.pause(attempts)
            await self._queue(uow).retry(keys, owner=owner, next_attempt_at=next_attempt, code=code)

    async def _claim(self, limit: int) -> Sequence[FollowUp]:
        now = self._clock.now()
        async with self._store.transaction() as uow:
            return await self._queue(uow).claim(
                self._network_id,
                owner=self._worker,
                now=now,
                lease_until=now + timedelta(seconds=self._settings.lease_s),
                limit=limit,
                in_order=self._settings.in_order,
            )

    async def _prepare(
        self, claimed: Sequence[FollowUp]
    ) -> list[tuple[FollowUp, Payment | None, NetworkRequest | None]]:
        if not claimed:
            return []
        async with self._store.reading() as uow:
            payments = await uow.payments.find([c.key for c in claimed])
            merchants = await uow.directory.merchants(sorted({p.merchant_id for p in payments.values()}))
            owned = await self._owned(uow, payments.values())
        opened = await self._vault.open(sorted(set(owned.values()))) if self._vault else OpenedCards()
        report_unopened(self._observer, "follow_up", opened)
        prepared: list[tuple[FollowUp, Payment | None, NetworkRequest | None]] = []
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
                prepared.append((follow_up, payment, self._build(follow_up, payment, merchant, card)))
        return prepared

    async def _owned(self, uow: UnitOfWork, payments: Collection[Payment]) -> dict[PaymentKey, OwnedToken]:
        """The token of each payment with its owner: the customer of its consent, which no amendment changes."""
        if self._vault is None:
            return {}
        consents = await uow.consents.read(sorted({p.consent_key for p in payments}))
        return {
            p.key: OwnedToken(p.funding_token, consent.terms.customer_id)
            for p in payments
            if p.funding_token is not None and (consent := consents.get(p.consent_key)) is not None
        }

    async def _exchange(self, request: NetworkRequest | None) -> ExchangeResult:
        if request is None:
            self._network.release(1, follow_up=True)
            return NotSent(NotSentCause.NOT_ENCODABLE)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[ExchangeResult] = loop.create_future()
        # A late follow-up does no harm: it may wait for the socket for as long as its lease lasts.
        self._network.submit(request, send_before=loop.time() + self._settings.lease_s / 4, done=answer.set_result)
        return await answer


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
