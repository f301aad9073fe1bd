"""What operators write of campaigns."""

from datetime import datetime

from gateway.database.queries import load
from gateway.database.statements import OnConnection
from gateway.marketing.rules.campaign import Campaign, CampaignRefusedError

_SQL = load(__name__, "campaign_registry")


class PostgresCampaignRegistry(OnConnection):
    """Campaigns, on one connection. Each call is a transaction of its own unless the caller holds one open.

    Every method raises StoreUnavailableError or StoreConflictError as the stores do.
    """

    async def apply(self, campaign: Campaign, *, now: datetime) -> bool:
        """Write a campaign, new or instead of what it was; True if it is new. It is active then.

        What was granted stands, as it was granted.

        Raises:
            CampaignRefusedError: its currency is another, or its budget less than what is held and used of it; or an
                affiliate is registered in the other group. One that is not registered makes no offers.
        """
        rows = await self._fetch(
            _SQL.apply,
            campaign.campaign_id,
            campaign.model_dump_json(exclude_none=True),
            campaign.exclusive_group,
            campaign.budget.amount.minor,
            campaign.budget.offers,
            campaign.budget.amount.currency,
            now,
            list(campaign.financial),
            list(campaign.telecom),
        )
        if not rows:
            raise CampaignRefusedError(
                f"{campaign.campaign_id}: budget must keep its currency, and be no less than what its offers hold; "
                "financial and telecom must name no affiliate that is registered in the other group"
            )
        return bool(rows[0]["is_new"])

    async def lock_applied(self, campaign_id: str) -> tuple[datetime, bool] | None:
        """When a campaign was written last and whether it makes offers, locked; None where there is none."""
        rows = await self._fetch(_SQL.lock_applied, campaign_id)
        return (rows[0]["applied_at"], rows[0]["active"]) if rows else None

    async def set_active(self, campaign_id: str, *, active: bool) -> bool:
        """Let a campaign make offers, or none; False if there is no such campaign. Offers that were made stand."""
        return bool(await self._fetch(_SQL.set_active, campaign_id, active))
