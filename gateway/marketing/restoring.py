"""After a database was set back in time: offers, uses and aggregates stand again as affiliates were told of them.

An offer that is forgotten would be made once more, and used once more, beside the one that its affiliate holds. A use
that was counted is judged anew otherwise, by what its consent permits now.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from msgspec.structs import replace

from gateway.base.keys import ConsentKey
from gateway.consents.rules.consent import Consent
from gateway.marketing.rules.campaign import CampaignRow
from gateway.marketing.rules.offers import Offer, OfferState, StoredUse, counted, ended
from gateway.marketing.store import MarketingUnit
from gateway.marketing.telling import offered_event
from schemas.events import ConsentOffered
from schemas.marketing import AggregateTable, OfferGranted, OfferWithdrawn
from schemas.primitives import ConsentId, PartnerId

_BEFORE: Final = datetime.min.replace(tzinfo=UTC)

_NOT_TOLD: Final = "its affiliate or its partner was not told that it was granted"
_NO_CONSENT: Final = "its consent does not stand here"
_NO_CAMPAIGN: Final = "its campaign does not stand here, or in another currency"
_NO_ROOM: Final = "its campaign has a smaller budget here"
_ANOTHER: Final = "its customer has another offer of its campaign"
_MORE_USES: Final = "it was used more often than it may be"


@dataclass(slots=True)
class ToldOffer:
    """What affiliate and partner were told of an offer since a moment, in the order in which it was.

    Attributes:
        granted, offered: None where that was told before, or not at all.
        uses: that were answered, each once.
    """

    offer_id: UUID
    granted: OfferGranted | None = None
    offered: ConsentOffered | None = None
    uses: list[StoredUse] = field(default_factory=list)
    withdrawn: OfferWithdrawn | None = None

    @property
    def was_made(self) -> bool:
        """False where only uses of it were refused: an affiliate may name any offer."""
        told = (self.granted, self.offered, self.withdrawn)
        return any(t is not None for t in told) or any(u.reason is None for u in self.uses)

    @property
    def consent_key(self) -> ConsentKey | None:
        """Under which it was made, as its partner was told."""
        told = self.offered
        return None if told is None else (PartnerId(told.partner_id), ConsentId(told.consent_id))


@dataclass(slots=True)
class OffersFound:
    """What was done.

    Attributes:
        again, uses: offers that stand again, and uses.
        tables: aggregates of which is known again that they were told.
        unplaced: offers that do not stand as they were told, each with why.
    """

    again: int = 0
    uses: int = 0
    tables: int = 0
    unplaced: dict[UUID, str] = field(default_factory=dict)


def in_order(told: Sequence[ToldOffer]) -> list[ToldOffer]:
    """Those that were granted before first, then as they were granted: so each finds the budget that it found."""
    return sorted(told, key=lambda t: t.granted.granted_at if t.granted else _BEFORE)


async def offers_again(uow: MarketingUnit, told: Sequence[ToldOffer]) -> OffersFound:
    """Write down what the database has forgotten of these offers, :func:`in_order`; while no stage makes any."""
    consents = await uow.consents.lock(sorted({key for t in told if (key := t.consent_key) is not None}))
    customers = sorted({c.terms.customer_id for c in consents.values()})
    await uow.marketing.lock_customers(customers)
    ids = [t.offer_id for t in told]
    named = {o.campaign_id for o in (await uow.marketing.offers(ids)).values()}
    named |= {t.granted.campaign_id for t in told if t.granted is not None}
    campaigns = dict(await uow.marketing.lock_campaigns(sorted(named)))
    offers = dict(await uow.marketing.lock_offers(sorted(ids)))
    theirs = {o.key for o in await uow.marketing.offers_of(customers)}
    known = await uow.marketing.uses([u.key for t in told for u in t.uses])
    found, made, uses = OffersFound(), list[Offer](), list[StoredUse]()
    changed: dict[UUID, Offer] = {}
    for one in told:
        offer = offers.get(one.offer_id)
        if offer is None:
            begun = _forgotten(one, consents, campaigns)
            if isinstance(begun, str) or begun.key in theirs:
                # What was refused is known again: it may name an offer that there has never been.
                uses += [u for u in one.uses if u.reason is not None and u.key not in known]
                if one.was_made:
                    found.unplaced[one.offer_id] = begun if isinstance(begun, str) else _ANOTHER
                continue
            offer, row = begun, campaigns[begun.campaign_id]
            made.append(offer)
            theirs.add(offer.key)
            row = replace(row, offers=row.offers + 1, held_minor=row.held_minor + offer.held_minor)
            campaigns[row.campaign_id] = row
        new = [u for u in one.uses if u.key not in known]
        after = _as_told(one, offer, new, campaigns, found)
        if after != offer:
            changed[offer.offer_id] = after
        uses += new
    await uow.marketing.add_offers(made)
    await uow.marketing.write_offers(list(changed.values()))
    await uow.marketing.write_campaigns([campaigns[c] for c in sorted(campaigns)])
    await uow.marketing.add_uses(uses)
    # The disclosure log has forgotten them, too. Their affiliates were told.
    await uow.outbox.append([offered_event(o) for o in made])
    found.again, found.uses = len(made), len(uses)
    return found


def _forgotten(
    told: ToldOffer, consents: Mapping[ConsentKey, Consent], campaigns: Mapping[str, CampaignRow]
) -> Offer | str:
    """An offer as it was granted; or why it cannot stand here."""
    granted, offered, key = told.granted, told.offered, told.consent_key
    if granted is None or offered is None or key is None:
        return _NOT_TOLD
    consent, row = consents.get(key), campaigns.get(granted.campaign_id)
    if consent is None:
        return _NO_CONSENT
    if row is None or row.campaign.worth.currency != granted.worth.currency:
        return _NO_CAMPAIGN
    offer = Offer(
        offer_id=granted.offer_id,
        campaign_id=granted.campaign_id,
        customer_id=consent.terms.customer_id,
        consent_key=key,
        consent_version=offered.consent_version,
        affiliate_id=granted.affiliate_id,
        channels=tuple(c.value for c in granted.channels),
        currency=granted.worth.currency,
        worth_minor=granted.worth.minor,
        uses_max=granted.uses_max,
        granted_at=granted.granted_at,
        expires_at=granted.expires_at,
    )
    budget = row.campaign.budget
    fits = row.held_minor + row.used_minor + offer.held_minor <= budget.amount.minor and row.offers < budget.offers
    return offer if fits else _NO_ROOM


def _as_told(
    told: ToldOffer, offer: Offer, uses: Sequence[StoredUse], campaigns: dict[str, CampaignRow], found: OffersFound
) -> Offer:
    """An offer after what was told of it; its campaign after that is put among the campaigns."""
    row = campaigns[offer.campaign_id]
    for use in uses:
        if use.reason is not None:
            continue
        if offer.uses >= offer.uses_max or use.amount_minor > offer.worth_minor:
            found.unplaced[offer.offer_id] = _MORE_USES
            continue
        offer, row = counted(offer, row, use.amount_minor, use.handled_at)
    if told.withdrawn is not None and offer.state is OfferState.OPEN:
        offer, row = ended(offer, row, told.withdrawn.cause, told.withdrawn.withdrawn_at)
    campaigns[row.campaign_id] = row
    return offer


async def tables_again(uow: MarketingUnit, told: Sequence[AggregateTable]) -> int:
    """Note of aggregates that they were told; return how many were forgotten.

    What they counted nobody knows any more. So no table of their weeks follows: the difference could be one customer.
    """
    noted = [await uow.marketing.add_table(t.week, t.currency, t.revision, [], now=t.published_at) for t in told]
    return sum(noted)
