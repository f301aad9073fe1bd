"""What time makes of standing orders: payments.

An occurrence becomes a SCHEDULED payment in the transaction that moves its standing order on, under the order's lock:
once each, however many workers look. :mod:`gateway.orders.scheduled.service` hands it on, and execution decides it as
any order that waited for its day. What is wrong with the consent on that day is told by that payment; the standing
order goes on, unless the consent has ended for good, or its payment purpose was over since the order was given, though
an amendment brought it back: then that occurrence is the last one.

Days that an outage swallowed are made up for, in their order, within ``late_s`` of their beginning; later ones are told
as rejected payments and never paid.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from gateway.base.calendar import BusinessDays, day_of
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.base.validity import ORDER_VALIDITY_MAX
from gateway.consents.rules.consent import PAYMENT_ENDED_SINCE, Consent, has_ended_since
from gateway.database.unit import Store
from gateway.orders.standing.notices import standing_event
from gateway.orders.standing.rules import (
    CONSENT_ENDED,
    DAY_MISSED,
    Occurrence,
    StandingKey,
    StandingOrder,
    consent_has_ended,
    occurrence,
)
from gateway.orders.store import OccurrenceUnit
from gateway.outbox.store import OutboxEvent
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment
from gateway.payments.rules.purchase import ReceivedOrder, rejected, scheduled
from gateway.payments.rules.waiting import ScheduledOrder
from gateway.payments.telling import tell_outcomes, tell_steps
from gateway.payments.transitions import payment_events
from schemas.codec import encode
from schemas.consents import Purpose
from schemas.orders import OCCURRENCE_TYPE, OccurrenceOrder
from schemas.primitives import OrderId
from schemas.reasons import Reason
from schemas.standing import StandingStatus

LATE_MAX_S: Final = ORDER_VALIDITY_MAX.total_seconds()
"""An occurrence is an order for its day: it can be paid no later than any order for that day."""


@dataclass(frozen=True, slots=True)
class OccurrenceSettings:
    """Bounds of the making of occurrences; each has its reason.

    Attributes:
        batch: standing orders a transaction.
        at_once: occurrences of one standing order a transaction: after a long outage it catches up in several.
        late_s: how long after its day began an occurrence may still be paid; at most :data:`LATE_MAX_S`.
    """

    batch: int = 500
    at_once: int = 31
    late_s: float = LATE_MAX_S


@dataclass(slots=True)
class _Made:
    """One standing order's share of a batch."""

    row: StandingOrder
    payments: list[Payment]
    orders: list[ScheduledOrder]
    events: list[OutboxEvent]
    moved: OrderId | None = None  # the occurrence whose day the calendar has moved since it was computed


