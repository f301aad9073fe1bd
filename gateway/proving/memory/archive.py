"""The archive in memory: what PostgreSQL's functions decide there, decided here."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from msgspec import json, structs

from gateway.base.errors import StoreConflictError, StoreIntegrityError
from gateway.consents.rules.limits import WindowKey
from gateway.payments.archive.store import ArchiveFile, ArchiveRecord, FileStatus, Page
from gateway.payments.rules.lifecycle import PaymentState
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.proving.memory.boundary import Boundary
from gateway.proving.memory.database import Transaction
from gateway.proving.memory.tables import ClearingRow, Posted

PAGE: Final = 3
"""Payments a look."""

_FINAL: Final = (PaymentState.REJECTED, PaymentState.DECLINED, PaymentState.REVERSED, PaymentState.SETTLED)


class MemoryArchiveStore:
    """Implements :class:`gateway.payments.archive.store.ArchiveStore` in one transaction."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self._tx = transaction
        self._db = transaction.database
        self._boundary = boundary

    async def page(self, place: int, *, before: datetime) -> Page:
        await self._boundary("archive.page")
        payments = [p for _, p in self._tx.items(self._db.payments)]
        # With those that are gone: what a look has moved does not move the places of others.
        keys = sorted([*(p.key for p in payments), *(k for k, _ in self._tx.items(self._db.archived))])
        look = set(keys[place : place + PAGE])
        here = {p.key for p in payments if p.key in look and (p.original_payment_id is None or self._is_alone(p))}
        refunds = {p.key for p in payments if _original_of(p) in here}
        records = self._archivable({*here, *refunds}, before)
        return Page(records, place + PAGE if place + PAGE < len(keys) else None)

    async def begin(self, now: datetime) -> ArchiveFile:
        await self._boundary("archive.begin")
        (number,) = self._db.next_numbers("archive_file", 1)
        file = ArchiveFile(number, FileStatus.WRITING, begun_at=now)
        await self._tx.insert(self._db.archive_files, number, file)
        return file

    async def written(self, file_id: int, *, payments: int, sha256: bytes, now: datetime) -> None:
        await self._boundary("archive.written")
        file = (await self._tx.lock(self._db.archive_files, [file_id]))[file_id]
        if file.status is not FileStatus.WRITING:
            raise StoreConflictError(f"archive_file {file_id} is not being written any more")
        whole = replace(file, status=FileStatus.WRITTEN, payments=payments, sha256=sha256, written_at=now)
        self._tx.update(self._db.archive_files, file_id, whole)

    async def move(self, file_id: int, records: Sequence[ArchiveRecord], *, before: datetime) -> frozenset[PaymentKey]:
        await self._boundary("archive.move")
        file = self._tx.get(self._db.archive_files, file_id)
        if file is None or file.status is not FileStatus.WRITTEN:
            raise StoreIntegrityError(f"archive_file {file_id} is not written")
        written = {r.key: r.record for r in records}
        found = {k for k in sorted(written) if self._tx.get(self._db.payments, k) and self._try_lock(k)}
        while True:
            same = {r.key for r in self._archivable(found, before) if r.record == written[r.key]}
            if same == found:
                break
            found = same
        for key in found:
            await self._move_one(key, file_id)
        return frozenset(found)

    def _try_lock(self, key: PaymentKey) -> bool:
        return self._tx.try_lock(self._db.payments, key)

    async def _move_one(self, key: PaymentKey, file_id: int) -> None:
        db = self._db
        payment = self._tx.get(db.payments, key)
        if payment is None:
            raise AssertionError("what is locked is there")
        await self._tx.insert(
            db.archived,
            key,
            structs.replace(payment, is_archived=True, funding_token=None, windows=(), traceparent=None, sent_by=None),
        )
        await self._tx.insert(db.archived_in, key, file_id)
        for place, _ in list(self._transfers(key)):
            self._tx.delete(db.transfers, place)
        for record, _ in list(self._clearing(key)):
            self._tx.delete(db.clearing, record)
        for table in (db.reversals, db.inquiries):
            if self._tx.get(table, key) is not None:
                self._tx.delete(table, key)
        if self._tx.get(db.scheduled, key) is not None:
            self._tx.delete(db.scheduled, key)
        if payment.network_id is not None and payment.trace is not None:
            self._tx.delete(db.rrns, (payment.network_id, payment.trace.rrn))
        self._tx.delete(db.payments, key)

    async def end(self, file_id: int, status: FileStatus, now: datetime) -> bool:
        await self._boundary("archive.end")
        file = (await self._tx.lock(self._db.archive_files, [file_id]))[file_id]
        wanted = FileStatus.WRITTEN if status is FileStatus.MOVED else FileStatus.WRITING
        if file.status is not wanted:
            return False
        moved_at = now if status is FileStatus.MOVED else None
        self._tx.update(self._db.archive_files, file_id, replace(file, status=status, moved_at=moved_at))
        return True

    async def unfinished(self) -> Sequence[ArchiveFile]:
        await self._boundary("archive.unfinished")
        open_ = (FileStatus.WRITING, FileStatus.WRITTEN)
        return sorted(
            (f for _, f in self._tx.items(self._db.archive_files) if f.status in open_), key=lambda f: f.file_id
        )

    # --- what is to be archived ---

    def _archivable(self, keys: set[PaymentKey], before: datetime) -> list[ArchiveRecord]:
        unread = self._unread()
        fit = {
            p.key: p for _, p in self._tx.items(self._db.payments) if p.key in keys and self._fits(p, before, unread)
        }
        parted = {
            _original_of(p) for _, p in self._tx.items(self._db.payments) if p.original_payment_id and p.key not in fit
        }
        whole = {key: p for key, p in fit.items() if key not in parted}
        return [
            ArchiveRecord(p.key, p.original_payment_id, self._record(p))
            for p in whole.values()
            if p.original_payment_id is None or _original_of(p) in whole or self._is_alone(p)
        ]

    def _is_alone(self, refund: Payment) -> bool:
        original = _original_of(refund)
        return original is not None and self._tx.get(self._db.payments, original) is None

    def _fits(self, p: Payment, before: datetime, unread: set[str]) -> bool:
        if p.state not in _FINAL or p.changed_at >= before or str(p.payment_id) in unread:
            return False
        follow_ups = (self._tx.get(t, p.key) for t in (self._db.reversals, self._db.inquiries))
        if any(row is not None and row.closed_at is None for row in follow_ups):
            return False
        schedule = self._tx.get(self._db.scheduled, p.key)
        if schedule is not None and schedule.closed_at is None:
            return False
        if any(c.is_open and c.payment_key == p.key for _, c in self._tx.items(self._db.cancellations)):
            return False
        if any(row.found is not None and row.payment == p.key for _, row in self._tx.items(self._db.clearing)):
            return False
        accounts: dict[str, int] = {}
        for _, posted in self._transfers(p.key):
            t = posted.transfer
            accounts[t.debit] = accounts.get(t.debit, 0) + t.amount_minor
            accounts[t.credit] = accounts.get(t.credit, 0) - t.amount_minor
        return not any(accounts.values())

    def _unread(self) -> set[str]:
        """Keys of events that somebody is still to read."""
        db = self._db
        shared = next((p for _, p in self._tx.items(db.sharing.place)), None)
        places = [db.outbox_cursor, (db.disclosure_head.tx, db.disclosure_head.id)]
        if shared is not None:
            places.append((shared.tx, shared.id))
        least = min(places)
        rows = (r for r in db.outbox if (r.tx, r.id) > least or (r.tx, r.id) in db.outbox_parked)
        return {r.event.key for r in rows}

    def _transfers(self, key: PaymentKey) -> Iterator[tuple[Any, Posted]]:
        return ((place, row) for place, row in self._tx.items(self._db.transfers) if place[0] == key)

    def _clearing(self, key: PaymentKey) -> Iterator[tuple[Any, ClearingRow]]:
        return (
            (place, row) for place, row in self._tx.items(self._db.clearing) if row.payment == key and row.found is None
        )

    def _record(self, p: Payment) -> str:
        record = {
            "payment": _columns(p),
            "transfers": [
                {**structs.asdict(posted.transfer), "posted_at": posted.posted_at}
                for _, posted in self._transfers(p.key)
            ],
            "clearing": [{"cycle_id": place[1], "record_no": place[2]} for place, _ in self._clearing(p.key)],
            "inquiry": self._tx.get(self._db.inquiries, p.key),
            "reversal": self._tx.get(self._db.reversals, p.key),
            "schedule": None if (row := self._tx.get(self._db.scheduled, p.key)) is None else row.closed_at,
        }
        return json.encode(record, enc_hook=str).decode()


def _original_of(p: Payment) -> PaymentKey | None:
    return None if p.original_payment_id is None else (p.partner_id, p.original_payment_id)


def _columns(p: Payment) -> dict[str, object]:
    """As the row of the table has them."""
    row: dict[str, object] = structs.asdict(p)
    windows: tuple[WindowKey, ...] = p.windows
    reason, trace = row.pop("reason"), row.pop("trace")
    row.update(order_digest="\\x" + p.order_digest.hex(), windows=[f"{w.limit_key}@{w.starts_at}" for w in windows])
    row.update(
        reason_code=reason and p.reason and p.reason.code.value,
        reason_text=p.reason and p.reason.text,
        network_code=p.reason and p.reason.network_code,
    )
    if trace is not None and p.trace is not None:
        row.update(terminal_id=p.trace.terminal_id, stan=p.trace.stan, rrn=p.trace.rrn)
    return row
