"""Transmission requests, exports and recipients in PostgreSQL, and snapshots of customers' data."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any, Protocol

from asyncpg import Connection
from asyncpg import Record as Row

from gateway.database.errors import translated
from gateway.database.queries import load
from gateway.disclosure.rules.destruction import Destruction
from gateway.portability.rules.records import (
    Export,
    ExportState,
    GoneRequest,
    PaymentFacts,
    Recipient,
    RecipientKey,
    RequestKey,
    RequestStatus,
    StoredRequest,
)
from schemas.codec import decode, encode
from schemas.portability import PortabilityRequest
from schemas.primitives import CustomerId, PartnerId
from schemas.reasons import Reason, ReasonCode

_SQL = load(__name__, "portability")


class PostgresPortabilityStore:
    """Implements :class:`gateway.portability.store.PortabilityStore` on one connection."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def recipients(self, org_codes: Sequence[str]) -> Mapping[str, Recipient]:
        if not org_codes:
            return {}
        rows = await self._connection.fetch(_SQL.recipients, list(org_codes))
        return {
            r["org_code"]: Recipient(
                r["org_code"], r["active"], RecipientKey(r["kid"], json.loads(r["jwk"])) if r["kid"] else None
            )
            for r in rows
        }

    async def requests(self, keys: Sequence[RequestKey]) -> Mapping[RequestKey, StoredRequest]:
        if not keys:
            return {}
        rows = await self._connection.fetch(_SQL.requests, [k[0] for k in keys], [k[1] for k in keys])
        return {r.key: r for r in map(_request, rows)}

    async def gone(self, keys: Sequence[RequestKey]) -> Mapping[RequestKey, GoneRequest]:
        if not keys:
            return {}
        rows = await self._connection.fetch(_SQL.gone, [k[0] for k in keys], [k[1] for k in keys])
        return {(r["partner_id"], r["request_id"]): GoneRequest(r["digest"], r["reference"]) for r in rows}

    async def destroy_silent(self, *, before: datetime, limit: int) -> Sequence[Destruction]:
        rows = await self._connection.fetch(_SQL.destroy_silent, before, limit)
        return [Destruction(**row) for row in rows]

    async def add(self, requests: Sequence[StoredRequest]) -> frozenset[RequestKey]:
        if not requests:
            return frozenset()
        rows = await self._connection.fetch(
            _SQL.add,
            [r.request.partner_id for r in requests],
            [r.request.request_id for r in requests],
            [r.request.consent_id for r in requests],
            [r.customer_id for r in requests],
            [r.request.rcv_org_code for r in requests],
            # Without the proof: it is used up.
            [encode(r.request.model_copy(update={"authentication": None})).decode() for r in requests],
            [r.digest for r in requests],
            [r.status.value for r in requests],
            [r.exports for r in requests],
            [r.next_due_at for r in requests],
            [r.accessed_at for r in requests],
            [r.reference for r in requests],
            [r.traceparent for r in requests],
            [r.created_at for r in requests],
        )
        return frozenset((r["partner_id"], r["request_id"]) for r in rows)

    async def access(self, requests: Sequence[StoredRequest]) -> None:
        if requests:
            await self._connection.execute(
                _SQL.access,
                [r.request.partner_id for r in requests],
                [r.request.consent_id for r in requests],
                [r.request.rcv_org_code for r in requests],
                [r.accessed_at for r in requests],
            )

    async def add_exports(self, exports: Sequence[Export]) -> None:
        if exports:
            await self._connection.execute(
                _SQL.add_exports,
                [e.partner_id for e in exports],
                [e.request_id for e in exports],
                [e.number for e in exports],
                [e.consent_id for e in exports],
                [e.state.value for e in exports],
                [e.search_from for e in exports],
                [e.created_at for e in exports],
                [e.changed_at for e in exports],
            )

    async def claim(
        self, *, worker: str, now: datetime, until: datetime, after: str = ""
    ) -> tuple[Export, StoredRequest] | None:
        row = await self._connection.fetchrow(_SQL.claim, worker, now, until, after)
        if row is None and after:
            row = await self._connection.fetchrow(_SQL.claim, worker, now, until, "")
        if row is None:
            return None
        export = _export(row)
        return export, (await self.requests([export.request_key]))[export.request_key]

    async def hold(self, export: Export, until: datetime, *, chunks: int, consent_version: int) -> bool:
        held = (*export.key, export.attempt, until, chunks, consent_version)
        return bool(await self._connection.fetch(_SQL.hold, *held))

    async def lock_export(self, export: Export) -> Export | None:
        row = await self._connection.fetchrow(_SQL.lock_export, *export.key)
        return None if row is None else _export(row)

    async def update_export(self, export: Export) -> None:
        reason = export.reason
        await self._connection.execute(
            _SQL.update_export,
            *export.key,
            export.state.value,
            export.snapshot_at,
            export.receipt,
            reason and reason.code.value,
            reason and reason.text,
            export.leased_by,
            export.leased_until,
            export.changed_at,
            export.sent_chunks,
            export.sent_version,
            export.attempt,
        )

    async def claim_due(self, *, now: datetime, limit: int) -> Sequence[StoredRequest]:
        return [_request(r) for r in await self._connection.fetch(_SQL.claim_due, now, limit)]

    async def last_snapshots(self, keys: Sequence[RequestKey]) -> Mapping[RequestKey, datetime]:
        if not keys:
            return {}
        rows = await self._connection.fetch(_SQL.last_snapshots, [k[0] for k in keys], [k[1] for k in keys])
        return {(r["partner_id"], r["request_id"]): r["snapshot_at"] for r in rows}

    async def update_requests(self, requests: Sequence[StoredRequest]) -> None:
        if requests:
            await self._connection.execute(
                _SQL.update_requests,
                [r.request.partner_id for r in requests],
                [r.request.request_id for r in requests],
                [r.status.value for r in requests],
                [r.exports for r in requests],
                [r.next_due_at for r in requests],
            )

    async def finish_request(self, key: RequestKey) -> None:
        await self._connection.execute(_SQL.finish_request, *key)


