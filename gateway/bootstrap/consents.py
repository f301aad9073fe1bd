"""Putting the consents' stages together: partners' commands, and what time does to consents."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.adapters.iso8583.config import load_networks
from gateway.bootstrap.networks import cut_overs
from gateway.bootstrap.process import Parts, dead_letters, publisher
from gateway.bootstrap.trust import proving
from gateway.services.cancellation import WaitingCancellations
from gateway.services.consent_commands import ConsentCommandService
from gateway.services.consents import ExpiryService
from gateway.services.isolation import IsolatedBatch
from gateway.services.used_proofs import UsedProofsService


@asynccontextmanager
async def consent_service(parts: Parts) -> AsyncIterator[tuple[ConsentCommandService, IsolatedBatch]]:
    """The intake of partners' commands on consents, with its registries kept fresh."""
    async with proving(parts) as proofs, publisher(parts) as producer:
        parked = dead_letters(parts, producer)
        service = ConsentCommandService(
            store=parts.store,
            keys=proofs.keys,
            verifier=proofs.signatures,
            trust=proofs.trust,
            assertions=proofs.assertions,
            dead_letters=parked,
            observer=parts.observer,
            clock=parts.clock,
        )
        yield service, IsolatedBatch("consents", dead_letters=parked, observer=parts.observer)


@dataclass(frozen=True, slots=True)
class ScheduleParts:
    """What is done because time has come."""

    expiry: ExpiryService
    used_proofs: UsedProofsService
    cancellations: WaitingCancellations


def schedule_parts(parts: Parts) -> ScheduleParts:
    """The timers' use cases."""
    store, observer, clock = parts.store, parts.observer, parts.clock
    return ScheduleParts(
        expiry=ExpiryService(store=store, observer=observer, clock=clock, batch_max=parts.settings.schedule_batch_max),
        used_proofs=UsedProofsService(store=store, observer=observer, clock=clock),
        cancellations=WaitingCancellations(
            store=store,
            cut_overs=cut_overs(load_networks(parts.settings.networks_dir)),
            observer=observer,
            clock=clock,
            batch_max=parts.settings.schedule_batch_max,
        ),
    )
