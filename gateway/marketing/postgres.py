"""Campaigns, offers, uses and published aggregates in PostgreSQL."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Final
from uuid import UUID

from asyncpg import Connection, Record

from gateway.base.keys import ConsentKey
from gateway.database.queries import load
from gateway.marketing.rules.activity import PaidRow
from gateway.marketing.rules.aggregates import Contribution
from gateway.marketing.rules.campaign import Campaign, CampaignRow
from gateway.marketing.rules.offers import Offer, OfferKey, OfferState, StoredUse, UseKey
from gateway.marketing.store import Followed, Place
from schemas.events import EventType
from schemas.primitives import ConsentId, PartnerId
from schemas.reasons import Reason, ReasonCode
from schemas.topics import events_topic

_SQL = load(__name__, "marketing")
_ANY_EVENTS: Final = events_topic("x").removesuffix("x")


class PostgresMarketingStore:
    """Implements :class:`gateway.marketing.store.MarketingStore` on one connection."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def campaigns(self) -> Sequence[CampaignRow]:
        return [_campaign(r) for r in await self._connection.fetch(_SQL.campaigns)]

    async def lock_campaigns(self, ids: Sequence[str]) -> Mapping[str, CampaignRow]:
        rows = [_campaign(r) for r in await self._connection.fetch(_SQL.lock_campaigns, ids)]
        return {r.campaign_id: r for r in rows}

    async def write_campaigns(self, rows: Sequence[CampaignRow]) -> None:
        if rows:
            await self._connection.execute(
                _SQL.write_campaigns,
                [r.campaign_id for r in rows],
                [r.offers for r in rows],
                [r.held_minor for r in rows],
                [r.used_minor for r in rows],
            )

    async def candidates(self, after: ConsentKey, limit: int) -> Sequence[ConsentKey]:
        return [
            (r["partner_id"], r["consent_id"]) for r in await self._connection.fetch(_SQL.candidates, *after, limit)
        ]

    async def end_of_events(self) -> Place:
        row = await self._connection.fetchrow(_SQL.end_of_events)
        return Place() if row is None else Place(int(row["place_tx"]), row["id"])

    async def follow(self, after: Place, limit: int) -> Followed:
        row = await self._connection.fetchrow(
            _SQL.follow,
            str(after.tx),
            after.id,
            limit,
            _ANY_EVENTS,
            EventType.CONSENT_CHANGED,
            EventType.PAYMENT_SETTLED,
        )
        if row is None or not row["looked_at"]:
            return Followed(after)
        keys = tuple((PartnerId(partner), ConsentId(consent)) for partner, consent in row["keys"])
        return Followed(Place(int(row["place_tx"]), row["place_id"]), row["looked_at"], keys)

    async def paid(self, keys: Sequence[ConsentKey], since: datetime) -> Sequence[PaidRow]:
        rows = await self._connection.fetch(_SQL.paid, [k[0] for k in keys], [k[1] for k in keys], since)
        return [
            PaidRow(
                (r["partner_id"], r["consent_id"]),
                r["payment_id"],
                r["amount_minor"],
                r["currency"],
                r["decided_at"],
                r["mcc"],
                r["name_location"],
            )
            for r in rows
        ]

    async def lock_customers(self, ids: Sequence[str]) -> None:
        await self._connection.execute(_SQL.add_customers, ids)
        await self._connection.fetch(_SQL.lock_customers, ids)

    async def offers_of(self, customers: Sequence[str]) -> Sequence[Offer]:
        return [_offer(r) for r in await self._connection.fetch(_SQL.offers_of, customers)]

    async def add_offers(self, offers: Sequence[Offer]) -> frozenset[OfferKey]:
        if not offers:
            return frozenset()
        rows = await self._connection.fetch(
            _SQL.add_offers,
            [o.campaign_id for o in offers],
            [o.customer_id for o in offers],
            [o.offer_id for o in offers],
            [o.consent_key[0] for o in offers],
            [o.consent_key[1] for o in offers],
            [o.consent_version for o in offers],
            [o.affiliate_id for o in offers],
            [" ".join(o.channels) for o in offers],
            [o.currency for o in offers],
            [o.worth_minor for o in offers],
            [o.uses_max for o in offers],
            [o.granted_at for o in offers],
            [o.expires_at for o in offers],
        )
        return frozenset((r["campaign_id"], r["customer_id"]) for r in rows)

    async def offers(self, ids: Sequence[UUID]) -> Mapping[UUID, Offer]:
        return {r["offer_id"]: _offer(r) for r in await self._connection.fetch(_SQL.offers, ids)}

    async def lock_offers(self, ids: Sequence[UUID]) -> Mapping[UUID, Offer]:
        return {r["offer_id"]: _offer(r) for r in await self._connection.fetch(_SQL.lock_offers, ids)}

    async def write_offers(self, offers: Sequence[Offer]) -> None:
        if offers:
            await self._connection.execute(
                _SQL.write_offers,
                [o.offer_id for o in offers],
                [o.state.value for o in offers],
                [o.uses for o in offers],
                [o.used_minor for o in offers],
                [o.ended_at for o in offers],
            )

    async def must_end(self, now: datetime, limit: int) -> Sequence[Offer]:
        return [_offer(r) for r in await self._connection.fetch(_SQL.must_end, now, limit)]

    async def uses(self, keys: Sequence[UseKey]) -> Mapping[UseKey, StoredUse]:
        rows = await self._connection.fetch(_SQL.uses, [k[0] for k in keys], [k[1] for k in keys])
        return {(r["affiliate_id"], r["use_id"]): _use(r) for r in rows}

    async def add_uses(self, uses: Sequence[StoredUse]) -> frozenset[UseKey]:
        if not uses:
            return frozenset()
        rows = await self._connection.fetch(
            _SQL.add_uses,
            [u.affiliate_id for u in uses],
            [u.use_id for u in uses],
            [u.offer_id for u in uses],
            [u.digest for u in uses],
            [u.amount_minor for u in uses],
            [u.reason and u.reason.code.value for u in uses],
            [u.reason and u.reason.text for u in uses],
            [u.handled_at for u in uses],
        )
        return frozenset((r["affiliate_id"], r["use_id"]) for r in rows)

    async def published(self, week: str, currency: str) -> Sequence[Sequence[Contribution]]:
        rows = await self._connection.fetch(_SQL.published, week, currency)
        return [
            [
                Contribution(r["payment_id"], r["customer_id"], r["category"], r["region"], r["amount_minor"])
                for r in of
                if r["payment_id"] is not None
            ]
            for _, of in groupby(rows, lambda r: r["revision"])
        ]

    async def add_table(
        self, week: str, currency: str, revision: int, rows: Sequence[Contribution], *, now: datetime
    ) -> bool:
        if not await self._connection.fetch(_SQL.add_table, week, currency, revision, now):
            return False
        await self._connection.execute(
            _SQL.add_table_payments,
            week,
            currency,
            revision,
            [r.payment_id for r in rows],
            [r.customer_id for r in rows],
            [r.category for r in rows],
            [r.region for r in rows],
            [r.amount_minor for r in rows],
        )
        return True


