"""The reversal queue in PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from asyncpg import Connection

from gateway.adapters.postgres.queries import load
from gateway.domain.payment import PaymentKey
from gateway.ports import QueuedReversal
from schemas.primitives import NetworkId

_SQL = load("reversal")


class PostgresReversalStore:
    """Implements :class:`gateway.ports.ReversalStore` on one connection."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def queue(self, reversals: Sequence[QueuedReversal]) -> None:
        if not reversals:
            return
        await self._connection.execute(
            _SQL.queue,
            [r.key[0] for r in reversals],
            [r.key[1] for r in reversals],
            [r.network_id for r in reversals],
            [r.stan for r in reversals],
            [r.transmitted_at for r in reversals],
            [r.queued_at or r.transmitted_at for r in reversals],
        )

    async def claim(
        self, network_id: NetworkId, *, owner: str, now: datetime, lease_until: datetime, limit: int
    ) -> Sequence[QueuedReversal]:
        rows = await self._connection.fetch(_SQL.claim, network_id, owner, now, lease_until, limit)
        return [
            QueuedReversal(
                key=(r["partner_id"], r["payment_id"]),
                network_id=r["network_id"],
                stan=r["stan"],
                transmitted_at=r["transmitted_at"],
                attempts=r["attempts"],
                queued_at=r["queued_at"],
            )
            for r in rows
        ]

    async def retry(self, keys: Sequence[PaymentKey], *, owner: str, next_attempt_at: datetime, code: str) -> None:
        if keys:
            await self._connection.execute(_SQL.retry, *_columns(keys), owner, next_attempt_at, code)

    async def confirm(self, keys: Sequence[PaymentKey], *, owner: str, now: datetime) -> frozenset[PaymentKey]:
        if not keys:
            return frozenset()
        rows = await self._connection.fetch(_SQL.confirm, *_columns(keys), owner, now)
        return frozenset((r["partner_id"], r["payment_id"]) for r in rows)

    async def next_due(self, network_id: NetworkId) -> datetime | None:
        due: datetime | None = await self._connection.fetchval(_SQL.next_due, network_id)
        return due


def _columns(keys: Sequence[PaymentKey]) -> tuple[list[Any], list[Any]]:
    return [k[0] for k in keys], [k[1] for k in keys]
