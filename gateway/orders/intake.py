"""Initiation: partner signature → decode → idempotency → consent → route. Advice only: execution decides under locks.

A batch costs four reads, at most one transaction and one publication, whatever its size. Every record ends in
exactly one way: dispatched, scheduled (accepted for a later day: a payment in state SCHEDULED), rejected (a payment in
state REJECTED), refused (no payment, for its id is taken, or it has a fault that its partner is told of), repeated (its
payment's state is told again), handed to the handler of its kind (:mod:`gateway.orders.kinds`), or parked as a
dead letter, of which nobody is told: nobody is known to have sent it (:mod:`gateway.identity.door`).
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

from gateway.base.errors import NotAuthenticatedError
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.database.unit import Store
from gateway.identity.door import Authentic, Door, Faulty, Nobodys
from gateway.identity.no_providers import NoIdentityProviders
from gateway.identity.signing import KeySource, SignatureVerifier
from gateway.identity.store import AssertionVerifier, TrustTable
from gateway.messaging.records import DeadLetters, Outgoing, Publisher, Record
from gateway.orders.bulk.rules import Bulk, BulkKey
from gateway.orders.faults import tell_faults
from gateway.orders.judging import Intake, Waits
from gateway.orders.kinds import Instruction, InstructionHandler, SignedInstruction
from gateway.orders.scheduled.rules import AHEAD_DAYS_DEFAULT
from gateway.orders.scheduled.service import Accepted, keep_waiting
from gateway.orders.store import InitiationUnit
from gateway.payments.dispatch import Dispatch
from gateway.payments.notices import RefusedOrder, refuse_orders, reported_events
from gateway.payments.rules.intent import TakenOrder, rejected
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.rules.repetition import order_id_taken
from gateway.payments.rules.routing import NetworkProfile
from gateway.payments.transitions import payment_events
from schemas.bulk import BULK_TYPE, PaymentBulk
from schemas.cancellation import CANCEL_TYPE
from schemas.orders import ORDER_TYPE, PaymentOrder
from schemas.primitives import NetworkId
from schemas.reasons import Reason
from schemas.refunds import PaymentRefund


class _OvertakenError(Exception):
    """Another worker, or execution, has written a payment under an order's id since the batch was sorted."""


@dataclass(slots=True)
class _Sorted:
    """A batch, sorted by how each record ends."""

    dispatched: list[Outgoing] = field(default_factory=list)
    scheduled: list[Accepted] = field(default_factory=list)
    rejected: list[Payment] = field(default_factory=list)
    refused: list[RefusedOrder] = field(default_factory=list)
    repeated: list[tuple[Payment, str]] = field(default_factory=list)
    faults: list[Faulty] = field(default_factory=list)
    nobodys: list[Nobodys] = field(default_factory=list)
    instructions: dict[InstructionHandler, list[Instruction]] = field(default_factory=dict)
    lapsed: list[tuple[Instruction, Nobodys]] = field(default_factory=list)


