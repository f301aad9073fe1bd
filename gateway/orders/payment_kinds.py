"""Kinds whose messages become payments, purchases and refunds: of each order id one, which stands for ever.

Advice only: execution decides under locks. Every instruction ends in exactly one way: dispatched, scheduled (accepted
for a later day: a payment in state SCHEDULED), rejected (a payment in state REJECTED), refused (no payment, for its id
has another, or there is none that it could be about) or repeated (its payment's state is told again).
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Generic, Protocol, TypeVar, assert_never

from msgspec import Struct

from gateway.base.at_once import at_once
from gateway.base.process import Observer
from gateway.base.retrying import until_done
from gateway.database.unit import Store
from gateway.identity.door import Authentic, Faulty
from gateway.messaging.records import Outgoing, Publisher
from gateway.orders.kinds import FaultAnswer, Kind, OvertakenError
from gateway.orders.scheduled.service import Accepted, keep_waiting
from gateway.orders.store import PaymentIntakeUnit
from gateway.payments.notices import RefusedOrder, refuse_orders, reported_events
from gateway.payments.rules.intent import OrderOrRefund
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.rules.repetition import order_id_used
from gateway.payments.telling import tell_outcomes, tell_refused, tell_steps
from gateway.payments.transitions import payment_events
from schemas.orders import PaymentOrder
from schemas.primitives import NetworkId
from schemas.refunds import PaymentRefund


class SeenPayments(Protocol):
    """What was read of a batch without locks."""

    @property
    def existing(self) -> Mapping[PaymentKey, Payment]:
        """Payments that stand under the instructions' ids."""


M = TypeVar("M", bound=PaymentOrder | PaymentRefund)
T = TypeVar("T", bound=OrderOrRefund)
S = TypeVar("S", bound=SeenPayments)

End = NetworkId | Payment | Accepted | RefusedOrder
"""Of one instruction: dispatched to a network, rejected, accepted for a later day, or refused."""


class Instruction(Struct, Generic[M, T], frozen=True, gc=False):
    """One message, as it came and as execution takes it."""

    read: Authentic[M]
    received: T


@dataclass(slots=True)
class Instructions(Generic[M, T]):
    """A batch, and how each instruction of it ends.

    Attributes:
        rejected: with their payments.
        orphans: of the refused, those that are about no payment that there is.
        repeated: payments that are told again, each with the repeated record's reference.
    """

    instructions: Sequence[Instruction[M, T]]
    dispatched: list[Outgoing] = field(default_factory=list)
    scheduled: list[Accepted] = field(default_factory=list)
    rejected: list[tuple[T, Payment]] = field(default_factory=list)
    refused: list[RefusedOrder] = field(default_factory=list)
    orphans: list[T] = field(default_factory=list)
    repeated: list[tuple[Payment, str]] = field(default_factory=list)

    @property
    def ends_here(self) -> bool:
        """True where something is to be written down."""
        return bool(self.rejected or self.refused or self.repeated or self.scheduled)


