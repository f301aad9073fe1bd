"""Offers: who gets one, when one ends, and which uses count. Every counter is exact where its row is locked."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Final
from uuid import UUID, uuid5

from msgspec import Struct
from msgspec.structs import replace

from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import Consent, refuse_use
from gateway.consents.rules.purposes import end_of
from gateway.marketing.rules.activity import MarketingActivity, MarketingPermit
from gateway.marketing.rules.campaign import Campaign, CampaignRow, Segment
from schemas.consents import ConsentStatus, Purpose
from schemas.marketing import OfferEnd, OfferUse
from schemas.reasons import Reason, ReasonCode

_OFFERS: Final = UUID("5f6d7970-6179-4d65-9d65-6f6666657273")

OfferKey = tuple[str, str]
"""Campaign and customer: a campaign makes a customer one offer, ever."""
UseKey = tuple[str, str]
"""Affiliate and use."""


@unique
class OfferState(StrEnum):
    """``open → used | revoked | expired``; none of these is left again."""

    OPEN = "open"
    USED = "used"  # as often as it may be
    REVOKED = "revoked"
    EXPIRED = "expired"


class Offer(Struct, frozen=True, gc=False):
    """An offer as it stands.

    Attributes:
        worth_minor: the most that one use may cost, in the campaign's currency.
        uses, used_minor: what was counted of it.
    """

    offer_id: UUID
    campaign_id: str
    customer_id: str
    consent_key: ConsentKey
    consent_version: int
    affiliate_id: str
    channels: tuple[str, ...]
    currency: str
    worth_minor: int
    uses_max: int
    granted_at: datetime
    expires_at: datetime
    state: OfferState = OfferState.OPEN
    uses: int = 0
    used_minor: int = 0
    ended_at: datetime | None = None

    @property
    def key(self) -> OfferKey:
        """One offer, ever."""
        return (self.campaign_id, self.customer_id)

    @property
    def held_minor(self) -> int:
        """What an open one may still cost."""
        return self.worth_minor * (self.uses_max - self.uses) if self.state is OfferState.OPEN else 0


class StoredUse(Struct, frozen=True, gc=False):
    """A use as it was told and answered."""

    affiliate_id: str
    use_id: str
    offer_id: UUID
    digest: bytes
    amount_minor: int
    reason: Reason | None
    handled_at: datetime

    @property
    def key(self) -> UseKey:
        """Unique for ever."""
        return (self.affiliate_id, self.use_id)


def matches(segment: Segment, activity: MarketingActivity, now: datetime) -> bool:
    """True if what was spent within the segment's days lies in its bands."""
    since = now - timedelta(days=segment.days)
    counted = [
        s.amount_minor
        for s in activity.spent
        if since <= s.paid_at <= now
        and s.currency == segment.amount_min.currency
        and (not segment.categories or s.category in segment.categories)
        and (not segment.regions or s.region in segment.regions)
    ]
    if len(counted) < segment.payments_min or sum(counted) < segment.amount_min.minor:
        return False
    if segment.payments_max is not None and len(counted) > segment.payments_max:
        return False
    return segment.amount_max is None or sum(counted) <= segment.amount_max.minor


def decide_offers(
    activities: Sequence[MarketingActivity],
    *,
    campaigns: Mapping[str, CampaignRow],
    groups: Mapping[str, str | None],
    before: Sequence[Offer],
    affiliates: frozenset[str],
    name: Callable[[str, str], str],
    now: datetime,
) -> tuple[list[Offer], dict[str, CampaignRow]]:
    """Offers to be made, and the campaigns that they change.

    Args:
        activities: under consents that are locked.
        campaigns: locked.
        groups: every campaign's exclusive group.
        before: every offer of these customers, who are locked.
        affiliates: that are active.
        name: affiliate and customer → the affiliate's own name of the customer. An offer's id is made of it: made of
            the customer's id, it would let anybody who is told it try which customer it is.
        now: read after the locks.
    """
    rows = dict(campaigns)
    changed: dict[str, CampaignRow] = {}
    made: list[Offer] = []
    held: dict[str, list[Offer]] = {}
    for offer in before:
        held.setdefault(offer.customer_id, []).append(offer)
    for activity in activities:
        theirs = held.setdefault(activity.permit.customer_id, [])
        for campaign_id in sorted(rows):
            new = _offer(rows[campaign_id], activity, theirs, groups, affiliates, name, now)
            if new is not None:
                row = rows[campaign_id]
                rows[campaign_id] = changed[campaign_id] = replace(
                    row, offers=row.offers + 1, held_minor=row.held_minor + new.held_minor
                )
                theirs.append(new)
                made.append(new)
    return made, changed


def _offer(
    row: CampaignRow,
    activity: MarketingActivity,
    theirs: Sequence[Offer],
    groups: Mapping[str, str | None],
    affiliates: frozenset[str],
    name: Callable[[str, str], str],
    now: datetime,
) -> Offer | None:
    campaign, permit = row.campaign, activity.permit
    if not row.active or not campaign.begins_at <= now < campaign.ends_at or not _affordable(row):
        return None
    if not _may_have(campaign, theirs, groups, now):
        return None
    affiliate = next((a for a in campaign.affiliates if a in permit.purpose.affiliates and a in affiliates), None)
    channels = tuple(c.value for c in campaign.channels if c in permit.purpose.channels)
    if affiliate is None or not channels or not matches(campaign.segment, activity, now):
        return None
    named = name(affiliate, permit.customer_id)
    return _granted(campaign, permit, affiliate, named, channels, now)


