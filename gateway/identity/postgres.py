"""Identity links, used assertions and refused records in PostgreSQL, as the use cases need them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Connection

from gateway.base.keys import ConsentKey
from gateway.database.queries import load
from gateway.identity.refusals import Refusal
from gateway.identity.store import AssertionUse
from schemas.primitives import CustomerId, PartnerId

_SQL = load(__name__, "authentication")
_REFUSAL = load(__name__, "refusal")


class PostgresAuthenticationStore:
    """Implements :class:`gateway.identity.store.AuthenticationStore` on one connection."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def links(self, identities: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], CustomerId]:
        if not identities:
            return {}
        rows = await self._connection.fetch(_SQL.links, [i[0] for i in identities], [i[1] for i in identities])
        return {(r["issuer"], r["subject"]): r["customer_id"] for r in rows}

    async def use(self, uses: Sequence[AssertionUse]) -> frozenset[AssertionUse]:
        """One round trip; a second one where some were used before: a new statement sees what was waited for."""
        if not uses:
            return frozenset()
        first: dict[tuple[str, str], AssertionUse] = {}
        for use in uses:
            first.setdefault((use.jti, use.issuer), use)
        rows = await self._connection.fetch(
            _SQL.use,
            [u.jti for u in first.values()],
            [u.issuer for u in first.values()],
            [u.partner_id for u in first.values()],
            [u.used_by for u in first.values()],
            [u.keep_until for u in first.values()],
        )
        new = {(r["jti"], r["issuer"]) for r in rows}
        users: dict[tuple[str, str], tuple[PartnerId, UUID]] = {k: _user(u) for k, u in first.items() if k in new}
        old = [k for k in first if k not in new]
        if old:
            rows = await self._connection.fetch(_SQL.users, [k[0] for k in old], [k[1] for k in old])
            users |= {(r["jti"], r["issuer"]): (r["partner_id"], r["used_by"]) for r in rows}
        return frozenset(u for u in uses if users.get((u.jti, u.issuer)) != _user(u))

    async def authenticated_at(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, datetime]:
        if not keys:
            return {}
        rows = await self._connection.fetch(_SQL.authenticated_at, [k[0] for k in keys], [k[1] for k in keys])
        return {(r["partner_id"], r["consent_id"]): r["authenticated_at"] for r in rows}

    async def mark_authenticated(self, keys: Sequence[ConsentKey], *, now: datetime) -> None:
        if keys:
            await self._connection.execute(_SQL.mark_authenticated, [k[0] for k in keys], [k[1] for k in keys], now)

    async def purge(self, *, before: datetime, limit: int) -> int:
        purged: int = await self._connection.fetchval(_SQL.purge, before, limit)
        return purged


class PostgresRefusalStore:
    """Implements :class:`gateway.identity.refusals.RefusalStore` on one connection."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def insert(self, refusals: Sequence[Refusal]) -> frozenset[str]:
        if not refusals:
            return frozenset()
        rows = await self._connection.fetch(
            _REFUSAL.insert,
            [r.partner_id for r in refusals],
            [r.reference for r in refusals],
            [r.order_id for r in refusals],
            [r.reason.code.value for r in refusals],
            [r.reason.text for r in refusals],
        )
        return frozenset(r["reference"] for r in rows)

    async def find(self, records: Sequence[tuple[PartnerId, str]]) -> frozenset[str]:
        if not records:
            return frozenset()
        partners, references = [p for p, _ in records], [r for _, r in records]
        rows = await self._connection.fetch(_REFUSAL.find, partners, references)
        return frozenset(r["reference"] for r in rows)


def _user(use: AssertionUse) -> tuple[PartnerId, UUID]:
    return (use.partner_id, use.used_by)
