"""What people and provisioning write of identities, revoked issuer keys, and the trust policy that counts."""

from collections.abc import Sequence
from datetime import datetime

from gateway.database.pool import ConnectionPool
from gateway.database.queries import load
from gateway.database.statements import OnConnection
from gateway.identity.store import IdentityLink
from schemas.primitives import CustomerId

_SQL = load(__name__, "authentication")


class PostgresIdentities(OnConnection):
    """What people and provisioning write: identity links and revoked issuer keys, on one connection.

    Every method raises StoreUnavailableError or StoreConflictError as the stores do.
    """

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

    async def last_ended_link(self, issuer: str, subject: str) -> tuple[CustomerId, datetime] | None:
        """Whose an identity was before, and until when; None where no link of it has ended."""
        rows = await self._fetch(_SQL.last_ended_link, issuer, subject)
        return (CustomerId(rows[0]["customer_id"]), rows[0]["unlinked_at"]) if rows else None

    async def unlink(self, issuer: str, subject: str, *, now: datetime) -> CustomerId | None:
        """End a link; return whose it was, or None if there was none. The next order that relies on it is refused."""
        rows = await self._fetch(_SQL.unlink, issuer, subject, now)
        return rows[0]["customer_id"] if rows else None

    async def revoke_key(self, issuer: str, kid: str, *, now: datetime) -> bool:
        """Revoke a provider's key for ever, in every process within seconds; False if it was revoked before."""
        return bool(await self._fetch(_SQL.revoke_key, issuer, kid, now))

    async def revoked_keys(self) -> frozenset[tuple[str, str]]:
        """Every (issuer, kid) that was revoked."""
        return frozenset((r["issuer"], r["kid"]) for r in await self._fetch(_SQL.revoked_keys))

    async def apply_policy(self, digest: str) -> bool:
        """Let this trust policy count from now on; False if it does already."""
        return bool(await self._fetch(_SQL.apply_policy, digest))

    async def applied_policy(self) -> tuple[str, datetime] | None:
        """Digest of the trust policy that counts, and since when; None if there is none yet."""
        rows = await self._fetch(_SQL.applied_policy)
        return (rows[0]["digest"], rows[0]["applied_at"]) if rows else None


class PostgresRevocations:
    """Loads (issuer, kid) pairs that operators have revoked, for the trust table."""

    def __init__(self, store: ConnectionPool) -> None:
        self._store = store

    async def __call__(self) -> frozenset[tuple[str, str]]:
        """Read all; a handful of rows.

        Raises:
            StoreUnavailableError: they could not be read.
        """
        async with self._store.connection() as connection:
            rows = await connection.fetch(_SQL.revoked_keys)
        return frozenset((r["issuer"], r["kid"]) for r in rows)


class PostgresAppliedPolicy:
    """Loads the digest of the trust policy that counts, for processes."""

    def __init__(self, store: ConnectionPool) -> None:
        self._store = store

    async def __call__(self) -> str | None:
        """Read it; None if none counts yet.

        Raises:
            StoreUnavailableError: it could not be read.
        """
        async with self._store.connection() as connection:
            found: str | None = await connection.fetchval(_SQL.applied_policy)
        return found
