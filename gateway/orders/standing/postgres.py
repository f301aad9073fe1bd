"""Standing orders in PostgreSQL."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from asyncpg import Connection, Record

from gateway.database.queries import load
from gateway.orders.standing.rules import StandingKey, StandingOrder
from schemas.codec import decode, encode
from schemas.primitives import Money
from schemas.reasons import Reason, ReasonCode
from schemas.standing import StandingSchedule, StandingStatus

_SQL = load(__name__, "standing")


class PostgresStandingOrderStore:
    """Implements :class:`gateway.orders.store.StandingOrderStore` on one connection."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def lock(self, keys: Sequence[StandingKey]) -> Mapping[StandingKey, StandingOrder]:
        rows = await self._connection.fetch(_SQL.lock, [k[0] for k in keys], [k[1] for k in keys])
        return {o.key: o for o in map(standing_of, rows)}

    async def insert(self, orders: Sequence[StandingOrder]) -> frozenset[StandingKey]:
        if not orders:
            return frozenset()
        columns = zip(*map(_row, orders), strict=True)
        rows = await self._connection.fetch(_SQL.insert, *map(list, columns))
        return frozenset((r["partner_id"], r["standing_order_id"]) for r in rows)

    async def claim_due(self, *, now: datetime, limit: int) -> Sequence[StandingOrder]:
        return [standing_of(r) for r in await self._connection.fetch(_SQL.claim_due, now, limit)]

    async def active(self, *, after: StandingKey | None, limit: int) -> Sequence[StandingOrder]:
        partner_id, standing_order_id = after or ("", "")
        rows = await self._connection.fetch(_SQL.active, partner_id, standing_order_id, limit)
        return [standing_of(r) for r in rows]

    async def update(self, orders: Sequence[StandingOrder]) -> None:
        if not orders:
            return
        await self._connection.execute(
            _SQL.update,
            [o.partner_id for o in orders],
            [o.standing_order_id for o in orders],
            [o.status.value for o in orders],
            [o.version for o in orders],
            [o.occurrences for o in orders],
            [o.next_due_at for o in orders],
            [o.changed_at for o in orders],
            [o.reason and o.reason.code.value for o in orders],
            [o.reason and o.reason.text for o in orders],
        )


def _row(o: StandingOrder) -> tuple[Any, ...]:
    return (
        o.partner_id,
        o.standing_order_id,
        o.consent_id,
        o.merchant_id,
        o.amount.minor,
        o.amount.currency,
        encode(o.schedule).decode(),
        o.status.value,
        o.version,
        o.occurrences,
        o.next_due_at,
        o.proven,
        o.digest,
        o.signature,
        o.reference,
        o.ordered_at,
        o.changed_at,
        o.reason and o.reason.code.value,
        o.reason and o.reason.text,
        o.traceparent,
        o.consent_version,
    )


def standing_of(row: Record) -> StandingOrder:
    """Build a standing order from a row of its table."""
    code = row["reason_code"]
    return StandingOrder(
        partner_id=row["partner_id"],
        standing_order_id=row["standing_order_id"],
        consent_id=row["consent_id"],
        consent_version=row["consent_version"],
        merchant_id=row["merchant_id"],
        amount=Money.of(row["amount_minor"], row["currency"]),
        schedule=decode(StandingSchedule, row["schedule"].encode(), trusted=True),
        status=StandingStatus(row["status"]),
        version=row["version"],
        occurrences=row["occurrences"],
        next_due_at=row["next_due_at"],
        proven=row["proven"],
        digest=row["digest"],
        signature=row["signature"],
        reference=row["reference"],
        ordered_at=row["ordered_at"],
        changed_at=row["changed_at"],
        reason=code and Reason(code=ReasonCode(code), text=row["reason_text"] or ""),
        traceparent=row["traceparent"],
    )
