"""Funding tokens: whose they are, who may use them, and which master keys they need. Nothing of a card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.database.errors import translated
from gateway.database.queries import load
from gateway.directory.funding import TokenUse
from gateway.directory.postgres import PostgresDirectory
from gateway.views.view import View
from schemas.primitives import CustomerId, FundingToken, PartnerId

_SQL = load(__name__, "tokens")


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


class TokensView(View):
    """Funding tokens."""

    async def usable(self, uses: Sequence[TokenUse]) -> frozenset[TokenUse]:
        """As :meth:`gateway.directory.store.Directory.usable_tokens`."""
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

    async def count_by_key(self) -> Mapping[str, int]:
        """How many tokens are sealed under each master key."""
        return {r["key_id"]: r["tokens"] for r in await self._fetch(_SQL.count_by_key)}
