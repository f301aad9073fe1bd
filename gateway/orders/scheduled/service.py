"""Orders for a later day: kept when they come, handed on to execution when their day has come.

Handing on happens at least once: an order stays in the schedule until its payment waits no more, and is handed on again
after a while. Execution decides it once, under the payment's lock, as SENT or REJECTED; a payment that was cancelled
meanwhile is neither handed on nor decided. An order that expires before execution reaches it is rejected from here.

A day's orders are due at one moment, however many. They are handed on as execution has room for them, in a short line,
and partners take turns: whoever gives many would hold up everybody's orders of that moment otherwise. Each network has
room of its own. What is for one that has none is held for it, and passed by until it has; so its orders are looked at
once, and not again and again before those of others. What was held for one that is closed since, or gone, is held for
the next one first: partners take turns there, too.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from gateway.base.errors import TooLargeForTopicError, TopicClosedError
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.database.unit import Store
from gateway.directory.merchants import Merchant
from gateway.identity.assurance import Assertion
from gateway.identity.rules import replayed
from gateway.identity.store import AssertionUse, AuthenticationUnit
from gateway.messaging.records import Outgoing, Publisher
from gateway.orders.judging import Waits
from gateway.orders.network_rooms import NetworkRooms
from gateway.orders.room import HANDED_ON_AT_ONCE
from gateway.orders.store import DueUnit, WaitingUnit
from gateway.payments.cancellations.rules import ORDER_CANCELLED
from gateway.payments.dispatch import Dispatch, decode_order
from gateway.payments.rules.lifecycle import PaymentEventKind, PaymentState
from gateway.payments.rules.payment import Change, Payment, PaymentKey
from gateway.payments.rules.purchase import ReceivedOrder, rejected, scheduled
from gateway.payments.rules.routing import NetworkProfile, route
from gateway.payments.rules.waiting import ScheduledOrder
from gateway.payments.telling import tell_outcomes, tell_steps
from gateway.payments.transitions import Applied, apply_changes
from schemas.codec import DecodeError
from schemas.orders import ORDER_TYPE, PaymentOrder
from schemas.primitives import ConsentId, MerchantId, NetworkId
from schemas.reasons import Reason, ReasonCode
from schemas.topics import dispatch_topic

_EXPIRED: Final = Reason(code=ReasonCode.TM01, text="the order is past its expires_at")
_NO_MERCHANT: Final = Reason(code=ReasonCode.AC03, text="merchant_id is not in the merchant directory")

_NONE: Final = ""
"""In place of a network: what is held for none."""

_LOOKS_MAX: Final = 20
"""For room, before those are looked at again that have expired: a second and less."""

# --- when an order comes ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accepted:
    """An order that is accepted for a later day: what becomes of it, and what is kept."""

    received: ReceivedOrder
    payment: Payment
    order: ScheduledOrder

    @classmethod
    def of(cls, body: bytes, received: ReceivedOrder, waits: Waits, now: datetime) -> "Accepted":
        """Build both from the partner's bytes and what was read of them."""
        order = ScheduledOrder(
            key=received.key,
            due_at=waits.due_at,
            expires_at=received.order.expires_at,
            order_type=ORDER_TYPE,
            body=body,
            signature=received.signature,
            proven=received.assertion is not None,
            reference=received.reference,
            ordered_at=received.ordered_at,
            traceparent=received.traceparent,
        )
        return cls(received, scheduled(received, waits.consent, now), order)


async def keep_waiting(uow: WaitingUnit, accepted: Sequence[Accepted], now: datetime) -> list[Payment]:
    """Use the orders' proofs up and write their payments: SCHEDULED, or REJECTED where cancelled or a proof was used.

    Returns:
        those that are new; a payment that another worker has written meanwhile stands.
    """
    if not accepted:
        return []
    used_before = await _use_proofs(uow, accepted)
    # A cancellation that comes at this very moment is met by execution, when the order is due.
    cancelled = await uow.cancellations.not_sent([a.payment.key for a in accepted])
    payments = [_begun(a, used_before, cancelled, now) for a in accepted]
    inserted = await uow.payments.insert(payments)
    new = {p.key: p for p in payments if p.key in inserted}
    waiting = {key for key, p in new.items() if p.state is PaymentState.SCHEDULED}
    await uow.schedule.keep([a.order for a in accepted if a.order.key in waiting])
    return list(new.values())


