"""Identity links, used assertions and revoked issuer keys in PostgreSQL."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from asyncpg import Connection

from gateway.adapters.postgres.errors import translated
from gateway.adapters.postgres.queries import load
from gateway.adapters.postgres.store import PostgresStore
from gateway.ports import AssertionUse, IdentityLink
from schemas.primitives import CustomerId, PartnerId

_SQL = load("authentication")


class PostgresAuthenticationStore:
    """Implements :class:`gateway.ports.AuthenticationStore` on one connection."""

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

    async def purge(self, *, before: datetime, limit: int) -> int:
        status = await self._connection.execute(_SQL.purge, before, limit)
        return int(status.rpartition(" ")[2])


class PostgresIdentities:
    """What people and provisioning write: identity links and revoked issuer keys, on one connection.

    Every method raises StoreUnavailableError or StoreConflictError as the stores do.
    """

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def link(self, links: Sequence[IdentityLink]) -> frozenset[tuple[str, str]]:
        """Link identities that are not linked; return these. A standing link is never changed: unlink it first."""
        rows = await self._fetch(
            _SQL.add_links,
            [i.issuer for i in links],
            [i.subject for i in links],
            [i.customer_id for i in links],
            [i.linked_at for i in links],
        )
        return frozenset((r["issuer"], r["subject"]) for r in rows)

    async def unlink(self, issuer: str, subject: str, *, now: datetime) -> CustomerId | None:
        """End a link; return whose it was, or None if there was none. The next order that relies on it is refused."""
        rows = await self._fetch(_SQL.unlink, issuer, subject, now)
        return rows[0]["customer_id"] if rows else None

    async def links(
        self, customer_id: CustomerId | None = None, *, ended: bool = False, limit: int = 1000
    ) -> list[IdentityLink]:
        """Links of one customer or all, by customer; with ``ended`` also those that no longer stand."""
        return [IdentityLink(**dict(r)) for r in await self._fetch(_SQL.history, customer_id, ended, limit)]

    async def revoke_key(self, issuer: str, kid: str, *, now: datetime) -> bool:
        """Revoke a provider's key for ever, in every process within seconds; False if it was revoked before."""
        return bool(await self._fetch(_SQL.revoke_key, issuer, kid, now))

    async def revoked_keys(self) -> frozenset[tuple[str, str]]:
        """Every (issuer, kid) that was revoked."""
        return frozenset((r["issuer"], r["kid"]) for r in await self._fetch(_SQL.revoked_keys))

    async def _fetch(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        async with translated():
            rows: list[asyncpg.Record] = await self._connection.fetch(sql, *arguments)
            return rows


class PostgresRevocations:
    """Loads (issuer, kid) pairs that operators have revoked, for the trust table."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store

    async def __call__(self) -> frozenset[tuple[str, str]]:
        """Read all; a handful of rows.

        Raises:
            StoreUnavailableError: they could not be read.
        """
        async with self._store.connection() as connection:
            rows = await connection.fetch(_SQL.revoked_keys)
        return frozenset((r["issuer"], r["kid"]) for r in rows)


@asynccontextmanager
async def open_identities(dsn: str) -> AsyncIterator[PostgresIdentities]:
    """Connect for as long as the block lasts.

    Raises:
        StoreUnavailableError: the server cannot be reached.
    """
    async with translated():
        connection = await asyncpg.connect(dsn, server_settings={"application_name": "mypay-identities"})
    try:
        yield PostgresIdentities(connection)
    finally:
        await connection.close()


def _user(use: AssertionUse) -> tuple[PartnerId, UUID]:
    return (use.partner_id, use.used_by)