class InitiationService:
    """Takes in partners' orders."""

    def __init__(
        self,
        *,
        store: Store[InitiationUnit],
        keys: KeySource,
        verifier: SignatureVerifier,
        networks: Callable[[], Sequence[NetworkProfile]],
        publisher: Publisher,
        dispatch: Dispatch,
        dead_letters: DeadLetters,
        observer: Observer,
        clock: Clock,
        trust: TrustTable | None = None,
        assertions: AssertionVerifier | None = None,
        handlers: Sequence[InstructionHandler] = (),
        ahead_days_max: int = AHEAD_DAYS_DEFAULT,
    ) -> None:
        self._handlers = {type_: handler for handler in handlers for type_ in handler.models}
        models: dict[str, type[SignedInstruction]] = {ORDER_TYPE: PaymentOrder}
        for handler in handlers:
            models.update(handler.models)
        self._door = Door(verifier=verifier, models=models)
        self._store = store
        self._keys = keys
        self._publisher = publisher
        self._dispatch = dispatch
        self._dead_letters = dead_letters
        self._observer = observer
        self._clock = clock
        self._trust: TrustTable = trust or NoIdentityProviders()
        self._intake = Intake(store=store, trust=self._trust, networks=networks, ahead_days_max=ahead_days_max)
        self._assertions: AssertionVerifier = assertions or NoIdentityProviders()

    async def take(self, records: Sequence[Record]) -> None:
        """Bring every record of a batch to its end. Once this returns, the offsets may be committed."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        now = self._clock.now()
        ends, trusted = self._read_all(records, now)
        # A partner or key may have been registered a moment ago: look once more before turning anybody away.
        unknown = any(n.may_be_known_by_now for n in ends.nobodys)
        refreshed = unknown and await self._keys.refresh_if_stale()
        if await self._trust.refresh_unknown() or refreshed:
            ends, trusted = self._read_all(records, now)
        await self._sort(trusted, now, ends)
        while not await self._recorded(ends, now):
            ends, trusted = self._read_all(records, now)
            await self._sort(trusted, now, ends)
        # Before the orders: one must find a cancellation that came before it, also where both came in one batch.
        for handler, instructions in ends.instructions.items():
            if CANCEL_TYPE in handler.models:
                await handler.take(instructions, now)
        await self._hand_on(ends)
        for handler, instructions in ends.instructions.items():
            if CANCEL_TYPE not in handler.models:
                await handler.take(instructions, now)
        self._report(ends)
        self._observer.batch("initiation", size=len(records), seconds=loop.time() - started)

    def _read_all(self, records: Sequence[Record], now: datetime) -> tuple[_Sorted, list[tuple[Record, TakenOrder]]]:
        ends = _Sorted()
        return ends, [t for r in records if (t := self._read(r, now, ends))]

    def _read(self, record: Record, now: datetime, ends: _Sorted) -> tuple[Record, TakenOrder] | None:
        """Read; what is no plain order, or has no partner that vouches for it, is put where it ends."""
        read = self._door.read(record, now)
        match read:
            case Nobodys():
                ends.nobodys.append(read)
                return None
            case Faulty():
                ends.faults.append(read)
                return None
            case Authentic():
                return self._take_in(read, now, ends)
            case _:
                assert_never(read)

    def _take_in(
        self, read: Authentic[SignedInstruction], now: datetime, ends: _Sorted
    ) -> tuple[Record, TakenOrder] | None:
        message, envelope = read.message, read.envelope
        digest = hashlib.sha256(read.record.value).digest()
        if read.lapsed is not None or not isinstance(message, PaymentOrder):
            instruction = Instruction(message, read.record, envelope, digest, read.ordered_at)
            if read.lapsed is not None:
                ends.lapsed.append((instruction, Nobodys(read.record, NotAuthenticatedError(read.lapsed))))
            else:
                ends.instructions.setdefault(self._handlers[envelope.type], []).append(instruction)
            return None
        return read.record, TakenOrder(
            order=message,
            digest=digest,
            ordered_at=read.ordered_at,
            reference=read.record.reference,
            traceparent=envelope.traceparent,
            assertion=self._assertions.verify(message.authentication, now) if message.authentication else None,
            signature=envelope.signature,
        )

    async def _sort(self, trusted: Sequence[tuple[Record, TakenOrder]], now: datetime, ends: _Sorted) -> None:
        if ends.lapsed:
            await self._sort_lapsed(ends)
        if not trusted:
            return
        # What was refused when it came before, for a field that was not known yet, say, has ended and was told so.
        over = await until_done(lambda: self._refused(trusted))
        trusted = [(r, t) for r, t in trusted if t.reference not in over]
        seen = await self._intake.look([t for _, t in trusted])
        # What this batch itself does with an order id counts for the orders behind it.
        first_of = dict(seen.existing)
        sent_to: dict[PaymentKey, NetworkId] = {}
        for record, taken in trusted:
            if (first := first_of.get(taken.key)) is not None:
                _repeat(taken, first, ends)
                continue
            # A second order under a dispatched id follows the first: execution meets both in order, the first stands.
            target = sent_to.get(taken.key) or self._intake.judge(taken, seen, now)
            if isinstance(target, Reason):
                first_of[taken.key] = rejected(taken, target, now)
                ends.rejected.append(first_of[taken.key])
            elif isinstance(target, Waits):
                accepted = Accepted.of(record.value, taken, target, now)
                first_of[taken.key] = accepted.payment
                ends.scheduled.append(accepted)
            else:
                sent_to[taken.key] = target
                ends.dispatched.append(self._dispatch.order(taken, record.value, target, now))

    async def _sort_lapsed(self, ends: _Sorted) -> None:
        """A key that was disabled may be stolen, so nothing is told of what it signs; what it did before stands."""
        orders = {i.reference: i.message for i, _ in ends.lapsed if isinstance(i.message, PaymentOrder | PaymentRefund)}
        bulks = {i.reference: i.message for i, _ in ends.lapsed if isinstance(i.message, PaymentBulk)}

        async def read() -> tuple[Mapping[PaymentKey, Payment], Mapping[BulkKey, Bulk]]:
            async with self._store.reading() as uow:
                return (
                    await uow.payments.find([(o.partner_id, o.payment_id) for o in orders.values()]),
                    await uow.bulks.find([(b.partner_id, b.bulk_id) for b in bulks.values()]),
                )

        payments, accepted = await until_done(read)
        for instruction, nobodys in ends.lapsed:
            order, bulk = orders.get(instruction.reference), bulks.get(instruction.reference)
            payment = payments.get((order.partner_id, order.payment_id)) if order else None
            stored = accepted.get((bulk.partner_id, bulk.bulk_id)) if bulk else None
            # The partner's own bytes, which the key vouched for when they came.
            if payment is not None and payment.digest_is(instruction.digest):
                ends.repeated.append((payment, instruction.reference))
            elif stored is not None and stored.digest == instruction.digest:
                ends.instructions.setdefault(self._handlers[BULK_TYPE], []).append(instruction)
            else:
                ends.nobodys.append(nobodys)

    async def _refused(self, trusted: Sequence[tuple[Record, TakenOrder]]) -> frozenset[str]:
        async with self._store.reading() as uow:
            return await uow.refusals.find([(t.order.partner_id, t.reference) for _, t in trusted])

    async def _recorded(self, ends: _Sorted, now: datetime) -> bool:
        """Write what ends here; False, with nothing written, if a payment came up under one of these ids meanwhile."""
        if not (ends.rejected or ends.refused or ends.faults or ends.repeated or ends.scheduled):
            return True
        try:
            await until_done(lambda: self._record(ends, now))
        except _OvertakenError:
            return False
        return True

    async def _hand_on(self, ends: _Sorted) -> None:
        if ends.nobodys:
            parked = [(n.record, n.error) for n in ends.nobodys]
            await until_done(lambda: self._dead_letters.park("initiation", parked))
        if ends.dispatched:
            await until_done(lambda: self._publisher.publish(ends.dispatched))

    async def _record(self, ends: _Sorted, now: datetime) -> None:
        async with self._store.transaction() as uow:
            inserted = await uow.payments.insert(ends.rejected)
            waiting = await keep_waiting(uow, ends.scheduled, now)
            there = {*inserted, *(p.key for p in waiting)}
            lost = [p for p in (*ends.rejected, *(a.payment for a in ends.scheduled)) if p.key not in there]
            stored = await uow.payments.find([p.key for p in lost]) if lost else {}
            # Written by an earlier run of this transaction whose confirmation was lost: told already. Of any other
            # the payment that stands is the first, and these orders must be told so, not be dropped.
            if not all(p.is_written_as(stored.get(p.key)) for p in lost):
                raise _OvertakenError
            new = [p for p in ends.rejected if p.key in inserted]
            await uow.outbox.append([*payment_events([*new, *waiting]), *reported_events(ends.repeated, now)])
            await refuse_orders(uow, ends.refused, now)
            await tell_faults(uow, ends.faults, now)

    def _report(self, ends: _Sorted) -> None:
        count = self._observer.count
        count("initiation", "dispatched", n=len(ends.dispatched))
        count("initiation", "scheduled", n=len(ends.scheduled))
        count("initiation", "repeated", n=len(ends.repeated))
        refused = [*(r.reason for r in ends.refused), *(f.reason for f in ends.faults)]
        for outcome, reasons in (
            ("rejected", Counter(p.reason.code.value for p in ends.rejected if p.reason)),
            ("refused", Counter(r.code.value for r in refused)),
            ("dead_letter", Counter(n.error.reason.code.value for n in ends.nobodys)),
        ):
            for reason, n in reasons.items():
                count("initiation", outcome, reason=reason, n=n)
        for instructions in ends.instructions.values():
            for type_, n in Counter(i.envelope.type for i in instructions).items():
                count("initiation", "instruction", reason=type_, n=n)


def _repeat(taken: TakenOrder, first: Payment, ends: _Sorted) -> None:
    if first.digest_is(taken.digest):
        ends.repeated.append((first, taken.reference))
        return
    order = taken.order
    ends.refused.append(
        RefusedOrder(order.partner_id, order.order_id, first.payment_id, order_id_taken(first, order), taken.reference)
    )
