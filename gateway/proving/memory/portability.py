"""Transmission requests, exports, recipients and snapshots in memory."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from hashlib import sha256

from gateway.base.errors import StoreIntegrityError
from gateway.disclosure.rules.destruction import Destruction
from gateway.portability.rules.records import (
    Export,
    ExportState,
    GoneRequest,
    PaymentFacts,
    Recipient,
    RequestKey,
    RequestStatus,
    StoredRequest,
)
from gateway.proving.memory.boundary import Boundary, no_boundary
from gateway.proving.memory.database import Database, Transaction
from schemas.primitives import CustomerId, PartnerId

_OPEN = (ExportState.WAITING, ExportState.SENDING)


class MemoryPortabilityStore:
    """Implements :class:`gateway.portability.store.PortabilityStore` in one transaction."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self._tx = transaction
        self._db = transaction.database
        self._boundary = boundary

    async def recipients(self, org_codes: Sequence[str]) -> Mapping[str, Recipient]:
        await self._boundary("portability.recipients")
        return {c: row for c in org_codes if (row := self._tx.get(self._db.recipients, c)) is not None}

    async def requests(self, keys: Sequence[RequestKey]) -> Mapping[RequestKey, StoredRequest]:
        await self._boundary("portability.requests")
        return {k: row for k in keys if (row := self._tx.get(self._db.transmissions, k)) is not None}

    async def gone(self, keys: Sequence[RequestKey]) -> Mapping[RequestKey, GoneRequest]:
        await self._boundary("portability.gone")
        return {k: row for k in keys if (row := self._tx.get(self._db.transmissions_gone, k)) is not None}

    async def destroy_silent(self, *, before: datetime, limit: int) -> Sequence[Destruction]:
        await self._boundary("portability.destroy_silent")
        db = self._db
        busy = {e.request_key for _, e in self._tx.items(db.exports) if e.state in _OPEN}
        silent = [
            row
            for key, row in self._tx.items(db.transmissions)
            if row.accessed_at <= before and row.status is not RequestStatus.ACTIVE and key not in busy
        ]
        silent = sorted(silent, key=lambda r: (r.accessed_at, r.key))[:limit]
        keys = {row.key for row in silent}
        exports = [key for key, row in self._tx.items(db.exports) if row.request_key in keys]
        accesses = [key for key, at in self._tx.items(db.accesses) if at <= before][:limit]
        for row in silent:
            await self._tx.insert(db.transmissions_gone, row.key, GoneRequest(row.digest, row.reference))
        # At once, as nothing else can be written of them any more.
        for key in keys:
            db.transmissions.rows.pop(key, None)
        for export in exports:
            db.exports.rows.pop(export, None)
        for access in accesses:
            db.accesses.rows.pop(access, None)
        digest = sha256(b"".join(r.digest for r in sorted(silent, key=lambda r: r.key))).digest()
        counts = (
            ("transmission requests", len(silent), digest),
            ("exports of transmission requests", len(exports), None),
            ("accesses through the API", len(accesses), None),
        )
        made = [
            Destruction(number, kind, rows, "a year without access", before, proof, before)
            for kind, rows, proof in counts
            if rows
            for number in db.next_numbers("data_destruction", 1)
        ]
        for evidence in made:
            await self._tx.insert(db.destructions, evidence.number, evidence)
        return made

    async def add(self, requests: Sequence[StoredRequest]) -> frozenset[RequestKey]:
        await self._boundary("portability.add")
        bare = [replace(r, request=r.request.model_copy(update={"authentication": None})) for r in requests]
        return frozenset([r.key for r in bare if await self._tx.insert(self._db.transmissions, r.key, r)])

    async def access(self, requests: Sequence[StoredRequest]) -> None:
        await self._boundary("portability.access")
        at = {(r.consent_key, r.request.rcv_org_code): r.accessed_at for r in requests}
        for key, row in list(self._tx.items(self._db.transmissions)):
            asked_at = at.get((row.consent_key, row.request.rcv_org_code))
            if asked_at is not None and row.status is RequestStatus.ACTIVE:
                # As it is once it is locked: whoever held it may have moved it on.
                now = (await self._tx.lock(self._db.transmissions, [key]))[key]
                later = max(now.accessed_at, asked_at)
                self._tx.update(self._db.transmissions, key, replace(now, accessed_at=later))

    async def add_exports(self, exports: Sequence[Export]) -> None:
        await self._boundary("portability.add_exports")
        for export in exports:
            if not await self._tx.insert(self._db.exports, export.key, export):
                raise StoreIntegrityError("portability_export_pkey")

    async def claim(
        self, *, worker: str, now: datetime, until: datetime, after: str = ""
    ) -> tuple[Export, StoredRequest] | None:
        await self._boundary("portability.claim")
        free = [
            row
            for _, row in self._tx.items(self._db.exports)
            if row.state in _OPEN and (row.leased_until is None or row.leased_until <= now)
        ]
        for row in sorted(free, key=lambda e: (e.partner_id <= after, e.partner_id, e.created_at, e.key)):
            if not self._tx.try_lock(self._db.exports, row.key):
                continue
            claimed = replace(
                row,
                state=ExportState.SENDING,
                attempt=row.attempt + 1,
                leased_by=worker,
                leased_until=until,
                changed_at=now,
            )
            self._tx.update(self._db.exports, row.key, claimed)
            stored = self._tx.get(self._db.transmissions, row.request_key)
            if stored is None:
                raise AssertionError("an export has its request")
            return claimed, stored
        return None

    async def hold(self, export: Export, until: datetime, *, chunks: int, consent_version: int) -> bool:
        await self._boundary("portability.hold")
        row = (await self._tx.lock(self._db.exports, [export.key])).get(export.key)
        if row is None or (row.attempt, row.state) != (export.attempt, ExportState.SENDING):
            return False
        held = replace(row, leased_until=until, sent_chunks=chunks, sent_version=consent_version)
        self._tx.update(self._db.exports, export.key, held)
        return True

    async def lock_export(self, export: Export) -> Export | None:
        await self._boundary("portability.lock_export")
        return (await self._tx.lock(self._db.exports, [export.key])).get(export.key)

    async def update_export(self, export: Export) -> None:
        await self._boundary("portability.update_export")
        self._tx.update(self._db.exports, export.key, export)

    async def claim_due(self, *, now: datetime, limit: int) -> Sequence[StoredRequest]:
        await self._boundary("portability.claim_due")
        due = [
            (row.next_due_at, key, row)
            for key, row in self._tx.items(self._db.transmissions)
            if row.next_due_at is not None and row.next_due_at <= now
        ]
        found = [
            row for _, key, row in sorted(due, key=lambda d: d[:2]) if self._tx.try_lock(self._db.transmissions, key)
        ]
        return found[:limit]

    async def last_snapshots(self, keys: Sequence[RequestKey]) -> Mapping[RequestKey, datetime]:
        await self._boundary("portability.last_snapshots")
        found: dict[RequestKey, datetime] = {}
        for _, row in self._tx.items(self._db.exports):
            if row.request_key in keys and row.state is ExportState.COMPLETE and row.snapshot_at is not None:
                found[row.request_key] = max(row.snapshot_at, found.get(row.request_key, row.snapshot_at))
        return found

    async def update_requests(self, requests: Sequence[StoredRequest]) -> None:
        await self._boundary("portability.update_requests")
        for row in requests:
            self._tx.update(self._db.transmissions, row.key, row)

    async def finish_request(self, key: RequestKey) -> None:
        await self._boundary("portability.finish_request")
        row = (await self._tx.lock(self._db.transmissions, [key])).get(key)
        if row is not None and row.status is RequestStatus.ACTIVE and row.next_due_at is None:
            self._tx.update(self._db.transmissions, key, replace(row, status=RequestStatus.DONE))


