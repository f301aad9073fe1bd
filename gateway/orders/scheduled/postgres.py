"""Orders that wait for their day, in PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from asyncpg import Connection, Record

from gateway.base.errors import StoreIntegrityError
from gateway.database.queries import load
from gateway.payments.rules.payment import Payment, PaymentKey
from gateway.payments.rules.waiting import ScheduledOrder
from gateway.payments.windows import write_windows

_SQL = load(__name__, "schedule")


class PostgresScheduleStore:
    """Implements :class:`gateway.orders.store.ScheduleStore` on one connection."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def keep(self, orders: Sequence[ScheduledOrder]) -> None:
        if orders:
            columns = zip(*map(_row, orders), strict=True)
            await self._connection.execute(_SQL.keep, *map(list, columns))

    async def claim(self, *, now: datetime, lease_until: datetime, limit: int) -> Sequence[ScheduledOrder]:
        return [_order(r) for r in await self._connection.fetch(_SQL.claim, now, lease_until, limit)]

    async def put_off(self, until: Sequence[tuple[PaymentKey, datetime]]) -> None:
        if until:
            keys = [key for key, _ in until]
            await self._connection.execute(
                _SQL.put_off, [k[0] for k in keys], [k[1] for k in keys], [moment for _, moment in until]
            )

    async def close(self, keys: Sequence[PaymentKey], *, now: datetime) -> None:
        if keys:
            await self._connection.execute(_SQL.close, [k[0] for k in keys], [k[1] for k in keys], now)

    async def begin(self, payments: Sequence[Payment]) -> None:
        if not payments:
            return
        columns = zip(*map(_begun, payments), strict=True)
        rows = await self._connection.fetch(_SQL.begin, *map(list, columns))
        if len(rows) != len(payments):
            raise StoreIntegrityError("scheduled payment")


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


def _begun(p: Payment) -> tuple[Any, ...]:
    reason, trace = p.reason, p.trace
    return (
        *p.key,
        p.consent_version,
        p.funding_token,
        p.state.value,
        p.version,
        reason and reason.code.value,
        reason and reason.text,
        reason and reason.network_code,
        p.network_id,
        trace and trace.terminal_id,
        trace and trace.stan,
        trace and trace.rrn,
        trace and trace.transmitted_at,
        write_windows(p.windows),
        p.decided_at,
        p.changed_at,
        p.sent_by,
    )
