"""The stages around customers' data, put together as a process puts them together: log, shares, exports, offers."""

from datetime import timedelta
from typing import Final

from gateway.app.disclosure import DisclosureConnections, DisclosureStage, disclosure
from gateway.app.marketing import AffiliateNames, MarketingConnections, MarketingStage, MarketingTerms, marketing
from gateway.app.portability import PortabilityConnections, PortabilityStage, PortabilityTerms, portability
from gateway.app.sharing import SharingConnections, SharingStage, SharingTerms, sharing
from gateway.disclosure.sequencer import SequencerSettings
from gateway.marketing.service import MarketingSettings
from gateway.marketing.store import MarketingUnit
from gateway.portability.exporting import ExportSettings
from gateway.proving.memory import MemoryDisclosureLog, MemoryKeySource, MemoryPublisher
from gateway.proving.memory.disclosure import ROOT_MARKS
from gateway.proving.memory.portability import MemorySnapshots
from gateway.proving.simulation.affiliates import ERASE_WITHIN
from gateway.proving.simulation.crew.parts import BATCH_MAX, IDLE_S, POLL_S, SELDOM_S, Parts
from gateway.proving.simulation.crew.worker import Worker
from gateway.proving.simulation.pending import offers_due, open_exports, unshared
from gateway.proving.simulation.script.recipient import RECEIPT_KEY
from gateway.proving.simulation.script.scene import GATEWAY_ORG, SHARED_WITH, K
from gateway.sealing.sealing import MasterKeys
from gateway.sharing.pseudonyms import Pseudonyms
from gateway.sharing.service import SharingSettings
from schemas.topics import ERASURES, OFFER_USES, PORTABILITY_REQUESTS

PSEUDONYMS: Final = Pseudonyms(MasterKeys({"20260101": bytes(range(32))}))
"""The same in every world."""

EXPORT_LEASE_S: Final = 8.0
GRANT_S: Final = 3.0
"""How often it is looked who may have an offer, and what can be told of a week."""


class ActiveAffiliates:
    """Implements :class:`gateway.marketing.service.AffiliateSource`: all of them are."""

    async def affiliates(self, uow: MarketingUnit) -> frozenset[str]:  # noqa: ARG002 - whoever asks
        """Their ids."""
        return frozenset(SHARED_WITH)


class DataStages(Parts):
    """Puts them together."""

    def disclosure(self, worker: Worker) -> DisclosureStage:
        """Uses of consents → their chain."""
        worker.log = MemoryDisclosureLog(self.around.database, worker.boundary)
        connections = DisclosureConnections(log=worker.log, sign=ROOT_MARKS.sign, random=worker.rng.randbytes)
        settings = SequencerSettings(batch=20, idle_s=1.0, standby_s=3.0, period=timedelta(seconds=15))
        return disclosure(self.runtime(worker), connections, settings)

    def sharing(self, worker: Worker) -> SharingStage:
        """What is settled → affiliates' shares, and erase notices."""
        around, database = self.around, self.around.database
        worker.needs["shares"] = lambda: unshared(database)
        connections = SharingConnections(
            confirmations=self.member(worker, ERASURES),
            keys=MemoryKeySource(SHARED_WITH, boundary=worker.boundary),
            signatures=around.affiliates,
            dead_letters=self.dead_letters(worker),
            pseudonyms=PSEUDONYMS,
        )
        terms = SharingTerms(
            sharing=SharingSettings(batch=20, erase_within=ERASE_WITHIN),
            interval_s=POLL_S,
            sweep_interval_s=SELDOM_S,
            remind_interval_s=SELDOM_S,
            look_interval_s=IDLE_S,
            batch_wait_s=IDLE_S,
        )
        return sharing(self.runtime(worker), connections, terms)

    def portability(self, worker: Worker) -> PortabilityStage:
        """Requests in, exports out."""
        around, database = self.around, self.around.database
        worker.needs["ended-consents"] = lambda: bool(database.purpose_ends.rows)
        worker.needs["exports"] = lambda: any(open_exports(database))
        connections = PortabilityConnections(
            consumer=self.member(worker, PORTABILITY_REQUESTS),
            publisher=MemoryPublisher(around.kafka, worker.boundary),
            dead_letters=self.dead_letters(worker),
            signers=self.signers(worker),
            snapshots=MemorySnapshots(database, worker.boundary),
        )
        terms = PortabilityTerms(
            receipt_key=RECEIPT_KEY,
            exports=ExportSettings(org_code=GATEWAY_ORG, lease_s=EXPORT_LEASE_S, chunk_payments=1),
            batch_max=BATCH_MAX,
            batch_wait_s=IDLE_S,
            poll_s=1.0,
        )
        return portability(self.runtime(worker), connections, terms)

    def marketing(self, worker: Worker) -> MarketingStage:
        """Offers, their uses, aggregates."""
        around, database = self.around, self.around.database
        worker.needs["ended-consents"] = lambda: bool(database.purpose_ends.rows)
        worker.needs["offer-ends"] = lambda: any(offers_due(database, worker.clock.now()))
        connections = MarketingConnections(
            uses=self.member(worker, OFFER_USES),
            keys=MemoryKeySource(SHARED_WITH, boundary=worker.boundary),
            signatures=around.affiliates,
            dead_letters=self.dead_letters(worker),
            names=AffiliateNames(PSEUDONYMS),
            affiliates=ActiveAffiliates(),
        )
        terms = MarketingTerms(
            marketing=MarketingSettings(batch=20),
            k=K,
            interval_s=GRANT_S,
            end_interval_s=1.0,
            aggregate_interval_s=GRANT_S,
            batch_max=BATCH_MAX,
            batch_wait_s=IDLE_S,
        )
        return marketing(self.runtime(worker), connections, terms)
