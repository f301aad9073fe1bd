"""The reversal queue in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from gateway.adapters.memory.boundary import Boundary
from gateway.adapters.memory.database import ReversalRow, Transaction
from gateway.domain.payment import PaymentKey
from gateway.ports import QueuedReversal
from schemas.primitives import NetworkId


class MemoryReversalStore:
    """Implements :class:`gateway.ports.ReversalStore` in one transaction."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self._tx = transaction
        self._db = transaction.database
        self._boundary = boundary

    async def queue(self, reversals: Sequence[QueuedReversal]) -> None:
        await self._boundary("reversals.queue")
        for reversal in reversals:
            queued_at = reversal.queued_at or reversal.transmitted_at
            row = ReversalRow(replace(reversal, attempts=0, queued_at=queued_at), next_attempt_at=queued_at)
            await self._tx.insert(self._db.reversals, reversal.key, row)

    async def claim(
        self, network_id: NetworkId, *, owner: str, now: datetime, lease_until: datetime, limit: int
    ) -> Sequence[QueuedReversal]:
        await self._boundary("reversals.claim")
        due = [
            (row.next_attempt_at, key, row)
            for key, row in self._open(network_id)
            if row.next_attempt_at <= now and (row.leased_until is None or row.leased_until < now)
        ]
        claimed: list[QueuedReversal] = []
        for _, key, row in sorted(due, key=lambda d: d[:2]):
            if len(claimed) < limit and self._tx.try_lock(self._db.reversals, key):
                claimed.append(row.reversal)
                counted = replace(row.reversal, attempts=row.reversal.attempts + 1)
                taken = replace(row, reversal=counted, leased_by=owner, leased_until=lease_until)
                self._tx.update(self._db.reversals, key, taken)
        return claimed

    async def retry(self, keys: Sequence[PaymentKey], *, owner: str, next_attempt_at: datetime, code: str) -> None:
        await self._boundary("reversals.retry")
        for key, row in await self._held(keys, owner):
            free = replace(row, leased_by=None, leased_until=None, next_attempt_at=next_attempt_at, last_code=code)
            self._tx.update(self._db.reversals, key, free)

    async def confirm(self, keys: Sequence[PaymentKey], *, owner: str, now: datetime) -> frozenset[PaymentKey]:
        await self._boundary("reversals.confirm")
        held = await self._held(keys, owner)
        for key, row in held:
            closed = replace(row, leased_by=None, leased_until=None, confirmed_at=now)
            self._tx.update(self._db.reversals, key, closed)
        return frozenset(key for key, _ in held)

    async def next_due(self, network_id: NetworkId) -> datetime | None:
        await self._boundary("reversals.next_due")
        return min(
            (max(row.next_attempt_at, row.leased_until or row.next_attempt_at) for _, row in self._open(network_id)),
            default=None,
        )

    def _open(self, network_id: NetworkId) -> Iterator[tuple[PaymentKey, ReversalRow]]:
        for key, row in self._tx.items(self._db.reversals):
            if row.reversal.network_id == network_id and row.confirmed_at is None:
                yield key, row

    async def _held(self, keys: Sequence[PaymentKey], owner: str) -> list[tuple[PaymentKey, ReversalRow]]:
        rows = await self._tx.lock(self._db.reversals, keys)
        return [(k, row) for k, row in rows.items() if row.leased_by == owner and row.confirmed_at is None]
