"""Joint marketing: offers made and ended, their uses counted, aggregates published."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import cast

from gateway.app.keys import Ring, load_ring
from gateway.app.postgres import PostgresStore
from gateway.app.process import Process, consumer, dead_letters, publisher
from gateway.app.runtime import Runtime, look_at_ends, work_until
from gateway.app.sharing import affiliates_of
from gateway.app.unit import GatewayUnit
from gateway.app.watching import watch_keys
from gateway.base.process import Clock, SilentObserver
from gateway.base.retrying import until_done
from gateway.consents.ended_watch import EndedConsentWatch, EndedMarketingWatch
from gateway.identity.jose.keys import CachedKeySource
from gateway.identity.jose.signature import JwsVerifier
from gateway.identity.signing import KeySource, SignatureVerifier
from gateway.marketing.publishing import AggregateService
from gateway.marketing.service import AffiliateSource, MarketingSettings, OfferService
from gateway.marketing.store import MarketingUnit
from gateway.marketing.telling import CustomerNames
from gateway.marketing.using import UseService
from gateway.messaging.consuming import Consumer, ConsumerBatches, consume
from gateway.messaging.isolation import IsolatedBatch
from gateway.messaging.records import DeadLetters
from gateway.sharing.pseudonyms import Named, Pseudonyms
from schemas.topics import OFFER_USES

STAGE = "marketing"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketingConnections:
    """What marketing reaches others through.

    Attributes:
        uses: consumer of affiliates' words that offers were used.
        keys, signatures: affiliates'.
        names: what affiliates know customers by.
        affiliates: who may make offers.
    """

    uses: Consumer
    keys: KeySource
    signatures: SignatureVerifier
    dead_letters: DeadLetters
    names: CustomerNames
    affiliates: AffiliateSource


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketingTerms:
    """How it is marketed; each bound has its reason in :mod:`gateway.app.settings`."""

    marketing: MarketingSettings = field(default_factory=MarketingSettings)
    k: int = 10
    interval_s: float = 5.0
    end_interval_s: float = 1.0
    aggregate_interval_s: float = 600.0
    batch_max: int = 100
    batch_wait_s: float = 0.5


class AffiliateNames:
    """Implements :class:`gateway.marketing.telling.CustomerNames`: the same names as shared payments have."""

    def __init__(self, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms
        self.key_id = pseudonyms.key_id

    def customer(self, affiliate_id: str, customer_id: str) -> str:
        """The affiliate's own name of a customer."""
        return self._pseudonyms.name(affiliate_id, Named.CUSTOMER, customer_id)


class RegisteredAffiliates:
    """Implements :class:`gateway.marketing.service.AffiliateSource` over the registry."""

    async def affiliates(self, uow: MarketingUnit) -> frozenset[str]:
        """Ids of the affiliates that are active. The unit is one of :class:`gateway.app.unit.GatewayUnit`."""
        return await cast("GatewayUnit", uow).sharing.affiliates()


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketingStage:
    """Makes and ends offers, counts their uses, and publishes aggregates."""

    runtime: Runtime
    terms: MarketingTerms
    uses: Consumer
    offers: OfferService
    counting: UseService
    aggregates: AggregateService
    watch: EndedConsentWatch
    isolated: IsolatedBatch

    async def run(self, stopping: asyncio.Event) -> None:
        """Go on until told to stop. What is in hand may be cut: each batch is one transaction, and comes again."""
        await self.uses.start()
        terms, repeat, full = self.terms, self.runtime.repeat, self.terms.marketing.batch
        try:
            workers = {
                "offers": repeat("offers", self.offers.grant, terms.interval_s, full=full),
                "ends": repeat("offer-ends", self.offers.end, terms.end_interval_s, full=full),
                "aggregates": repeat("aggregates", self.aggregates.publish, terms.aggregate_interval_s, full=full),
                "uses": self._count(),
                "ended-consents": look_at_ends(self.runtime, self.watch),
            }
            await work_until(stopping, workers)
        finally:
            await self.uses.stop()

    async def _count(self) -> None:
        watchdog = self.runtime.watch("offer-uses", self.uses.lag)
        batches = ConsumerBatches(self.uses, batch_max=self.terms.batch_max, batch_wait_s=self.terms.batch_wait_s)
        await consume(batches, partial(self.isolated.run, self.counting.take), progress=watchdog.progress)


def marketing(
    runtime: Runtime, connections: MarketingConnections, terms: MarketingTerms | None = None
) -> MarketingStage:
    """Put marketing together."""
    terms = terms or MarketingTerms()
    store, observer, clock = runtime.store, runtime.observer, runtime.clock
    watch = EndedMarketingWatch(store=store, observer=observer, clock=clock, settle_s=0.0)
    return MarketingStage(
        runtime=runtime,
        terms=terms,
        uses=connections.uses,
        offers=OfferService(
            store=store,
            names=connections.names,
            affiliates=connections.affiliates,
            observer=observer,
            clock=clock,
            settings=terms.marketing,
            watch=watch,
        ),
        counting=UseService(
            store=store,
            keys=connections.keys,
            verifier=connections.signatures,
            dead_letters=connections.dead_letters,
            observer=observer,
            clock=clock,
            watch=watch,
        ),
        aggregates=AggregateService(store=store, observer=observer, clock=clock, k=terms.k),
        watch=watch,
        isolated=IsolatedBatch(STAGE, dead_letters=connections.dead_letters, observer=observer),
    )


# --- a process ---


@asynccontextmanager
async def marketing_process(process: Process) -> AsyncIterator[MarketingStage]:
    """Marketing over PostgreSQL and Kafka."""
    settings = process.settings
    pseudonyms = Pseudonyms(load_ring(settings, Ring.SHARING))
    keys = CachedKeySource(affiliates_of(process.store), process.observer)
    watch_keys(process, "affiliate-keys", lambda: keys.age_seconds)
    await until_done(partial(keys.start, settings.registry_refresh_s))
    terms = MarketingTerms(
        marketing=MarketingSettings(
            batch=settings.marketing_batch_max, round_every=timedelta(seconds=settings.marketing_round_s)
        ),
        k=settings.marketing_k,
        interval_s=settings.marketing_interval_s,
        end_interval_s=settings.marketing_end_interval_s,
        aggregate_interval_s=settings.marketing_aggregate_interval_s,
    )
    try:
        async with publisher(process) as producer:
            connections = MarketingConnections(
                uses=consumer(process, topics=[OFFER_USES], group_id="mypay-marketing"),
                keys=keys,
                signatures=JwsVerifier(keys),
                dead_letters=dead_letters(process, producer),
                names=AffiliateNames(pseudonyms),
                affiliates=RegisteredAffiliates(),
            )
            yield marketing(process, connections, terms)
    finally:
        await keys.stop()


@asynccontextmanager
async def open_aggregates(dsn: str, *, clock: Clock, k: int) -> AsyncIterator[AggregateService]:
    """The aggregates by another clock than the process `marketing` has, for as long as the block lasts.

    Raises:
        StoreUnavailableError: the server cannot be reached.
        DatabaseUnfitError: it does not let this user in.
    """
    store = PostgresStore(dsn, pool_size=1, name="mypay-aggregates")
    await store.start()
    try:
        yield AggregateService(store=store, observer=SilentObserver(), clock=clock, k=k)
    finally:
        await store.stop()
