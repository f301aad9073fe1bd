"""Bulks in PostgreSQL."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from asyncpg import Connection, Record
from pydantic import TypeAdapter

from gateway.database.queries import load
from gateway.orders.bulk.rules import Bulk, BulkKey
from schemas.bulk import BulkStatus, RejectedItem
from schemas.primitives import STORED
from schemas.reasons import Reason, ReasonCode

_SQL = load(__name__, "bulk")
_REJECTED: Final = TypeAdapter(tuple[RejectedItem, ...])


class PostgresBulkStore:
    """Implements :class:`gateway.orders.store.BulkStore` on one connection."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def find(self, keys: Sequence[BulkKey]) -> Mapping[BulkKey, Bulk]:
        rows = await self._connection.fetch(_SQL.find, [k[0] for k in keys], [k[1] for k in keys])
        return {b.key: b for b in map(_bulk, rows)}

    async def insert(self, bulks: Sequence[Bulk]) -> frozenset[BulkKey]:
        if not bulks:
            return frozenset()
        columns = zip(*map(_row, bulks), strict=True)
        rows = await self._connection.fetch(_SQL.insert, *map(list, columns))
        return frozenset((r["partner_id"], r["bulk_id"]) for r in rows)

    async def dispatched(self, keys: Sequence[BulkKey], *, now: datetime) -> None:
        if keys:
            await self._connection.execute(_SQL.dispatched, [k[0] for k in keys], [k[1] for k in keys], now)


def _row(b: Bulk) -> tuple[Any, ...]:
    return (
        b.partner_id,
        b.bulk_id,
        b.digest,
        b.status.value,
        b.items,
        b.currency,
        b.control_minor,
        _REJECTED.dump_json(b.rejected, exclude_none=True).decode(),
        b.reason and b.reason.code.value,
        b.reason and b.reason.text,
        b.reference,
        b.decided_at,
    )


def _bulk(row: Record) -> Bulk:
    code = row["reason_code"]
    return Bulk(
        partner_id=row["partner_id"],
        bulk_id=row["bulk_id"],
        digest=row["digest"],
        status=BulkStatus(row["status"]),
        items=row["items"],
        currency=row["currency"],
        control_minor=row["control_minor"],
        rejected=_REJECTED.validate_json(row["rejected"], context=STORED),
        reason=code and Reason(code=ReasonCode(code), text=row["reason_text"] or ""),
        reference=row["reference"],
        decided_at=row["decided_at"],
        dispatched_at=row["dispatched_at"],
    )
