"""Execution: intents in one transaction, then the card network, then results in another.

The row that says "may have been sent" commits before the first byte leaves. What was sent and not answered is UNKNOWN
until an inquiry or a reversal settles it; nothing is ever sent a second time. A batch costs some fifteen round trips to
Postgres, whatever its size, and waits for about twelve of them.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from msgspec import structs

from gateway.base.at_once import at_once
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.base.tracing import exemplar, processing
from gateway.consents.ended_watch import EndedConsentWatch
from gateway.consents.rules.exemption import exempt_window
from gateway.consents.store import UsageChange
from gateway.database.unit import Store
from gateway.directory.funding import token_uses
from gateway.directory.merchants import Merchant
from gateway.directory.store import TokenVault
from gateway.identity.no_providers import NoIdentityProviders
from gateway.identity.signing import KeySource, SignatureVerifier, recheck_signatures
from gateway.identity.store import AssertionVerifier, TrustTable
from gateway.identity.verifying import lapsed_proof
from gateway.messaging.records import DeadLetters, Record
from gateway.network.card_network import CardNetwork
from gateway.network.exchange import FinancialRequest, Operation
from gateway.payments.dispatch import Dispatch, Dispatched
from gateway.payments.notices import RefusedOrder, refuse_orders, reported_events
from gateway.payments.proofs import use_proofs
from gateway.payments.refunds.rules import ReceivedRefund
from gateway.payments.results import Intent, ResultSettings, ResultWriter, count_states
from gateway.payments.rules.intent import Decided, Facts, OrderOrRefund, decide, usage_keys
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment, PaymentKey, owned_token
from gateway.payments.rules.purchase import ReceivedOrder
from gateway.payments.rules.repetition import order_id_used
from gateway.payments.store import ExecutionUnit, lock_or_find
from gateway.payments.telling import tell_outcomes, tell_refused, tell_steps
from gateway.payments.transitions import payment_events
from gateway.payments.unknown.incidents import report_card_incidents, report_unopened, report_untrusted
from schemas.consents import Purpose
from schemas.envelope import EnvelopeError
from schemas.primitives import MerchantId, NetworkId
from schemas.reasons import ReasonCode
from schemas.topics import dispatch_topic


class NetworkPausedError(Exception):
    """Operators have paused the network: nothing was decided."""


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
    """Executes the orders and refunds of one card network.

    Attributes:
        results: sends the intents and writes what comes of them; run it beside :meth:`take`.
    """

    def __init__(
        self,
        *,
        network_id: NetworkId,
        worker: str,
        terminals: Sequence[str],
        store: Store[ExecutionUnit],
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
        # Intents hold one connection while they wait for others: many batches at once could hold them all.
        self._one_batch = asyncio.Lock()
        self._gives_up = False
        self._waits_for_place: asyncio.Task[object] | None = None
        self.results = ResultWriter(
            network_id=network_id,
            store=store,
            network=network,
            observer=observer,
            clock=clock,
            settings=settings.results,
            watch=watch,
        )

    # --- orders and refunds → intents → wire ---

    async def take(self, records: Sequence[Record]) -> Sequence[Record]:
        """Commit the batch's intents and hand them to the network. Once this returns, the offsets may be committed.

        Args:
            records: dispatched orders and refunds in their order, no more than the network's window holds.

        Returns:
            those, the last ones, of which nothing was decided, as the network was paused meanwhile: they are to wait.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        known, trusted = await self._trusted(records)
        with processing(self._observer.traces, dispatch_topic(self._network_id), lambda: _contexts(trusted)):
            left = await self._bring_to_wire(trusted)
        waiting = known[len(known) - left :]
        if waiting:
            places = {(r.partition, r.offset) for r in waiting}
            records = [r for r in records if (r.partition, r.offset) not in places]
            trusted = trusted[: len(trusted) - left]
        self._observer.batch("execution", size=len(records), seconds=loop.time() - started)
        now_ms = self._clock.now().timestamp() * 1000
        self._observer.hops(
            "dispatch_to_intent",
            [(now_ms - r.timestamp_ms) / 1000 for r in records],
            exemplar=exemplar(self._observer.traces, lambda: _contexts(trusted))
            if len(trusted) == len(records)
            else None,
        )
        return waiting

    def give_up(self) -> None:
        """Told to stop: whoever waits for a place, or would, is cancelled. What is decided comes to its end.

        A network that is away gives none, nor a database that is: the process would stay until it is cut short.
        """
        self._gives_up = True
        if self._waits_for_place is not None:
            self._waits_for_place.cancel()

    async def _bring_to_wire(self, trusted: Sequence[Dispatched]) -> int:
        """Return how many of the last ones were not decided, for the network is paused."""
        batch = await self._read(trusted)
        while batch:
            places = await self._reserve(len(batch))
            try:
                decided = await self._intend(batch[:places])
            except NetworkPausedError:
                return len(batch)
            batch = batch[places:]
            self._report(decided)
        return 0

    async def _trusted(self, records: Sequence[Record]) -> tuple[list[Record], list[Dispatched]]:
        """Those that the gateway itself wrote for this network; the others are parked, and told to operators alone."""
        known: list[Record] = []
        trusted: list[Dispatched] = []
        others: list[tuple[Record, Exception]] = []
        for record in records:
            try:
                trusted.append(self._dispatch.read(record, self._network_id))
                known.append(record)
            except EnvelopeError as error:
                others.append((record, error))
        if others:
            report_untrusted(self._observer, "execution", self._network_id, others)
            await self._park(others)
        return known, trusted

    async def _park(self, unreadable: Sequence[tuple[Record, Exception]]) -> None:
        self._observer.count("execution", "dead_letter", n=len(unreadable))
        await until_done(lambda: self._dead_letters.park("execution", unreadable))

    async def _intend(self, batch: Sequence[OrderOrRefund]) -> Decided:
        """Commit the intents of a batch for which places are taken, and hand them to the network."""
        try:
            decided, intents, before_commit = await until_done(lambda: self._attempt(batch))
        except BaseException:
            self._network.release(len(batch))
            raise
        self._network.release(len(batch) - len(intents))
        for intent in intents:
            self.results.submit(intent, send_before=before_commit + self._settings.intent_to_wire_s)
        if self._watch is not None:
            # Money goes back also under a consent that has ended: refunds are not watched.
            watched = [i for i in intents if i.payment.operation is Operation.PURCHASE]
            if watched:
                self._watch.intended([i.consent_key for i in watched], watched[0].payment.decided_at)
        return decided

    async def _attempt(self, batch: Sequence[OrderOrRefund]) -> tuple[Decided, list[Intent], float]:
        # One has failed then. Should it have committed, another would send nothing either: recovery settles it.
        if self._gives_up:
            raise asyncio.CancelledError
        return await self._commit_intents(batch)

    async def _reserve(self, wanted: int) -> int:
        """Take places first, for an intent that has committed must never wait for room: all, or what a trial allows."""
        places = 0
        try:
            while places < wanted and (more := await self._place(wanted - places, held=places)):
                places += more
        except BaseException:
            self._network.release(places)
            raise
        return places

    async def _place(self, wanted: int, *, held: int) -> int:
        if self._gives_up:
            raise asyncio.CancelledError
        self._waits_for_place = asyncio.current_task()
        try:
            return await self._network.reserve(wanted, held=held)
        finally:
            self._waits_for_place = None

    async def _read(self, records: Sequence[Dispatched]) -> list[OrderOrRefund]:
        """What is to be decided; keys of partners and providers that this process does not know it has looked for."""
        read = [r.refund() if r.is_refund else r.order() for r in records]
        now = self._clock.now()
        if any(map(_is_unknown, self._rechecked(read, now))) and await self._keys.refresh_if_stale():
            self._rechecked(read, now)
        # For the providers' keys that were asked for there.
        await self._trust.refresh_unknown()
        return read

    def _rechecked(self, batch: Sequence[OrderOrRefund], now: datetime) -> list[OrderOrRefund]:
        """Who signed and who proved them, looked at again: a key may have been disabled since they were judged."""
        problems = recheck_signatures(self._signatures, [one.signature for one in batch], now)
        return [
            structs.replace(one, problem=problem) if problem is not None else self._proof_rechecked(one)
            for one, problem in zip(batch, problems, strict=True)
        ]

    def _proof_rechecked(self, one: OrderOrRefund) -> OrderOrRefund:
        if not isinstance(one, ReceivedOrder):
            return one
        problem = lapsed_proof(self._assertions, one.assertion)
        return one if problem is None else structs.replace(one, assertion=problem)

    async def _commit_intents(self, batch: Sequence[OrderOrRefund]) -> tuple[Decided, list[Intent], float]:
        """Read under the locks, decide, write it down; the time is of ``loop.time()`` before the commit.

        Raises:
            NetworkPausedError: nothing was decided.
            StoreUnavailableError, StoreConflictError: nothing was decided, or it is not known: run it again.
        """
        async with self._one_batch, self._store.transaction() as uow:
            # With each attempt: the batch may have waited for the network or the database for hours.
            batch = self._rechecked(batch, self._clock.now())
            facts = await self._facts(uow, batch)
            decided = decide(
                batch,
                facts,
                network_id=self._network_id,
                terminals=self._terminals,
                numbers=iter(await uow.payments.next_payment_numbers(len(batch))),
                worker=self._worker,
            )
            await _write(uow, decided, facts)
            intents = [Intent(p, self._request(p, facts)) for p in decided.begun if p.state is PaymentState.SENT]
            # The bound from intent to wire runs from before the commit: never longer than promised.
            before_commit = asyncio.get_running_loop().time()
        return decided, intents, before_commit

    async def _facts(self, uow: ExecutionUnit, batch: Sequence[OrderOrRefund]) -> Facts:
        orders = [one for one in batch if isinstance(one, ReceivedOrder)]
        refunds = [one for one in batch if isinstance(one, ReceivedRefund)]
        keys = sorted({one.key for one in batch})
        consents = await uow.consents.lock(sorted({one.consent_key for one in batch}))
        # What waits can be decided by another worker or cancelled at this moment, and an original be refunded by one:
        # under its lock it is certain.
        waiting = sorted({*(o.key for o in orders if o.is_due), *(r.original_key for r in refunds)})
        locked = await lock_or_find(uow.payments, waiting) if waiting else {}
        originals = [locked[r.original_key] for r in refunds if r.original_key in locked]
        # Money goes back whatever has become of the consent, its permission to use the token included.
        paying = {key: consents[key] for o in orders if (key := o.consent_key) in consents} if refunds else consents
        returning = [owned for p in originals if (owned := owned_token(p, consents)) is not None]
        merchants = {*(o.order.merchant_id for o in orders), *(p.merchant_id for p in originals)}
        # Time is read after the locks were granted: an order that expired while it waited for them is refused.
        now = self._clock.now()
        async with at_once() as tasks:
            # These may be of a moment ago, and are read beside this transaction: a payment that is not seen cannot be
            # made again, and nobody is promised from when on a merchant or a card is another.
            known = tasks.create_task(self._known(keys, sorted(merchants)))
            # What somebody was told holds from now on is asked of the server that holds the locks: another connection
            # may still lead to one that this server has followed.
            usable = await uow.directory.usable_tokens(token_uses(c.terms for c in paying.values()))
            cards = tasks.create_task(self._vault.open(sorted({*(use.owned for use in usable), *returning})))
            cancelled = await uow.cancellations.not_sent(keys)
            due = sorted({o.consent_key for o in orders if o.is_due})
            payment_ends = await uow.consents.last_ends(due, Purpose.PAYMENT) if due else {}
            # A key that vouches for nothing uses up no proof.
            vouched = [o for o in orders if o.problem is None]
            trust = await use_proofs(uow, vouched, paying, self._trust)
            used = usage_keys(paying, now, trust.authenticated_at)
            usage = await uow.consents.usage(used) if orders else {}
        # Asked last, behind all that a batch waits for: places of a network that is away, locks, connections.
        if await uow.directory.is_paused(self._network_id):
            raise NetworkPausedError
        opened = cards.result()
        report_unopened(self._observer, "execution", opened)
        payments, found = known.result()
        return Facts(
            consents=consents,
            merchants=found,
            payments={**payments, **locked},
            usage=usage,
            usable=usable,
            cards=opened.cards,
            now=now,
            trust=trust,
            cancelled=cancelled,
            payment_ends=payment_ends,
            refunded=await uow.payments.refunded(sorted({p.key for p in originals})) if refunds else {},
            # With nothing to refund yet when another delivery of the record reached the intake: so it ended.
            refused=await uow.refusals.find([(r.refund.partner_id, r.reference) for r in refunds])
            if refunds
            else frozenset(),
        )

    async def _known(
        self, keys: Sequence[PaymentKey], merchants: Sequence[MerchantId]
    ) -> tuple[Mapping[PaymentKey, Payment], Mapping[MerchantId, Merchant]]:
        """Payments under these ids, and merchants."""
        async with self._store.reading() as uow:
            return await uow.payments.find(keys), await uow.directory.merchants(merchants)

    @staticmethod
    def _request(payment: Payment, facts: Facts) -> FinancialRequest:
        owned = owned_token(payment, facts.consents)
        if payment.trace is None or owned is None:
            raise AssertionError("a SENT payment has trace numbers and a funding token")
        return FinancialRequest(
            trace=payment.trace,
            operation=payment.operation,
            amount_minor=payment.amount_minor,
            currency=payment.currency,
            acceptor=facts.merchants[payment.merchant_id].acceptor,
            card=facts.cards[owned],
        )

    def _report(self, decided: Decided) -> None:
        begun = decided.begun
        count_states(self._observer, begun)
        tell_outcomes(self._observer, [p for p in begun if p.state is PaymentState.REJECTED])
        tell_steps(self._observer, begun)
        report_card_incidents(self._observer, "execution", self._network_id, begun)
        self._observer.count("execution", "repeated", n=len(decided.repeats))
        self._observer.count("execution", "order_id_taken", n=len(decided.conflicts))
        self._observer.count("execution", "refused", n=len(decided.refused))
        tell_refused(self._observer, [RefusedOrder.of(one, reason) for one, reason in decided.refused])