class PaymentKind(Kind[M, Instructions[M, T]], Generic[M, T, S]):
    """A kind whose messages become payments; it says what it looks at, and how it judges one instruction."""

    counted_as: ClassVar[str]
    """The stage that its metrics name."""

    def __init__(self, *, store: Store[PaymentIntakeUnit], publisher: Publisher, observer: Observer) -> None:
        self._store = store
        self._publisher = publisher
        self._observer = observer

    @abstractmethod
    async def look(self, received: Sequence[T]) -> S:
        """Read what judging these needs, payments under their ids too."""

    @abstractmethod
    def end_of(self, instruction: Instruction[M, T], seen: S, now: datetime) -> End:
        """Judge one instruction under whose id no payment stands."""

    def may_follow(self, received: T) -> bool:  # noqa: ARG002 - the kind's
        """True if it may be handed on behind another under its id, unjudged: execution decides on that one first."""
        return True

    @abstractmethod
    def outgoing(self, instruction: Instruction[M, T], network_id: NetworkId, now: datetime) -> Outgoing:
        """The record by which it goes on."""

    async def hold(self, uow: PaymentIntakeUnit, work: Instructions[M, T]) -> None:
        """Make certain, within the transaction that writes, of what was read and must still hold.

        Raises:
            OvertakenError: it does not.
        """

    # --- steps of a kind ---

    async def accepted(self, messages: Sequence[Authentic[M]]) -> frozenset[str]:
        """Those whose payments came of these very bytes."""
        keys: dict[str, PaymentKey] = {m.reference: (m.message.partner_id, m.message.payment_id) for m in messages}
        async with self._store.reading() as uow:
            stored = await uow.payments.find(list(keys.values()))
        return frozenset(
            m.reference for m in messages if (p := stored.get(keys[m.reference])) is not None and p.digest_is(m.digest)
        )

    async def judge(self, work: Instructions[M, T], now: datetime) -> Instructions[M, T]:
        """Sort a batch by how each instruction ends."""
        async with at_once() as tasks:
            refusals = tasks.create_task(self._refused(work))
            looking = tasks.create_task(self.look([i.received for i in work.instructions]))
        refused, seen = refusals.result(), looking.result()
        # What was refused when it came before, for a field that was not known yet, say, has ended and was told so.
        instructions = [i for i in work.instructions if i.received.reference not in refused]
        judged = Instructions[M, T](work.instructions)
        # What this batch itself does with an order id counts for the instructions behind it.
        first_of = dict(seen.existing)
        sent: dict[PaymentKey, tuple[T, NetworkId]] = {}
        for instruction in instructions:
            key = instruction.received.key
            if (first := first_of.get(key)) is not None:
                _repeat(instruction, first, judged)
                continue
            if (before := sent.get(key)) is None:
                end: End = self.end_of(instruction, seen, now)
            elif self.may_follow(instruction.received):
                # It follows the first to its network: execution meets both in order, and the first stands.
                end = before[1]
            else:
                judged.refused.append(_refuse_second(instruction.received, before[0]))
                continue
            match end:
                case str():
                    sent.setdefault(key, (instruction.received, end))
                    judged.dispatched.append(self.outgoing(instruction, end, now))
                case Payment():
                    first_of[key] = end
                    judged.rejected.append((instruction.received, end))
                case Accepted():
                    first_of[key] = end.payment
                    judged.scheduled.append(end)
                case RefusedOrder():
                    judged.refused.append(end)
                    judged.orphans.append(instruction.received)
                case _:
                    assert_never(end)
        return judged

    async def _refused(self, work: Instructions[M, T]) -> frozenset[str]:
        async with self._store.reading() as uow:
            return await uow.refusals.find(
                [(i.read.message.partner_id, i.received.reference) for i in work.instructions]
            )

    async def write(self, work: Instructions[M, T], now: datetime) -> Instructions[M, T]:
        """Write payments that begin here, and tell of them."""
        if work.ends_here:
            async with self._store.transaction() as uow:
                await self.hold(uow, work)
                await _write(uow, work, now)
        return work

    async def hand_on(self, work: Instructions[M, T]) -> None:
        """Publish what execution decides."""
        if work.dispatched:
            await until_done(lambda: self._publisher.publish(work.dispatched))
        self.report(work)

    def report(self, work: Instructions[M, T]) -> None:
        """Count what became of the batch."""
        for outcome, n in (
            ("dispatched", len(work.dispatched)),
            ("scheduled", len(work.scheduled)),
            ("repeated", len(work.repeated)),
        ):
            self._observer.count(self.counted_as, outcome, n=n)
        rejected = [payment for _, payment in work.rejected]
        tell_outcomes(self._observer, rejected)
        tell_steps(self._observer, [*rejected, *(accepted.payment for accepted in work.scheduled)])
        tell_refused(self._observer, work.refused)

    def answer_fault(self, fault: Faulty, now: datetime) -> FaultAnswer | None:  # noqa: ARG002 - the kind's
        """Told by its order id."""
        return None


def _repeat(instruction: Instruction[M, T], first: Payment, judged: Instructions[M, T]) -> None:
    received = instruction.received
    if first.digest_is(received.digest):
        judged.repeated.append((first, received.reference))
    else:
        judged.refused.append(RefusedOrder.of(received, order_id_used(first, received.message), first))


def _refuse_second(received: OrderOrRefund, first: OrderOrRefund) -> RefusedOrder:
    message = received.message
    reason = order_id_used(first.message, message)
    return RefusedOrder(
        message.partner_id, message.order_id, message.payment_id, reason, received.reference, received.traceparent
    )


async def _write(uow: PaymentIntakeUnit, work: Instructions[M, T], now: datetime) -> None:
    rejected = [payment for _, payment in work.rejected]
    inserted = await uow.payments.insert(rejected)
    waiting = await keep_waiting(uow, work.scheduled, now)
    there = {*inserted, *(p.key for p in waiting)}
    lost = [p for p in (*rejected, *(a.payment for a in work.scheduled)) if p.key not in there]
    stored = await uow.payments.find([p.key for p in lost]) if lost else {}
    # Written by an earlier run of this transaction whose confirmation was lost: told already. Of any other the payment
    # that stands is the first, and these must be told so, not be dropped.
    if not all(p.matches_stored(stored.get(p.key)) for p in lost):
        raise OvertakenError
    new = [p for p in rejected if p.key in inserted]
    await uow.outbox.append([*payment_events([*new, *waiting]), *reported_events(work.repeated, now)])
    await refuse_orders(uow, work.refused, now)
