"""Orders that wait for their day, in memory."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from gateway.base.errors import StoreIntegrityError
from gateway.payments.rules.payment import PaymentKey
from gateway.payments.rules.waiting import ScheduledOrder
from gateway.proving.memory.boundary import Boundary
from gateway.proving.memory.database import Transaction
from gateway.proving.memory.tables import ScheduledRow


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
        self, *, now: datetime, lease_until: datetime, limit: int, only_expired: bool = False
    ) -> Sequence[ScheduledOrder]:
        await self._boundary("schedule.claim")
        due = [
            (row.look_at, key, row)
            for key, row in self._tx.items(self._db.scheduled)
            if row.closed_at is None and row.look_at <= now and (not only_expired or row.order.expires_at <= now)
        ]
        claimed: list[ScheduledOrder] = []
        for _, key, row in sorted(due, key=lambda d: d[:2]):
            if len(claimed) < limit and self._tx.try_lock(self._db.scheduled, key):
                claimed.append(row.order)
                counted = replace(row.order, dispatches=row.order.dispatches + 1)
                self._tx.update(self._db.scheduled, key, replace(row, order=counted, look_at=lease_until))
        return claimed

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
