"""Portability: transmission requests in, exports out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from gateway.app.errors import NotConfiguredError
from gateway.app.process import Process, consumer, dead_letters, publisher
from gateway.app.runtime import Runtime, look_at_ends, work_until
from gateway.app.settings import Settings
from gateway.app.trust import Signers, signers
from gateway.consents.ended_watch import EndedConsentWatch, EndedPortabilityWatch
from gateway.identity.jose.jwk import (
    KeyFormatError,
    algorithm_of,
    generate_key,
    import_private,
    public_jwk,
    read_private_key,
    write_private_key,
)
from gateway.messaging.consuming import Consumer, ConsumerBatches, consume
from gateway.messaging.isolation import IsolatedBatch
from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.records import DeadLetters, Publisher
from gateway.portability.exporting import ExportService, ExportSettings, ReceiptKey
from gateway.portability.postgres import PostgresSnapshots
from gateway.portability.store import Snapshots
from gateway.portability.taking import PortabilityRequestService
from gateway.sealing.files import SecretFileError
from schemas.topics import EXPORT_LATE_MS, PORTABILITY_REQUESTS

_CHUNK_S: Final = EXPORT_LATE_MS / 1000
"""What a chunk takes at most from the look at its consent until Kafka has it, or has it never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortabilityConnections:
    """What portability reaches others through.

    Attributes:
        publisher: of chunks: what it could not bring to Kafka in time never comes there.
    """

    consumer: Consumer
    publisher: Publisher
    dead_letters: DeadLetters
    signers: Signers
    snapshots: Snapshots


@dataclass(frozen=True, slots=True, kw_only=True)
class PortabilityTerms:
    """How data is handed over; each bound has its reason in :mod:`gateway.app.settings`."""

    receipt_key: ReceiptKey
    exports: ExportSettings
    batch_max: int = 100
    batch_wait_s: float = 0.1
    poll_s: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PortabilityStage:
    """Takes requests in and makes exports of them."""

    runtime: Runtime
    terms: PortabilityTerms
    consumer: Consumer
    requests: PortabilityRequestService
    exports: ExportService
    watch: EndedConsentWatch
    isolated: IsolatedBatch

    async def run(self, stopping: asyncio.Event) -> None:
        """Go on until told to stop. What is in hand may be cut: it comes again, or is begun anew."""
        await self.consumer.start()
        try:
            workers = {
                "portability": self._take(),
                "exports": self._export(),
                "ended-consents": look_at_ends(self.runtime, self.watch),
            }
            await work_until(stopping, workers)
        finally:
            await self.consumer.stop()

    async def _take(self) -> None:
        terms = self.terms
        watchdog = self.runtime.watch("portability", self.consumer.lag)
        batches = ConsumerBatches(self.consumer, batch_max=terms.batch_max, batch_wait_s=terms.batch_wait_s)
        await consume(batches, partial(self.isolated.run, self.requests.take), progress=watchdog.progress)

    async def _export(self) -> None:
        while True:
            if not await self.exports.make_one():
                await self.runtime.pause("exports", self.terms.poll_s)


def portability(runtime: Runtime, connections: PortabilityConnections, terms: PortabilityTerms) -> PortabilityStage:
    """Put portability together."""
    signed, parked = connections.signers, connections.dead_letters
    watch = EndedPortabilityWatch(
        store=runtime.store, observer=runtime.observer, clock=runtime.clock, settle_s=_CHUNK_S
    )
    return PortabilityStage(
        runtime=runtime,
        terms=terms,
        consumer=connections.consumer,
        requests=PortabilityRequestService(
            store=runtime.store,
            keys=signed.keys,
            verifier=signed.signatures,
            trust=signed.trust,
            assertions=signed.assertions,
            dead_letters=parked,
            observer=runtime.observer,
            clock=runtime.clock,
            org_code=terms.exports.org_code,
        ),
        exports=ExportService(
            store=runtime.store,
            snapshots=connections.snapshots,
            publisher=connections.publisher,
            receipt_key=terms.receipt_key,
            observer=runtime.observer,
            clock=runtime.clock,
            worker=runtime.worker,
            settings=terms.exports,
            watch=watch,
        ),
        watch=watch,
        isolated=IsolatedBatch("portability", dead_letters=parked, observer=runtime.observer),
    )


# --- a process ---


def create_missing_receipt_key(settings: Settings, *, within: Path | None = None) -> bool:
    """Make the key for receipts where there is none; True if one was made.

    One that is not ``within`` the folder given is left alone.

    Raises:
        SecretFileError: its folder cannot be used.
    """
    file = settings.receipt_key_file
    if file.exists() or (within is not None and not file.resolve().is_relative_to(within.resolve())):
        return False
    private, _ = generate_key("ES256")
    write_private_key(file, private)
    return True


def receipt_key(settings: Settings) -> ReceiptKey:
    """What exports' receipts are signed with.

    Raises:
        NotConfiguredError: there is none, or it cannot be used.
    """
    try:
        private = read_private_key(settings.receipt_key_file)
        algorithm = algorithm_of(private)
        key = import_private(private, algorithm)
    except (SecretFileError, KeyFormatError) as error:
        raise NotConfiguredError(
            f"MYPAY_RECEIPT_KEY_FILE: {error}: make one with `mypay portability receipt-key --create`"
        ) from None
    thumbprint = type(key).import_key(public_jwk(private)).thumbprint()
    return ReceiptKey(key, f"receipt-{thumbprint[:16]}", algorithm)


@asynccontextmanager
async def portability_process(process: Process) -> AsyncIterator[PortabilityStage]:
    """Portability over Kafka and PostgreSQL, with its registries kept fresh."""
    settings = process.settings
    terms = PortabilityTerms(
        receipt_key=receipt_key(settings),
        exports=ExportSettings(org_code=settings.org_code, lease_s=settings.portability_lease_s),
        batch_max=settings.portability_batch_max,
        batch_wait_s=settings.portability_batch_wait_s,
        poll_s=settings.portability_poll_s,
    )
    chunks = KafkaPublisher(
        process.kafka, process.observer, deadline_seconds=_CHUNK_S, keeps_late=False, before=process.together
    )
    async with signers(process) as signed, publisher(process) as producer, publisher(process, chunks) as timely:
        connections = PortabilityConnections(
            consumer=consumer(process, topics=[PORTABILITY_REQUESTS], group_id="mypay-portability"),
            publisher=timely,
            dead_letters=dead_letters(process, producer),
            signers=signed,
            snapshots=PostgresSnapshots(process.store),
        )
        yield portability(process, connections, terms)
