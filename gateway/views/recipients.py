"""Recipients of customers' data, what was handed to them, and exactly what would be."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncpg import Connection

from gateway.database.queries import load
from gateway.portability.postgres import PostgresSnapshots
from gateway.portability.rules.rows import Extract, Lists, card_row, consent_row, lists_of
from gateway.views.view import View
from schemas.consents import ConsentTerms, PortabilityScope

_SQL = load(__name__, "recipients")

_PIECE = 500


@dataclass(frozen=True, slots=True)
class RegisteredRecipient:
    """A recipient as registered. ``kids``: of its keys that count, the one that is encrypted to first."""

    org_code: str
    name: str
    partner_id: str | None
    certificate_sha256: str | None
    active: bool
    created_at: datetime
    kids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ToldExport:
    """One export and where it stands."""

    partner_id: str
    request_id: str
    number: int
    consent_id: str
    rcv_org_code: str
    state: str
    attempt: int
    snapshot_at: datetime | None
    reason_code: str | None
    reason_text: str | None
    created_at: datetime
    changed_at: datetime


class RecipientsView(View):
    """Recipients, and what they are handed."""

    async def all(self) -> list[RegisteredRecipient]:
        """Every recipient, by org code."""
        rows = await self._fetch(_SQL.recipients)
        return [RegisteredRecipient(**{**dict(r), "kids": tuple(r["kids"] or ())}) for r in rows]

    async def exports(self, *, partner_id: str | None, consent_id: str | None, limit: int) -> list[ToldExport]:
        """Exports, the newest first."""
        return [ToldExport(**dict(r)) for r in await self._fetch(_SQL.exports, partner_id, consent_id, limit)]

    async def pieces(self, terms: ConsentTerms, org_code: str) -> AsyncIterator[Lists]:
        """Exactly the records that an export of everything would hold now, piece by piece.

        Raises:
            ValueError: the consent does not permit it for this recipient.
        """
        purpose = terms.portability
        if purpose is None or org_code not in purpose.recipients:
            raise ValueError(f"the consent does not let data be handed to {org_code}")
        extract = Extract.of(purpose, purpose.scopes, org_code)
        first, cards = Lists(), Lists()
        first.add("consent_list", consent_row(purpose, terms.consent_id))
        yield first
        tokens: set[str] = set()
        snapshots = PostgresSnapshots(self)
        opened = snapshots.open(terms.partner_id, terms.customer_id, since=None, size=_PIECE)
        async with opened as pieces:
            async for piece in pieces:
                tokens.update(p.funding_token for p in piece if p.funding_token is not None)
                yield lists_of(piece, extract)
        if PortabilityScope.CARD_LIST in extract.scopes:
            for token in sorted(tokens):
                cards.add("card_list", card_row(token, org_code))
        yield cards

    @asynccontextmanager
    async def connection(self) -> "AsyncIterator[Connection[Any]]":
        """The view's own: one connection that can only read."""
        yield self._connection
