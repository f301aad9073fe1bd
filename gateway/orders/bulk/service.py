"""Bulks, a kind of message on ``mypay.orders``: decided once as a whole, then handed on item by item.

Three steps, each safe to repeat: judge the items as orders are judged; write the bulk down with the items that it does
not accept, in one transaction; publish the accepted ones, and note that it was done. A bulk that comes again is not
judged again: it is told once more, and handed on once more only where it is not certain that it was. Execution knows an
item by its order id, and that the bytes which the gateway makes of it are always the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, assert_never

from pydantic import TypeAdapter

from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.database.unit import Store
from gateway.identity.door import Authentic, Faulty
from gateway.identity.refusals import Refusal
from gateway.identity.store import AssertionVerifier, TrustTable
from gateway.identity.verifying import verify_proofs
from gateway.messaging.records import Publisher
from gateway.orders.bulk.judging import (
    Again,
    First,
    Item,
    bulk_id_used,
    bulk_of,
    items_of,
    judge_again,
    judge_first,
    refused_by_totals,
)
from gateway.orders.bulk.rules import Bulk, BulkKey
from gateway.orders.judging import OrderJudge, Seen
from gateway.orders.kinds import FaultAnswer, Kind, OvertakenError
from gateway.orders.room import HANDED_ON_AT_ONCE, ExecutionRoom
from gateway.orders.store import BulkIntakeUnit
from gateway.outbox.store import OutboxEvent
from gateway.payments.dispatch import Dispatch
from gateway.payments.notices import RefusedOrder, refuse_orders
from gateway.payments.rules.payment import Payment
from gateway.payments.rules.repetition import order_id_used
from gateway.payments.telling import tell_outcomes, tell_steps
from gateway.payments.transitions import payment_events
from schemas.bulk import BULK_TYPE, BulkEvent, BulkIdField, BulkStatus, PaymentBulk, TransactionCount
from schemas.codec import encode
from schemas.events import EventType
from schemas.primitives import NetworkId
from schemas.reasons import Reason
from schemas.topics import events_topic

_BULK_ID: Final[TypeAdapter[str]] = TypeAdapter(BulkIdField)
_NUMBER: Final[TypeAdapter[int]] = TypeAdapter(TransactionCount)


@dataclass(slots=True)
class BulkWork:
    """One bulk on its way.

    Attributes:
        items: each as an order, its proof verified; None until they are needed.
        judged: what becomes of it; a reason where its id has another bulk.
        rejected: items of one that came again that became payments which were refused.
    """

    read: Authentic[PaymentBulk]
    items: Sequence[Item] | None = None
    judged: First | Again | Reason | None = None
    rejected: Sequence[Payment] = ()


class BulkKind(Kind[PaymentBulk, BulkWork]):
    """Takes in bulks, one after the other: each is as large as a batch.

    Args:
        judge: judges each item as it judges an order.
        room: handing items on waits for it, so that other orders are not behind thousands of them. None: it does not.
    """

    models: Mapping[str, type[PaymentBulk]] = {BULK_TYPE: PaymentBulk}
    at_once = 1

    def __init__(
        self,
        *,
        store: Store[BulkIntakeUnit],
        judge: OrderJudge,
        publisher: Publisher,
        dispatch: Dispatch,
        observer: Observer,
        clock: Clock,
        trust: TrustTable,
        assertions: AssertionVerifier,
        room: ExecutionRoom | None = None,
    ) -> None:
        self._store = store
        self._room = room
        self._judge = judge
        self._publisher = publisher
        self._dispatch = dispatch
        self._observer = observer
        self._clock = clock
        self._trust = trust
        self._assertions = assertions

    async def accepted(self, messages: Sequence[Authentic[PaymentBulk]]) -> frozenset[str]:
        """Those that stand with these very bytes."""
        stored = await self._find([m.message for m in messages])
        return frozenset(
            m.reference
            for m in messages
            if (b := stored.get((m.message.partner_id, m.message.bulk_id))) is not None and b.digest == m.digest
        )

    async def prepare(self, messages: Sequence[Authentic[PaymentBulk]], now: datetime) -> BulkWork:  # noqa: ARG002
        """Its items are verified only if they are to be judged."""
        (read,) = messages
        return BulkWork(read)

    async def judge(self, work: BulkWork, now: datetime) -> BulkWork:
        """Judge it as a whole; one that stands is judged only as far as it may not have been handed on."""
        message = work.read.message
        stored = (await self._find([message])).get((message.partner_id, message.bulk_id))
        if stored is None:
            work.judged = refused_by_totals(work.read, now) or await self._judge_first(work, now)
        elif stored.digest != work.read.digest:
            work.judged = bulk_id_used(stored, message)
        elif stored.accepted and stored.dispatched_at is None:
            work.judged = await self._judge_again(work, stored, now)
        else:
            work.judged = Again(stored)
        return work

    async def write(self, work: BulkWork, now: datetime) -> BulkWork:
        """Write down what became of it, and tell of it."""
        async with self._store.transaction() as uow:
            match work.judged:
                case First() as first:
                    await _write_first(uow, first, work.read, now)
                case Again() as again:
                    work.rejected = await _reject(uow, again, now)
                    await uow.outbox.append([_reported(again.bulk, work.read, now)])
                case Reason() as reason:
                    await _refuse(uow, work.read, reason, now)
                case None:
                    raise AssertionError("what is written was judged")
                case _:
                    assert_never(work.judged)
        return work

    async def hand_on(self, work: BulkWork) -> None:
        """Publish accepted items as far as execution has room for them, and note that it was done."""
        judged, count = work.judged, self._observer.count
        match judged:
            case First(bulk):
                count("initiation", f"bulk_{bulk.status}", reason=bulk.reason.code.value if bulk.reason else "")
                count("initiation", "bulk_item_rejected", n=len(bulk.rejected))
                tell_outcomes(self._observer, judged.payments)
                tell_steps(self._observer, judged.payments)
                if bulk.accepted:
                    await self._publish(bulk, judged.targets)
            case Again(bulk):
                if judged.unfinished:
                    await self._publish(bulk, judged.targets)
                count("initiation", "bulk_repeated")
                tell_outcomes(self._observer, work.rejected)
                tell_steps(self._observer, work.rejected)
            case Reason():
                count("initiation", "bulk_refused", reason=judged.code.value)
            case None:
                pass
            case _:
                assert_never(judged)

    def answer_fault(self, fault: Faulty, now: datetime) -> FaultAnswer:
        """Refused as a bulk, where it tells how many items it has."""
        own, number = fault.member("bulk_id", _BULK_ID), fault.member("number_of_transactions", _NUMBER)
        if own is None or number is None:
            return FaultAnswer(own)
        body = BulkEvent.of_stored(
            partner_id=fault.partner_id,
            bulk_id=own,
            status=BulkStatus.REFUSED,
            number_of_transactions=number,
            accepted=0,
            reason=fault.reason,
            reference=fault.reference,
            occurred_at=now,
        )
        return FaultAnswer(own, (EventType.BULK_REFUSED, own, body))

    # --- judging ---

    async def _find(self, messages: Sequence[PaymentBulk]) -> Mapping[BulkKey, Bulk]:
        async with self._store.reading() as uow:
            return await uow.bulks.find([(m.partner_id, m.bulk_id) for m in messages])

    async def _judge_first(self, work: BulkWork, now: datetime) -> First:
        items, seen = await self._look(work, now)
        return judge_first(work.read, items, seen, self._judge, now)

    async def _judge_again(self, work: BulkWork, stored: Bulk, now: datetime) -> Again:
        items, seen = await self._look(work, now)
        return judge_again(stored, items, seen, self._judge, now)

    async def _look(self, work: BulkWork, now: datetime) -> tuple[Sequence[Item], Seen]:
        if work.items is None:
            proofs = [i.authentication or None for i in work.read.message.items]
            work.items = items_of(work.read, await verify_proofs(proofs, self._assertions, self._trust, now))
        return work.items, await self._judge.look(self._store, [i.received for i in work.items])

    # --- handing on ---

    async def _publish(self, bulk: Bulk, targets: Sequence[tuple[Item, NetworkId]]) -> None:
        now = self._clock.now()
        outgoing = [self._dispatch.order(item.received, item.body, network, now) for item, network in targets]
        for begin in range(0, len(outgoing), HANDED_ON_AT_ONCE):
            some = outgoing[begin : begin + HANDED_ON_AT_ONCE]
            if self._room is not None:
                if len(outgoing) > HANDED_ON_AT_ONCE:
                    await self._room.wait_for_patient()
                self._room.use(len(some))
            await until_done(lambda some=some: self._publisher.publish(some))  # type: ignore[misc]

        async def note() -> None:
            async with self._store.transaction() as uow:
                await uow.bulks.dispatched([bulk.key], now=self._clock.now())

        await until_done(note)
        self._observer.count("initiation", "dispatched", n=len(outgoing))


async def _write_first(uow: BulkIntakeUnit, first: First, read: Authentic[PaymentBulk], now: datetime) -> None:
    bulk = first.bulk
    if not await uow.bulks.insert([bulk]):
        # Another worker's, or this one's own, whose confirmation was lost: it is a repetition.
        raise OvertakenError
    inserted = await uow.payments.insert(first.payments)
    if len(inserted) != len(first.payments):
        # An order came up under one of these ids meanwhile: it stands, and the item must be told so.
        raise OvertakenError
    event = _event(bulk, _TOLD[bulk.status], f"{bulk.partner_id}/{bulk.bulk_id}", read, now)
    await uow.outbox.append([*payment_events(first.payments), event])


async def _reject(uow: BulkIntakeUnit, again: Again, now: datetime) -> Sequence[Payment]:
    """Write rejected items down; where another order has the id by now, tell that the item came to nothing."""
    if not again.payments:
        return ()
    inserted = await uow.payments.insert(again.payments)
    new = [p for p in again.payments if p.key in inserted]
    await uow.outbox.append(payment_events(new))
    lost = [p for p in again.payments if p.key not in inserted]
    firsts = await uow.payments.find([p.key for p in lost]) if lost else {}
    received = [
        RefusedOrder(
            p.partner_id,
            p.order_id,
            p.payment_id,
            order_id_used(firsts[p.key], p),
            again.references[p.key],
            p.traceparent,
        )
        for p in lost
        if p.key in firsts and not firsts[p.key].digest_is(p.order_digest)
    ]
    await refuse_orders(uow, received, now)
    return new


async def _refuse(uow: BulkIntakeUnit, read: Authentic[PaymentBulk], reason: Reason, now: datetime) -> None:
    # Written down with a "+", which no order's id has: this is no order.
    message = read.message
    refusal = Refusal(message.partner_id, f"{message.bulk_id}+", read.reference, reason)
    if await uow.refusals.insert([refusal]):
        bulk = bulk_of(read, BulkStatus.REFUSED, (), reason, now)
        await uow.outbox.append([_event(bulk, EventType.BULK_REFUSED, read.reference, read, now)])


def _reported(bulk: Bulk, read: Authentic[PaymentBulk], now: datetime) -> OutboxEvent:
    return _event(bulk, EventType.BULK_REPORTED, f"{bulk.partner_id}/{bulk.bulk_id}:{read.reference}", read, now)


_TOLD: Final = {BulkStatus.ACCEPTED: EventType.BULK_ACCEPTED, BulkStatus.REFUSED: EventType.BULK_REFUSED}


def _event(bulk: Bulk, type_: EventType, event_id: str, read: Authentic[PaymentBulk], now: datetime) -> OutboxEvent:
    return OutboxEvent(
        topic=events_topic(bulk.partner_id),
        key=bulk.bulk_id,
        event_id=event_id,
        event_type=type_,
        occurred_at=now,
        traceparent=read.envelope.traceparent,
        body=encode(
            BulkEvent.of_stored(
                partner_id=bulk.partner_id,
                bulk_id=bulk.bulk_id,
                status=bulk.status,
                number_of_transactions=bulk.items,
                accepted=bulk.accepted,
                rejected=bulk.rejected,
                reason=bulk.reason,
                reference=read.reference,
                occurred_at=bulk.decided_at,
            )
        ),
    )
