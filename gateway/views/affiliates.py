"""Affiliates, and what each was given under which consent."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from gateway.database.queries import load
from gateway.views.view import View

_SQL = load(__name__, "affiliates")


@dataclass(frozen=True, slots=True)
class RegisteredAffiliate:
    """An affiliate as registered. ``approved``: the uses that are approved for it; ``kids``: of its keys that count."""

    affiliate_id: str
    name: str
    home_group: str
    active: bool
    created_at: datetime
    approved: tuple[str, ...]
    kids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ToldHolder:
    """What an affiliate was given under a consent, and whether it must erase it, or has.

    Attributes:
        reference: the affiliate's own name of it; shares: how many payments.
    """

    affiliate_id: str
    partner_id: str
    consent_id: str
    round: int
    reference: str
    since: datetime
    noticed_at: datetime | None
    cause: str | None
    erase_by: datetime | None
    confirmed_at: datetime | None
    erased: int | None
    notice_id: UUID | None
    shares: int


class AffiliatesView(View):
    """Affiliates, and what they hold."""

    async def all(self) -> list[RegisteredAffiliate]:
        """Every affiliate, by id."""
        rows = await self._fetch(_SQL.affiliates)
        lists = ("approved", "kids")
        return [RegisteredAffiliate(**{**dict(r), **{n: tuple(r[n] or ()) for n in lists}}) for r in rows]

    async def count_by_key(self) -> Mapping[str, int]:
        """Under how many consents customers are named by each sharing key, of what is not known to be erased."""
        return {r["key_id"]: r["holders"] for r in await self._fetch(_SQL.count_by_key)}

    async def holders(self, *, affiliate_id: str | None, consent_id: str | None, limit: int) -> list[ToldHolder]:
        """What was shared, the youngest first."""
        return [ToldHolder(**dict(r)) for r in await self._fetch(_SQL.holders, affiliate_id, consent_id, limit)]
