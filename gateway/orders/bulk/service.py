"""Bulks: decided once as a whole, then handed on item by item.

Three steps, each safe to repeat: judge the items as orders are judged; write the bulk down with the items that it does
not accept, in one transaction; publish the accepted ones, and note that it was done. A bulk that comes again is not
judged again: it is told once more, and handed on once more only where it is not certain that it was. Execution knows an
item by its order id, and that the bytes which the gateway makes of it are always the same.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.base.process import Clock, Observer
from gateway.base.repetition import id_taken
from gateway.base.retrying import until_done
from gateway.database.unit import Store
from gateway.identity.no_providers import NoIdentityProviders
from gateway.identity.refusals import Refusal
from gateway.identity.rules import Assertion
from gateway.identity.store import AssertionVerifier, TrustTable
from gateway.messaging.records import Publisher
from gateway.orders.bulk.rules import Bulk, doubled, refuse_totals, status_of
from gateway.orders.judging import Intake, Seen, Waits
from gateway.orders.kinds import Instruction, SignedInstruction
from gateway.orders.room import ExecutionRoom
from gateway.orders.store import BulkIntakeUnit
from gateway.outbox.store import OutboxEvent
from gateway.payments.dispatch import Dispatch
from gateway.payments.notices import RefusedOrder, refuse_orders
from gateway.payments.rules.intent import TakenOrder, rejected
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.rules.repetition import order_id_taken
from gateway.payments.transitions import payment_events
from schemas.bulk import BULK_TYPE, BulkEvent, BulkStatus, PaymentBulk, RejectedItem
from schemas.codec import encode
from schemas.events import EventType
from schemas.primitives import NetworkId
from schemas.reasons import Reason
from schemas.topics import events_topic

PROOFS_AT_ONCE: Final = 50
"""Signatures verified before other work gets its turn: some milliseconds."""

HANDED_ON_AT_ONCE: Final = 50
"""Items published before it is looked whether execution has room for more: a twentieth of a second of its work."""


class _OvertakenError(Exception):
    """A payment came up under the id of an item that is being rejected: judge again."""


@dataclass(frozen=True, slots=True)
class _Item:
    """One item as an order, with the bytes that stand for it."""

    number: int
    taken: TakenOrder
    body: bytes


@dataclass(frozen=True, slots=True)
class _Judged:
    """A bulk that was judged: what is written down of it, and where its accepted items go."""

    bulk: Bulk
    payments: list[Payment]
    targets: list[tuple[_Item, NetworkId]]


class BulkService:
    """Implements :class:`gateway.orders.kinds.InstructionHandler` for bulks.

    Args:
        intake: judges each item as it judges an order.
        room: handing items on waits for it, so that other orders are not behind thousands of them. None: it does not.
    """

    models: Mapping[str, type[SignedInstruction]] = {BULK_TYPE: PaymentBulk}

    def __init__(
        self,
        *,
        store: Store[BulkIntakeUnit],
        intake: Intake,
        publisher: Publisher,
        dispatch: Dispatch,
        observer: Observer,
        clock: Clock,
        trust: TrustTable | None = None,
        assertions: AssertionVerifier | None = None,
        room: ExecutionRoom | None = None,
    ) -> None:
        self._store = store
        self._room = room
        self._intake = intake
        self._publisher = publisher
        self._dispatch = dispatch
        self._observer = observer
        self._clock = clock
        self._trust: TrustTable = trust or NoIdentityProviders()
        self._assertions: AssertionVerifier = assertions or NoIdentityProviders()

    async def take(self, instructions: Sequence[Instruction], now: datetime) -> None:
        """Bring each bulk to its end, one after the other: each is as large as a batch."""
        for instruction in instructions:
            if not isinstance(instruction.message, PaymentBulk):
                raise TypeError("initiation hands over what models names")
            await self._take(instruction, instruction.message, now)

    async def _take(self, instruction: Instruction, message: PaymentBulk, now: datetime) -> None:
        stored = await until_done(lambda: self._find(message))
        while stored is None:
            judged = await self._judge(instruction, message, now)
            try:
                stored = await until_done(lambda judged=judged: self._write(judged, now))  # type: ignore[misc]
            except _OvertakenError:
                continue
            if stored is None:
                # Written down, and not handed on yet.
                self._report(judged.bulk)
                await self._hand_on(judged.bulk, judged.targets)
                return
        await self._repeat(instruction, message, stored, now)

    async def _find(self, message: PaymentBulk) -> Bulk | None:
        async with self._store.reading() as uow:
            key = (message.partner_id, message.bulk_id)
            return (await uow.bulks.find([key])).get(key)

    # --- the first time ---

    async def _judge(self, instruction: Instruction, message: PaymentBulk, now: datetime) -> _Judged:
        refused = refuse_totals(message)
        if refused is not None:
            return _Judged(_bulk(instruction, message, BulkStatus.REFUSED, (), refused, now), [], [])
        items, seen = await self._look(instruction, message, now)
        reasons = doubled(message.items)
        payments: list[Payment] = []
        targets: list[tuple[_Item, NetworkId]] = []
        for item in items:
            if item.number in reasons:
                continue
            if item.taken.key in seen.existing:
                reasons[item.number] = order_id_taken(seen.existing[item.taken.key], item.taken.order)
                continue
            target = self._intake.judge(item.taken, seen, now)
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
        bulk = _bulk(instruction, message, status, told, refused, now)
        # Of a refused bulk nothing becomes a payment: its order ids stay free.
        return _Judged(bulk, payments, targets) if status is BulkStatus.ACCEPTED else _Judged(bulk, [], [])

    async def _look(self, instruction: Instruction, message: PaymentBulk, now: datetime) -> tuple[list[_Item], Seen]:
        items = await self._items(instruction, message, now)
        if await self._trust.refresh_unknown():
            # A provider's key may be newer than what this process knows: look once more.
            items = await self._items(instruction, message, now)
        return items, await self._intake.look([i.taken for i in items])

    async def _items(self, instruction: Instruction, message: PaymentBulk, now: datetime) -> list[_Item]:
        items: list[_Item] = []
        verified = 0
        for number, item in enumerate(message.items):
            proof: Assertion | Reason | None = None
            if item.authentication:
                proof = self._assertions.verify(item.authentication, now)
                verified += 1
                if verified % PROOFS_AT_ONCE == 0:
                    await asyncio.sleep(0)
            order = message.order(item)
            body = encode(order)
            taken = TakenOrder(
                order=order,
                digest=hashlib.sha256(body).digest(),
                ordered_at=instruction.ordered_at,
                reference=f"{instruction.reference}#{number + 1}",
                traceparent=instruction.envelope.traceparent,
                assertion=proof,
                signature=instruction.envelope.signature,
            )
            items.append(_Item(number, taken, body))
        return items

    async def _write(self, judged: _Judged, now: datetime) -> Bulk | None:
        """Write the bulk down; return the one that stands under its id if there is one already."""
        async with self._store.transaction() as uow:
            bulk = judged.bulk
            if not await uow.bulks.insert([bulk]):
                # Another worker's, or this one's own, whose confirmation was lost: handed on as a repetition.
                return (await uow.bulks.find([bulk.key]))[bulk.key]
            inserted = await uow.payments.insert(judged.payments)
            if len(inserted) != len(judged.payments):
                # An order came up under one of these ids meanwhile: it stands, and the item must be told so.
                raise _OvertakenError
            events = [_event(bulk, _TOLD[bulk.status], f"{bulk.partner_id}/{bulk.bulk_id}", bulk.reference, now)]
            await uow.outbox.append([*payment_events(judged.payments), *events])
        return None

    # --- again ---

    async def _repeat(self, instruction: Instruction, message: PaymentBulk, stored: Bulk, now: datetime) -> None:
        if stored.digest != instruction.digest:
            reason = _id_taken(stored, message)
            await until_done(lambda: self._refuse(instruction, message, reason, now))
            return
        if stored.accepted and stored.dispatched_at is None:
            await self._hand_on_again(instruction, message, stored, now)
        await until_done(lambda: self._tell_again(instruction, stored, now))

    async def _refuse(self, instruction: Instruction, message: PaymentBulk, reason: Reason, now: datetime) -> None:
        async with self._store.transaction() as uow:
            # Written down with a "+", which no order's id has: this is no order.
            refusal = Refusal(message.partner_id, f"{message.bulk_id}+", instruction.reference, reason)
            if await uow.refusals.insert([refusal]):
                bulk = _bulk(instruction, message, BulkStatus.REFUSED, (), reason, now)
                event = _event(bulk, EventType.BULK_REFUSED, instruction.reference, instruction.reference, now)
                await uow.outbox.append([event])
        self._observer.count("initiation", "bulk_refused", reason=reason.code.value)

    async def _tell_again(self, instruction: Instruction, stored: Bulk, now: datetime) -> None:
        name = f"{stored.partner_id}/{stored.bulk_id}:{instruction.reference}"
        async with self._store.transaction() as uow:
            await uow.outbox.append([_event(stored, EventType.BULK_REPORTED, name, instruction.reference, now)])
        self._observer.count("initiation", "bulk_repeated")

    # --- handing on ---

    async def _hand_on(self, bulk: Bulk, targets: Sequence[tuple[_Item, NetworkId]]) -> None:
        if not bulk.accepted:
            return
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

    async def _hand_on_again(self, instruction: Instruction, message: PaymentBulk, stored: Bulk, now: datetime) -> None:
        """The worker that accepted these items may have died on the way: what cannot be handed on now is rejected."""
        turned_away = {r.item - 1 for r in stored.rejected}
        items, seen = await self._look(instruction, message, now)
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
            target = self._intake.judge(item.taken, seen, now)
            if isinstance(target, Reason):
                payments.append(rejected(item.taken, target, now))
            elif isinstance(target, Waits):
                raise TypeError("an item has no day of its own")
            else:
                targets.append((item, target))
        references = {i.taken.key: i.taken.reference for i in items}
        await until_done(lambda: self._reject(payments, references, now))
        await self._hand_on(stored, targets)

    async def _reject(self, payments: Sequence[Payment], references: Mapping[PaymentKey, str], now: datetime) -> None:
        """Write rejected items down; where another order has the id by now, tell that the item came to nothing."""
        async with self._store.transaction() as uow:
            inserted = await uow.payments.insert(payments)
            await uow.outbox.append(payment_events([p for p in payments if p.key in inserted]))
            lost = [p for p in payments if p.key not in inserted]
            firsts = await uow.payments.find([p.key for p in lost]) if lost else {}
            taken = [
                RefusedOrder(
                    p.partner_id, p.order_id, p.payment_id, order_id_taken(firsts[p.key], p), references[p.key]
                )
                for p in lost
                if p.key in firsts and not firsts[p.key].digest_is(p.order_digest)
            ]
            await refuse_orders(uow, taken, now)

    def _report(self, bulk: Bulk) -> None:
        reason = bulk.reason.code.value if bulk.reason else ""
        self._observer.count("initiation", f"bulk_{bulk.status}", reason=reason)
        self._observer.count("initiation", "bulk_item_rejected", n=len(bulk.rejected))


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
    instruction: Instruction,
    message: PaymentBulk,
    status: BulkStatus,
    turned_away: tuple[RejectedItem, ...],
    reason: Reason | None,
    now: datetime,
) -> Bulk:
    return Bulk(
        partner_id=message.partner_id,
        bulk_id=message.bulk_id,
        digest=instruction.digest,
        status=status,
        items=len(message.items),
        currency=message.control_sum.currency,
        control_minor=message.control_sum.minor,
        rejected=turned_away,
        reason=reason,
        reference=instruction.reference,
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
