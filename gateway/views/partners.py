"""Partners as they are registered, and their keys."""

import json
from dataclasses import dataclass
from datetime import datetime

from gateway.database.queries import load
from gateway.directory.partners import HomeGroup, PartnerKey
from gateway.views.view import View
from schemas.primitives import PartnerId

_SQL = load(__name__, "partners")


@dataclass(frozen=True, slots=True)
class RegisteredPartner:
    """A partner as registered. ``live_keys``: keys neither disabled nor past their end."""

    partner_id: PartnerId
    name: str
    home_group: HomeGroup
    active: bool
    registered_at: datetime
    live_keys: int


class PartnersView(View):
    """Partners."""

    async def all(self) -> list[RegisteredPartner]:
        """Every partner, by id."""
        return [RegisteredPartner(**dict(r)) for r in await self._fetch(_SQL.partners)]

    async def keys(self, partner_id: PartnerId) -> list[PartnerKey]:
        """A partner's keys, whatever their state, oldest first."""
        rows = await self._fetch(_SQL.partner_keys, partner_id)
        return [PartnerKey(**{**dict(r), "jwk": json.loads(r["jwk"])}) for r in rows]
