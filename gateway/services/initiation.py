"""Initiation: decode → partner signature → idempotency → consent → route. Advice only: execution decides under locks.

A batch costs four reads, at most one transaction and one publication, whatever its size. Every record ends in
exactly one way: dispatched, scheduled (accepted for a later day: a payment in state SCHEDULED), rejected (a payment in
state REJECTED), refused (an order that becomes no payment, because its sender could not be trusted or its id is taken),
repeated (its payment's state is told again), handed to the handler of its kind (:mod:`gateway.services.instructions`),
or parked as a dead letter.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gateway.domain.bulk import Bulk, BulkKey
from gateway.domain.intent import TakenOrder, rejected
from gateway.domain.payment import Payment, PaymentKey
from gateway.domain.routing import NetworkProfile
from gateway.domain.scheduling import AHEAD_DAYS_DEFAULT
from gateway.ports import (
    AssertionVerifier,
    Clock,
    DeadLetters,
    KeySource,
    Observer,
    Outgoing,
    Publisher,
    Record,
    SignatureVerifier,
    Store,
    TrustTable,
)
from gateway.services.dispatch import Dispatch
from gateway.services.instructions import Instruction, InstructionHandler, SignedInstruction
from gateway.services.intake import Intake, Waits
from gateway.services.notices import ORDER_ID_TAKEN, RefusedOrder, refuse_orders, reported_events
from gateway.services.proofs import NoIdentityProviders
from gateway.services.retrying import until_done
from gateway.services.scheduled import Accepted, keep_waiting
from gateway.services.transitions import payment_events
from schemas.bulk import BULK_TYPE, PaymentBulk
from schemas.cancellation import CANCEL_TYPE
from schemas.codec import BODY_BYTES_MAX, DecodeError, decode
from schemas.envelope import Envelope, EnvelopeError, read_envelope
from schemas.orders import ORDER_TYPE, PaymentOrder
from schemas.primitives import NetworkId
from schemas.reasons import Reason, ReasonCode


class UnknownPartnerError(Exception):
    """The order names a partner that is not registered: there is nobody to tell."""


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
    unreadable: list[tuple[Record, Exception]] = field(default_factory=list)
    instructions: dict[InstructionHandler, list[Instruction]] = field(default_factory=dict)
    disabled: list[tuple[Instruction, RefusedOrder]] = field(default_factory=list)

    @property
    def has_unknown_sender(self) -> bool:
        """True if a record names a partner or key that the registry does not hold."""
        return any(isinstance(e, UnknownPartnerError) for _, e in self.unreadable) or any(
            r.reason.code is ReasonCode.DS0E for r in self.refused
        )


class InitiationService:
    """Takes in partners' orders."""

    def __init__(
        self,
        *,
        store: Store,
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
        self._models: dict[str, type[SignedInstruction]] = {ORDER_TYPE: PaymentOrder}
        for handler in handlers:
            self._models.update(handler.models)
        self._store = store
        self._keys = keys
        self._verifier = verifier
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
        refreshed = ends.has_unknown_sender and await self._keys.refresh_if_stale()
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
        """Decode and check who sent it; what fails, and what is no plain order, is put where it ends."""
        try:
            envelope, message = self._decode(record)
        except (EnvelopeError, DecodeError, UnknownPartnerError) as error:
            ends.unreadable.append((record, error))
            return None
        problem = self._verifier.verify(
            body=record.value,
            signature=envelope.signature,
            partner_id=message.partner_id,
            type_=envelope.type,
            now=now,
        )
        digest = hashlib.sha256(record.value).digest()
        ordered_at = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
        if problem is not None:
            # Not a payment: whoever sent this must not be able to use up an order id of the partner it names.
            refused = RefusedOrder(message.partner_id, message.instruction_id, None, problem, record.reference)
            if problem.code is ReasonCode.DS0C:
                ends.disabled.append((Instruction(message, record, envelope, digest, ordered_at), refused))
            else:
                ends.refused.append(refused)
            return None
        if not isinstance(message, PaymentOrder):
            ends.instructions.setdefault(self._handlers[envelope.type], []).append(
                Instruction(message, record, envelope, digest, ordered_at)
            )
            return None
        return record, TakenOrder(
            order=message,
            digest=digest,
            ordered_at=ordered_at,
            reference=record.reference,
            traceparent=envelope.traceparent,
            assertion=self._assertions.verify(message.authentication, now) if message.authentication else None,
            signature=envelope.signature,
        )

    def _decode(self, record: Record) -> tuple[Envelope, SignedInstruction]:
        envelope = read_envelope(record.headers)
        model = self._models.get(envelope.type)
        if model is None:
            raise EnvelopeError("ce_type", f"must be {' or '.join(sorted(self._models))}")
        bytes_max: int = getattr(model, "BYTES_MAX", BODY_BYTES_MAX)
        message = decode(model, record.value, bytes_max=bytes_max)  # type: ignore[type-var]
        if record.key != message.record_key.encode():
            raise EnvelopeError("key", "the record's key must be the message's consent_id (a bulk's: its bulk_id)")
        if not self._keys.partner_exists(message.partner_id):
            raise UnknownPartnerError("partner_id is not a registered, active partner")
        return envelope, message

    async def _sort(self, trusted: Sequence[tuple[Record, TakenOrder]], now: datetime, ends: _Sorted) -> None:
        if ends.disabled:
            await self._sort_disabled(ends)
        if not trusted:
            return
        # What was refused when it came before, by a key that was not registered yet, say, has ended and was told so.
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
                accepted = Accepted.of(record, taken, target, now)
                first_of[taken.key] = accepted.payment
                ends.scheduled.append(accepted)
            else:
                sent_to[taken.key] = target
                ends.dispatched.append(self._dispatch.order(taken, record.value, target, now))

    async def _sort_disabled(self, ends: _Sorted) -> None:
        """Refuse what a disabled key signed; but what was accepted with these very bytes before that goes on."""
        orders = {i.reference: i.message for i, _ in ends.disabled if isinstance(i.message, PaymentOrder)}
        bulks = {i.reference: i.message for i, _ in ends.disabled if isinstance(i.message, PaymentBulk)}

        async def read() -> tuple[Mapping[PaymentKey, Payment], Mapping[BulkKey, Bulk]]:
            async with self._store.reading() as uow:
                return (
                    await uow.payments.find([(o.partner_id, o.payment_id) for o in orders.values()]),
                    await uow.bulks.find([(b.partner_id, b.bulk_id) for b in bulks.values()]),
                )

        payments, accepted = await until_done(read)
        for instruction, refused in ends.disabled:
            order, bulk = orders.get(instruction.reference), bulks.get(instruction.reference)
            payment = payments.get((order.partner_id, order.payment_id)) if order else None
            stored = accepted.get((bulk.partner_id, bulk.bulk_id)) if bulk else None
            if payment is not None and payment.digest_is(instruction.digest):
                ends.repeated.append((payment, instruction.reference))
            elif stored is not None and stored.digest == instruction.digest:
                ends.instructions.setdefault(self._handlers[BULK_TYPE], []).append(instruction)
            else:
                ends.refused.append(refused)

    async def _refused(self, trusted: Sequence[tuple[Record, TakenOrder]]) -> frozenset[str]:
        async with self._store.reading() as uow:
            return await uow.payments.refused([(t.order.partner_id, t.reference) for _, t in trusted])

    async def _recorded(self, ends: _Sorted, now: datetime) -> bool:
        """Write what ends here; False, with nothing written, if a payment came up under one of these ids meanwhile."""
        if not (ends.rejected or ends.refused or ends.repeated or ends.scheduled):
            return True
        try:
            await until_done(lambda: self._record(ends, now))
        except _OvertakenError:
            return False
        return True

    async def _hand_on(self, ends: _Sorted) -> None:
        if ends.unreadable:
            await until_done(lambda: self._dead_letters.park("initiation", ends.unreadable))
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

    def _report(self, ends: _Sorted) -> None:
        count = self._observer.count
        count("initiation", "dispatched", n=len(ends.dispatched))
        count("initiation", "scheduled", n=len(ends.scheduled))
        count("initiation", "repeated", n=len(ends.repeated))
        for outcome, reasons in (
            ("rejected", Counter(p.reason.code.value for p in ends.rejected if p.reason)),
            ("refused", Counter(r.reason.code.value for r in ends.refused)),
            ("dead_letter", Counter(type(e).__name__ for _, e in ends.unreadable)),
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
        RefusedOrder(order.partner_id, order.order_id, first.payment_id, ORDER_ID_TAKEN, taken.reference)
    )
