"""Cancellations, a kind of message on ``mypay.orders``: decided under the consents' locks.

Intents take these too, so an order is either sent or not. A batch costs eight to ten round trips and one transaction,
whatever its size. Every cancellation is answered by one event a record, however often the record is delivered, and an
id's second use is told what became of the first.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, TypedDict

from pydantic import TypeAdapter

from gateway.base.errors import StoreConflictError
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.database.unit import Store
from gateway.identity.door import Authentic, Faulty
from gateway.orders.kinds import FaultAnswer, Kind, Precedence
from gateway.orders.store import CancellationIntakeUnit
from gateway.outbox.store import OutboxEvent
from gateway.payments.cancellations.rules import (
    CancellationFacts,
    CancellationsDecided,
    CutOver,
    HandledCancellation,
    ReceivedCancellation,
    carry_out,
    decide_cancellations,
)
from gateway.payments.store import lock_or_find
from gateway.payments.telling import tell_outcomes, tell_steps
from gateway.payments.transitions import Applied, apply_changes
from schemas.cancellation import CANCEL_TYPE, CancellationIdField, PaymentCancellation
from schemas.codec import encode
from schemas.events import CancellationAccepted, CancellationEffect, CancellationRefused, EventType
from schemas.primitives import (
    ConsentId,
    ConsentIdField,
    NetworkId,
    OrderId,
    PaidOrderIdField,
    PartnerId,
    PaymentId,
    payment_id_of,
)
from schemas.reasons import Reason
from schemas.topics import events_topic

_CANCELLATION_ID: Final[TypeAdapter[str]] = TypeAdapter(CancellationIdField)
_CONSENT_ID: Final[TypeAdapter[ConsentId]] = TypeAdapter(ConsentIdField)
_ORDER_ID: Final[TypeAdapter[OrderId]] = TypeAdapter(PaidOrderIdField)


class _Names(TypedDict):
    """What both answers name."""

    partner_id: PartnerId
    cancellation_id: str
    consent_id: ConsentId
    order_id: OrderId
    payment_id: PaymentId


@dataclass(frozen=True, slots=True)
class Cancellations:
    """A batch of cancellations, and what was decided of them.

    Attributes:
        traces: reference → trace context.
    """

    received: Sequence[ReceivedCancellation]
    traces: Mapping[str, str | None]
    decided: CancellationsDecided | None = None
    applied: Applied = field(default_factory=Applied)


class CancellationKind(Kind[PaymentCancellation, Cancellations]):
    """Takes in cancellations.

    Args:
        cut_overs: of the networks that have one.
    """

    models: Mapping[str, type[PaymentCancellation]] = {CANCEL_TYPE: PaymentCancellation}
    precedence = Precedence.CANCELLATIONS
    is_carried_out_here = True

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

    async def prepare(
        self,
        messages: Sequence[Authentic[PaymentCancellation]],
        now: datetime,  # noqa: ARG002 - a cancellation has no proof
    ) -> Cancellations:
        """All is decided under the locks."""
        return Cancellations(
            [ReceivedCancellation(m.message, m.digest, m.reference) for m in messages],
            {m.reference: m.envelope.traceparent for m in messages},
        )

    async def write(self, work: Cancellations, now: datetime) -> Cancellations:  # noqa: ARG002 - read under locks
        """Decide cancellations, and answer them."""
        async with self._store.transaction() as uow:
            decided, applied = await self._decide(uow, work)
            return replace(work, decided=decided, applied=applied)

    async def _decide(self, uow: CancellationIntakeUnit, work: Cancellations) -> tuple[CancellationsDecided, Applied]:
        received = work.received
        consents = await uow.consents.lock(sorted({t.consent_key for t in received}))
        payments = await lock_or_find(uow.payments, sorted({t.payment_key for t in received}))
        # Time is read after the locks were granted: the cut-over may have passed meanwhile.
        now = self._clock.now()
        facts = CancellationFacts(
            consents=frozenset(consents),
            payments=payments,
            handled=await uow.cancellations.handled(sorted({t.key for t in received})),
            refunded=await uow.payments.refunded(sorted(payments)),
            cut_overs=self._cut_overs,
            now=now,
        )
        decided = decide_cancellations(received, facts)
        if len(await uow.cancellations.remember(decided.handled)) != len(decided.handled):
            # Another worker handled one of these ids under another consent since we looked.
            raise StoreConflictError("cancellation handled concurrently")
        applied = Applied()
        if decided.changes:
            applied = await apply_changes(uow, decided.changes, now=now, locked=payments)
        new = await uow.cancellations.answer([(t.message.partner_id, t.reference) for t in received])
        await uow.outbox.append(
            [
                _told(t, outcome, now, work.traces[t.reference])
                for t, outcome in decided.answers
                if (t.message.partner_id, t.reference) in new
            ]
        )
        return decided, applied

    async def hand_on(self, work: Cancellations) -> None:
        """Count what became of the batch."""
        if work.decided is not None:
            _report(self._observer, work.decided.handled)
            tell_outcomes(self._observer, work.applied.outcomes)
            tell_steps(self._observer, work.applied.changed)

    def answer_fault(self, fault: Faulty, now: datetime) -> FaultAnswer:
        """Refused as a cancellation, where order and consent can be named."""
        own = fault.member("cancellation_id", _CANCELLATION_ID)
        consent, order = fault.member("consent_id", _CONSENT_ID), fault.member("order_id", _ORDER_ID)
        if own is None or consent is None or order is None:
            return FaultAnswer(own)
        body = CancellationRefused.of_stored(
            partner_id=fault.partner_id,
            cancellation_id=own,
            consent_id=consent,
            order_id=order,
            payment_id=payment_id_of(fault.partner_id, order),
            reason=fault.reason,
            reference=fault.reference,
            occurred_at=now,
        )
        return FaultAnswer(own, (EventType.CANCELLATION_REFUSED, str(body.payment_id), body))


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
        judged, applied = await until_done(self._commit)
        _report(self._observer, judged)
        tell_outcomes(self._observer, applied.outcomes)
        tell_steps(self._observer, applied.changed)
        return len(judged)

    async def _commit(self) -> tuple[list[HandledCancellation], Applied]:
        async with self._store.transaction() as uow:
            waiting = await uow.cancellations.lock_due(limit=self._batch_max)
            applied = Applied()
            if not waiting:
                return [], applied
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
                applied = await apply_changes(uow, changes, now=now, locked=payments)
            await uow.outbox.append([_lapsed(h, h.outcome, now) for h in judged if isinstance(h.outcome, Reason)])
        return judged, applied


def _report(observer: Observer, handled: Sequence[HandledCancellation]) -> None:
    outcomes = Counter(
        ("refused", h.outcome.code.value) if isinstance(h.outcome, Reason) else ("accepted", h.outcome.value)
        for h in handled
    )
    for (outcome, reason), n in outcomes.items():
        observer.count("cancellation", outcome, reason=reason, n=n)


def _told(
    received: ReceivedCancellation, outcome: CancellationEffect | Reason, now: datetime, traceparent: str | None
) -> OutboxEvent:
    return _event(
        _names(received.message), outcome, received.reference, now, event_id=received.reference, trace=traceparent
    )


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
