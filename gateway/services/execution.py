"""Execution: intents in one transaction, then the card network, then results in another.

The row that says "may have been sent" commits before the first byte leaves. What was sent and not answered is UNKNOWN
until an inquiry or a reversal settles it; nothing is ever sent a second time. A batch costs about ten round trips to
Postgres, whatever its size.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from gateway.domain.authentication import Assertion
from gateway.domain.exchange import FinancialRequest
from gateway.domain.funding import OwnedToken, token_uses
from gateway.domain.intent import (
    Decided,
    Facts,
    TakenOrder,
    decide,
    exempt_window,
    usage_keys,
)
from gateway.domain.lifecycle import PaymentState
from gateway.domain.payment import Payment, PaymentKey
from gateway.domain.refund import RefundsDecided, TakenRefund
from gateway.domain.repetition import order_id_taken
from gateway.ports import (
    AssertionVerifier,
    CardNetwork,
    Clock,
    DeadLetters,
    KeySource,
    Observer,
    Record,
    SignatureVerifier,
    Store,
    StoreConflictError,
    TokenVault,
    TrustTable,
    UnitOfWork,
    UsageChange,
)
from gateway.services.dispatch import Dispatch, Dispatched
from gateway.services.ended_consents import EndedConsentWatch
from gateway.services.incidents import report_card_incidents, report_unopened, report_untrusted
from gateway.services.notices import (
    RefusedOrder,
    refuse_or_report,
    refuse_orders,
    reported_events,
)
from gateway.services.proofs import NoIdentityProviders, recheck_signatures, use_proofs
from gateway.services.refunds import RefundService
from gateway.services.results import Intent, ResultSettings, ResultWriter, count_states
from gateway.services.retrying import until_done
from gateway.services.transitions import payment_events
from schemas.envelope import EnvelopeError
from schemas.primitives import NetworkId

D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class ExecutionSettings:
    """Bounds of execution; each has its reason.

    Attributes:
        intent_to_wire_s: an intent whose bytes have not left after this long is withdrawn: a revocation is then
            certain to have no effect later than this after it committed.
        results: how what comes of them is written.
    """

    intent_to_wire_s: float = 2.0
    results: ResultSettings = field(default_factory=ResultSettings)


class ExecutionService:
    """Executes the orders of one card network.

    Attributes:
        results: sends the intents and writes what comes of them; run it beside :meth:`take`.
    """

    def __init__(
        self,
        *,
        network_id: NetworkId,
        worker: str,
        terminals: Sequence[str],
        store: Store,
        vault: TokenVault,
        network: CardNetwork,
        dead_letters: DeadLetters,
        observer: Observer,
        clock: Clock,
        settings: ExecutionSettings,
        dispatch: Dispatch,
        signatures: SignatureVerifier,
        keys: KeySource,
        trust: TrustTable | None = None,
        assertions: AssertionVerifier | None = None,
        watch: EndedConsentWatch | None = None,
    ) -> None:
        self._network_id = network_id
        self._worker = worker
        self._terminals = terminals
        self._store = store
        self._vault = vault
        self._network = network
        self._dead_letters = dead_letters
        self._observer = observer
        self._clock = clock
        self._settings = settings
        self._dispatch = dispatch
        self._signatures = signatures
        self._keys = keys
        self._trust: TrustTable = trust or NoIdentityProviders()
        self._assertions: AssertionVerifier = assertions or NoIdentityProviders()
        self._watch = watch
        self.results = ResultWriter(
            network_id=network_id,
            store=store,
            network=network,
            observer=observer,
            clock=clock,
            settings=settings.results,
            watch=watch,
        )
        self._refunds = RefundService(
            network_id=network_id,
            worker=worker,
            terminals=terminals,
            store=store,
            vault=vault,
            observer=observer,
            clock=clock,
            signatures=signatures,
            keys=keys,
        )

    # --- orders → intents → wire ---

    async def take(self, records: Sequence[Record]) -> None:
        """Commit the batch's intents and hand them to the network. Once this returns, the offsets may be committed.

        Args:
            records: dispatched orders and refunds in their order, no more than the network's window holds.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        dispatched = await self._trusted(records)
        orders, refused = await self._read([d for d in dispatched if not d.is_refund])
        if refused:
            await until_done(lambda: self._refuse(refused))
        while orders:
            places = await self._reserve(len(orders))
            part, orders = orders[:places], orders[places:]
            decided, intents = await self._intend(places, partial(self._commit_intents, part))
            if self._watch is not None and intents:
                self._watch.intended([i.consent_key for i in intents], intents[0].payment.decided_at)
            self._report(decided)
        refund_records = [d for d in dispatched if d.is_refund]
        if refund_records:
            await self._take_refunds(refund_records)
        self._observer.batch("execution", size=len(records), seconds=loop.time() - started)

    async def _trusted(self, records: Sequence[Record]) -> list[Dispatched]:
        """Those that the gateway itself wrote for this network; the others are parked, and told to operators alone."""
        trusted: list[Dispatched] = []
        others: list[tuple[Record, Exception]] = []
        for record in records:
            try:
                trusted.append(self._dispatch.read(record, self._network_id))
            except EnvelopeError as error:
                others.append((record, error))
        if others:
            report_untrusted(self._observer, "execution", self._network_id, others)
            await self._park(others)
        return trusted

    async def _park(self, unreadable: Sequence[tuple[Record, Exception]]) -> None:
        self._observer.count("execution", "dead_letter", n=len(unreadable))
        await until_done(lambda: self._dead_letters.park("execution", unreadable))

    async def _take_refunds(self, records: Sequence[Dispatched]) -> None:
        refunds = await self._refunds.read(records)
        while refunds:
            places = await self._reserve(len(refunds))
            part, refunds = refunds[:places], refunds[places:]
            decided, _ = await self._intend(places, partial(self._commit_refunds, part))
            count_states(self._observer, decided.payments)
            report_card_incidents(self._observer, "execution", self._network_id, decided.payments)
            self._observer.count("execution", "repeated", n=len(decided.repeats))
            self._observer.count("execution", "order_id_taken", n=len(decided.conflicts))

    async def _commit_refunds(self, refunds: Sequence[TakenRefund]) -> tuple[RefundsDecided, list[Intent], float]:
        decided, sent, before_commit = await self._refunds.commit(refunds)
        return decided, [Intent(payment, request) for payment, request in sent], before_commit

    async def _intend(
        self, places: int, commit: Callable[[], Awaitable[tuple[D, list[Intent], float]]]
    ) -> tuple[D, list[Intent]]:
        """Commit up to ``places`` intents, for which there is room, and hand them to the network."""
        try:
            decided, intents, committed = await until_done(commit)
        except BaseException:
            self._network.release(places)
            raise
        self._network.release(places - len(intents))
        for intent in intents:
            self.results.submit(intent, send_before=committed + self._settings.intent_to_wire_s)
        return decided, intents

    async def _reserve(self, wanted: int) -> int:
        """Take places first, for an intent that has committed must never wait for room: all, or what a trial allows."""
        places = 0
        try:
            while places < wanted and (more := await self._network.reserve(wanted - places, held=places)):
                places += more
        except BaseException:
            self._network.release(places)
            raise
        return places

    async def _read(
        self, records: Sequence[Dispatched]
    ) -> tuple[list[TakenOrder], list[tuple[TakenOrder, RefusedOrder]]]:
        """The orders, with what has become of the keys that signed them and their proofs since they were judged."""
        now = self._clock.now()
        taken = [r.order() for r in records]
        problems = await recheck_signatures(self._signatures, self._keys, [t.signature for t in taken], now)
        orders: list[TakenOrder] = []
        refused: list[tuple[TakenOrder, RefusedOrder]] = []
        for one, problem in zip(taken, problems, strict=True):
            if problem is None:
                orders.append(one)
            elif one.is_due:
                # Its payment waits: it must end, as rejected.
                orders.append(replace(one, problem=problem))
            else:
                refusal = RefusedOrder(one.order.partner_id, one.order.order_id, None, problem, one.reference)
                refused.append((one, refusal))
        checked = self._recheck_proofs(orders)
        if await self._trust.refresh_unknown():
            # A provider's key may be newer than what this process knows: look once more.
            checked = self._recheck_proofs(orders)
        return checked, refused

    def _recheck_proofs(self, orders: Sequence[TakenOrder]) -> list[TakenOrder]:
        return [
            replace(o, assertion=problem)
            if isinstance(o.assertion, Assertion)
            and (problem := self._assertions.recheck(o.assertion.issuer, o.assertion.kid))
            else o
            for o in orders
        ]

    async def _refuse(self, refused: Sequence[tuple[TakenOrder, RefusedOrder]]) -> None:
        async with self._store.transaction() as uow:
            _, repeated = await refuse_or_report(uow, refused, self._clock.now())
        self._observer.count("execution", "refused", n=len(refused) - repeated)
        self._observer.count("execution", "repeated", n=repeated)

    async def _commit_intents(self, orders: Sequence[TakenOrder]) -> tuple[Decided, list[Intent], float]:
        # The bound from intent to wire runs from before the commit: never longer than promised.
        async with self._store.transaction() as uow:
            facts = await self._facts(uow, orders)
            numbers = iter(await uow.payments.next_payment_numbers(len(orders)))
            decided = decide(
                orders,
                facts,
                network_id=self._network_id,
                terminals=self._terminals,
                numbers=numbers,
                worker=self._worker,
            )
            if len(await uow.payments.insert(decided.payments)) != len(decided.payments):
                # Another worker inserted one of these ids under another consent since we looked.
                raise StoreConflictError("payment inserted concurrently")
            await uow.schedule.begin(decided.due)
            begun = [*decided.payments, *decided.due]
            await uow.consents.add_usage(
                [
                    UsageChange(key, reserved_minor=minor, reserved_count=count)
                    for key, (minor, count) in decided.reserved.items()
                ]
            )
            exempting = [k for k in decided.authenticated if exempt_window(facts.consents[k], None)]
            await uow.authentication.mark_authenticated(sorted(exempting), now=facts.now)
            repeats = [(p, t.reference) for t, p in decided.repeats]
            await uow.outbox.append([*payment_events(begun), *reported_events(repeats, facts.now)])
            await refuse_orders(
                uow,
                [
                    RefusedOrder(p.partner_id, p.order_id, p.payment_id, order_id_taken(p, t.order), t.reference)
                    for t, p in decided.conflicts
                ],
                facts.now,
            )
            intents = [Intent(p, self._request(p, facts)) for p in begun if p.state is PaymentState.SENT]
            before_commit = asyncio.get_running_loop().time()
        return decided, intents, before_commit

    async def _facts(self, uow: UnitOfWork, orders: Sequence[TakenOrder]) -> Facts:
        consents = await uow.consents.lock(sorted({o.consent_key for o in orders}))
        usable = await uow.directory.usable_tokens(token_uses(c.terms for c in consents.values()))
        opened = await self._vault.open(sorted({use.owned for use in usable}))
        report_unopened(self._observer, "execution", opened)
        # Time is read after the locks were granted: an order that expired while it waited for them is refused.
        now = self._clock.now()
        trust = await use_proofs(uow, orders, consents, self._trust)
        return Facts(
            consents=consents,
            merchants=await uow.directory.merchants(sorted({o.order.merchant_id for o in orders})),
            existing=await self._existing(uow, orders),
            usage=await uow.consents.usage(usage_keys(consents, now, trust.authenticated_at)),
            usable=usable,
            cards=opened.cards,
            now=now,
            trust=trust,
            cancelled=await uow.cancellations.not_sent([o.key for o in orders]),
        )

    @staticmethod
    async def _existing(uow: UnitOfWork, orders: Sequence[TakenOrder]) -> Mapping[PaymentKey, Payment]:
        found = await uow.payments.find(sorted({o.key for o in orders}))
        # What waits can be decided by another worker or cancelled at this moment: under its lock it is certain.
        due = sorted({o.key for o in orders if o.is_due})
        return {**found, **(await uow.payments.lock(due))} if due else found

    def _request(self, payment: Payment, facts: Facts) -> FinancialRequest:
        if payment.trace is None or payment.funding_token is None:
            raise AssertionError("a SENT payment has trace numbers and a funding token")
        owner = facts.consents[payment.consent_key].terms.customer_id
        return FinancialRequest(
            trace=payment.trace,
            operation=payment.operation,
            amount_minor=payment.amount_minor,
            currency=payment.currency,
            acceptor=facts.merchants[payment.merchant_id].acceptor,
            card=facts.cards[OwnedToken(payment.funding_token, owner)],
        )

    def _report(self, decided: Decided) -> None:
        begun = [*decided.payments, *decided.due]
        count_states(self._observer, begun)
        report_card_incidents(self._observer, "execution", self._network_id, begun)
        self._observer.count("execution", "repeated", n=len(decided.repeats))
        self._observer.count("execution", "order_id_taken", n=len(decided.conflicts))
