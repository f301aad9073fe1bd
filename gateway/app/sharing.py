"""Affiliate sharing: outbox → shares and erase notices; affiliates' confirmations; the alarm of a notice forgotten."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from gateway.app.keys import Ring, load_ring
from gateway.app.postgres import PostgresStore
from gateway.app.process import Process, consumer, dead_letters, publisher
from gateway.app.runtime import Runtime, look_at_ends, work_until
from gateway.app.watching import watch_keys
from gateway.base.retrying import until_done
from gateway.consents.ended_watch import LOOK_S, EndedConsentWatch, EndedSharingWatch
from gateway.identity.jose.keys import CachedKeySource, Registry
from gateway.identity.jose.signature import JwsVerifier
from gateway.identity.signing import KeySource, SignatureVerifier
from gateway.messaging.consuming import Consumer, ConsumerBatches, consume
from gateway.messaging.fetch_waits import RARE_WAIT_MS
from gateway.messaging.isolation import IsolatedBatch
from gateway.messaging.records import DeadLetters
from gateway.sharing.confirming import ErasureService
from gateway.sharing.pseudonyms import Pseudonyms
from gateway.sharing.service import SharingService, SharingSettings
from schemas.topics import ERASURES

STAGE = "sharing"


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingConnections:
    """What sharing reaches others through.

    Attributes:
        confirmations: consumer of affiliates' confirmations.
        keys, signatures: affiliates'.
        pseudonyms: what names things for affiliates.
    """

    confirmations: Consumer
    keys: KeySource
    signatures: SignatureVerifier
    dead_letters: DeadLetters
    pseudonyms: Pseudonyms


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingTerms:
    """How it is shared; each bound has its reason in :mod:`gateway.app.settings`."""

    sharing: SharingSettings = field(default_factory=SharingSettings)
    interval_s: float = 1.0
    sweep_interval_s: float = 600.0
    remind_interval_s: float = 15.0
    look_interval_s: float = LOOK_S
    batch_max: int = 100
    batch_wait_s: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingStage:
    """Shares what is settled, sends erase notices and takes in their confirmations."""

    runtime: Runtime
    terms: SharingTerms
    confirmations: Consumer
    service: SharingService
    erasures: ErasureService
    watch: EndedConsentWatch
    isolated: IsolatedBatch

    async def run(self, stopping: asyncio.Event) -> None:
        """Share until told to stop. What is in hand may be cut: each batch is one transaction, and comes again."""
        await self.confirmations.start()
        terms, service, repeat = self.terms, self.service, self.runtime.repeat
        try:
            workers = {
                # The pause lets payments gather: a batch costs much the same for one as for a hundred.
                "shares": repeat("shares", service.share, terms.interval_s, full=terms.sharing.batch),
                "erase-sweep": repeat("erase-sweep", service.sweep, terms.sweep_interval_s),
                "reminders": repeat("reminders", service.remind, terms.remind_interval_s),
                "confirmations": self._confirm(),
                "ended-consents": look_at_ends(self.runtime, self.watch, terms.look_interval_s),
            }
            await work_until(stopping, workers)
        finally:
            await self.confirmations.stop()

    async def _confirm(self) -> None:
        watchdog = self.runtime.watch("confirmations", self.confirmations.lag)
        terms = self.terms
        batches = ConsumerBatches(self.confirmations, batch_max=terms.batch_max, batch_wait_s=terms.batch_wait_s)
        await consume(batches, partial(self.isolated.run, self.erasures.take), progress=watchdog.progress)


def sharing(runtime: Runtime, connections: SharingConnections, terms: SharingTerms | None = None) -> SharingStage:
    """Put sharing together."""
    terms = terms or SharingTerms()
    store, observer, clock = runtime.store, runtime.observer, runtime.clock
    watch = EndedSharingWatch(store=store, observer=observer, clock=clock, settle_s=0.0)
    return SharingStage(
        runtime=runtime,
        terms=terms,
        confirmations=connections.confirmations,
        service=SharingService(
            store=store,
            pseudonyms=connections.pseudonyms,
            observer=observer,
            clock=clock,
            settings=terms.sharing,
            watch=watch,
        ),
        erasures=ErasureService(
            store=store,
            keys=connections.keys,
            verifier=connections.signatures,
            dead_letters=connections.dead_letters,
            observer=observer,
            clock=clock,
        ),
        watch=watch,
        isolated=IsolatedBatch(STAGE, dead_letters=connections.dead_letters, observer=observer),
    )


# --- a process ---


@asynccontextmanager
async def sharing_process(process: Process) -> AsyncIterator[SharingStage]:
    """Sharing over PostgreSQL and Kafka."""
    settings = process.settings
    pseudonyms = Pseudonyms(load_ring(settings, Ring.SHARING))
    keys = CachedKeySource(affiliates_of(process.store, only_active=False), process.observer)
    watch_keys(process, "affiliate-keys", lambda: keys.age_seconds)
    await until_done(partial(keys.start, settings.registry_refresh_s))
    terms = SharingTerms(
        sharing=SharingSettings(
            batch=settings.sharing_batch_max, erase_within=timedelta(days=settings.sharing_erase_days)
        ),
        interval_s=settings.sharing_interval_s,
        sweep_interval_s=settings.purge_interval_s,
    )
    try:
        async with publisher(process) as producer:
            connections = SharingConnections(
                confirmations=consumer(
                    process, topics=[ERASURES], group_id="mypay-sharing", fetch_wait_ms=RARE_WAIT_MS
                ),
                keys=keys,
                signatures=JwsVerifier(keys),
                dead_letters=dead_letters(process, producer),
                pseudonyms=pseudonyms,
            )
            yield sharing(process, connections, terms)
    finally:
        await keys.stop()


def affiliates_of(store: PostgresStore, *, only_active: bool = True) -> Callable[[], Awaitable[Registry]]:
    """How the affiliates and their keys are read; also of those that are disabled, who must still erase and say so."""

    async def load() -> Registry:
        async with store.reading() as uow:
            who = await (uow.sharing.affiliates() if only_active else uow.sharing.known_affiliates())
            return who, await uow.sharing.affiliate_keys()

    return load
