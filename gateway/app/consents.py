"""Putting the intake of commands on consents together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.app.process import Parts, dead_letters, publisher
from gateway.app.trust import proving
from gateway.consents.commands import ConsentCommandService
from gateway.messaging.isolation import IsolatedBatch


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
