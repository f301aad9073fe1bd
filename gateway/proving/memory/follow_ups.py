"""The queues of reversals and of inquiries in memory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from gateway.payments.rules.payment import PaymentKey
from gateway.payments.unknown.store import UNSENDABLE, FollowUp
from gateway.proving.memory.boundary import Boundary
from gateway.proving.memory.database import Transaction
from gateway.proving.memory.tables import FollowUpRow, Table
from schemas.primitives import NetworkId


class MemoryFollowUpStore:
    """Implements :class:`gateway.payments.unknown.store.FollowUpStore` over one table in one transaction.

    The boundary is awaited as ``reversals.claim`` or ``inquiries.claim``, and so on.
    """

    def __init__(
        self, transaction: Transaction, boundary: Boundary, table: Table[PaymentKey, FollowUpRow], name: str
    ) -> None:
        self._tx = transaction
        self._boundary = boundary
        self._table = table
        self._name = name

    async def queue(self, follow_ups: Sequence[FollowUp]) -> None:
        await self._boundary(f"{self._name}.queue")
        for follow_up in follow_ups:
            queued_at = follow_up.queued_at or follow_up.transmitted_at
            row = FollowUpRow(replace(follow_up, attempts=0, queued_at=queued_at), next_attempt_at=queued_at)
            if not await self._tx.insert(self._table, follow_up.key, row):
                locked = await self._tx.lock(self._table, [follow_up.key])
                if locked[follow_up.key].closed_at is not None:
                    self._tx.update(self._table, follow_up.key, row)

    async def begin_anew(self, follow_ups: Sequence[FollowUp]) -> None:
        await self._boundary(f"{self._name}.begin_anew")
        rows = await self._tx.lock(self._table, [f.key for f in follow_ups])
        for anew in follow_ups:
            row = rows.get(anew.key)
            if row is not None and row.closed_at is None and row.follow_up.attempts:
                numbered = replace(row.follow_up, stan=anew.stan, transmitted_at=anew.transmitted_at, attempts=0)
                self._tx.update(
                    self._table,
                    anew.key,
                    replace(
                        row,
                        follow_up=numbered,
                        next_attempt_at=anew.transmitted_at,
                        leased_by=None,
                        leased_until=None,
                    ),
                )

    async def claim(
        self,
        network_id: NetworkId,
        *,
        owner: str,
        now: datetime,
        lease_until: datetime,
        limit: int,
        in_order: bool = False,
    ) -> Sequence[FollowUp]:
        await self._boundary(f"{self._name}.claim")
        waiting = list(self._open(network_id))
        if in_order:
            ahead: set[str] = set()
            first: list[tuple[PaymentKey, FollowUpRow]] = []
            for key, row in sorted(waiting, key=lambda w: (w[1].follow_up.queued_at, w[0][1])):
                if row.follow_up.terminal_id not in ahead:
                    first.append((key, row))
                if row.last_code != UNSENDABLE:
                    ahead.add(row.follow_up.terminal_id)
            waiting = first
        due = [
            (row.next_attempt_at, key, row)
            for key, row in waiting
            if row.next_attempt_at <= now and (row.leased_until is None or row.leased_until < now)
        ]
        claimed: list[FollowUp] = []
        for _, key, row in sorted(due, key=lambda d: d[:2]):
            if len(claimed) < limit and self._tx.try_lock(self._table, key):
                claimed.append(row.follow_up)
                counted = replace(row.follow_up, attempts=row.follow_up.attempts + 1)
                self._tx.update(
                    self._table, key, replace(row, follow_up=counted, leased_by=owner, leased_until=lease_until)
                )
        return claimed

    async def retry(self, keys: Sequence[PaymentKey], *, owner: str, next_attempt_at: datetime, code: str) -> None:
        await self._boundary(f"{self._name}.retry")
        for key, row in await self._held(keys, owner):
            free = replace(row, leased_by=None, leased_until=None, next_attempt_at=next_attempt_at, last_code=code)
            self._tx.update(self._table, key, free)

    async def hurry(self, keys: Sequence[PaymentKey], *, now: datetime) -> frozenset[PaymentKey]:
        await self._boundary(f"{self._name}.hurry")
        rows = await self._tx.lock(self._table, keys)
        later = {k: r for k, r in rows.items() if r.closed_at is None and r.next_attempt_at > now}
        for key, row in later.items():
            self._tx.update(self._table, key, replace(row, next_attempt_at=now))
        return frozenset(later)

    async def close(self, codes: Mapping[PaymentKey, str], *, owner: str, now: datetime) -> frozenset[PaymentKey]:
        await self._boundary(f"{self._name}.close")
        held = await self._held(list(codes), owner)
        return self._close([(key, replace(row, last_code=codes[key])) for key, row in held], now)

    async def take_away(self, keys: Sequence[PaymentKey], *, now: datetime) -> frozenset[PaymentKey]:
        await self._boundary(f"{self._name}.take_away")
        rows = await self._tx.lock(self._table, keys)
        return self._close([(k, row) for k, row in rows.items() if row.closed_at is None], now)

    async def next_due(self, network_id: NetworkId) -> datetime | None:
        await self._boundary(f"{self._name}.next_due")
        return min(
            (max(row.next_attempt_at, row.leased_until or row.next_attempt_at) for _, row in self._open(network_id)),
            default=None,
        )

    def _close(self, rows: Sequence[tuple[PaymentKey, FollowUpRow]], now: datetime) -> frozenset[PaymentKey]:
        for key, row in rows:
            self._tx.update(self._table, key, replace(row, leased_by=None, leased_until=None, closed_at=now))
        return frozenset(key for key, _ in rows)

    def _open(self, network_id: NetworkId) -> Iterator[tuple[PaymentKey, FollowUpRow]]:
        for key, row in self._tx.items(self._table):
            if row.follow_up.network_id == network_id and row.closed_at is None:
                yield key, row

    async def _held(self, keys: Sequence[PaymentKey], owner: str) -> list[tuple[PaymentKey, FollowUpRow]]:
        rows = await self._tx.lock(self._table, keys)
        return [(k, row) for k, row in rows.items() if row.leased_by == owner and row.closed_at is None]
