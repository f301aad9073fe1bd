"""Campaigns, offers, their uses, and the aggregates that were published."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from msgspec import Struct

from gateway.base.keys import ConsentKey
from gateway.consents.store import ConsentUnit
from gateway.marketing.rules.activity import PaidRow
from gateway.marketing.rules.aggregates import Contribution
from gateway.marketing.rules.campaign import CampaignRow
from gateway.marketing.rules.offers import Offer, OfferKey, StoredUse, UseKey
from gateway.outbox.store import OutboxUnit


class Place(Struct, frozen=True, order=True, gc=False):
    """How far events were followed: a place in the order of the outbox."""

    tx: int = 0
    id: int = 0


class Followed(Struct, frozen=True, gc=False):
    """What happened past a place.

    Attributes:
        last: the last place that was looked at; the place asked for where nothing was.
        looked_at: how many events that was.
        keys: consents that changed, or under which a payment was settled, and that may permit marketing: in key order.
    """

    last: Place
    looked_at: int = 0
    keys: tuple[ConsentKey, ...] = ()


class MarketingStore(Protocol):
    """Whoever locks takes consents first, then customers, campaigns and offers, each in the order of its keys."""

    async def campaigns(self) -> Sequence[CampaignRow]:
        """Every campaign, by id, without a lock."""

    async def lock_campaigns(self, ids: Sequence[str]) -> Mapping[str, CampaignRow]:
        """Campaigns, locked until the transaction ends."""

    async def write_campaigns(self, rows: Sequence[CampaignRow]) -> None:
        """Write what is used of the budgets of locked campaigns. Over a budget is a bug and fails."""

    async def candidates(self, after: ConsentKey, limit: int) -> Sequence[ConsentKey]:
        """Consents past a key, in key order, that may permit marketing: to be judged under their locks."""

    async def end_of_events(self) -> Place:
        """Where the events end that nothing can come to stand before any more."""

    async def follow(self, after: Place, limit: int) -> Followed:
        """Look at the next events, at most so many. What was forgotten of them is passed over."""

    async def paid(self, keys: Sequence[ConsentKey], since: datetime) -> Sequence[PaidRow]:
        """Settled purchases under these consents at or after a moment."""

    async def lock_customers(self, ids: Sequence[str]) -> None:
        """Lock customers until the transaction ends."""

    async def offers_of(self, customers: Sequence[str]) -> Sequence[Offer]:
        """Every offer that these customers were ever made. Hold their locks."""

    async def add_offers(self, offers: Sequence[Offer]) -> frozenset[OfferKey]:
        """Add offers; return the keys of those that did not exist."""

    async def offers(self, ids: Sequence[UUID]) -> Mapping[UUID, Offer]:
        """Offers by id, without a lock."""

    async def lock_offers(self, ids: Sequence[UUID]) -> Mapping[UUID, Offer]:
        """The same, locked until the transaction ends."""

    async def write_offers(self, offers: Sequence[Offer]) -> None:
        """Write state and uses of locked offers."""

    async def must_end(self, now: datetime, limit: int) -> Sequence[Offer]:
        """Open offers that are past their end, or whose consent permits them no more: to be judged under the locks."""

    async def uses(self, keys: Sequence[UseKey]) -> Mapping[UseKey, StoredUse]:
        """Uses that were answered before."""

    async def add_uses(self, uses: Sequence[StoredUse]) -> frozenset[UseKey]:
        """Remember uses; return the keys of those that were not remembered yet."""

    async def published(self, week: str, currency: str) -> Sequence[Sequence[Contribution]]:
        """What each published table of a week counted, the first one first."""

    async def add_table(
        self, week: str, currency: str, revision: int, rows: Sequence[Contribution], *, now: datetime
    ) -> bool:
        """Remember a table as it is published; False where that revision exists."""


class MarketingStoreUnit(Protocol):
    """What marketing holds."""

    @property
    def marketing(self) -> MarketingStore:
        """Campaigns, offers, their uses, and the aggregates that were published."""


class MarketingUnit(ConsentUnit, OutboxUnit, MarketingStoreUnit, Protocol):
    """Makes offers, ends them, and counts their uses."""
