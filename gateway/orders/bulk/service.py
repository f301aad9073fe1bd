"""Bulks, a kind of message on ``mypay.orders``: decided once as a whole, then handed on item by item.

Three steps, each safe to repeat: judge the items as orders are judged; write the bulk down with the items that it does
not accept, in one transaction; publish the accepted ones, and note that it was done. A bulk that comes again is not
judged again: it is told once more, and handed on once more only where it is not certain that it was. Execution knows an
item by its order id, and that the bytes which the gateway makes of it are always the same.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, assert_never

from pydantic import TypeAdapter

from gateway.base.process import Clock, Observer
from gateway.base.repetition import id_taken
from gateway.base.retrying import until_done
from gateway.database.unit import Store
from gateway.identity.door import Authentic, Faulty
from gateway.identity.refusals import Refusal
from gateway.identity.rules import Assertion
from gateway.identity.store import AssertionVerifier, TrustTable
from gateway.identity.verifying import verify_proofs
from gateway.messaging.records import Publisher
from gateway.orders.bulk.rules import Bulk, BulkKey, doubled, refuse_totals, status_of
from gateway.orders.judging import OrderJudge, Seen, Waits
from gateway.orders.kinds import FaultAnswer, Kind, OvertakenError
from gateway.orders.room import ExecutionRoom
from gateway.orders.store import BulkIntakeUnit
from gateway.outbox.store import OutboxEvent
from gateway.payments.dispatch import Dispatch
from gateway.payments.notices import RefusedOrder, refuse_orders
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.rules.purchase import TakenOrder, rejected
from gateway.payments.rules.repetition import order_id_taken
from gateway.payments.transitions import payment_events
from schemas.bulk import BULK_TYPE, BulkEvent, BulkIdField, BulkStatus, PaymentBulk, RejectedItem, TransactionCount
from schemas.codec import encode
from schemas.events import EventType
from schemas.primitives import NetworkId
from schemas.reasons import Reason
from schemas.topics import events_topic

_BULK_ID: Final[TypeAdapter[str]] = TypeAdapter(BulkIdField)
_NUMBER: Final[TypeAdapter[int]] = TypeAdapter(TransactionCount)

HANDED_ON_AT_ONCE: Final = 50
"""Items published before it is looked whether execution has room for more: a twentieth of a second of its work."""


@dataclass(frozen=True, slots=True)
class _Item:
    """One item as an order, with the bytes that stand for it."""

    number: int
    taken: TakenOrder
    body: bytes


@dataclass(frozen=True, slots=True)
class _First:
    """A bulk that came for the first time: what is written down of it, and where its accepted items go."""

    bulk: Bulk
    payments: Sequence[Payment] = ()
    targets: Sequence[tuple[_Item, NetworkId]] = ()


@dataclass(frozen=True, slots=True)
class _Again:
    """One that stands.

    Attributes:
        payments: of accepted items that can be handed on no more, or were before.
        targets: where it is not certain that it was handed on: where its items go.
        references: the items' own.
    """

    bulk: Bulk
    payments: Sequence[Payment] = ()
    targets: Sequence[tuple[_Item, NetworkId]] = ()
    references: Mapping[PaymentKey, str] = field(default_factory=dict)
    unfinished: bool = False


@dataclass(slots=True)
class BulkWork:
    """One bulk on its way.

    Attributes:
        items: each as an order, its proof verified; None until they are needed.
        judged: what becomes of it; a reason where its id has another bulk.
    """

    read: Authentic[PaymentBulk]
    items: Sequence[_Item] | None = None
    judged: _First | _Again | Reason | None = None


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
            work.judged = await self._judge_first(work, now)
        elif stored.digest != work.read.digest:
            work.judged = _id_taken(stored, message)
        elif stored.accepted and stored.dispatched_at is None:
            work.judged = await self._judge_again(work, stored, now)
        else:
            work.judged = _Again(stored)
        return work

    async def write(self, work: BulkWork, now: datetime) -> BulkWork:
        """Write down what became of it, and tell of it."""
        async with self._store.transaction() as uow:
            match work.judged:
                case _First() as first:
                    await _write_first(uow, first, now)
                case _Again() as again:
                    await _reject(uow, again, now)
                    await uow.outbox.append([_reported(again.bulk, work.read.reference, now)])
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
            case _First(bulk):
                count("initiation", f"bulk_{bulk.status}", reason=bulk.reason.code.value if bulk.reason else "")
                count("initiation", "bulk_item_rejected", n=len(bulk.rejected))
                if bulk.accepted:
                    await self._publish(bulk, judged.targets)
            case _Again(bulk):
                if judged.unfinished:
                    await self._publish(bulk, judged.targets)
                count("initiation", "bulk_repeated")
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

    async def _judge_first(self, work: BulkWork, now: datetime) -> _First:
        read, message = work.read, work.read.message
        refused = refuse_totals(message)
        if refused is not None:
            return _First(_bulk(read, BulkStatus.REFUSED, (), refused, now))
        items, seen = await self._look(work, now)
        reasons = doubled(message.items)
        payments: list[Payment] = []
        targets: list[tuple[_Item, NetworkId]] = []
        for item in items:
            if item.number in reasons:
                continue
            if item.taken.key in seen.existing:
                reasons[item.number] = order_id_taken(seen.existing[item.taken.key], item.taken.order)
                continue
            target = self._judge.judge(item.taken, seen, now)
            if isinstance(target, Reason):
                reasons[item.number] = target
                payments.append(rejected(item.taken, target, now))
            elif isinstance(target, Waits):
                raise TypeError("an item has no day of its own")
            else:
                targets.append((item, target))
        status, refused = status_of(message.acceptance, len(items), len(reasons))
        told = tuple(
            RejectedItem(item=n + 1, order_id=message.items[n].order_id, reason=reasons[n]) for n in sorted(reasons)
        )
        bulk = _bulk(read, status, told, refused, now)
        # Of a refused bulk nothing becomes a payment: its order ids stay free.
        return _First(bulk, payments, targets) if status is BulkStatus.ACCEPTED else _First(bulk)

    async def _judge_again(self, work: BulkWork, stored: Bulk, now: datetime) -> _Again:
        """The worker that accepted these items may have died on the way: what cannot be handed on now is rejected."""
        turned_away = {r.item - 1 for r in stored.rejected}
        items, seen = await self._look(work, now)
        targets: list[tuple[_Item, NetworkId]] = []
        payments: list[Payment] = []
        for item in items:
            if item.number in turned_away:
                continue
            if item.taken.key in seen.existing:
                # Its own payment, or that of another order which has taken its id meanwhile: _reject finds out.
                first = seen.existing[item.taken.key]
                payments.append(rejected(item.taken, order_id_taken(first, item.taken.order), now))
                continue
            target = self._judge.judge(item.taken, seen, now)
            if isinstance(target, Reason):
                payments.append(rejected(item.taken, target, now))
            elif isinstance(target, Waits):
                raise TypeError("an item has no day of its own")
            else:
                targets.append((item, target))
        references = {i.taken.key: i.taken.reference for i in items}
        return _Again(stored, payments, targets, references, unfinished=True)

    async def _look(self, work: BulkWork, now: datetime) -> tuple[Sequence[_Item], Seen]:
        if work.items is None:
            proofs = [i.authentication or None for i in work.read.message.items]
            work.items = _items(work.read, await verify_proofs(proofs, self._assertions, self._trust, now))
        async with self._store.reading() as uow:
            return work.items, await self._judge.look(uow, [i.taken for i in work.items])

    # --- handing on ---

    async def _publish(self, bulk: Bulk, targets: Sequence[tuple[_Item, NetworkId]]) -> None:
        now = self._clock.now()
        outgoing = [self._dispatch.order(item.taken, item.body, network, now) for item, network in targets]
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


def _items(read: Authentic[PaymentBulk], proofs: Sequence[Assertion | Reason | None]) -> list[_Item]:
    items: list[_Item] = []
    for number, (item, proof) in enumerate(zip(read.message.items, proofs, strict=True)):
        order = read.message.order(item)
        body = encode(order)
        taken = TakenOrder(
            order=order,
            digest=hashlib.sha256(body).digest(),
            ordered_at=read.ordered_at,
            reference=f"{read.reference}#{number + 1}",
            traceparent=read.envelope.traceparent,
            assertion=proof,
            signature=read.envelope.signature,
        )
        items.append(_Item(number, taken, body))
    return items


async def _write_first(uow: BulkIntakeUnit, first: _First, now: datetime) -> None:
    bulk = first.bulk
    if not await uow.bulks.insert([bulk]):
        # Another worker's, or this one's own, whose confirmation was lost: it is a repetition.
        raise OvertakenError
    inserted = await uow.payments.insert(first.payments)
    if len(inserted) != len(first.payments):
        # An order came up under one of these ids meanwhile: it stands, and the item must be told so.
        raise OvertakenError
    event = _event(bulk, _TOLD[bulk.status], f"{bulk.partner_id}/{bulk.bulk_id}", bulk.reference, now)
    await uow.outbox.append([*payment_events(first.payments), event])


async def _reject(uow: BulkIntakeUnit, again: _Again, now: datetime) -> None:
    """Write rejected items down; where another order has the id by now, tell that the item came to nothing."""
    if not again.payments:
        return
    inserted = await uow.payments.insert(again.payments)
    await uow.outbox.append(payment_events([p for p in again.payments if p.key in inserted]))
    lost = [p for p in again.payments if p.key not in inserted]
    firsts = await uow.payments.find([p.key for p in lost]) if lost else {}
    taken = [
        RefusedOrder(p.partner_id, p.order_id, p.payment_id, order_id_taken(firsts[p.key], p), again.references[p.key])
        for p in lost
        if p.key in firsts and not firsts[p.key].digest_is(p.order_digest)
    ]
    await refuse_orders(uow, taken, now)


async def _refuse(uow: BulkIntakeUnit, read: Authentic[PaymentBulk], reason: Reason, now: datetime) -> None:
    # Written down with a "+", which no order's id has: this is no order.
    message = read.message
    refusal = Refusal(message.partner_id, f"{message.bulk_id}+", read.reference, reason)
    if await uow.refusals.insert([refusal]):
        bulk = _bulk(read, BulkStatus.REFUSED, (), reason, now)
        await uow.outbox.append([_event(bulk, EventType.BULK_REFUSED, read.reference, read.reference, now)])


def _reported(bulk: Bulk, reference: str, now: datetime) -> OutboxEvent:
    return _event(bulk, EventType.BULK_REPORTED, f"{bulk.partner_id}/{bulk.bulk_id}:{reference}", reference, now)


_TOLD: Final = {BulkStatus.ACCEPTED: EventType.BULK_ACCEPTED, BulkStatus.REFUSED: EventType.BULK_REFUSED}


def _id_taken(stored: Bulk, message: PaymentBulk) -> Reason:
    first = {
        "number_of_transactions": stored.items,
        "control_sum": (stored.currency, stored.control_minor),
    }
    later = {
        "number_of_transactions": len(message.items),
        "control_sum": (message.control_sum.currency, message.control_sum.minor),
    }
    # Its items are not kept: where as many add up to the same, one of them may differ.
    stands = "the first one stands" if first != later else "items and acceptance may differ too; the first one stands"
    return id_taken("bulk_id", first, later, stands=stands)


def _bulk(
    read: Authentic[PaymentBulk],
    status: BulkStatus,
    turned_away: tuple[RejectedItem, ...],
    reason: Reason | None,
    now: datetime,
) -> Bulk:
    message = read.message
    return Bulk(
        partner_id=message.partner_id,
        bulk_id=message.bulk_id,
        digest=read.digest,
        status=status,
        items=len(message.items),
        currency=message.control_sum.currency,
        control_minor=message.control_sum.minor,
        rejected=turned_away,
        reason=reason,
        reference=read.reference,
        decided_at=now,
    )


def _event(bulk: Bulk, type_: EventType, event_id: str, reference: str, now: datetime) -> OutboxEvent:
    return OutboxEvent(
        topic=events_topic(bulk.partner_id),
        key=bulk.bulk_id,
        event_id=event_id,
        event_type=type_,
        occurred_at=now,
        body=encode(
            BulkEvent.of_stored(
                partner_id=bulk.partner_id,
                bulk_id=bulk.bulk_id,
                status=bulk.status,
                number_of_transactions=bulk.items,
                accepted=bulk.accepted,
                rejected=bulk.rejected,
                reason=bulk.reason,
                reference=reference,
                occurred_at=bulk.decided_at,
            )
        ),
    )
