"""Payments and their ledger transfers in memory."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import structs

from gateway.base.errors import StoreConflictError, StoreIntegrityError
from gateway.base.keys import ConsentKey
from gateway.network.exchange import Operation
from gateway.payments.refunds.rules import NOT_REFUNDED
from gateway.payments.restoring.rules import RESTORED
from gateway.payments.rules.ledger import Transfer, TransferKind
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.unknown.store import LateAnswer
from gateway.proving.memory.boundary import Boundary
from gateway.proving.memory.database import Transaction
from gateway.proving.memory.tables import Posted
from schemas.primitives import NetworkId, PaymentId

_UNSENT = frozenset({PaymentState.REJECTED, PaymentState.SCHEDULED})

_IN_FLIGHT = frozenset({PaymentState.SENT, PaymentState.UNKNOWN, PaymentState.REVERSING})


class MemoryPaymentStore:
    """Implements :class:`gateway.payments.store.PaymentStore` in one transaction."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self._tx = transaction
        self._db = transaction.database
        self._boundary = boundary

    async def find(self, keys: Sequence[PaymentKey]) -> Mapping[PaymentKey, Payment]:
        await self._boundary("payments.find")
        tables = (self._db.payments, self._db.archived)
        return {k: row for k in keys for table in tables if (row := self._tx.get(table, k)) is not None}

    async def lock(
        self, keys: Sequence[PaymentKey], *, known: Mapping[PaymentKey, Payment] | None = None
    ) -> Mapping[PaymentKey, Payment]:
        await self._boundary("payments.lock")
        locked = await self._tx.lock(self._db.payments, keys)
        return {k: _same_version(row, (known or {}).get(k)) for k, row in locked.items()}

    async def insert(self, payments: Sequence[Payment]) -> frozenset[PaymentKey]:
        await self._boundary("payments.insert")
        inserted: set[PaymentKey] = set()
        for payment in payments:
            _check(payment)
            if self._tx.get(self._db.archived, payment.key) is not None:
                continue
            if not await self._tx.insert(self._db.payments, payment.key, payment):
                continue
            # An archived one is deleted: its key was free when the wait for it was over.
            if self._tx.get(self._db.archived, payment.key) is not None:
                raise StoreConflictError("archived_ids")
            inserted.add(payment.key)
            if payment.trace is not None and payment.network_id is not None:
                reference = (payment.network_id, payment.trace.rrn)
                if not await self._tx.insert(self._db.rrns, reference, payment.key):
                    raise StoreConflictError("payment_rrn")
        return frozenset(inserted)

    async def add(self, payments: Sequence[Payment]) -> None:
        if payments and len(await self.insert(payments)) != len(payments):
            raise StoreConflictError("payment_pkey")

    async def update(self, payments: Sequence[Payment]) -> None:
        await self._boundary("payments.update")
        for payment in payments:
            stored = self._tx.get(self._db.payments, payment.key)
            if stored is None:
                continue
            moved = structs.replace(
                stored,
                state=payment.state,
                version=payment.version,
                reason=payment.reason,
                approval_code=payment.approval_code,
                changed_at=payment.changed_at,
            )
            _check(moved)
            self._tx.update(self._db.payments, payment.key, moved)

    async def begin_scheduled(self, payments: Sequence[Payment]) -> None:
        await self._boundary("payments.begin_scheduled")
        for payment in payments:
            stored = self._tx.get(self._db.payments, payment.key)
            if stored is None or stored.state is not PaymentState.SCHEDULED:
                raise StoreIntegrityError("scheduled payment")
            _check(payment)
            if payment.state is PaymentState.SENT:
                if payment.network_id is None or payment.trace is None:
                    raise StoreIntegrityError("payment_sent_has_trace")
                reference = (payment.network_id, payment.trace.rrn)
                if not await self._tx.insert(self._db.rrns, reference, payment.key):
                    raise StoreConflictError("payment_rrn")
            self._tx.update(self._db.payments, payment.key, payment)

    async def in_flight(self, consents: Sequence[ConsentKey]) -> Mapping[ConsentKey, Sequence[PaymentId]]:
        await self._boundary("payments.in_flight")
        found: dict[ConsentKey, list[PaymentId]] = {}
        for _, p in self._tx.items(self._db.payments):
            key = (p.partner_id, p.consent_id)
            if key in consents and p.state in _IN_FLIGHT:
                found.setdefault(key, []).append(p.payment_id)
        return {key: sorted(ids) for key, ids in found.items()}

    async def refunded(self, originals: Sequence[PaymentKey]) -> Mapping[PaymentKey, int]:
        await self._boundary("payments.refunded")
        wanted, sums = frozenset(originals), dict[PaymentKey, int]()
        for _, p in self._tx.items(self._db.payments):
            if p.original_payment_id is None or p.state in NOT_REFUNDED:
                continue
            key = (p.partner_id, p.original_payment_id)
            if key in wanted:
                sums[key] = sums.get(key, 0) + p.amount_minor
        return sums

    async def next_payment_numbers(self, count: int) -> Sequence[int]:
        await self._boundary("payments.next_payment_numbers")
        return self._db.next_numbers("payment_number", count)

    async def next_follow_up_numbers(self, count: int) -> Sequence[int]:
        await self._boundary("payments.next_follow_up_numbers")
        return self._db.next_numbers("follow_up_number", count)

    async def insert_transfers(self, transfers: Sequence[tuple[PaymentKey, Transfer, datetime]]) -> None:
        await self._boundary("payments.insert_transfers")
        for key, transfer, posted_at in transfers:
            if transfer.amount_minor <= 0 or transfer.debit == transfer.credit:
                raise StoreIntegrityError("ledger_amount or ledger_two_accounts")
            is_counted = transfer.kind is TransferKind.SETTLEMENT_UNDONE or (
                transfer.kind is TransferKind.SETTLED and transfer.repeated
            )
            place = (key, transfer.kind, self._round(key) if is_counted else 0)
            settled = (key, TransferKind.SETTLED, place[2])
            if transfer.kind is TransferKind.SETTLEMENT_UNDONE and self._tx.get(self._db.transfers, settled) is None:
                raise StoreIntegrityError("ledger_rounds")
            if not await self._tx.insert(self._db.transfers, place, Posted(transfer, posted_at)):
                raise StoreIntegrityError("ledger_transfer_pkey")

    def _round(self, key: PaymentKey) -> int:
        """How often the payment's settlement was undone."""
        number = 0
        while self._tx.get(self._db.transfers, (key, TransferKind.SETTLEMENT_UNDONE, number)) is not None:
            number += 1
        return number

    async def abandoned(
        self, network_id: NetworkId, *, alive_since: datetime, sent_before: datetime, limit: int
    ) -> Sequence[PaymentKey]:
        await self._boundary("payments.abandoned")
        alive = {
            worker
            for (network, worker), report in self._tx.items(self._db.network_status)
            if network == network_id and report.reported_at >= alive_since
        }
        found = [
            (p.decided_at, p.key)
            for _, p in self._tx.items(self._db.payments)
            if p.network_id == network_id
            and p.state is PaymentState.SENT
            and (p.sent_by not in alive or p.decided_at < sent_before)
        ]
        return [key for _, key in sorted(found)[:limit]]

    async def open_since(self) -> Mapping[tuple[PaymentState, NetworkId], tuple[int, datetime]]:
        await self._boundary("payments.open_since")
        found: dict[tuple[PaymentState, NetworkId], list[datetime]] = {}
        for _, p in self._tx.items(self._db.payments):
            if p.state in _IN_FLIGHT and p.network_id is not None:
                found.setdefault((p.state, p.network_id), []).append(p.changed_at)
        return {open_: (len(since), min(since)) for open_, since in found.items()}

    async def keys_by_rrn(self, network_id: NetworkId, rrns: Sequence[str]) -> Mapping[str, PaymentKey]:
        await self._boundary("payments.keys_by_rrn")
        return {rrn: key for rrn in rrns if (key := self._tx.get(self._db.rrns, (network_id, rrn))) is not None}

    async def note_late_answers(self, answers: Sequence[LateAnswer]) -> None:
        await self._boundary("payments.note_late_answers")
        numbers = self._db.next_numbers("late_answer", len(answers))
        for number, answer in zip(numbers, answers, strict=True):
            await self._tx.insert(self._db.late_answers, number, answer)


def _same_version(row: Payment, known: Payment | None) -> Payment:
    return known if known is not None and known.version == row.version else row


def _check(payment: Payment) -> None:
    if payment.amount_minor <= 0:
        raise StoreIntegrityError("payment_amount")
    if (payment.operation is Operation.REFUND) is (payment.original_payment_id is None):
        raise StoreIntegrityError("payment_refund_has_original")
    # A scheduled payment that is cancelled ends REVERSED without ever having been sent.
    if payment.state in _UNSENT or (payment.state is PaymentState.REVERSED and payment.trace is None):
        return
    # After a restore nobody may know the numbers that a payment was sent under.
    if payment.state is PaymentState.UNKNOWN and payment.sent_by == RESTORED and payment.network_id is not None:
        return
    if payment.network_id is None or payment.trace is None:
        raise StoreIntegrityError("payment_sent_has_trace")