def _affordable(row: CampaignRow) -> bool:
    budget, campaign = row.campaign.budget, row.campaign
    return row.offers < budget.offers and row.held_minor + row.used_minor + campaign.offer_cost <= budget.amount.minor


def _may_have(campaign: Campaign, theirs: Sequence[Offer], groups: Mapping[str, str | None], now: datetime) -> bool:
    for offer in theirs:
        if offer.campaign_id == campaign.campaign_id:
            return False
        if campaign.exclusive_group is not None and groups.get(offer.campaign_id) == campaign.exclusive_group:
            return False
    since = now - timedelta(days=campaign.frequency.days)
    return sum(o.granted_at > since for o in theirs) < campaign.frequency.offers


def _granted(
    campaign: Campaign, permit: MarketingPermit, affiliate: str, named: str, channels: tuple[str, ...], now: datetime
) -> Offer:
    return Offer(
        offer_id=uuid5(_OFFERS, f"{campaign.campaign_id}/{affiliate}/{named}"),
        campaign_id=campaign.campaign_id,
        customer_id=permit.customer_id,
        consent_key=permit.key,
        consent_version=permit.consent_version,
        affiliate_id=affiliate,
        channels=channels,
        currency=campaign.worth.currency,
        worth_minor=campaign.worth.minor,
        uses_max=campaign.uses_max,
        granted_at=now,
        expires_at=min(now + timedelta(days=campaign.valid_days), campaign.ends_at, permit.until),
    )


def end_of_offer(offer: Offer, consent: Consent | None, now: datetime) -> OfferEnd | None:
    """Why an open offer ends now; None: it goes on. A suspension stops its use, and takes nothing back.

    A channel that the customer permits no more ends it as a whole: the affiliate was told of all of them as one.
    """
    if consent is None or consent.status not in (ConsentStatus.AUTH, ConsentStatus.SUSP):
        return OfferEnd.REVOKED
    terms = consent.terms.marketing
    if terms is None or Purpose.MARKETING in consent.ended or offer.affiliate_id not in terms.affiliates:
        return OfferEnd.REVOKED
    if not {c.value for c in terms.channels}.issuperset(offer.channels):
        return OfferEnd.REVOKED
    return OfferEnd.EXPIRED if now >= min(offer.expires_at, end_of(consent.terms, Purpose.MARKETING)) else None


def ended(offer: Offer, row: CampaignRow, cause: OfferEnd, now: datetime) -> tuple[Offer, CampaignRow]:
    """An open offer that ends, and its campaign, which gets back what it held; and its number where it was unused."""
    after = replace(offer, state=OfferState(cause.value), ended_at=now)
    given_back = replace(row, held_minor=row.held_minor - offer.held_minor, offers=row.offers - (offer.uses == 0))
    return after, given_back


def refuse_offer_use(use: OfferUse, offer: Offer | None, consent: Consent | None, now: datetime) -> Reason | None:
    """Why a use does not count, or None. The offer and its consent are locked.

    ==== ===== ===================================================================
    1    FF01  there is no such offer, or it is another affiliate's: one answer
    2    MD01  the customer permits it no more, or has dropped the affiliate or one of its channels
    3    TKXP  the offer is past its end
    4    AG01  it was used as often as it may be
    5    —     the consent permits no marketing now: it is suspended TKSP
    6    AM03  another currency
    7    TKVE  more than one use may cost
    ==== ===== ===================================================================
    """
    if offer is None or offer.affiliate_id != use.affiliate_id:
        return _UNKNOWN
    end = end_of_offer(offer, consent, now)
    if offer.state is OfferState.REVOKED or end is OfferEnd.REVOKED or consent is None:
        return _REVOKED
    if offer.state is OfferState.EXPIRED or end is OfferEnd.EXPIRED:
        return _EXPIRED
    if offer.state is OfferState.USED or offer.uses >= offer.uses_max:
        return _USED_UP
    return refuse_use(consent, Purpose.MARKETING, now) or _refuse_amount(use, offer)


def _refuse_amount(use: OfferUse, offer: Offer) -> Reason | None:
    if use.amount.currency != offer.currency:
        return _CURRENCY
    return _TOO_MUCH if use.amount.minor > offer.worth_minor else None


def counted(offer: Offer, row: CampaignRow, amount_minor: int, now: datetime) -> tuple[Offer, CampaignRow]:
    """An offer and its campaign after one more use; what the use did not cost goes back to the budget."""
    uses = offer.uses + 1
    over = uses >= offer.uses_max
    after = replace(
        offer,
        uses=uses,
        used_minor=offer.used_minor + amount_minor,
        state=OfferState.USED if over else offer.state,
        ended_at=now if over else None,
    )
    held = row.held_minor - offer.held_minor + after.held_minor
    return after, replace(row, held_minor=held, used_minor=row.used_minor + amount_minor)


def _reason(code: ReasonCode, text: str) -> Reason:
    return Reason(code=code, text=text)


USE_ID_TAKEN: Final = _reason(ReasonCode.AM05, "use_id was used before for other content")
_UNKNOWN: Final = _reason(ReasonCode.FF01, "offer_id names no offer that this affiliate was granted")
_REVOKED: Final = _reason(ReasonCode.MD01, "the customer permits this offer no more")
_EXPIRED: Final = _reason(ReasonCode.TKXP, "the offer is past its expires_at")
_USED_UP: Final = _reason(ReasonCode.AG01, "the offer was used as often as it may be")
_CURRENCY: Final = _reason(ReasonCode.AM03, "amount must be in the currency of the offer's worth")
_TOO_MUCH: Final = _reason(ReasonCode.TKVE, "amount is over the offer's worth")