def _campaign(row: Record) -> CampaignRow:
    campaign = Campaign.model_validate_json(row["body"])
    return CampaignRow(campaign, row["active"], row["offers"], row["held_minor"], row["used_minor"])


def _offer(row: Record) -> Offer:
    return Offer(
        offer_id=row["offer_id"],
        campaign_id=row["campaign_id"],
        customer_id=row["customer_id"],
        consent_key=(row["partner_id"], row["consent_id"]),
        consent_version=row["consent_version"],
        affiliate_id=row["affiliate_id"],
        channels=tuple(row["channels"]),
        currency=row["currency"],
        worth_minor=row["worth_minor"],
        uses_max=row["uses_max"],
        granted_at=row["granted_at"],
        expires_at=row["expires_at"],
        state=OfferState(row["state"]),
        uses=row["uses"],
        used_minor=row["used_minor"],
        ended_at=row["ended_at"],
    )


def _use(row: Record) -> StoredUse:
    reason = None
    if row["reason_code"] is not None:
        reason = Reason(code=ReasonCode(row["reason_code"]), text=row["reason_text"])
    return StoredUse(
        row["affiliate_id"],
        row["use_id"],
        row["offer_id"],
        row["digest"],
        row["amount_minor"],
        reason,
        row["handled_at"],
    )
