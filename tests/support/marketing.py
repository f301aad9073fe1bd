"""Campaigns, consenting customers and a marketing stage's services, for tests on any store."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from gateway.base.process import SilentObserver
from gateway.consents.rules.consent import Consent
from gateway.database.unit import Store
from gateway.marketing.publishing import AggregateService
from gateway.marketing.rules.campaign import Budget, Campaign, Frequency, Segment
from gateway.marketing.service import MarketingSettings, OfferService
from gateway.marketing.store import MarketingUnit
from gateway.marketing.using import UseService
from gateway.proving.memory import MemoryClock, MemoryDeadLetters, MemoryKeySource, MemoryVerifier
from schemas.consents import Channel, ConsentStatus, MarketingPurpose
from tests.support.builders import NOW
from tests.support.domain_samples import krw, terms

AFFILIATES = frozenset({"bank", "card", "mobile", "points"})


def campaign(campaign_id: str = "spring", **fields: Any) -> Campaign:
    defaults: dict[str, Any] = {
        "campaign_id": campaign_id,
        "financial": ("bank",),
        "telecom": ("mobile",),
        "channels": (Channel.APP, Channel.SMS),
        "begins_at": NOW - timedelta(days=1),
        "ends_at": NOW + timedelta(days=60),
        "segment": Segment(days=30, amount_min=krw(1_000)),
        "worth": krw(500),
        "valid_days": 14,
        "budget": Budget(amount=krw(5_000), offers=8),
        "frequency": Frequency(offers=5, days=30),
    }
    return Campaign(**(defaults | fields))


def agrees(
    number: int = 1,
    *,
    version: int = 1,
    status: ConsentStatus = ConsentStatus.AUTH,
    until_days: int = 300,
    **fields: Any,
) -> Consent:
    """The consent of customer ``number``, who lets the bank make offers by app."""
    marketing = MarketingPurpose(
        **({"affiliates": ("bank",), "channels": (Channel.APP,), "until": NOW + timedelta(days=until_days)} | fields)
    )
    of = terms(consent_id=f"consent-{number}", customer_id=f"customer-{number}", payment=None, marketing=marketing)
    return Consent(of, version, status)


class PlainNames:
    """Implements :class:`gateway.marketing.telling.CustomerNames` so that tests can read them."""

    key_id = "20260101-a"

    def customer(self, affiliate_id: str, customer_id: str) -> str:
        return f"{affiliate_id}_{customer_id}".ljust(27, "_")


class Affiliates:
    """Implements :class:`gateway.marketing.service.AffiliateSource`."""

    def __init__(self, ids: Sequence[str] = sorted(AFFILIATES)) -> None:
        self.ids = frozenset(ids)

    async def affiliates(self) -> frozenset[str]:
        return self.ids


class MarketingRig:
    """A marketing stage's services over one store."""

    def __init__(self, store: Store[MarketingUnit], *, batch: int = 100, k: int = 3) -> None:
        self.clock = MemoryClock(NOW)
        self.dead_letters = MemoryDeadLetters()
        observer = SilentObserver()
        self.affiliates = Affiliates()
        self.offers = OfferService(
            store=store,
            names=PlainNames(),
            affiliates=self.affiliates,
            observer=observer,
            clock=self.clock,
            settings=MarketingSettings(batch=batch),
        )
        self.uses = UseService(
            store=store,
            keys=MemoryKeySource(),
            verifier=MemoryVerifier(),
            dead_letters=self.dead_letters,
            observer=observer,
            clock=self.clock,
        )
        self.aggregates = AggregateService(store=store, observer=observer, clock=self.clock, k=k)
