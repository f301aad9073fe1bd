"""Campaigns, consenting customers and a marketing stage's services, for tests on any store."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from gateway.app.marketing import MarketingConnections, MarketingTerms, marketing
from gateway.app.runtime import Runtime
from gateway.app.unit import GatewayUnit
from gateway.consents.rules.consent import Consent
from gateway.database.unit import Store
from gateway.marketing.rules.campaign import Budget, Campaign, Frequency, Segment
from gateway.marketing.service import AffiliateSource, MarketingSettings
from gateway.marketing.store import MarketingUnit
from gateway.observability.recording import RecordingObserver
from gateway.proving.memory import (
    MemoryClock,
    MemoryConsumer,
    MemoryDeadLetters,
    MemoryKafka,
    MemoryKeySource,
    MemoryVerifier,
)
from schemas.consents import Channel, ConsentStatus, MarketingPurpose
from schemas.topics import OFFER_USES
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

    async def affiliates(self, uow: MarketingUnit) -> frozenset[str]:
        return self.ids


class MarketingRig:
    """A marketing stage over one store."""

    def __init__(
        self,
        store: Store[GatewayUnit],
        *,
        batch: int = 100,
        k: int = 3,
        round_every: timedelta = timedelta(0),
        affiliates: AffiliateSource | None = None,
    ) -> None:
        self.clock = MemoryClock(NOW)
        self.kafka = MemoryKafka(self.clock)
        self.dead_letters = MemoryDeadLetters()
        self.affiliates = Affiliates()
        self.observer = RecordingObserver()
        self.verifier = MemoryVerifier(owners={a: a for a in AFFILIATES})
        runtime = Runtime(store=store, observer=self.observer, clock=self.clock, worker="w")
        connections = MarketingConnections(
            uses=MemoryConsumer(self.kafka, topics=[OFFER_USES], group_id="mypay-marketing"),
            keys=MemoryKeySource(),
            signatures=self.verifier,
            dead_letters=self.dead_letters,
            names=PlainNames(),
            affiliates=affiliates or self.affiliates,
        )
        stage = marketing(
            runtime, connections, MarketingTerms(marketing=MarketingSettings(batch=batch, round_every=round_every), k=k)
        )
        self.watch = stage.watch
        self.offers, self.uses, self.aggregates = stage.offers, stage.counting, stage.aggregates
