"""Execution's part for refunds: decided in one transaction a batch, while the payments that they refund are locked.

The locks are taken as intents and cancellations take them, consents before payments. The consent's lock is there for
its order's cancellations alone: money goes back to the customer whatever has become of the consent.
"""

import asyncio
from collections.abc import Sequence

from gateway.domain.exchange import FinancialRequest
from gateway.domain.funding import OwnedToken
from gateway.domain.lifecycle import PaymentState
from gateway.domain.payment import Payment
from gateway.domain.refund import RefundFacts, RefundsDecided, TakenRefund, decide_refunds
from gateway.domain.repetition import order_id_taken
from gateway.ports import (
    Clock,
    KeySource,
    Observer,
    SignatureVerifier,
    Store,
    StoreConflictError,
    TokenVault,
    UnitOfWork,
)
from gateway.services.dispatch import Dispatched
from gateway.services.incidents import report_unopened
from gateway.services.notices import (
    RefusedOrder,
    refuse_or_report,
    refuse_orders,
    reported_events,
)
from gateway.services.proofs import recheck_signatures
from gateway.services.retrying import until_done
from gateway.services.transitions import payment_events
from schemas.primitives import NetworkId


class RefundService:
    """Decides the refunds of one card network."""

    def __init__(
        self,
        *,
        network_id: NetworkId,
        worker: str,
        terminals: Sequence[str],
        store: Store,
        vault: TokenVault,
        observer: Observer,
        clock: Clock,
        signatures: SignatureVerifier,
        keys: KeySource,
    ) -> None:
        self._network_id = network_id
        self._worker = worker
        self._terminals = terminals
        self._store = store
        self._vault = vault
        self._observer = observer
        self._clock = clock
        self._signatures = signatures
        self._keys = keys

    async def read(self, records: Sequence[Dispatched]) -> list[TakenRefund]:
        """Read dispatched refunds; what its partner's disabled key signed is refused."""
        now = self._clock.now()
        taken = [r.refund() for r in records]
        problems = await recheck_signatures(self._signatures, self._keys, [t.signature for t in taken], now)
        refunds: list[TakenRefund] = []
        refused: list[tuple[TakenRefund, RefusedOrder]] = []
        for one, problem in zip(taken, problems, strict=True):
            if problem is None:
                refunds.append(one)
            else:
                partner_id, order_id = one.refund.partner_id, one.refund.order_id
                refused.append((one, RefusedOrder(partner_id, order_id, None, problem, one.reference)))
        if refused:
            await until_done(lambda: self._refuse(refused))
        return refunds

    async def commit(
        self, refunds: Sequence[TakenRefund]
    ) -> tuple[RefundsDecided, list[tuple[Payment, FinancialRequest]], float]:
        """Decide a batch and write it down, in one transaction.

        Returns:
            What was decided; the payments that are to be sent, with what is asked of the network; and a time of
            ``loop.time()`` before the commit.

        Raises:
            StoreUnavailableError, StoreConflictError: nothing was decided, or it is not known: run it again.
        """
        async with self._store.transaction() as uow:
            facts = await self._facts(uow, refunds)
            # Refused when another delivery of the record reached the intake, with nothing to refund yet: so it ended.
            over = await uow.payments.refused([(r.refund.partner_id, r.reference) for r in refunds])
            refunds = [r for r in refunds if r.reference not in over]
            numbers = iter(await uow.payments.next_payment_numbers(len(refunds)))
            decided = decide_refunds(
                refunds,
                facts,
                network_id=self._network_id,
                terminals=self._terminals,
                numbers=numbers,
                worker=self._worker,
            )
            if len(await uow.payments.insert(decided.payments)) != len(decided.payments):
                # Another worker inserted one of these ids since we looked.
                raise StoreConflictError("payment inserted concurrently")
            repeats = [(p, t.reference) for t, p in decided.repeats]
            await uow.outbox.append([*payment_events(decided.payments), *reported_events(repeats, facts.now)])
            await refuse_orders(uow, _refused(decided), facts.now)
            sent = [(p, _request(p, facts)) for p in decided.payments if p.state is PaymentState.SENT]
            before_commit = asyncio.get_running_loop().time()
        return decided, sent, before_commit

    async def _facts(self, uow: UnitOfWork, refunds: Sequence[TakenRefund]) -> RefundFacts:
        consents = await uow.consents.lock(sorted({r.consent_key for r in refunds}))
        originals = await uow.payments.lock(sorted({r.original_key for r in refunds}))
        keys = sorted({r.key for r in refunds})
        # The owner alone: money goes back to its customer's card, whoever may pay with it by now.
        tokens = {
            p.key: OwnedToken(p.funding_token, consent.terms.customer_id)
            for p in originals.values()
            if p.funding_token is not None and (consent := consents.get(p.consent_key)) is not None
        }
        opened = await self._vault.open(sorted(set(tokens.values())))
        report_unopened(self._observer, "execution", opened)
        return RefundFacts(
            existing=await uow.payments.find(keys),
            originals=originals,
            refunded=await uow.payments.refunded(sorted(originals)),
            cancelled=await uow.cancellations.not_sent(keys),
            merchants=await uow.directory.merchants(sorted({p.merchant_id for p in originals.values()})),
            cards={key: opened.cards[token] for key, token in tokens.items() if token in opened.cards},
            # Read after the locks were granted: a refund that expired while it waited for them is refused.
            now=self._clock.now(),
        )

    async def _refuse(self, refused: Sequence[tuple[TakenRefund, RefusedOrder]]) -> None:
        async with self._store.transaction() as uow:
            _, repeated = await refuse_or_report(uow, refused, self._clock.now())
        self._observer.count("execution", "refused", n=len(refused) - repeated)
        self._observer.count("execution", "repeated", n=repeated)


def _refused(decided: RefundsDecided) -> list[RefusedOrder]:
    taken_ids = [
        RefusedOrder(p.partner_id, p.order_id, p.payment_id, order_id_taken(p, t.refund), t.reference)
        for t, p in decided.conflicts
    ]
    orphans = [
        RefusedOrder(t.refund.partner_id, t.refund.order_id, None, reason, t.reference) for t, reason in decided.orphans
    ]
    return [*taken_ids, *orphans]


def _request(payment: Payment, facts: RefundFacts) -> FinancialRequest:
    if payment.trace is None or payment.original_payment_id is None:
        raise AssertionError("a SENT refund has trace numbers and an original")
    return FinancialRequest(
        trace=payment.trace,
        operation=payment.operation,
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        acceptor=facts.merchants[payment.merchant_id].acceptor,
        card=facts.cards[payment.partner_id, payment.original_payment_id],
    )
