"""Orders that wait for their day, in memory."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from gateway.base.errors import StoreIntegrityError
from gateway.payments.rules.payment import PaymentKey
from gateway.payments.rules.waiting import ScheduledOrder
from gateway.proving.memory.boundary import Boundary
from gateway.proving.memory.database import Transaction
from gateway.proving.memory.tables import ScheduledRow
from schemas.primitives import NetworkId


class MemoryScheduleStore:
    """Implements :class:`gateway.orders.store.ScheduleStore` in one transaction."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self._tx = transaction
        self._db = transaction.database
        self._boundary = boundary

    async def keep(self, orders: Sequence[ScheduledOrder]) -> None:
        await self._boundary("schedule.keep")
        for order in orders:
            if not await self._tx.insert(self._db.scheduled, order.key, ScheduledRow(order, order.due_at)):
                raise StoreIntegrityError("scheduled_order_pkey")

    async def claim(
        self, *, now: datetime, lease_until: datetime, limit: int, after: str = "", held_for: str = ""
    ) -> Sequence[ScheduledOrder]:
        await self._boundary("schedule.claim")
        rounds: Counter[str] = Counter()
        turns: list[tuple[tuple[int, bool, str], PaymentKey, ScheduledRow]] = []
        due = [d for d in self._due(now) if d[1].held_for == held_for]
        for key, row in sorted(due, key=lambda d: (d[1].look_at, d[0])):
            rounds[key[0]] += 1
            turns.append(((rounds[key[0]], key[0] <= after, key[0]), key, row))
        return self._claim([(key, row) for _, key, row in sorted(turns, key=lambda t: t[0])], lease_until, limit)

    async def claim_expired(self, *, now: datetime, lease_until: datetime, limit: int) -> Sequence[ScheduledOrder]:
        await self._boundary("schedule.claim")
        expired = [(key, row) for key, row in self._due(now) if row.order.expires_at <= now]
        return self._claim(sorted(expired, key=lambda d: (d[1].order.expires_at, d[0])), lease_until, limit)

    def _due(self, now: datetime) -> list[tuple[PaymentKey, ScheduledRow]]:
        rows = self._tx.items(self._db.scheduled)
        return [(key, row) for key, row in rows if row.closed_at is None and row.look_at <= now]

    def _claim(
        self, due: Sequence[tuple[PaymentKey, ScheduledRow]], lease_until: datetime, limit: int
    ) -> list[ScheduledOrder]:
        claimed: list[ScheduledOrder] = []
        for key, row in due:
            if len(claimed) < limit and self._tx.try_lock(self._db.scheduled, key):
                claimed.append(row.order)
                counted = replace(row.order, dispatches=row.order.dispatches + 1)
                self._tx.update(self._db.scheduled, key, replace(row, order=counted, look_at=lease_until))
        return claimed

    async def held_for(self) -> Sequence[NetworkId]:
        await self._boundary("schedule.held_for")
        rows = [row for _, row in self._tx.items(self._db.scheduled) if row.closed_at is None]
        return sorted({NetworkId(row.held_for) for row in rows if row.held_for})

    async def lock(self, keys: Sequence[PaymentKey]) -> None:
        await self._boundary("schedule.lock")
        await self._tx.lock(self._db.scheduled, keys)

    async def hold(self, orders: Sequence[tuple[ScheduledOrder, NetworkId]], *, now: datetime) -> None:
        await self._boundary("schedule.hold")
        rows = await self._tx.lock(self._db.scheduled, [order.key for order, _ in orders])
        for order, network_id in orders:
            row = rows.get(order.key)
            if row is not None and row.closed_at is None and row.order.dispatches == order.dispatches + 1:
                counted = replace(row.order, dispatches=order.dispatches)
                held = replace(row, order=counted, look_at=min(counted.due_at, now), held_for=network_id)
                self._tx.update(self._db.scheduled, order.key, held)

    async def put_off(self, until: Sequence[tuple[PaymentKey, datetime]]) -> None:
        await self._boundary("schedule.put_off")
        rows = await self._tx.lock(self._db.scheduled, [key for key, _ in until])
        for key, moment in until:
            if key in rows and rows[key].closed_at is None:
                self._tx.update(self._db.scheduled, key, replace(rows[key], look_at=moment))

    async def close(self, keys: Sequence[PaymentKey], *, now: datetime) -> None:
        await self._boundary("schedule.close")
        for key, row in (await self._tx.lock(self._db.scheduled, keys)).items():
            if row.closed_at is None:
                self._tx.update(self._db.scheduled, key, replace(row, closed_at=now))
