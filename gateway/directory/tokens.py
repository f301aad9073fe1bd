"""What people and provisioning do with funding tokens: store sealed cards, say who may use them, seal them anew.

Nothing here sees a card: rows come sealed and go sealed.
"""

from collections.abc import Sequence
from datetime import datetime

from gateway.database.queries import load
from gateway.database.statements import OnConnection
from gateway.directory.funding import NewToken, Sealed, SealedToken
from gateway.directory.partners import UnknownPartnerError
from schemas.primitives import CustomerId, FundingToken, PartnerId

_SQL = load(__name__, "token")


class PostgresTokens(OnConnection):
    """Funding tokens on one connection. Each call is a transaction of its own unless the caller holds one open.

    Every method raises StoreUnavailableError or StoreConflictError as the stores do.
    """

    async def put(self, tokens: Sequence[NewToken], *, now: datetime) -> frozenset[FundingToken]:
        """Store tokens that are free, with their permissions; return these. A token's card and owner never change.

        Raises:
            UnknownPartnerError: one of the partners is not registered; nothing was written.
        """
        async with self.transaction():
            rows = await self._fetch(
                _SQL.put,
                [t.token for t in tokens],
                [t.customer_id for t in tokens],
                [t.sealed.key_id for t in tokens],
                [t.sealed.nonce for t in tokens],
                [t.sealed.ciphertext for t in tokens],
            )
            new = frozenset(FundingToken(r["token"]) for r in rows)
            await self.allow([(t.token, p) for t in tokens if t.token in new for p in t.partners], now=now)
        return new

    async def allow(self, permissions: Sequence[tuple[FundingToken, PartnerId]], *, now: datetime) -> None:
        """Let partners use tokens that exist; those that may already are left as they are.

        Raises:
            UnknownPartnerError: one of the partners is not registered; nothing was written.
        """
        if permissions:
            await self._fetch(_SQL.allow, *map(list, zip(*permissions, strict=True)), now)

    async def lock_permissions(
        self, token: FundingToken, partners: Sequence[PartnerId]
    ) -> dict[PartnerId, tuple[datetime, datetime | None]]:
        """Since when each partner may use the token, and since when no longer; locked. Who never might is left out."""
        rows = await self._fetch(_SQL.lock_permissions, token, list(partners))
        return {PartnerId(r["partner_id"]): (r["allowed_at"], r["withdrawn_at"]) for r in rows}

    async def withdraw(self, token: FundingToken, partner_id: PartnerId, *, now: datetime) -> bool:
        """Let a partner use a token no longer; False where it was not permitted.

        A payment that read the permission before may still begin: see :func:`gateway.app.registries.withdraw_token`.
        """
        return bool(await self._fetch(_SQL.withdraw, token, partner_id, now))

    async def sealed(self, token: FundingToken) -> SealedToken | None:
        """One row as it is sealed."""
        rows = await self._fetch(_SQL.sealed, token)
        return SealedToken(**dict(rows[0])) if rows else None

    async def assign(self, was: SealedToken, customer_id: CustomerId, sealed: Sealed, *, now: datetime) -> bool:
        """Give a token that has no owner one, with its card sealed for it; False where that was done meanwhile."""
        rows = await self._fetch(
            _SQL.assign, was.token, customer_id, sealed.key_id, sealed.nonce, sealed.ciphertext, was.nonce, now
        )
        return bool(rows)

    async def sealed_under_others(self, key_id: str, *, after: str, limit: int) -> list[SealedToken]:
        """Rows that are sealed under any other key, by token, a page at a time: those past ``after``."""
        return [SealedToken(**dict(r)) for r in await self._fetch(_SQL.sealed_under_others, key_id, after, limit)]

    async def reseal(self, rows: Sequence[tuple[SealedToken, Sealed]], *, now: datetime) -> int:
        """Replace rows by the same cards sealed anew; return how many. One that changed meanwhile is left."""
        done = await self._fetch(
            _SQL.reseal,
            [was.token for was, _ in rows],
            [new.key_id for _, new in rows],
            [new.nonce for _, new in rows],
            [new.ciphertext for _, new in rows],
            [was.nonce for was, _ in rows],
            now,
        )
        return len(done)

    def _nothing_named(self) -> Exception:
        # The token is there, or was inserted in this transaction.
        return UnknownPartnerError("the partner is not registered")