class MemorySnapshots:
    """Implements :class:`gateway.portability.store.Snapshots`: what had committed when it was opened."""

    def __init__(self, database: Database, boundary: Boundary = no_boundary) -> None:
        self._db = database
        self._boundary = boundary

    @asynccontextmanager
    async def open(
        self, partner_id: PartnerId, customer_id: CustomerId, *, since: datetime | None, size: int
    ) -> AsyncIterator[AsyncIterator[Sequence[PaymentFacts]]]:
        await self._boundary("snapshots.open")
        found = [
            f
            for f in facts_of(self._db, partner_id, customer_id)
            if since is None or changed_since(self._db, partner_id, f, since)
        ]

        async def pieces() -> AsyncIterator[Sequence[PaymentFacts]]:
            for begin in range(0, len(found), size):
                await self._boundary("snapshots.fetch")
                yield found[begin : begin + size]

        yield pieces()


def changed_since(database: Database, partner_id: PartnerId, facts: PaymentFacts, since: datetime) -> bool:
    """True if a payment, or what was given back of it, changed after a moment."""
    return facts.changed_at > since or any(
        p.changed_at > since
        for p in database.payments.rows.values()
        if p.partner_id == partner_id and str(p.original_payment_id) == facts.payment_id
    )


def facts_of(database: Database, partner_id: PartnerId, customer_id: CustomerId) -> list[PaymentFacts]:
    """All committed payments of a customer through one partner."""
    mine = {k for k, c in database.consents.rows.items() if k[0] == partner_id and c.terms.customer_id == customer_id}
    rows = list(database.payments.rows.values())
    return [
        PaymentFacts(
            payment_id=str(p.payment_id),
            operation=p.operation.value,
            state=p.state.value,
            amount_minor=p.amount_minor,
            currency=p.currency,
            approval_code=p.approval_code,
            decided_at=p.decided_at,
            changed_at=p.changed_at,
            funding_token=p.funding_token,
            merchant_name=getattr(database.merchants.rows.get(p.merchant_id), "name", None),
            mcc=m.acceptor.mcc if (m := database.merchants.rows.get(p.merchant_id)) is not None else None,
            refunded_minor=sum(
                r.amount_minor
                for r in rows
                if r.original_payment_id == p.payment_id and r.state.value in ("approved", "settled")
            ),
        )
        for p in rows
        if p.consent_key in mine
    ]
