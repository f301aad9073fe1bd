"""Partners' cancellations: decided under the consents' locks. Intents take them too: an order is either sent or not.

A batch costs eight to ten round trips and one transaction, whatever its size. Every cancellation is answered by one
event a record, however often the record is delivered, and an id's second use is told what became of the first.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, TypedDict

from gateway.base.errors import StoreConflictError
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.database.unit import Store
from gateway.orders.kinds import Instruction, SignedInstruction
from gateway.orders.store import CancellationIntakeUnit
from gateway.outbox.store import OutboxEvent
from gateway.payments.cancellations.rules import (
    CancellationFacts,
    CancellationsDecided,
    CutOver,
    HandledCancellation,
    TakenCancellation,
    carry_out,
    decide_cancellations,
)
from gateway.payments.transitions import apply_changes
from schemas.cancellation import CANCEL_TYPE, PaymentCancellation
from schemas.codec import encode
from schemas.events import CancellationAccepted, CancellationEffect, CancellationRefused, EventType
from schemas.primitives import ConsentId, NetworkId, OrderId, PartnerId, PaymentId
from schemas.reasons import Reason
from schemas.topics import events_topic

_MODELS: Final[Mapping[str, type[SignedInstruction]]] = {CANCEL_TYPE: PaymentCancellation}


class _Names(TypedDict):
    """What both answers name."""

    partner_id: PartnerId
    cancellation_id: str
    consent_id: ConsentId
    order_id: OrderId
    payment_id: PaymentId


class CancellationService:
    """Takes in cancellations; a :class:`gateway.orders.kinds.InstructionHandler`.

    Args:
        cut_overs: of the networks that have one.
    """

    def __init__(
        self,
        *,
        store: Store[CancellationIntakeUnit],
        cut_overs: Mapping[NetworkId, CutOver],
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._store = store
        self._cut_overs = cut_overs
        self._observer = observer
        self._clock = clock

    @property
    def models(self) -> Mapping[str, type[SignedInstruction]]:
        """What it takes."""
        return _MODELS

    async def take(self, instructions: Sequence[Instruction], now: datetime) -> None:  # noqa: ARG002 - read under locks
        """Decide cancellations, and answer them."""
        taken = [_taken(i) for i in instructions]
        traces = {i.reference: i.envelope.traceparent for i in instructions}
        decided = await until_done(lambda: self._commit(taken, traces))
        _report(self._observer, decided.handled)

    async def _commit(
        self, taken: Sequence[TakenCancellation], traces: Mapping[str, str | None]
    ) -> CancellationsDecided:
        async with self._store.transaction() as uow:
            consents = await uow.consents.lock(sorted({t.consent_key for t in taken}))
            payments = await uow.payments.lock(sorted({t.payment_key for t in taken}))
            # Time is read after the locks were granted: the cut-over may have passed meanwhile.
            now = self._clock.now()
            facts = CancellationFacts(
                consents=frozenset(consents),
                payments=payments,
                handled=await uow.cancellations.handled(sorted({t.key for t in taken})),
                refunded=await uow.payments.refunded(sorted(payments)),
                cut_overs=self._cut_overs,
                now=now,
            )
            decided = decide_cancellations(taken, facts)
            if len(await uow.cancellations.remember(decided.handled)) != len(decided.handled):
                # Another worker handled one of these ids under another consent since we looked.
                raise StoreConflictError("cancellation handled concurrently")
            if decided.changes:
                await apply_changes(uow, decided.changes, now=now, known=payments)
            new = await uow.cancellations.answer([(t.message.partner_id, t.reference) for t in taken])
            await uow.outbox.append(
                [
                    _told(t, outcome, now, traces[t.reference])
                    for t, outcome in decided.answers
                    if (t.message.partner_id, t.reference) in new
                ]
            )
        return decided


class WaitingCancellations:
    """Carries out cancellations of payments that were in flight, as soon as their outcome is known.

    Args:
        cut_overs: of the networks that have one.
        batch_max: how many are carried out in one transaction.
    """

    def __init__(
        self,
        *,
        store: Store[CancellationIntakeUnit],
        cut_overs: Mapping[NetworkId, CutOver],
        observer: Observer,
        clock: Clock,
        batch_max: int,
    ) -> None:
        self._store = store
        self._cut_overs = cut_overs
        self._observer = observer
        self._clock = clock
        self._batch_max = batch_max

    async def work(self) -> int:
        """Judge one batch; return how many. One that can no longer be carried out is told so."""
        judged = await until_done(self._commit)
        _report(self._observer, judged)
        return len(judged)

    async def _commit(self) -> list[HandledCancellation]:
        async with self._store.transaction() as uow:
            waiting = await uow.cancellations.lock_due(limit=self._batch_max)
            if not waiting:
                return []
            # The payment's lock is enough: refunds take it too, and its order was sent long ago.
            payments = await uow.payments.lock(sorted({w.payment_key for w in waiting}))
            now = self._clock.now()
            judged, changes = carry_out(
                waiting,
                payments=payments,
                refunded=await uow.payments.refunded(sorted(payments)),
                cut_overs=self._cut_overs,
                now=now,
            )
            await uow.cancellations.update(judged)
            if changes:
                await apply_changes(uow, changes, now=now, known=payments)
            await uow.outbox.append([_lapsed(h, h.outcome, now) for h in judged if isinstance(h.outcome, Reason)])
        return judged


def _taken(instruction: Instruction) -> TakenCancellation:
    if not isinstance(instruction.message, PaymentCancellation):
        raise TypeError("initiation decodes what it hands on by the handler's models")
    return TakenCancellation(instruction.message, instruction.digest, instruction.reference)


def _report(observer: Observer, handled: Sequence[HandledCancellation]) -> None:
    ends = Counter(
        ("refused", h.outcome.code.value) if isinstance(h.outcome, Reason) else ("accepted", h.outcome.value)
        for h in handled
    )
    for (outcome, reason), n in ends.items():
        observer.count("cancellation", outcome, reason=reason, n=n)


def _told(
    taken: TakenCancellation, outcome: CancellationEffect | Reason, now: datetime, traceparent: str | None
) -> OutboxEvent:
    return _event(_names(taken.message), outcome, taken.reference, now, event_id=taken.reference, trace=traceparent)


def _lapsed(handled: HandledCancellation, reason: Reason, now: datetime) -> OutboxEvent:
    """Tell that a cancellation, accepted while its payment was in flight, came to nothing."""
    return _event(_names(handled), reason, handled.reference, now, event_id=f"{handled.reference}:lapsed")


def _names(of: PaymentCancellation | HandledCancellation) -> _Names:
    return _Names(
        partner_id=of.partner_id,
        cancellation_id=of.cancellation_id,
        consent_id=of.consent_id,
        order_id=of.order_id,
        payment_id=of.payment_id,
    )


def _event(
    names: _Names,
    outcome: CancellationEffect | Reason,
    reference: str,
    now: datetime,
    *,
    event_id: str,
    trace: str | None = None,
) -> OutboxEvent:
    refused = isinstance(outcome, Reason)
    told = (
        CancellationRefused.of_stored(**names, reason=outcome, reference=reference, occurred_at=now)
        if isinstance(outcome, Reason)
        else CancellationAccepted.of_stored(**names, effect=outcome, reference=reference, occurred_at=now)
    )
    return OutboxEvent(
        topic=events_topic(names["partner_id"]),
        key=str(names["payment_id"]),
        event_id=event_id,
        event_type=EventType.CANCELLATION_REFUSED if refused else EventType.CANCELLATION_ACCEPTED,
        occurred_at=now,
        traceparent=trace,
        body=encode(told),
    )
