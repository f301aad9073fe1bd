"""Campaigns, offers, uses and published aggregates in memory."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from gateway.base.errors import StoreIntegrityError
from gateway.base.keys import ConsentKey
from gateway.marketing.rules.activity import PaidRow
from gateway.marketing.rules.aggregates import Contribution
from gateway.marketing.rules.campaign import CampaignRow
from gateway.marketing.rules.offers import Offer, OfferKey, OfferState, StoredUse, UseKey, end_of_offer
from gateway.marketing.store import Followed, Place
from gateway.network.exchange import Operation
from gateway.payments.rules.lifecycle import PaymentState
from gateway.proving.memory.boundary import Boundary
from gateway.proving.memory.database import Transaction
from schemas.consents import ConsentStatus, Purpose
from schemas.events import EventType
from schemas.primitives import ConsentId, PartnerId, PaymentId
from schemas.topics import events_topic

_ANY_EVENTS = events_topic("x").removesuffix("x")


class MemoryMarketingStore:
    """Implements :class:`gateway.marketing.store.MarketingStore` in one transaction."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self._tx = transaction
        self._db = transaction.database
        self._held = self._db.marketing
        self._boundary = boundary

    async def campaigns(self) -> Sequence[CampaignRow]:
        await self._boundary("marketing.campaigns")
        return [row for _, row in sorted(self._tx.items(self._held.campaigns), key=lambda i: i[0])]

    async def lock_campaigns(self, ids: Sequence[str]) -> Mapping[str, CampaignRow]:
        await self._boundary("marketing.lock_campaigns")
        return await self._tx.lock(self._held.campaigns, ids)

    async def write_campaigns(self, rows: Sequence[CampaignRow]) -> None:
        await self._boundary("marketing.write_campaigns")
        for row in rows:
            budget = row.campaign.budget
            if row.offers > budget.offers or row.held_minor + row.used_minor > budget.amount.minor:
                raise StoreIntegrityError("campaign_budget")
            if min(row.offers, row.held_minor, row.used_minor) < 0:
                raise StoreIntegrityError("campaign_counts")
            self._tx.update(self._held.campaigns, row.campaign_id, row)

    async def candidates(self, after: ConsentKey, limit: int) -> Sequence[ConsentKey]:
        await self._boundary("marketing.candidates")
        found = [key for key, _ in self._tx.items(self._db.consents) if key > after and self._may(key)]
        return sorted(found)[:limit]

    async def end_of_events(self) -> Place:
        await self._boundary("marketing.end_of_events")
        rows = self._db.read_outbox((0, 0), len(self._db.outbox))
        return Place(rows[-1].tx, rows[-1].id) if rows else Place()

    async def follow(self, after: Place, limit: int) -> Followed:
        await self._boundary("marketing.follow")
        rows = self._db.read_outbox((after.tx, after.id), limit)
        if not rows:
            return Followed(after)
        touched: set[ConsentKey] = set()
        for row in rows:
            partner = PartnerId(row.event.topic.removeprefix(_ANY_EVENTS))
            if row.event.event_type == EventType.CONSENT_CHANGED:
                touched.add((partner, ConsentId(row.event.key)))
            elif row.event.event_type == EventType.PAYMENT_SETTLED:
                payment = self._tx.get(self._db.payments, (partner, PaymentId(UUID(row.event.key))))
                touched |= {payment.consent_key} if payment else set()
        keys = sorted(k for k in touched if self._may(k))
        return Followed(Place(rows[-1].tx, rows[-1].id), len(rows), tuple(keys))

    def _may(self, key: ConsentKey) -> bool:
        consent = self._tx.get(self._db.consents, key)
        return (
            consent is not None
            and consent.terms.marketing is not None
            and consent.status is ConsentStatus.AUTH
            and Purpose.MARKETING not in consent.ended
        )

    async def paid(self, keys: Sequence[ConsentKey], since: datetime) -> Sequence[PaidRow]:
        await self._boundary("marketing.paid")
        wanted = frozenset(keys)
        found = [
            PaidRow(
                p.consent_key,
                p.payment_id,
                p.amount_minor,
                p.currency,
                p.decided_at,
                m.acceptor.mcc if (m := self._tx.get(self._db.merchants, p.merchant_id)) else None,
                m.acceptor.name_location if m else None,
            )
            for _, p in self._tx.items(self._db.payments)
            if p.consent_key in wanted
            and (p.operation, p.state) == (Operation.PURCHASE, PaymentState.SETTLED)
            and p.decided_at >= since
        ]
        return sorted(found, key=lambda p: (p.consent_key[0], p.payment_id))

    async def lock_customers(self, ids: Sequence[str]) -> None:
        await self._boundary("marketing.lock_customers")
        for customer in sorted(set(ids)):
            await self._tx.insert(self._held.customers, customer, customer)
        await self._tx.lock(self._held.customers, ids)

    async def offers_of(self, customers: Sequence[str]) -> Sequence[Offer]:
        await self._boundary("marketing.offers_of")
        rows = [o for _, o in self._tx.items(self._held.offers) if o.customer_id in customers]
        return sorted(rows, key=lambda o: (o.customer_id, o.campaign_id))

    async def add_offers(self, offers: Sequence[Offer]) -> frozenset[OfferKey]:
        await self._boundary("marketing.add_offers")
        ordered = sorted(offers, key=lambda o: o.key)
        return frozenset([o.key for o in ordered if await self._tx.insert(self._held.offers, o.key, o)])

    async def offers(self, ids: Sequence[UUID]) -> Mapping[UUID, Offer]:
        await self._boundary("marketing.offers")
        return {o.offer_id: o for _, o in self._tx.items(self._held.offers) if o.offer_id in ids}

    async def lock_offers(self, ids: Sequence[UUID]) -> Mapping[UUID, Offer]:
        await self._boundary("marketing.lock_offers")
        keys = [k for k, o in self._tx.items(self._held.offers) if o.offer_id in ids]
        return {o.offer_id: o for o in (await self._tx.lock(self._held.offers, keys)).values()}

    async def write_offers(self, offers: Sequence[Offer]) -> None:
        await self._boundary("marketing.write_offers")
        for offer in offers:
            if offer.uses > offer.uses_max or offer.used_minor > offer.worth_minor * offer.uses_max:
                raise StoreIntegrityError("offer_uses")
            self._tx.update(self._held.offers, offer.key, offer)

    async def must_end(self, now: datetime, limit: int) -> Sequence[Offer]:
        await self._boundary("marketing.must_end")
        found = []
        for _, offer in self._tx.items(self._held.offers):
            ends = end_of_offer(offer, self._tx.get(self._db.consents, offer.consent_key), now)
            if offer.state is OfferState.OPEN and ends is not None:
                found.append(offer)
        return sorted(found, key=lambda o: (o.consent_key, o.offer_id))[:limit]

    async def uses(self, keys: Sequence[UseKey]) -> Mapping[UseKey, StoredUse]:
        await self._boundary("marketing.uses")
        return {k: row for k in keys if (row := self._tx.get(self._held.uses, k)) is not None}

    async def add_uses(self, uses: Sequence[StoredUse]) -> frozenset[UseKey]:
        await self._boundary("marketing.add_uses")
        ordered = sorted(uses, key=lambda u: u.key)
        return frozenset([u.key for u in ordered if await self._tx.insert(self._held.uses, u.key, u)])

    async def published(self, week: str, currency: str) -> Sequence[Sequence[Contribution]]:
        await self._boundary("marketing.published")
        found = [(k, rows) for k, rows in self._tx.items(self._held.published) if k[:2] == (week, currency)]
        return [rows for _, rows in sorted(found, key=lambda f: f[0])]

    async def add_table(
        self,
        week: str,
        currency: str,
        revision: int,
        rows: Sequence[Contribution],
        *,
        now: datetime,
    ) -> bool:
        await self._boundary("marketing.add_table")
        ordered = tuple(sorted(rows, key=lambda r: r.payment_id))
        key = (week, currency, revision)
        if not await self._tx.insert(self._held.published, key, ordered):
            return False
        return await self._tx.insert(self._held.published_at, key, now)
