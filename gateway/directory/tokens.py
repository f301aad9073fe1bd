"""What people and provisioning do with funding tokens: store sealed cards, say who may use them, seal them anew.

Nothing here sees a card: rows come sealed and go sealed.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import asyncpg
from asyncpg import Connection

from gateway.database.errors import translated
from gateway.database.queries import load
from gateway.database.sessions import PEOPLE_S, session, session_settings
from gateway.directory.funding import TokenUse
from gateway.directory.postgres import PostgresDirectory
from gateway.directory.registry import UnknownPartnerError
from schemas.primitives import ConsentId, CustomerId, FundingToken, PartnerId

_SQL = load(__name__, "token")


class Sealed(Protocol):
    """A card as the vault sealed it."""

    @property
    def key_id(self) -> str:
        """Which master key sealed it."""

    @property
    def nonce(self) -> bytes:
        """AES-GCM nonce."""

    @property
    def ciphertext(self) -> bytes:
        """AES-GCM ciphertext with its tag."""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token to store: whose it is, who may use it, and the card as it was sealed for this owner."""

    token: FundingToken
    customer_id: CustomerId
    partners: tuple[PartnerId, ...]
    sealed: Sealed


@dataclass(frozen=True, slots=True)
class StoredToken:
    """What may be shown of a token; nothing of its card.

    Attributes:
        customer_id: None for one from before tokens had owners: it is refused until it is assigned.
        partners: those that may use it now.
        key_id: the master key that it is sealed under, since ``sealed_at``.
    """

    token: FundingToken
    customer_id: CustomerId | None
    partners: tuple[PartnerId, ...]
    key_id: str
    created_at: datetime
    sealed_at: datetime


@dataclass(frozen=True, slots=True)
class Permission:
    """One partner's use of a token; ``withdrawn_at`` is None while it stands."""

    partner_id: PartnerId
    allowed_at: datetime
    withdrawn_at: datetime | None


@dataclass(frozen=True, slots=True)
class SealedToken:
    """A token's row as it is sealed."""

    token: FundingToken
    customer_id: CustomerId | None
    key_id: str
    nonce: bytes
    ciphertext: bytes


class PostgresTokens:
    """Funding tokens on one connection. Each call is a transaction of its own unless the caller holds one open.

    Every method raises StoreUnavailableError or StoreConflictError as the stores do.
    """

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Make the calls inside one transaction: all of them or none."""
        async with translated(), self._connection.transaction():
            yield

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

    async def withdraw(self, token: FundingToken, partner_id: PartnerId, *, now: datetime) -> list[ConsentId] | None:
        """Let a partner use a token no longer; return the consents that name it, or None where it was not permitted.

        Once this returns, no payment of this partner with this token can begin any more, and one that had begun leaves
        soon or not at all (:attr:`gateway.payments.execution.ExecutionSettings.intent_to_wire_s`): whoever had read the
        permission before it was withdrawn held the lock of such a consent, and each of these locks was waited for. So
        it is two transactions of its own, and never a part of another.
        """
        if self._connection.is_in_transaction():
            raise AssertionError("what is withdrawn must be visible before the locks are waited for")
        if not await self._fetch(_SQL.withdraw, token, partner_id, now):
            return None
        async with self.transaction():
            rows = await self._fetch(_SQL.lock_consents_under, token, partner_id)
        return [ConsentId(r["consent_id"]) for r in rows]

    async def usable(self, uses: Sequence[TokenUse]) -> frozenset[TokenUse]:
        """As :meth:`gateway.ports.Directory.usable_tokens`."""
        async with translated():
            return await PostgresDirectory(self._connection).usable_tokens(uses)

    async def find(
        self,
        *,
        token: FundingToken | None = None,
        customer_id: CustomerId | None = None,
        unowned: bool = False,
        after: str = "",
        limit: int = 100,
    ) -> list[StoredToken]:
        """Tokens by id, a page at a time: that one, a customer's, those without an owner, or all."""
        rows = await self._fetch(_SQL.find, token, customer_id, unowned, after, limit)
        return [StoredToken(**{**dict(r), "partners": tuple(r["partners"])}) for r in rows]

    async def permissions(self, token: FundingToken) -> list[Permission]:
        """Every partner that may use a token or once might."""
        return [Permission(**dict(r)) for r in await self._fetch(_SQL.history, token)]

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

    async def count_by_key(self) -> Mapping[str, int]:
        """How many tokens are sealed under each master key."""
        return {r["key_id"]: r["tokens"] for r in await self._fetch(_SQL.count_by_key)}

    async def _fetch(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        async with translated():
            try:
                rows: list[asyncpg.Record] = await self._connection.fetch(sql, *arguments)
            except asyncpg.ForeignKeyViolationError:
                # The token is there, or was inserted in this transaction; the driver's text quotes the row.
                raise UnknownPartnerError("the partner is not registered") from None
            return rows


@asynccontextmanager
async def open_tokens(dsn: str) -> AsyncIterator[PostgresTokens]:
    """Connect for as long as the block lasts.

    Raises:
        StoreUnavailableError: the server cannot be reached.
    """
    async with session(dsn, session_settings("mypay-tokens", idle_in_transaction_s=PEOPLE_S)) as connection:
        yield PostgresTokens(connection)
