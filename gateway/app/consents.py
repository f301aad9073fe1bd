"""The intake of partners' commands on consents."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from gateway.app.process import Process, dead_letters, publisher
from gateway.app.runtime import Runtime
from gateway.app.subscription import Subscription
from gateway.app.trust import Signers, signers
from gateway.consents.commands import ConsentCommandService
from gateway.messaging.isolation import IsolatedBatch
from gateway.messaging.records import DeadLetters


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentConnections:
    """What the intake of commands reaches others through.

    Attributes:
        commands: of partners.
    """

    commands: Subscription
    dead_letters: DeadLetters
    signers: Signers


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentStage:
    """Takes commands on consents in."""

    commands: Subscription
    service: ConsentCommandService
    isolated: IsolatedBatch

    async def run(self, stopping: asyncio.Event) -> None:
        """Take in commands until told to stop; the batch in hand is finished and its offsets are committed."""
        await self.commands.run(partial(self.isolated.run, self.service.take), stopping)


def consents(runtime: Runtime, connections: ConsentConnections) -> ConsentStage:
    """Put the intake of commands together."""
    signed, parked = connections.signers, connections.dead_letters
    return ConsentStage(
        commands=connections.commands,
        service=ConsentCommandService(
            store=runtime.store,
            keys=signed.keys,
            verifier=signed.signatures,
            trust=signed.trust,
            assertions=signed.assertions,
            dead_letters=parked,
            observer=runtime.observer,
            clock=runtime.clock,
        ),
        isolated=IsolatedBatch("consents", dead_letters=parked, observer=runtime.observer),
    )


# --- a process ---


@asynccontextmanager
async def consents_process(process: Process, commands: Subscription) -> AsyncIterator[ConsentStage]:
    """The intake over PostgreSQL and a producer, with its registries kept fresh."""
    async with signers(process) as signed, publisher(process) as producer:
        connections = ConsentConnections(
            commands=commands, dead_letters=dead_letters(process, producer), signers=signed
        )
        yield consents(process, connections)
