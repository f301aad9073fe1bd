"""An offer's id goes to an affiliate: it must not let anybody try which customer it is of."""

from uuid import UUID

from gateway.marketing.rules.activity import MarketingPermit, PaidRow, activity_of, permit_of
from gateway.marketing.rules.campaign import CampaignRow
from gateway.marketing.rules.offers import decide_offers
from tests.support.builders import NOW
from tests.support.marketing import agrees, campaign


def offer_id(customer: str, name: str) -> UUID:
    """Of the offer to a customer whom the affiliate knows by this name."""
    permit = permit_of(agrees(1), NOW)
    assert isinstance(permit, MarketingPermit)
    assert permit.customer_id == customer
    paid = [PaidRow(permit.key, UUID(int=n), 100_000, "KRW", NOW, "5411", None) for n in range(1, 9)]
    row = CampaignRow(campaign=campaign(), active=True)
    [offer], _ = decide_offers(
        [activity_of(permit, paid)],
        campaigns={row.campaign_id: row},
        groups={},
        before=[],
        affiliates=frozenset({"bank"}),
        name=lambda affiliate, customer_id: name,
        now=NOW,
    )
    return offer.offer_id


def test_an_offers_id_follows_from_the_affiliates_own_name_and_not_from_the_customers_id() -> None:
    assert offer_id("customer-1", "made-with-one-key") != offer_id("customer-1", "made-with-another")
    assert offer_id("customer-1", "made-with-one-key") == offer_id("customer-1", "made-with-one-key")
