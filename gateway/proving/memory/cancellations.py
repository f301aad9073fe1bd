"""Cancellations of orders in memory."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

from gateway.payments.cancellations.rules import CancellationKey, HandledCancellation
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import PaymentKey
from gateway.proving.memory.boundary import Boundary
from gateway.proving.memory.database import Transaction
from schemas.events import CancellationEffect
from schemas.primitives import ConsentId, PartnerId

_OPEN: Final = (PaymentState.SENT, PaymentState.UNKNOWN)


class MemoryCancellationStore:
    """Implements :class:`gateway.payments.cancellations.store.CancellationStore` in one transaction."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self._tx = transaction
        self._db = transaction.database
        self._boundary = boundary

    async def handled(self, keys: Sequence[CancellationKey]) -> Mapping[CancellationKey, HandledCancellation]:
        await self._boundary("cancellations.handled")
        return {k: row for k in keys if (row := self._tx.get(self._db.cancellations, k)) is not None}

    async def remember(self, handled: Sequence[HandledCancellation]) -> frozenset[CancellationKey]:
        await self._boundary("cancellations.remember")
        return frozenset([h.key for h in handled if await self._tx.insert(self._db.cancellations, h.key, h)])

    async def answer(self, references: Sequence[tuple[PartnerId, str]]) -> frozenset[tuple[PartnerId, str]]:
        await self._boundary("cancellations.answer")
        table = self._db.cancellation_answers
        return frozenset([r for r in references if await self._tx.insert(table, r, True)])

    async def not_sent(self, orders: Sequence[PaymentKey]) -> Mapping[PaymentKey, frozenset[ConsentId]]:
        await self._boundary("cancellations.not_sent")
        wanted = frozenset(orders)
        named: dict[PaymentKey, frozenset[ConsentId]] = {}
        for _, row in self._tx.items(self._db.cancellations):
            if row.outcome is CancellationEffect.NOT_SENT and row.payment_key in wanted:
                named[row.payment_key] = named.get(row.payment_key, frozenset()) | {row.consent_id}
        return named

    async def lock_due(self, *, limit: int) -> Sequence[HandledCancellation]:
        await self._boundary("cancellations.lock_due")
        due = sorted(
            (row.handled_at, key)
            for key, row in self._tx.items(self._db.cancellations)
            if row.is_open
            and (payment := self._tx.get(self._db.payments, row.payment_key)) is not None
            and payment.state not in _OPEN
        )
        free = (key for _, key in due if self._tx.try_lock(self._db.cancellations, key))
        return [row for key in islice(free, limit) if (row := self._tx.get(self._db.cancellations, key)) is not None]

    async def update(self, handled: Sequence[HandledCancellation]) -> None:
        await self._boundary("cancellations.update")
        for row in handled:
            self._tx.update(self._db.cancellations, row.key, row)
