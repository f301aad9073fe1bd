"""Finding payments and consents by whatever somebody holds in the hand. Each way goes through an index."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from gateway.database.queries import load
from gateway.payments.postgres import payment_of
from gateway.payments.rules.payment import Payment
from gateway.views.view import View
from schemas.primitives import payment_id_of

_SQL = load(__name__, "search")


@dataclass(frozen=True, slots=True)
class FoundConsent:
    """A consent, as a list shows it."""

    partner_id: str
    consent_id: str
    customer_id: str
    status: str
    version: int
    status_changed_at: datetime


class SearchView(View):
    """Searches. No list is longer than ``limit``."""

    async def partners(self) -> list[str]:
        """Every partner's id."""
        return [r["partner_id"] for r in await self._fetch(_SQL.partners)]

    async def by_order(self, partners: Sequence[str], order_id: str) -> list[Payment]:
        """Payments of an order id: at most one a partner, whose id follows from the two."""
        ids: list[UUID] = [payment_id_of(p, order_id) for p in partners]
        return [payment_of(r) for r in await self._fetch(_SQL.by_id, list(partners), ids)]

    async def by_id(self, partners: Sequence[str], payment_id: UUID) -> list[Payment]:
        """The payment of this id."""
        return [payment_of(r) for r in await self._fetch(_SQL.by_id, list(partners), [payment_id] * len(partners))]

    async def archived(self, partners: Sequence[str], payment_ids: Sequence[UUID]) -> list[tuple[str, UUID]]:
        """Which of these payments, each of its partner, are in the archive: partner and payment id."""
        rows = await self._fetch(_SQL.archived, list(partners), list(payment_ids))
        return [(r["partner_id"], r["payment_id"]) for r in rows]

    async def by_rrn(self, networks: Sequence[str], rrn: str) -> list[Payment]:
        """Payments that networks know by this reference."""
        return [payment_of(r) for r in await self._fetch(_SQL.by_rrn, list(networks), rrn)]

    async def refunds(self, partner_id: str, payment_id: UUID, *, limit: int = 20) -> list[Payment]:
        """Refunds of a payment."""
        return [payment_of(r) for r in await self._fetch(_SQL.refunds, partner_id, payment_id, limit)]

    async def of_consent(self, partner_id: str, consent_id: str, *, limit: int = 50) -> list[Payment]:
        """Payments under a consent, the latest first."""
        return [payment_of(r) for r in await self._fetch(_SQL.of_consent, partner_id, consent_id, limit)]

    async def consents(self, partners: Sequence[str], consent_id: str) -> list[FoundConsent]:
        """Consents of this id: at most one a partner."""
        return [FoundConsent(**dict(r)) for r in await self._fetch(_SQL.consents, list(partners), consent_id)]

    async def consents_of_customer(
        self, partners: Sequence[str], customer_id: str, *, limit: int = 50
    ) -> list[FoundConsent]:
        """A customer's consents."""
        rows = await self._fetch(_SQL.consents_of_customer, list(partners), customer_id, limit)
        return [FoundConsent(**dict(r)) for r in rows]

    async def consents_of_token(self, token: str, *, limit: int = 50) -> list[FoundConsent]:
        """Consents that pay with this funding token."""
        return [FoundConsent(**dict(r)) for r in await self._fetch(_SQL.consents_of_token, token, limit)]
