"""What the API reads and writes, in PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from asyncpg import Connection

from gateway.base.keys import ConsentKey
from gateway.database.queries import load
from gateway.portability.api.rules.calls import Position, Span
from gateway.portability.rules.records import PaymentFacts, Recipient
from schemas.primitives import CustomerId, PartnerId

_SQL = load(__name__, "pull")


class PostgresPullStore:
    """Implements :class:`gateway.portability.api.store.PullStore` on one connection."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def recipient(self, certificate_sha256: str) -> Recipient | None:
        row = await self._connection.fetchrow(_SQL.recipient, certificate_sha256)
        return None if row is None else Recipient(row["org_code"], row["active"], None)

    async def accessed_at(self, key: ConsentKey, org_code: str) -> datetime | None:
        row = await self._connection.fetchrow(_SQL.accessed_at, *key, org_code)
        return None if row is None else row["accessed_at"]

    async def access(self, key: ConsentKey, org_code: str, now: datetime) -> None:
        await self._connection.execute(_SQL.note_access, *key, org_code, now)
        await self._connection.execute(_SQL.access_requests, *key, org_code, now)

    async def tokens(self, customer_id: CustomerId) -> Sequence[str]:
        return [r["token"] for r in await self._connection.fetch(_SQL.tokens, customer_id)]

    async def used_tokens(self, partner_id: PartnerId, customer_id: CustomerId) -> Sequence[str]:
        return [r["token"] for r in await self._connection.fetch(_SQL.used_tokens, partner_id, customer_id)]

    async def page(
        self,
        partner_id: PartnerId,
        customer_id: CustomerId,
        span: Span,
        *,
        after: Position,
        token: str | None,
        limit: int,
    ) -> Sequence[PaymentFacts]:
        rows = await self._connection.fetch(
            _SQL.page,
            partner_id,
            customer_id,
            span.begins,
            after.decided_at,
            after.payment_id,
            span.since,
            token,
            limit,
        )
        return [PaymentFacts(**row) for row in rows]
