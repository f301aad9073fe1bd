"""Clearing records and breaks in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from gateway.base.errors import StoreConflictError, StoreIntegrityError
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.proving.memory.boundary import Boundary
from gateway.proving.memory.database import Transaction
from gateway.proving.memory.tables import ClearingRow
from gateway.settlement.rules import Break, BreakKind, StoredRecord, content
from gateway.settlement.store import NO_OUTCOMES, Outcome
from schemas.clearing import ClearingRecord
from schemas.primitives import MerchantId, NetworkId

_MOVED_ON = {
    BreakKind.NOT_APPROVED: {
        PaymentState.APPROVED,
        PaymentState.SETTLED,
        PaymentState.REVERSING,
        PaymentState.REVERSED,
    },
    BreakKind.DUPLICATE: {PaymentState.APPROVED},
    BreakKind.ACCEPTOR_DIFFERS: {PaymentState.APPROVED},
}
"""Break → states of its payment in which it is none any more, or one of another kind."""


class MemoryClearingStore:
    """Implements :class:`gateway.settlement.store.ClearingStore` in one transaction."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self._tx = transaction
        self._db = transaction.database
        self._boundary = boundary

    async def payments_by_rrn(self, network_id: NetworkId, rrns: Sequence[str]) -> Mapping[str, Payment]:
        await self._boundary("clearing.payments_by_rrn")
        named = {rrn: key for rrn in rrns if (key := self._tx.get(self._db.rrns, (network_id, rrn))) is not None}
        payments = await self._tx.lock(self._db.payments, named.values())
        return {rrn: payments[key] for rrn, key in named.items()}

    async def acceptors(self, merchant_ids: Sequence[MerchantId]) -> Mapping[MerchantId, frozenset[str]]:
        await self._boundary("clearing.acceptors")
        return {i: found for i in merchant_ids if (found := self._db.acceptors_of(i))}

    async def add(
        self,
        network_id: NetworkId,
        cycle_id: str,
        records: Sequence[ClearingRecord],
        *,
        created_at: datetime,
        outcomes: Mapping[int, Outcome] = NO_OUTCOMES,
    ) -> None:
        await self._boundary("clearing.add")
        for record in sorted(records, key=lambda r: r.record_no):
            key = (network_id, cycle_id, record.record_no)
            payment, found = outcomes.get(record.record_no, (None, None))
            row = ClearingRow(content(record), payment=payment, found=found, created_at=created_at)
            if not await self._tx.insert(self._db.clearing, key, row):
                raise StoreConflictError("clearing_record_pkey")
            self._check(key, payment, found)

    async def lock(self, network_id: NetworkId, cycle_id: str, numbers: Sequence[int]) -> Mapping[int, StoredRecord]:
        await self._boundary("clearing.lock")
        rows = await self._tx.lock(self._db.clearing, [(network_id, cycle_id, n) for n in numbers])
        return {
            number: StoredRecord(row.record, row.created_at, row.payment, row.found)
            for (_, _, number), row in rows.items()
        }

    async def earlier(
        self, network_id: NetworkId, cycle_id: str, numbers: Sequence[int]
    ) -> Mapping[int, Sequence[ClearingRecord]]:
        await self._boundary("clearing.earlier")
        found: dict[int, list[ClearingRecord]] = {}
        for key, row in sorted(self._tx.items(self._db.clearing_superseded), key=lambda item: item[0]):
            if key[:2] == (network_id, cycle_id) and key[2] in numbers:
                found.setdefault(key[2], []).append(row.record)
        return found

    async def supersede(
        self,
        network_id: NetworkId,
        cycle_id: str,
        records: Sequence[ClearingRecord],
        *,
        created_at: datetime,
        now: datetime,  # noqa: ARG002  nobody asks here when it was
    ) -> None:
        await self._boundary("clearing.supersede")
        new = {(network_id, cycle_id, r.record_no): content(r) for r in records}
        for key, row in (await self._tx.lock(self._db.clearing, new)).items():
            if not await self._tx.insert(self._db.clearing_superseded, (*key, row.version), row):
                raise StoreIntegrityError("clearing_superseded_pkey")
            corrected = ClearingRow(new[key], created_at=created_at, version=row.version + 1)
            self._tx.update(self._db.clearing, key, corrected)

    async def confirm(
        self, network_id: NetworkId, cycle_id: str, numbers: Sequence[int], *, created_at: datetime
    ) -> None:
        await self._boundary("clearing.confirm")
        for key, row in (await self._tx.lock(self._db.clearing, [(network_id, cycle_id, n) for n in numbers])).items():
            if row.created_at is not None and row.created_at < created_at:
                self._tx.update(self._db.clearing, key, replace(row, created_at=created_at))

    async def moved_since(self, limit: int) -> Sequence[tuple[NetworkId, str, ClearingRecord]]:
        await self._boundary("clearing.moved_since")
        found = []
        for (network_id, cycle_id, number), row in sorted(self._tx.items(self._db.clearing), key=lambda item: item[0]):
            if row.found is None or row.payment is None:
                continue
            payment = self._tx.get(self._db.payments, row.payment)
            if payment is None or payment.state not in _MOVED_ON.get(row.found.kind, ()):
                continue
            own = self._db.acceptors_of(payment.merchant_id)
            if row.found.kind is BreakKind.ACCEPTOR_DIFFERS and row.record.acceptor_id.rstrip() not in own:
                continue
            if self._tx.try_lock(self._db.clearing, (network_id, cycle_id, number)):
                found.append((network_id, cycle_id, row.record))
        return found[:limit]

    async def write_outcomes(
        self,
        network_id: NetworkId,
        cycle_id: str,
        outcomes: Sequence[tuple[int, PaymentKey | None, Break | None]],
    ) -> None:
        await self._boundary("clearing.write_outcomes")
        told = {(network_id, cycle_id, number): (payment, found) for number, payment, found in outcomes}
        for key, row in (await self._tx.lock(self._db.clearing, told)).items():
            payment, found = told[key]
            self._check(key, payment, found)
            self._tx.update(self._db.clearing, key, replace(row, payment=payment, found=found))

    def _check(self, key: tuple[NetworkId, str, int], payment: PaymentKey | None, found: Break | None) -> None:
        """What the database's constraints refuse."""
        if payment is None:
            return
        row = self._tx.get(self._db.clearing, key)
        if row is None or self._tx.get(self._db.rrns, (key[0], row.record.rrn)) != payment:
            raise StoreIntegrityError("clearing_own_network")
        others = (r for k, r in self._tx.items(self._db.clearing) if k != key and r.payment == payment)
        if found is None and any(other.found is None for other in others):
            raise StoreIntegrityError("clearing_settles_once")
