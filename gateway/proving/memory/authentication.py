"""Identity links and used assertions in memory."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from gateway.base.keys import ConsentKey
from gateway.identity.store import AssertionUse
from gateway.proving.memory.boundary import Boundary
from gateway.proving.memory.database import Transaction
from schemas.primitives import CustomerId, PartnerId


class MemoryAuthenticationStore:
    """Implements :class:`gateway.identity.store.AuthenticationStore` in one transaction."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self._tx = transaction
        self._db = transaction.database
        self._boundary = boundary

    async def links(self, identities: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], CustomerId]:
        await self._boundary("authentication.links")
        return {i: row for i in identities if (row := self._tx.get(self._db.identity_links, i)) is not None}

    async def use(self, uses: Sequence[AssertionUse]) -> frozenset[AssertionUse]:
        await self._boundary("authentication.use")
        refused = set()
        for use in sorted(uses, key=lambda u: (u.jti, u.issuer)):
            await self._tx.insert(self._db.used_assertions, (use.jti, use.issuer), use)
        for use in uses:
            first = self._tx.get(self._db.used_assertions, (use.jti, use.issuer))
            if first is None or _user(first) != _user(use):
                refused.add(use)
        return frozenset(refused)

    async def authenticated_at(self, keys: Sequence[ConsentKey]) -> Mapping[ConsentKey, datetime]:
        await self._boundary("authentication.authenticated_at")
        return {k: row for k in keys if (row := self._tx.get(self._db.authenticated_at, k)) is not None}

    async def mark_authenticated(self, keys: Sequence[ConsentKey], *, now: datetime) -> None:
        await self._boundary("authentication.mark_authenticated")
        for key in sorted(keys):
            if not await self._tx.insert(self._db.authenticated_at, key, now):
                await self._tx.lock(self._db.authenticated_at, [key])
                self._tx.update(self._db.authenticated_at, key, now)

    async def purge(self, *, before: datetime, limit: int) -> int:
        await self._boundary("authentication.purge")
        old = [k for k, use in self._db.used_assertions.rows.items() if use.keep_until < before][:limit]
        for key in old:
            del self._db.used_assertions.rows[key]
        return len(old)


def _user(use: AssertionUse) -> tuple[PartnerId, UUID]:
    return (use.partner_id, use.used_by)
