"""Clearing records and breaks in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gateway.adapters.memory.boundary import Boundary
from gateway.adapters.memory.database import ClearingRow, Transaction
from gateway.domain.lifecycle import PaymentState
from gateway.domain.payment import Payment, PaymentKey
from gateway.domain.settlement import Break, BreakKind, ClearedPayment
from schemas.clearing import ClearingRecord
from schemas.primitives import NetworkId


class MemoryClearingStore:
    """Implements :class:`gateway.ports.ClearingStore` in one transaction."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self._tx = transaction
        self._db = transaction.database
        self._boundary = boundary

    async def payments_by_rrn(self, network_id: NetworkId, rrns: Sequence[str]) -> Mapping[str, ClearedPayment]:
        await self._boundary("clearing.payments_by_rrn")
        named = {rrn: key for rrn in rrns if (key := self._tx.get(self._db.rrns, (network_id, rrn))) is not None}
        payments = await self._tx.lock(self._db.payments, named.values())
        return {rrn: _cleared(payments[key]) for rrn, key in named.items()}

    async def insert(self, network_id: NetworkId, cycle_id: str, records: Sequence[ClearingRecord]) -> frozenset[int]:
        await self._boundary("clearing.insert")
        return frozenset(
            [
                r.record_no
                for r in records
                if await self._tx.insert(self._db.clearing, (network_id, cycle_id, r.record_no), ClearingRow(r))
            ]
        )

    async def approved_since(self, limit: int) -> Sequence[tuple[NetworkId, str, ClearingRecord]]:
        await self._boundary("clearing.approved_since")
        found = []
        for (network_id, cycle_id, _), row in sorted(self._tx.items(self._db.clearing), key=lambda item: item[0]):
            if row.found is None or row.found.kind is not BreakKind.NOT_APPROVED or row.payment is None:
                continue
            payment = self._tx.get(self._db.payments, row.payment)
            if payment is not None and payment.state is PaymentState.APPROVED:
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
            self._tx.update(self._db.clearing, key, replace(row, payment=payment, found=found))


def _cleared(payment: Payment) -> ClearedPayment:
    if payment.trace is None:
        raise AssertionError("a payment with an RRN has trace numbers")
    return ClearedPayment(
        partner_id=payment.partner_id,
        payment_id=payment.payment_id,
        state=payment.state,
        operation=payment.operation,
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        merchant_id=payment.merchant_id,
        stan=payment.trace.stan,
        terminal_id=payment.trace.terminal_id,
    )
