"""Execution: intents in one transaction, then the card network, then results in another.

The row that says "may have been sent" commits before the first byte leaves. What was sent and not answered is UNKNOWN
and is reversed; nothing is ever sent a second time. A batch costs about ten round trips to Postgres, whatever its size.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gateway.domain.exchange import ExchangeResult, FinancialRequest, NotSent
from gateway.domain.execution import judge
from gateway.domain.intent import (
    ConsentKey,
    Decided,
    Facts,
    TakenOrder,
    decide,
    exempt_window,
    funding_tokens,
    usage_keys,
)
from gateway.domain.lifecycle import PaymentEventKind, PaymentState
from gateway.domain.payment import Change, Payment, PaymentKey
from gateway.ports import (
    AssertionVerifier,
    CardNetwork,
    Clock,
    DeadLetters,
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
from gateway.services.dispatch import read_dispatch
from gateway.services.ended_consents import EndedConsentWatch
from gateway.services.notices import ORDER_ID_TAKEN, RefusedOrder, refuse_orders, reported_events
from gateway.services.proofs import NoIdentityProviders, use_proofs
from gateway.services.retrying import until_done
from gateway.services.transitions import Applied, apply_changes, payment_events
from schemas.codec import DecodeError
from schemas.envelope import EnvelopeError
from schemas.primitives import NetworkId
from schemas.reasons import Reason, ReasonCode


@dataclass(frozen=True, slots=True)
class ExecutionSettings:
    """Bounds of execution; each has its reason.

    Attributes:
        intent_to_wire_s: an intent whose bytes have not left after this long is withdrawn: a revocation is then
            certain to have no effect later than this after it committed.
        results_max: results written in one transaction; several hundred amortise its round trips.
        results_wait_s: how long the first result waits for company: adds at most this to a payment's time.
        abandoned_after_s: age at which a SENT payment's worker must be dead: longer than every time-out of a live one.
        abandoned_batch: how many are taken over at a time.
    """

    intent_to_wire_s: float = 2.0
    results_max: int = 500
    results_wait_s: float = 0.02
    abandoned_after_s: float = 45.0
    abandoned_batch: int = 500


@dataclass(frozen=True, slots=True)
class _Intent:
    payment: Payment
    request: FinancialRequest

    @property
    def consent_key(self) -> ConsentKey:
        return (self.payment.partner_id, self.payment.consent_id)


class ExecutionService:
    """Executes the orders of one card network."""

    def __init__(
        self,
        *,
        network_id: NetworkId,
        terminals: Sequence[str],
        store: Store,
        vault: TokenVault,
        network: CardNetwork,
        dead_letters: DeadLetters,
        observer: Observer,
        clock: Clock,
        settings: ExecutionSettings,
        signatures: SignatureVerifier | None = None,
        trust: TrustTable | None = None,
        assertions: AssertionVerifier | None = None,
        watch: EndedConsentWatch | None = None,
    ) -> None:
        self._network_id = network_id
        self._terminals = terminals
        self._store = store
        self._vault = vault
        self._network = network
        self._dead_letters = dead_letters
        self._observer = observer
        self._clock = clock
        self._settings = settings
        self._signatures = signatures
        self._trust: TrustTable = trust or NoIdentityProviders()
        self._assertions: AssertionVerifier = assertions or NoIdentityProviders()
        self._watch = watch
        self._results: asyncio.Queue[tuple[_Intent, ExchangeResult]] = asyncio.Queue()

    # --- orders → intents → wire ---

    async def take(self, records: Sequence[Record]) -> None:
        """Commit the batch's intents and hand them to the network. Once this returns, the offsets may be committed.

        Args:
            records: dispatched orders in their order, no more than the network's window holds.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        orders, refused = await self._read(records)
        if refused:
            await until_done(lambda: self._refuse(refused))
        if orders:
            # Places first: an intent that has committed must never wait for room.
            places = await self._reserve(len(orders))
            try:
                decided, intents, committed = await until_done(lambda: self._commit_intents(orders))
            except BaseException:
                self._network.release(places)
                raise
            self._network.release(places - len(intents))
            for intent in intents:
                self._submit(intent, send_before=committed + self._settings.intent_to_wire_s)
            if self._watch is not None and intents:
                self._watch.intended([i.consent_key for i in intents], intents[0].payment.decided_at)
            self._report(decided)
        self._observer.batch("execution", size=len(records), seconds=loop.time() - started)

    async def _reserve(self, wanted: int) -> int:
        places = 0
        try:
            while places < wanted:
                places += await self._network.reserve(wanted - places)
        except BaseException:
            self._network.release(places)
            raise
        return places

    def _submit(self, intent: _Intent, *, send_before: float) -> None:
        def done(result: ExchangeResult) -> None:
            self._results.put_nowait((intent, result))

        self._network.submit(intent.request, send_before=send_before, done=done)

    async def _read(self, records: Sequence[Record]) -> tuple[list[TakenOrder], list[RefusedOrder]]:
        now = self._clock.now()
        orders: list[TakenOrder] = []
        refused: list[RefusedOrder] = []
        unreadable: list[tuple[Record, Exception]] = []
        for record in records:
            try:
                taken = read_dispatch(record)
            except (DecodeError, EnvelopeError) as error:
                unreadable.append((record, error))
                continue
            order = taken.order
            # Initiation verified both signatures; a key that was disabled while the order waited counts no more.
            problem = self._signatures and self._signatures.recheck(signature=taken.signature, now=now)
            if problem:
                refused.append(RefusedOrder(order.partner_id, order.order_id, None, problem, taken.reference))
                continue
            orders.append(taken)
        if unreadable:
            self._observer.count("execution", "dead_letter", n=len(unreadable))
            await until_done(lambda: self._dead_letters.park("execution", unreadable))
        checked = self._recheck_proofs(orders, now)
        if await self._trust.refresh_unknown():
            # A provider's key may be newer than what this process knows: look once more.
            checked = self._recheck_proofs(orders, now)
        return checked, refused

    def _recheck_proofs(self, orders: Sequence[TakenOrder], now: datetime) -> list[TakenOrder]:
        return [
            replace(o, assertion=self._assertions.recheck(o.order.authentication, now)) if o.order.authentication else o
            for o in orders
        ]

    async def _refuse(self, refused: Sequence[RefusedOrder]) -> None:
        async with self._store.transaction() as uow:
            await refuse_orders(uow, refused, self._clock.now())
        self._observer.count("execution", "refused", n=len(refused))

    async def _commit_intents(self, orders: Sequence[TakenOrder]) -> tuple[Decided, list[_Intent], float]:
        # The bound from intent to wire runs from before the commit: never longer than promised.
        async with self._store.transaction() as uow:
            facts = await self._facts(uow, orders)
            numbers = iter(await uow.payments.next_payment_numbers(len(orders)))
            decided = decide(orders, facts, network_id=self._network_id, terminals=self._terminals, numbers=numbers)
            if len(await uow.payments.insert(decided.payments)) != len(decided.payments):
                # Another worker inserted one of these ids under another consent since we looked.
                raise StoreConflictError("payment inserted concurrently")
            await uow.consents.add_usage(
                [
                    UsageChange(key, reserved_minor=minor, reserved_count=count)
                    for key, (minor, count) in decided.reserved.items()
                ]
            )
            exempting = [k for k in decided.authenticated if exempt_window(facts.consents[k], None)]
            await uow.authentication.mark_authenticated(sorted(exempting), now=facts.now)
            repeats = [(p, t.reference) for t, p in decided.repeats]
            await uow.outbox.append([*payment_events(decided.payments), *reported_events(repeats, facts.now)])
            await refuse_orders(
                uow,
                [
                    RefusedOrder(p.partner_id, p.order_id, p.payment_id, ORDER_ID_TAKEN, t.reference)
                    for t, p in decided.conflicts
                ],
                facts.now,
            )
            intents = [_Intent(p, self._request(p, facts)) for p in decided.payments if p.state is PaymentState.SENT]
            before_commit = asyncio.get_running_loop().time()
        return decided, intents, before_commit

    async def _facts(self, uow: UnitOfWork, orders: Sequence[TakenOrder]) -> Facts:
        consents = await uow.consents.lock(sorted({o.consent_key for o in orders}))
        # Time is read after the locks were granted: an order that expired while it waited for them is refused.
        now = self._clock.now()
        trust = await use_proofs(uow, orders, consents, self._trust)
        return Facts(
            consents=consents,
            merchants=await uow.directory.merchants(sorted({o.order.merchant_id for o in orders})),
            existing=await uow.payments.find(sorted({o.key for o in orders})),
            usage=await uow.consents.usage(usage_keys(consents, now, trust.authenticated_at)),
            cards=await self._vault.open(funding_tokens(consents.values())),
            now=now,
            trust=trust,
        )

    def _request(self, payment: Payment, facts: Facts) -> FinancialRequest:
        if payment.trace is None or payment.funding_token is None:
            raise AssertionError("a SENT payment has trace numbers and a funding token")
        return FinancialRequest(
            trace=payment.trace,
            operation=payment.operation,
            amount_minor=payment.amount_minor,
            currency=payment.currency,
            acceptor=facts.merchants[payment.merchant_id].acceptor,
            card=facts.cards[payment.funding_token],
        )

    def _report(self, decided: Decided) -> None:
        self._count_states(decided.payments)
        self._observer.count("execution", "repeated", n=len(decided.repeats))
        self._observer.count("execution", "order_id_taken", n=len(decided.conflicts))

    # --- results ---

    async def write_results(self) -> None:
        """Write results as they come, in batches, until cancelled. Run one task of this beside :meth:`take`."""
        while True:
            batch = await self._next_results()
            try:
                await self._write(batch)
            finally:
                for _ in batch:
                    self._results.task_done()

    async def results_written(self) -> None:
        """Return once every result that has come so far is in Postgres."""
        await self._results.join()

    async def _next_results(self) -> list[tuple[_Intent, ExchangeResult]]:
        batch = [await self._results.get()]
        if self._results.qsize() < self._settings.results_max:
            await asyncio.sleep(self._settings.results_wait_s)
        while len(batch) < self._settings.results_max and not self._results.empty():
            batch.append(self._results.get_nowait())
        return batch

    async def _write(self, batch: Sequence[tuple[_Intent, ExchangeResult]]) -> None:
        changes: list[Change] = []
        for intent, result in batch:
            verdict = judge(intent.request, result)
            if verdict.incident:
                self._observer.count("execution", "incident")
                self._observer.note(
                    "network_incident",
                    level="error",
                    payment_id=intent.payment.payment_id,
                    network_id=self._network_id,
                    reason=verdict.incident,
                )
            changes.append(
                Change(
                    key=intent.payment.key,
                    kind=verdict.event,
                    reason=verdict.reason,
                    approval_code=verdict.approval_code,
                    incident=verdict.incident,
                )
            )
        if self._watch is not None:
            self._watch.sent((i.consent_key, None if isinstance(r, NotSent) else r.sent_at) for i, r in batch)
        sent = {intent.payment.key: intent.payment for intent, _ in batch}
        applied = await until_done(lambda: self._apply(changes, sent))
        self._report_results(applied)

    async def _apply(self, changes: Sequence[Change], sent: Mapping[PaymentKey, Payment]) -> Applied:
        async with self._store.transaction() as uow:
            return await apply_changes(uow, changes, now=self._clock.now(), known=sent)

    def _report_results(self, applied: Applied) -> None:
        self._count_states(applied.changed)
        for payment in applied.changed:
            self._observer.delay("order_to_result", (payment.changed_at - payment.ordered_at).total_seconds())
        for change, state in applied.ignored:
            self._observer.count("execution", "ignored_result", reason=f"{state}+{change.kind}")

    def _count_states(self, payments: Sequence[Payment]) -> None:
        ends = Counter((p.state.value, p.reason.code.value if p.reason else "") for p in payments)
        for (state, reason), n in ends.items():
            self._observer.count("execution", state, reason=reason, n=n)

    # --- recovery ---

    async def take_over_abandoned(self) -> int:
        """Mark payments of dead workers UNKNOWN, which queues their reversals; return how many."""
        before = self._clock.now() - timedelta(seconds=self._settings.abandoned_after_s)

        async def mark() -> int:
            async with self._store.transaction() as uow:
                keys = await uow.payments.abandoned(
                    self._network_id, sent_before=before, limit=self._settings.abandoned_batch
                )
                if not keys:
                    return 0
                applied = await apply_changes(uow, [_abandoned(k) for k in keys], now=self._clock.now())
                return len(applied.changed)

        taken = await until_done(mark)
        if taken:
            self._observer.count("execution", "taken_over", n=taken)
            self._observer.note("abandoned_taken_over", level="warning", count=taken, network_id=self._network_id)
        return taken


def _abandoned(key: PaymentKey) -> Change:
    reason = Reason(code=ReasonCode.AB05, text="outcome unknown: the worker that sent it stopped; being reversed")
    return Change(key=key, kind=PaymentEventKind.UNANSWERED, reason=reason)