def _is_unknown(one: OrderOrRefund) -> bool:
    """True where this process does not know its partner's key: that may be newer than what it has read."""
    return one.problem is not None and one.problem.code is ReasonCode.DS0E


def _contexts(dispatched: Sequence[Dispatched]) -> Iterator[str | None]:
    return (one.judged.traceparent for one in dispatched)


async def _write(uow: ExecutionUnit, decided: Decided, facts: Facts) -> None:
    # Where another worker made one of these under another consent since we looked, the batch looks again.
    await uow.payments.add(decided.payments)
    await uow.payments.begin_scheduled(decided.due)
    await uow.consents.add_usage([UsageChange(key, minor, count) for key, (minor, count) in decided.reserved.items()])
    exempting = [k for k in decided.authenticated if exempt_window(facts.consents[k].terms, None)]
    await uow.authentication.mark_authenticated(sorted(exempting), now=facts.now)
    repeats = [(payment, one.reference) for one, payment in decided.repeats]
    await uow.outbox.append([*payment_events(decided.begun), *reported_events(repeats, facts.now)])
    conflicts = [RefusedOrder.of(one, order_id_used(p, one.message), p) for one, p in decided.conflicts]
    refused = [RefusedOrder.of(one, reason) for one, reason in decided.refused]
    await refuse_orders(uow, [*conflicts, *refused], facts.now)