def _begun(
    accepted: Accepted,
    used_before: frozenset[PaymentKey],
    cancelled: Mapping[PaymentKey, frozenset[ConsentId]],
    now: datetime,
) -> Payment:
    payment = accepted.payment
    if payment.consent_id in cancelled.get(payment.key, ()):
        return rejected(accepted.received, ORDER_CANCELLED, now)
    return rejected(accepted.received, replayed(), now) if payment.key in used_before else payment


async def _use_proofs(uow: AuthenticationUnit, accepted: Sequence[Accepted]) -> frozenset[PaymentKey]:
    uses = [
        AssertionUse(
            issuer=proof.issuer,
            jti=proof.jti,
            partner_id=a.payment.partner_id,
            used_by=a.payment.payment_id,
            keep_until=proof.keep_until,
        )
        for a in accepted
        if isinstance(proof := a.received.assertion, Assertion)
    ]
    refused = await uow.authentication.use(uses) if uses else frozenset()
    return frozenset((u.partner_id, u.used_by) for u in refused)  # type: ignore[misc]


# --- when its day has come --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """Bounds of the schedule; each has its reason.

    Attributes:
        batch: orders handed on at a time: one publication and four statements.
        lease_s: longer than handing a batch on takes; after it another worker may.
        again_s: how long execution may take before an order is handed on again; doubles each time, up to an hour, so
            that a network that is away finds few copies of each.
    """

    batch: int = 500
    lease_s: float = 30.0
    again_s: float = 300.0
    again_max_s: float = 3600.0


@dataclass(slots=True)
class _Found:
    """What was claimed, and what is known of it.

    Attributes:
        is_full: there may be more.
        passed_by: some is held for a network that has no room.
        places: the network that each was held for, of those that were for one.
    """

    claimed: int = 0
    is_full: bool = False
    passed_by: bool = False
    places: dict[PaymentKey, str] = field(default_factory=dict)
    waiting: list[ScheduledOrder] = field(default_factory=list)
    merchants: dict[MerchantId, Merchant] = field(default_factory=dict)


class ScheduledOrderService:
    """Hands orders on whose day has come. Any number of workers may do so side by side.

    Args:
        networks: what routing knows of the networks at this moment.
        rooms: handing on waits for room at each network. None: it does not.
    """

    def __init__(
        self,
        *,
        store: Store[DueUnit],
        publisher: Publisher,
        dispatch: Dispatch,
        networks: Callable[[], Sequence[NetworkProfile]],
        observer: Observer,
        clock: Clock,
        settings: ScheduleSettings,
        rooms: NetworkRooms | None = None,
    ) -> None:
        self._store = store
        self._rooms = rooms
        self._more = False
        # Whose order was the last one, of each network's and of all others': the next turn is the partner's behind.
        self._last: dict[str, str] = {}
        self._publisher = publisher
        self._dispatch = dispatch
        self._networks = networks
        self._observer = observer
        self._clock = clock
        self._settings = settings

    async def dispatch_due(self) -> int:
        """Hand a batch on; return how many orders were looked at.

        Of a network without room those alone are looked at that have expired.
        """
        free, found = await self._find()
        waiting, merchants = found.waiting, found.merchants
        outgoing: list[Outgoing] = []
        changes: list[Change] = []
        held: list[tuple[ScheduledOrder, NetworkId]] = []
        taken: Counter[NetworkId] = Counter()
        now = self._clock.now()
        for waited in waiting:
            try:
                order = decode_order(waited.order_type, waited.body)
            except DecodeError:
                # It must not hold the others up. It ends when it expires; until then people can look at it.
                self._observer.count("schedule", "order_unreadable")
                self._observer.count("schedule", "incident", reason="order_unreadable")
                self._observer.note("scheduled_order_unreadable", level="error", payment_id=waited.key[1])
                if now >= waited.expires_at:
                    changes.append(Change(waited.key, PaymentEventKind.REFUSED, _EXPIRED))
                continue
            target = self._target(waited, order, merchants, now)
            if isinstance(target, Reason):
                changes.append(Change(waited.key, PaymentEventKind.REFUSED, target))
            elif taken[target] >= free.get(target, self._settings.batch):
                held.append((waited, target))
            elif target in free and found.places.get(waited.key, target) != target:
                # A flood of another network would take all of this one's room, before those that wait for it.
                held.append((waited, target))
            else:
                taken[target] += 1
                outgoing.append(self._dispatch.due(waited, order, target, now))
        gone = await self._hand_on(outgoing) if outgoing else []
        self._more = found.is_full or bool(held)
        if self._rooms is not None:
            topics = Counter(o.topic for o in gone)
            self._rooms.use({n: topics[dispatch_topic(n)] for n in taken})
        if waiting:
            applied = await until_done(lambda: self._settle(waiting, changes, held))
            tell_outcomes(self._observer, applied.outcomes)
            tell_steps(self._observer, applied.changed)
        passed_by = {w.key for w, _ in held}
        self._report([w for w in waiting if w.key not in passed_by], changes, len(gone))
        if held and self._rooms is not None:
            # The others are in no such hurry that a network's line should be sorted out at once.
            await self._rooms.pause()
        return found.claimed

    async def _hand_on(self, outgoing: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """Publish all but those whose network has no open topic, or whose topic takes none as large.

        They wait, and the others go. Returns those that went.
        """
        going = list(outgoing)

        async def publish() -> TopicClosedError | TooLargeForTopicError | None:
            try:
                await self._publisher.publish(going)
            except (TopicClosedError, TooLargeForTopicError) as error:
                return error
            return None

        while (refusal := await until_done(publish)) is not None:
            if isinstance(refusal, TooLargeForTopicError):
                # The publisher has told of it. It expires at last, if nobody lets it through before.
                going = [o for n, o in enumerate(going) if n not in refusal.numbers]
                continue
            going = [o for o in going if o.topic != refusal.topic]
            self._observer.count("schedule", "topic_closed")
            self._observer.note("topic_closed", level="error", topic=refusal.topic)
        return going

    async def _find(self) -> tuple[Mapping[NetworkId, int], _Found]:
        """What is to be handed on now; waits a little for room where all that is due is held for want of it."""
        for _ in range(_LOOKS_MAX):
            free = await self._free()
            found = await until_done(lambda free=free: self._claim(free))  # type: ignore[misc]
            if found.claimed or not found.passed_by or self._rooms is None or not _any_room(free):
                break
            await self._rooms.pause()
        return free, found

    async def _free(self) -> Mapping[NetworkId, int]:
        """How many may be handed on to each network now; waits a little for some, where more are due than a few."""
        if self._rooms is None:
            return {}
        if not self._more:
            return {n.network_id: HANDED_ON_AT_ONCE for n in self._networks()}
        free: Mapping[NetworkId, int] = {}
        for _ in range(_LOOKS_MAX):
            free = await self._rooms.free_beside_others()
            if _any_room(free):
                break
            await self._rooms.pause()
        return free

    async def _claim(self, free: Mapping[NetworkId, int]) -> _Found:
        """Claim what is held for networks that have room, then of all others as many as one of these has room for."""
        batch = self._settings.batch
        found = _Found()
        async with self._store.transaction() as uow:
            now = self._clock.now()
            lease_until = now + timedelta(seconds=self._settings.lease_s)
            left = dict(free)
            claimed: list[ScheduledOrder] = []
            # What is held for none, or for one that is in no file any more, is looked at even where others' orders use
            # all the room that there is: it takes its turn then where it can go.
            most = max(free.values(), default=batch)
            for place in (*await uow.schedule.held_for(), _NONE):
                limit = min(left.get(NetworkId(place), most), batch - len(claimed))
                if limit <= 0:
                    found.passed_by |= place != _NONE
                    continue
                after = self._last.get(place, "")
                some = await uow.schedule.claim(
                    now=now, lease_until=lease_until, limit=limit, after=after, held_for=place
                )
                if some:
                    self._last[place] = some[-1].key[0]
                if place in left:
                    left[NetworkId(place)] -= len(some)
                if place != _NONE:
                    found.places |= dict.fromkeys((w.key for w in some), place)
                found.is_full |= len(some) >= limit
                claimed += some
            if any(room <= 0 for room in free.values()):
                found.is_full = True
                claimed += await uow.schedule.claim_expired(now=now, lease_until=lease_until, limit=batch)
            found.claimed = len(claimed)
            if not claimed:
                return found
            payments = await uow.payments.find([w.key for w in claimed])
            waiting = [w for w in claimed if _waits(payments.get(w.key))]
            await uow.schedule.close([w.key for w in claimed if not _waits(payments.get(w.key))], now=now)
            wanted = sorted({p.merchant_id for p in payments.values()})
            found.waiting, found.merchants = waiting, dict(await uow.directory.merchants(wanted))
        return found

    def _target(
        self, waited: ScheduledOrder, order: PaymentOrder, merchants: dict[MerchantId, Merchant], now: datetime
    ) -> NetworkId | Reason:
        if now >= waited.expires_at:
            return _EXPIRED
        merchant = merchants.get(order.merchant_id)
        if merchant is None:
            return _NO_MERCHANT
        return route(order.amount.minor, order.amount.currency, merchant, self._networks())

    async def _settle(
        self,
        waiting: Sequence[ScheduledOrder],
        changes: Sequence[Change],
        held: Sequence[tuple[ScheduledOrder, NetworkId]],
    ) -> Applied:
        async with self._store.transaction() as uow:
            now = self._clock.now()
            applied = await apply_changes(uow, changes, now=now)
            # All at once: another worker has some of them where this one's lease ran out.
            await uow.schedule.lock([w.key for w in waiting])
            # A change that came too late found a payment that waits no more: either way it is over.
            decided = {c.key for c in changes}
            await uow.schedule.close(sorted(decided), now=now)
            await uow.schedule.hold(held, now=now)
            decided |= {w.key for w, _ in held}
            await uow.schedule.put_off([(w.key, self._again_at(w, now)) for w in waiting if w.key not in decided])
        return applied

    def _again_at(self, waited: ScheduledOrder, now: datetime) -> datetime:
        pause_s = min(self._settings.again_s * 2 ** min(waited.dispatches, 16), self._settings.again_max_s)
        # What expires before is rejected then, and not later.
        return min(now + timedelta(seconds=pause_s), max(waited.expires_at, now))

    def _report(self, waiting: Sequence[ScheduledOrder], changes: Sequence[Change], dispatched: int) -> None:
        count, now = self._observer.count, self._clock.now()
        count("schedule", "order_dispatched", n=dispatched)
        for reason, n in Counter(c.reason.code.value for c in changes if c.reason).items():
            count("schedule", "order_rejected", reason=reason, n=n)
        if first := [w for w in waiting if not w.dispatches]:
            self._observer.spans("due_to_dispatch", [(now - w.due_at).total_seconds() for w in first])


def _any_room(free: Mapping[NetworkId, int]) -> bool:
    return any(room > 0 for room in free.values())


def _waits(payment: Payment | None) -> bool:
    return payment is not None and payment.state is PaymentState.SCHEDULED
