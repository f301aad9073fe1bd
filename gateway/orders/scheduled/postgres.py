"""Orders that wait for their day, in PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from asyncpg import Connection, Record

from gateway.database.queries import load
from gateway.payments.rules.payment import PaymentKey
from gateway.payments.rules.waiting import ScheduledOrder
from schemas.primitives import NetworkId

_SQL = load(__name__, "schedule")


class PostgresScheduleStore:
    """Implements :class:`gateway.orders.store.ScheduleStore` on one connection."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def keep(self, orders: Sequence[ScheduledOrder]) -> None:
        if orders:
            columns = zip(*map(_row, orders), strict=True)
            await self._connection.execute(_SQL.keep, *map(list, columns))

    async def claim(
        self, *, now: datetime, lease_until: datetime, limit: int, after: str = "", held_for: str = ""
    ) -> Sequence[ScheduledOrder]:
        rows = await self._connection.fetch(_SQL.claim, now, lease_until, limit, after, held_for)
        return [_order(r) for r in rows]

    async def claim_expired(self, *, now: datetime, lease_until: datetime, limit: int) -> Sequence[ScheduledOrder]:
        return [_order(r) for r in await self._connection.fetch(_SQL.claim_expired, now, lease_until, limit)]

    async def held_for(self) -> Sequence[NetworkId]:
        return [NetworkId(r["held_for"]) for r in await self._connection.fetch(_SQL.held_for)]

    async def lock(self, keys: Sequence[PaymentKey]) -> None:
        if keys:
            await self._connection.execute(_SQL.lock, [k[0] for k in keys], [k[1] for k in keys])

    async def hold(self, orders: Sequence[tuple[ScheduledOrder, NetworkId]], *, now: datetime) -> None:
        if orders:
            rows = [(*order.key, order.dispatches, network_id) for order, network_id in orders]
            await self._connection.execute(_SQL.hold, *map(list, zip(*rows, strict=True)), now)

    async def put_off(self, until: Sequence[tuple[PaymentKey, datetime]]) -> None:
        if until:
            keys = [key for key, _ in until]
            await self._connection.execute(
                _SQL.put_off, [k[0] for k in keys], [k[1] for k in keys], [moment for _, moment in until]
            )

    async def close(self, keys: Sequence[PaymentKey], *, now: datetime) -> None:
        if keys:
            await self._connection.execute(_SQL.close, [k[0] for k in keys], [k[1] for k in keys], now)


def _row(o: ScheduledOrder) -> tuple[Any, ...]:
    return (
        *o.key,
        o.due_at,
        o.expires_at,
        o.order_type,
        o.body,
        o.signature,
        o.proven,
        o.reference,
        o.ordered_at,
        o.traceparent,
    )


def _order(row: Record) -> ScheduledOrder:
    return ScheduledOrder(
        key=(row["partner_id"], row["payment_id"]),
        due_at=row["due_at"],
        expires_at=row["expires_at"],
        order_type=row["order_type"],
        body=row["body"],
        signature=row["signature"],
        proven=row["proven"],
        reference=row["reference"],
        ordered_at=row["ordered_at"],
        traceparent=row["traceparent"],
        dispatches=row["dispatches"],
    )
