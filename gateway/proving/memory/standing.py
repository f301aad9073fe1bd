"""Standing orders in memory."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from gateway.base.errors import StoreIntegrityError
from gateway.orders.standing.rules import StandingKey, StandingOrder
from gateway.proving.memory.boundary import Boundary
from gateway.proving.memory.database import Transaction
from schemas.standing import StandingStatus


class MemoryStandingOrderStore:
    """Implements :class:`gateway.orders.store.StandingOrderStore` in one transaction."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self._tx = transaction
        self._db = transaction.database
        self._boundary = boundary

    async def lock(self, keys: Sequence[StandingKey]) -> Mapping[StandingKey, StandingOrder]:
        await self._boundary("standing.lock")
        return await self._tx.lock(self._db.standing, keys)

    async def insert(self, orders: Sequence[StandingOrder]) -> frozenset[StandingKey]:
        await self._boundary("standing.insert")
        for order in orders:
            _check(order)
        return frozenset([o.key for o in orders if await self._tx.insert(self._db.standing, o.key, o)])

    async def claim_due(self, *, now: datetime, limit: int) -> Sequence[StandingOrder]:
        await self._boundary("standing.claim_due")
        due = [
            (order.next_due_at, key, order)
            for key, order in self._tx.items(self._db.standing)
            if order.next_due_at is not None and order.next_due_at <= now
        ]
        claimed: list[StandingOrder] = []
        # One of each partner's in turn; what is held is passed over.
        rounds: Counter[str] = Counter()
        in_turn = []
        for _, key, order in sorted(due, key=lambda d: d[:2]):
            rounds[order.partner_id] += 1
            in_turn.append((rounds[order.partner_id], order.partner_id, key, order))
        share = Counter(partner_id for _, partner_id, _, _ in sorted(in_turn, key=lambda d: d[:2])[:limit])
        for _, partner_id, key, order in in_turn:
            if share[partner_id] and self._tx.try_lock(self._db.standing, key):
                share[partner_id] -= 1
                claimed.append(order)
        return claimed

    async def active(self, *, after: StandingKey | None, limit: int) -> Sequence[StandingOrder]:
        await self._boundary("standing.active")
        found: list[StandingOrder] = []
        for key, order in sorted(self._tx.items(self._db.standing), key=lambda item: item[0]):
            wanted = order.status is StandingStatus.ACTIVE and (after is None or key > after)
            if wanted and len(found) < limit and self._tx.try_lock(self._db.standing, key):
                found.append(order)
        return found

    async def update(self, orders: Sequence[StandingOrder]) -> None:
        await self._boundary("standing.update")
        for order in orders:
            stored = self._tx.get(self._db.standing, order.key)
            if stored is None:
                continue
            moved = replace(
                stored,
                status=order.status,
                version=order.version,
                occurrences=order.occurrences,
                next_due_at=order.next_due_at,
                changed_at=order.changed_at,
                reason=order.reason,
            )
            _check(moved)
            self._tx.update(self._db.standing, order.key, moved)


def _check(order: StandingOrder) -> None:
    if (order.status is StandingStatus.ACTIVE) != (order.next_due_at is not None):
        raise StoreIntegrityError("standing_order_next")