class OccurrenceService:
    """Makes the occurrences that are due. Any number of workers may do so side by side."""

    def __init__(
        self,
        *,
        store: Store[OccurrenceUnit],
        observer: Observer,
        clock: Clock,
        days: BusinessDays,
        settings: OccurrenceSettings,
    ) -> None:
        self._store = store
        self._observer = observer
        self._clock = clock
        self._days = days
        self._settings = settings
        self._late = timedelta(seconds=min(settings.late_s, LATE_MAX_S))

    async def make_due(self) -> int:
        """Make a batch; return how many standing orders were moved on."""
        made = await until_done(self._make)
        count = self._observer.count
        count("schedule", "occurrence", n=sum(len(m.orders) for m in made))
        count("schedule", "occurrence_missed", n=sum(len(m.payments) - len(m.orders) for m in made))
        count("schedule", "standing_order_completed", n=sum(m.row.next_due_at is None for m in made))
        tell_outcomes(self._observer, [p for m in made for p in m.payments if p.state is PaymentState.REJECTED])
        tell_steps(self._observer, [p for m in made for p in m.payments])
        for one in made:
            if one.moved is not None:
                self._tell_moved(one.row, one.moved)
        return len(made)

    async def follow_calendar(self) -> int:
        """Move next occurrences to the days that the calendar gives them now; return how many were moved.

        Once at the start is enough: a process's calendar does not change. Each is told in the log, and counted. One
        whose new day is over keeps the day that it had.
        """
        moved, after = 0, None
        while True:
            rows, found = await until_done(partial(self._follow, after))
            for row, order_id in found:
                self._tell_moved(row, order_id)
            moved += len(found)
            if not rows:
                return moved
            after = rows[-1].key

    async def _follow(
        self, after: StandingKey | None
    ) -> tuple[Sequence[StandingOrder], list[tuple[StandingOrder, OrderId]]]:
        async with self._store.transaction() as uow:
            rows = await uow.standing.active(after=after, limit=self._settings.batch)
            found: list[tuple[StandingOrder, OrderId]] = []
            for row in rows:
                due = occurrence(row.schedule, row.occurrences, self._days)
                if due is not None and due.due_at != row.next_due_at and due.day >= day_of(self._clock.now()):
                    found.append((replace(row, next_due_at=due.due_at), row.order_id(due)))
            await uow.standing.update([row for row, _ in found])
        return rows, found

    def _tell_moved(self, row: StandingOrder, order_id: OrderId) -> None:
        self._observer.count("schedule", "day_moved")
        self._observer.note(
            "standing_order_day_moved",
            level="warning",
            partner_id=row.partner_id,
            order_id=order_id,
            reason="the calendar of business days has changed",
        )

    async def _make(self) -> list[_Made]:
        async with self._store.transaction() as uow:
            rows = await uow.standing.claim_due(now=self._clock.now(), limit=self._settings.batch)
            if not rows:
                return []
            now = self._clock.now()
            keys = sorted({(r.partner_id, r.consent_id) for r in rows})
            consents = await uow.consents.read(keys)
            # After the consents: what brought the purpose back that they have comes behind an end that is seen here.
            ends = await uow.consents.last_ends(keys, Purpose.PAYMENT)
            made = [self._of(r, consents.get(k := (r.partner_id, r.consent_id)), ends.get(k), now) for r in rows]
            payments = [p for m in made for p in m.payments]
            # A payment that stands already was made before the database was put back: it is not made again.
            inserted = await uow.payments.insert(payments)
            await uow.schedule.keep([o for m in made for o in m.orders if o.key in inserted])
            await uow.standing.update([m.row for m in made])
            await uow.outbox.append(payment_events([p for p in payments if p.key in inserted]))
            await uow.outbox.append([e for m in made for e in m.events])
        return made

    def _of(self, row: StandingOrder, consent: Consent | None, last_end: int | None, now: datetime) -> _Made:
        made = _Made(row, [], [], [])
        ending = _ending(row, consent, last_end, now)
        following = occurrence(row.schedule, row.occurrences, self._days)
        if following is not None and row.next_due_at is not None and following.due_at != row.next_due_at:
            made.moved = row.order_id(following)
            # The calendar put it on a day that was over when that was noticed: paid on the day that it had.
            if following.due_at < row.next_due_at:
                following = replace(following, day=day_of(row.next_due_at))
        while following is not None and following.due_at <= now and len(made.payments) < self._settings.at_once:
            self._add(made, row, following, consent, now, ending)
            following = None if ending else occurrence(row.schedule, following.number + 1, self._days)
        made.row = replace(
            row,
            occurrences=row.occurrences + len(made.payments),
            next_due_at=following.due_at if following else None,
            changed_at=now,
        )
        if following is None:
            made.row = replace(made.row, status=StandingStatus.COMPLETED, version=row.version + 1, reason=ending)
            made.events.append(standing_event(made.row, self._days, now))
        return made

    def _add(
        self,
        made: _Made,
        row: StandingOrder,
        due: Occurrence,
        consent: Consent | None,
        now: datetime,
        ending: Reason | None,
    ) -> None:
        order = OccurrenceOrder.of_stored(
            partner_id=row.partner_id,
            order_id=row.order_id(due),
            consent_id=row.consent_id,
            merchant_id=row.merchant_id,
            amount=row.amount,
            issued_at=due.due_at,
            expires_at=due.due_at + self._late,
            requested_execution_date=due.day,
        )
        body = encode(order)
        received = ReceivedOrder(
            order=order,
            digest=hashlib.sha256(body).digest(),
            # Nobody ordered it at a moment of its own: it begins here.
            ordered_at=now,
            reference=row.reference,
            traceparent=row.traceparent,
        )
        # What else ends the standing order execution finds for itself, and tells more closely.
        refused = ending if ending is PAYMENT_ENDED_SINCE else DAY_MISSED if now >= order.expires_at else None
        if refused is not None:
            made.payments.append(rejected(received, refused, now))
            return
        made.payments.append(scheduled(received, consent, now))
        made.orders.append(
            ScheduledOrder(
                key=received.key,
                due_at=due.due_at,
                expires_at=order.expires_at,
                order_type=OCCURRENCE_TYPE,
                body=body,
                signature=row.signature,
                proven=row.proven,
                reference=row.reference,
                ordered_at=now,
                traceparent=row.traceparent,
            )
        )


def _ending(row: StandingOrder, consent: Consent | None, last_end: int | None, now: datetime) -> Reason | None:
    """Why the next occurrence is the last one; None: it is not, as far as the consent goes."""
    if consent_has_ended(consent, now):
        return CONSENT_ENDED
    # In force again, and not for what was ordered before.
    return PAYMENT_ENDED_SINCE if has_ended_since(row.consent_version, last_end) else None
