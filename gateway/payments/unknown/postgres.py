"""The queues of reversals and of inquiries in PostgreSQL: two tables alike, one implementation."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from asyncpg import Connection

from gateway.database.queries import load
from gateway.payments.rules.payment import PaymentKey
from gateway.payments.unknown.store import UNSENDABLE, FollowUp
from schemas.primitives import NetworkId

_SQL = {queue: load(__name__, "follow_up", queue=queue) for queue in ("reversal", "inquiry")}


class PostgresFollowUpStore:
    """Implements :class:`gateway.payments.unknown.store.FollowUpStore` on one connection.

    Args:
        queue: the table: ``reversal`` or ``inquiry``.
    """

    def __init__(self, connection: "Connection[Any]", queue: str) -> None:
        self._connection = connection
        self._sql = _SQL[queue]

    async def queue(self, follow_ups: Sequence[FollowUp]) -> None:
        # One statement may open a row anew once only: of two for one payment the first stands.
        firsts = list({f.key: f for f in reversed(follow_ups)}.values())
        if not firsts:
            return
        await self._connection.execute(
            self._sql.queue,
            *_columns([f.key for f in firsts]),
            [f.network_id for f in firsts],
            [f.terminal_id for f in firsts],
            [f.stan for f in firsts],
            [f.transmitted_at for f in firsts],
            [f.queued_at or f.transmitted_at for f in firsts],
        )

    async def begin_anew(self, follow_ups: Sequence[FollowUp]) -> None:
        if follow_ups:
            await self._connection.execute(
                self._sql.begin_anew,
                *_columns([f.key for f in follow_ups]),
                [f.stan for f in follow_ups],
                [f.transmitted_at for f in follow_ups],
            )

    async def claim(
        self,
        network_id: NetworkId,
        *,
        owner: str,
        now: datetime,
        lease_until: datetime,
        limit: int,
        in_order: bool = False,
    ) -> Sequence[FollowUp]:
        rows = await self._connection.fetch(
            self._sql.claim, network_id, owner, now, lease_until, limit, in_order, UNSENDABLE
        )
        return [
            FollowUp(
                key=(r["partner_id"], r["payment_id"]),
                network_id=r["network_id"],
                terminal_id=r["terminal_id"],
                stan=r["stan"],
                transmitted_at=r["transmitted_at"],
                attempts=r["attempts"],
                queued_at=r["queued_at"],
            )
            for r in rows
        ]

    async def retry(self, keys: Sequence[PaymentKey], *, owner: str, next_attempt_at: datetime, code: str) -> None:
        if keys:
            await self._connection.execute(self._sql.retry, *_columns(keys), owner, next_attempt_at, code)

    async def hurry(self, keys: Sequence[PaymentKey], *, now: datetime) -> frozenset[PaymentKey]:
        return await self._found(self._sql.hurry, keys, now)

    async def close(self, codes: Mapping[PaymentKey, str], *, owner: str, now: datetime) -> frozenset[PaymentKey]:
        return await self._found(self._sql.close, list(codes), owner, now, list(codes.values()))

    async def take_away(self, keys: Sequence[PaymentKey], *, now: datetime) -> frozenset[PaymentKey]:
        return await self._found(self._sql.take_away, keys, now)

    async def _found(self, sql: str, keys: Sequence[PaymentKey], *arguments: object) -> frozenset[PaymentKey]:
        if not keys:
            return frozenset()
        rows = await self._connection.fetch(sql, *_columns(keys), *arguments)
        return frozenset((r["partner_id"], r["payment_id"]) for r in rows)

    async def next_due(self, network_id: NetworkId) -> datetime | None:
        due: datetime | None = await self._connection.fetchval(self._sql.next_due, network_id)
        return due


def _columns(keys: Sequence[PaymentKey]) -> tuple[list[Any], list[Any]]:
    return [k[0] for k in keys], [k[1] for k in keys]
