"""Stages put together as processes put them together, on whatever a test has."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gateway.app.execution import ExecutionConnections, ExecutionStage, ExecutionTerms, execution
from gateway.app.runtime import Runtime
from gateway.app.schedule import ScheduleConnections, ScheduleStage, ScheduleTerms, schedule
from gateway.app.trust import Signers
from gateway.app.unit import GatewayUnit
from gateway.base.calendar import BusinessDays
from gateway.base.process import Clock, Observer
from gateway.database.unit import Store
from gateway.directory.store import TokenVault
from gateway.identity.no_providers import NoIdentityProviders
from gateway.identity.signing import KeySource, SignatureVerifier
from gateway.messaging.consuming import Consumer, Handle, consume
from gateway.messaging.records import DeadLetters, Record
from gateway.network.card_network import CardNetwork
from gateway.observability.recording import RecordingObserver
from gateway.payments.execution import ExecutionSettings
from gateway.payments.results import ResultSettings
from gateway.payments.rules.routing import NetworkProfile
from gateway.payments.unknown.verdicts import UnknownPolicy
from gateway.proving.memory import MemoryDeadLetters, MemoryKeySource, MemoryVerifier
from schemas.primitives import NetworkId
from tests.support.builders import DISPATCH, NETWORK, TERMINAL

NO_CONSUMER: Any = None
"""Of a stage whose loops a test does not run."""


def signers(
    keys: KeySource | None = None, verifier: SignatureVerifier | None = None, identities: Any = None
) -> Signers:
    """Who may sign; ``identities``: a trust table that also verifies, None where no proof is asked for."""
    nobody = identities or NoIdentityProviders()
    keys = keys or MemoryKeySource(["partner-1"])
    return Signers(keys=keys, signatures=verifier or MemoryVerifier(), trust=nobody, assertions=nobody)


def execution_stage(
    store: Store[GatewayUnit],
    network: CardNetwork,
    vault: TokenVault,
    *,
    clock: Clock,
    worker: str = "worker-1",
    observer: Observer | None = None,
    dead_letters: DeadLetters | None = None,
    signed: Signers | None = None,
    consumer: Consumer = NO_CONSUMER,
    policy: UnknownPolicy = UnknownPolicy.REVERSE,
    results: ResultSettings | None = None,
    **terms: Any,
) -> ExecutionStage:
    """Execute a network; results are written at once."""
    return execution(
        Runtime(store=store, observer=observer or RecordingObserver(), clock=clock, worker=worker),
        ExecutionConnections(
            consumer=consumer,
            connect=lambda _: network,
            vault=vault,
            dead_letters=dead_letters or MemoryDeadLetters(),
            dispatch=DISPATCH,
            signers=signed or signers(),
        ),
        ExecutionTerms(
            network_id=NetworkId(NETWORK),
            terminals=[TERMINAL],
            execution=ExecutionSettings(results=results or ResultSettings(wait_s=0.0, policy=policy)),
            **({"answer_timeout_s": 18.0} | terms),
        ),
    )


def timers(
    store: Store[GatewayUnit],
    clock: Clock,
    observer: Observer | None = None,
    *,
    publisher: Any = None,
    networks: Callable[[], Sequence[NetworkProfile]] = list,
    behind: Callable[[], Awaitable[int]] | None = None,
    **terms: Any,
) -> ScheduleStage:
    """The schedule; ``publisher``: None where nothing is handed on; ``behind``: None where nobody waits for room."""
    return schedule(
        Runtime(store=store, observer=observer or RecordingObserver(), clock=clock, worker="schedule-1"),
        ScheduleConnections(publisher=publisher, dispatch=DISPATCH, networks=networks, behind=behind),
        ScheduleTerms(**({"cut_overs": {}, "days": BusinessDays(), "batch_max": 100} | terms)),
    )


class RecordedBatches:
    """Implements :class:`gateway.messaging.consuming.Batches` over batches that are there from the beginning."""

    def __init__(self, *batches: Sequence[Record]) -> None:
        self.left = list(batches)
        self.committed: list[Record] = []
        self.generation: object = 0

    async def take(self) -> Sequence[Record] | None:
        return self.left.pop(0) if self.left else None

    async def finished(self, records: Sequence[Record]) -> None:
        self.committed.extend(records)


class NoSubscription:
    """Implements :class:`gateway.app.subscription.Subscription`: nothing ever comes."""

    async def run(
        self,
        handle: Handle,
        stopping: asyncio.Event,
        *,
        on_assigned: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        await consume(RecordedBatches(), handle, progress=lambda: None, on_assigned=on_assigned)
        await stopping.wait()
