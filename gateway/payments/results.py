"""Results of what was sent: judged as they come, written in batches of one transaction each."""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from msgspec import Struct, structs

from gateway.base.keys import ConsentKey
from gateway.base.pace import Pace
from gateway.base.process import Clock, Observer
from gateway.base.tracing import exemplar
from gateway.consents.ended_watch import EndedConsentWatch
from gateway.database.unit import Store
from gateway.messaging.isolation import write_isolated
from gateway.network.card_network import CardNetwork
from gateway.network.exchange import ExchangeResult, FinancialRequest, NotSent, Operation
from gateway.network.response_codes import STANDARD, ResponseCodes
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Change, Payment, PaymentKey
from gateway.payments.store import PaymentChangeUnit
from gateway.payments.telling import asking, tell_outcomes, tell_steps
from gateway.payments.transitions import Applied, apply_changes
from gateway.payments.unknown.incidents import report_incidents, report_unwritable
from gateway.payments.unknown.rules import AS_OF_INQUIRY
from gateway.payments.unknown.verdicts import UnknownPolicy, judge
from schemas.primitives import NetworkId


@dataclass(frozen=True, slots=True)
class ResultSettings:
    """Bounds of writing results; each has its reason.

    Attributes:
        batch_max: results written in one transaction; several hundred amortise its round trips.
        wait_s: from the beginning of one batch to that of the next at least: adds at most this to a payment's time, and
            nothing where they come one by one.
        policy: how the network's unknown outcomes are settled.
        codes: what DE39 means at the network.
    """

    batch_max: int = 500
    wait_s: float = 0.01
    policy: UnknownPolicy = UnknownPolicy.REVERSE
    codes: ResponseCodes = STANDARD


class Intent(Struct, frozen=True, gc=False):
    """A payment whose intent has committed, and the request that is sent for it."""

    payment: Payment
    request: FinancialRequest

    @property
    def consent_key(self) -> ConsentKey:
        """The consent that it was decided under."""
        return (self.payment.partner_id, self.payment.consent_id)


Result = tuple[Intent, ExchangeResult]


class ResultWriter:
    """Sends what was intended, and writes what comes of it."""

    def __init__(
        self,
        *,
        network_id: NetworkId,
        store: Store[PaymentChangeUnit],
        network: CardNetwork,
        observer: Observer,
        clock: Clock,
        settings: ResultSettings,
        watch: EndedConsentWatch | None = None,
    ) -> None:
        self._network_id = network_id
        self._store = store
        self._network = network
        self._observer = observer
        self._clock = clock
        self._settings = settings
        self._watch = watch
        self._results: asyncio.Queue[Result] = asyncio.Queue()
        self._pace = Pace(settings.wait_s, rest_s_max=2 * settings.wait_s)

    def submit(self, intent: Intent, *, send_before: float) -> None:
        """Hand one intent to the network, on a place that was reserved for it."""
        traces = self._observer.traces
        ended = None if traces is None else asking(traces, self._network_id, intent.payment, intent.request)

        def done(result: ExchangeResult) -> None:
            if ended is not None:
                ended(result)
            self._results.put_nowait((intent, result))

        self._network.submit(intent.request, send_before=send_before, done=done)

    async def run(self) -> None:
        """Write results as they come, in batches, until cancelled."""
        while True:
            batch = await self._next()
            try:
                await self._write(batch)
                self._pace.end()
            finally:
                for _ in batch:
                    self._results.task_done()

    async def written(self) -> None:
        """Return once every result that has come so far is in Postgres."""
        await self._results.join()

    async def _next(self) -> list[Result]:
        batch = [await self._results.get()]
        if self._results.qsize() < self._settings.batch_max:
            await self._pace.wait()
        self._pace.begin()
        while len(batch) < self._settings.batch_max and not self._results.empty():
            batch.append(self._results.get_nowait())
        return batch

    async def _write(self, batch: Sequence[Result]) -> None:
        if self._watch is not None:
            # Money goes back also under a consent that has ended: refunds are not watched.
            self._watch.sent(
                (i.consent_key, None if isinstance(r, NotSent) else r.sent_at)
                for i, r in batch
                if i.payment.operation is Operation.PURCHASE
            )
        changes = {id(result): self._change(*result) for result in batch}

        async def write(part: Sequence[Result]) -> Applied:
            known = {intent.payment.key: intent.payment for intent, _ in part}
            async with self._store.transaction() as uow:
                return await _apply(uow, [changes[id(r)] for r in part], known, self._clock.now())

        def failed(result: Result, error: Exception) -> None:
            report_unwritable(self._observer, "execution", self._network_id, result[0].payment.key, error)

        # A payment that was SCHEDULED took as long as it was told to.
        waited = {intent.payment.key for intent, _ in batch if intent.payment.version > 1}
        for applied in await write_isolated(batch, write, failed):
            report_incidents(self._observer, "execution", self._network_id, applied)
            self._report(applied, waited)

    def _change(self, intent: Intent, result: ExchangeResult) -> Change:
        verdict = judge(intent.request, result, self._settings.policy, self._settings.codes)
        return verdict.change_of(intent.payment.key)

    def _report(self, applied: Applied, waited: Collection[PaymentKey]) -> None:
        count_states(self._observer, applied.changed)
        tell_outcomes(self._observer, applied.outcomes)
        tell_steps(self._observer, applied.changed)
        changed = applied.changed
        self._observer.hops(
            "intent_to_result",
            [(p.changed_at - p.decided_at).total_seconds() for p in changed],
            exemplar=exemplar(self._observer.traces, lambda: (p.traceparent for p in changed)),
        )
        at_once = [p for p in changed if p.key not in waited]
        self._observer.spans("order_to_result", [(p.changed_at - p.ordered_at).total_seconds() for p in at_once])


async def _apply(
    uow: PaymentChangeUnit, changes: Sequence[Change], known: Mapping[PaymentKey, Payment], now: datetime
) -> Applied:
    """Apply results. A clear one of a payment that was taken over and is asked about takes the inquiry's place."""
    locked = await uow.payments.lock(list({c.key for c in changes}), known=known)
    unknown = {key for key, payment in locked.items() if payment.state is PaymentState.UNKNOWN}
    clear = sorted({c.key for c in changes if c.key in unknown and c.kind in AS_OF_INQUIRY})
    closed = await uow.inquiries.take_away(clear, now=now) if clear else frozenset()
    told = [structs.replace(c, kind=AS_OF_INQUIRY.get(c.kind, c.kind)) if c.key in closed else c for c in changes]
    return await apply_changes(uow, told, now=now, locked=locked)


def count_states(observer: Observer, payments: Sequence[Payment]) -> None:
    """Count payments by the state that they reached, and why."""
    outcomes = Counter((p.state.value, p.reason.code.value if p.reason else "") for p in payments)
    for (state, reason), n in outcomes.items():
        observer.count("execution", state, reason=reason, n=n)