def _request(row: Row) -> StoredRequest:
    return StoredRequest(
        request=decode(PortabilityRequest, row["body"].encode(), trusted=True),
        customer_id=row["customer_id"],
        digest=row["digest"],
        status=RequestStatus(row["status"]),
        exports=row["exports"],
        next_due_at=row["next_due_at"],
        accessed_at=row["accessed_at"],
        reference=row["reference"],
        traceparent=row["traceparent"],
        created_at=row["created_at"],
    )


def _export(row: Row) -> Export:
    code = row["reason_code"]
    return Export(
        partner_id=row["partner_id"],
        request_id=row["request_id"],
        number=row["number"],
        consent_id=row["consent_id"],
        state=ExportState(row["state"]),
        attempt=row["attempt"],
        search_from=row["search_from"],
        created_at=row["created_at"],
        changed_at=row["changed_at"],
        leased_by=row["leased_by"],
        leased_until=row["leased_until"],
        snapshot_at=row["snapshot_at"],
        receipt=row["receipt"],
        sent_chunks=row["sent_chunks"],
        sent_version=row["sent_version"],
        reason=Reason(code=ReasonCode(code), text=row["reason_text"]) if code else None,
    )


class Connections(Protocol):
    """Where connections come from."""

    def connection(self) -> "AbstractAsyncContextManager[Connection[Any]]":
        """A bare connection."""


class PostgresSnapshots:
    """Implements :class:`gateway.portability.store.Snapshots`: a cursor in a transaction that writes nothing.

    Such a transaction has no number, so events behind it are relayed all the same.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @asynccontextmanager
    async def open(
        self, partner_id: PartnerId, customer_id: CustomerId, *, since: datetime | None, size: int
    ) -> AsyncIterator[AsyncIterator[Sequence[PaymentFacts]]]:
        async with (
            translated(),
            self._connections.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            cursor = await connection.cursor(_SQL.payments, partner_id, customer_id, since)

            async def pieces() -> AsyncIterator[Sequence[PaymentFacts]]:
                while rows := await cursor.fetch(size):
                    yield [PaymentFacts(**row) for row in rows]

            yield pieces()
