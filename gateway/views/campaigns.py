"""Joint campaigns: how they were written, and what is used of their budgets."""

from dataclasses import dataclass
from datetime import datetime

from gateway.database.queries import load
from gateway.views.view import View

_SQL = load(__name__, "campaigns")


@dataclass(frozen=True, slots=True)
class ToldCampaign:
    """A campaign as it stands; sums in the minor unit of ``currency``. ``body``: as it was written, JSON."""

    campaign_id: str
    body: str
    active: bool
    offers: int
    held_minor: int
    used_minor: int
    currency: str
    budget_minor: int
    budget_offers: int
    applied_at: datetime


class CampaignsView(View):
    """Campaigns, and their offers by state."""

    async def all(self, campaign_id: str | None = None) -> list[ToldCampaign]:
        """Every campaign, or the one of this id."""
        return [ToldCampaign(**dict(r)) for r in await self._fetch(_SQL.campaigns, campaign_id)]

    async def offers(self, campaign_id: str) -> dict[str, int]:
        """State → how many of a campaign's offers are in it."""
        return {r["state"]: r["offers"] for r in await self._fetch(_SQL.offers, campaign_id)}
