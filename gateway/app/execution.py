"""The execution of one card network: dispatched orders → intents → ISO 8583 → results.

Takes only what the network has room for. While the network is closed (no link, or its circuit breaker is open)
nothing is consumed: the backlog waits in Kafka, and orders that expire there are refused when they are reached.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from gateway.app.errors import NotConfiguredError
from gateway.app.keys import Ring, dispatch, load_ring
from gateway.app.process import Process, consumer, dead_letters, publisher
from gateway.app.runtime import Runtime
from gateway.app.settings import Settings
from gateway.app.trust import Signers, signers
from gateway.base.pace import Pace
from gateway.base.process import Observer
from gateway.consents.ended_watch import LOOK_S, EndedConsentWatch
from gateway.directory.cards import MasterKeyRing
from gateway.directory.store import TokenVault
from gateway.directory.vault import PostgresTokenVault
from gateway.messaging.consuming import Consumer
from gateway.messaging.isolation import IsolatedBatch
from gateway.messaging.records import DeadLetters, Record, first_offsets
from gateway.network.card_network import CardNetwork
from gateway.network.exchange import UnmatchedAnswer
from gateway.network.iso8583.config import NetworkConfig, load_networks
from gateway.network.iso8583.pool import Iso8583Network
from gateway.network.iso8583.reporting import LinkMetrics
from gateway.network.matching import MatchBy
from gateway.payments.dispatch import Dispatch
from gateway.payments.execution import ExecutionService, ExecutionSettings
from gateway.payments.results import ResultSettings
from gateway.payments.unknown.follow_ups import FollowUpKind, FollowUpService, FollowUpSettings
from gateway.payments.unknown.inquiry import Inquiry
from gateway.payments.unknown.late_answers import LateAnswerService
from gateway.payments.unknown.recovery import RecoveryService, RecoverySettings
from gateway.payments.unknown.reversal import Reversal
from gateway.payments.unknown.verdicts import UnknownPolicy
from schemas.primitives import NetworkId
from schemas.topics import dispatch_topic

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionConnections:
    """What execution reaches others through.

    Attributes:
        consumer: of the network's dispatched orders and refunds.
        connect: makes the links to the network, which hand over the answers that belong to no exchange.
    """

    consumer: Consumer
    connect: Callable[[Callable[[UnmatchedAnswer], None]], CardNetwork]
    vault: TokenVault
    dead_letters: DeadLetters
    dispatch: Dispatch
    signers: Signers


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionTerms:
    """How one network's payments are executed; each bound has its reason in :mod:`gateway.app.settings`.

    Attributes:
        answer_timeout_s: how long the network may take to answer.
        gather_s: from the beginning of one batch to that of the next at least. After a batch others are gathered for as
            long as it took, and for no longer than twice this.
    """

    network_id: NetworkId
    terminals: Sequence[str]
    answer_timeout_s: float
    match_by: MatchBy = MatchBy.REFERENCE
    execution: ExecutionSettings = field(default_factory=ExecutionSettings)
    inquiry: Inquiry = field(default_factory=Inquiry)
    inquiries: FollowUpSettings = field(default_factory=FollowUpSettings)
    reversal: Reversal = field(default_factory=Reversal)
    reversals: FollowUpSettings = field(default_factory=FollowUpSettings)
    recovery: RecoverySettings = field(default_factory=RecoverySettings)
    batch_max: int = 500
    batch_wait_s: float = 0.1
    gather_s: float = 0.01
    follow_up_poll_s: float = 0.5
    recovery_interval_s: float = 0.5
    ended_consents_interval_s: float = LOOK_S
    drain_s: float = 17.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionStage:
    """Executes one network."""

    runtime: Runtime
    terms: ExecutionTerms
    network: CardNetwork
    consumer: Consumer
    service: ExecutionService
    inquiries: FollowUpService
    reversals: FollowUpService
    late_answers: LateAnswerService
    recovery: RecoveryService
    isolated: IsolatedBatch
    ended_consents: EndedConsentWatch

    async def run(self, stopping: asyncio.Event) -> None:
        """Execute until told to stop; then take no more, wait for answers up to a deadline, and write every result."""
        poll_s = self.terms.follow_up_poll_s
        await self.network.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                results = tasks.create_task(self.service.results.run(), name="results")
                late = tasks.create_task(_forever(self.late_answers.work), name="late-answers")
                workers = [
                    tasks.create_task(self.take(), name="intake"),
                    tasks.create_task(self._poll("inquiries", self.inquiries.work, poll_s), name="inquiries"),
                    tasks.create_task(self._poll("reversals", self.reversals.work, poll_s), name="reversals"),
                    tasks.create_task(self._recover(), name="recovery"),
                    tasks.create_task(self._watch_ended_consents(), name="ended-consents"),
                ]
                await stopping.wait()
                for task in workers:
                    task.cancel()
                await asyncio.wait(workers)
                # What is in flight ends answered or UNKNOWN; either way it is in Postgres before this process ends.
                await self.network.stop(drain_seconds=self.terms.drain_s)
                await self.service.results.written()
                await self.late_answers.written()
                results.cancel()
                late.cancel()
        finally:
            await self.consumer.stop()
            await self.network.stop(drain_seconds=0)

    @property
    def takes(self) -> bool:
        """True while orders may be taken: the network is open, and operators have not paused it."""
        return self.network.is_open and not self.recovery.paused

    async def waiting(self) -> int:
        """Orders that could be executed now: none while the network is closed or paused: they are to wait."""
        return await self.consumer.lag() if self.takes else 0

    async def take(self) -> None:
        """Take orders and refunds while the network has room for them."""
        terms, network = self.terms, self.network
        # Joining can take as long as Kafka needs to notice that an earlier member died: all else runs already.
        await self.consumer.start()
        watchdog = self.runtime.watch("execution", self.waiting)
        committing = asyncio.create_task(_nothing(), name="commit")
        pace = Pace(terms.gather_s, rest_s_max=2 * terms.gather_s)
        try:
            while True:
                await pace.wait()
                await self._wait_open()
                room = await network.reserve(terms.batch_max)
                network.release(room)
                if not self.takes:
                    # It was paused, or lost its links, while there was no room.
                    continue
                records = await self.consumer.take(room, max_wait=terms.batch_wait_s)
                if records:
                    pace.begin()
                    # A batch that has begun is finished also when we are told to stop: its intents may have committed.
                    # But what waits for a place has none.
                    done = await _to_the_end(asyncio.create_task(self._work(records)), told=self.service.give_up)
                    # The next batch need not wait for the brokers to note where this one ended: whoever dies before
                    # that takes it again, and finds its intents.
                    before = committing
                    committing = asyncio.create_task(_after(before, partial(self._commit, done)))
                    await _to_the_end(before)
                    watchdog.progress()
                    pace.end()
        finally:
            await _to_the_end(committing)

    async def _work(self, records: Sequence[Record]) -> Sequence[Record]:
        """Bring a batch to its end; return what may be committed of it.

        What was not decided, for the network was paused meanwhile, is taken again when it is resumed.
        """
        waiting: list[Record] = []

        async def take(some: Sequence[Record]) -> None:
            # One by one, after a failure: it may be resumed meanwhile, and a refund must not overtake its payment.
            waiting.extend(some if waiting else await self.service.take(some))

        await self.isolated.run(take, records)
        if not waiting:
            return records
        self.recovery.found_paused()
        await self.consumer.rewind(waiting)
        return _ahead_of(records, waiting)

    async def _wait_open(self) -> None:
        """Wait for the network, keeping the place in the group: Kafka takes a member that never polls for dead."""
        if self.takes:
            return
        self.consumer.pause()
        try:
            while not self.takes:
                await self.consumer.take(1, max_wait=0.2)
        finally:
            self.consumer.resume()

    async def _commit(self, records: Sequence[Record]) -> None:
        await self.consumer.commit(records)

    async def _poll(self, name: str, work: Callable[[], Awaitable[int]], pause_s: float) -> None:
        while True:
            if await work() == 0:
                await self.runtime.pause(name, pause_s)

    async def _recover(self) -> None:
        """Tell the others and routing that this worker lives, and settle what dead ones left behind."""
        runtime = self.runtime
        try:
            while True:
                is_open = self.network.is_open
                runtime.observer.level("network_open", float(is_open))
                await self.recovery.report(is_open=is_open)
                await self.recovery.take_over()
                await runtime.pause("recovery", self.terms.recovery_interval_s)
        finally:
            runtime.observer.level("network_open", 0.0)

    async def _watch_ended_consents(self) -> None:
        while True:
            await self.runtime.pause("ended-consents", self.terms.ended_consents_interval_s)
            await self.ended_consents.look()


async def _after(before: "asyncio.Task[None]", step: Callable[[], Awaitable[None]]) -> None:
    await before
    await step()


async def _nothing() -> None:
    """No batch has been taken yet."""


def _ahead_of(records: Sequence[Record], waiting: Sequence[Record]) -> Sequence[Record]:
    """Those that stand in their partition before every one that waits."""
    first = first_offsets(waiting)
    return [r for r in records if r.offset < first.get((r.topic, r.partition), r.offset + 1)]


async def _to_the_end(task: "asyncio.Task[T]", *, told: Callable[[], None] | None = None) -> T:
    """Let a task end also where we are cancelled meanwhile, which it may be ``told``."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if told is not None:
            told()
        await task
        raise


async def _forever(work: Callable[[], Awaitable[int]]) -> None:
    while True:
        await work()


def execution(runtime: Runtime, connections: ExecutionConnections, terms: ExecutionTerms) -> ExecutionStage:
    """Put the execution of one network together."""
    store, observer, clock = runtime.store, runtime.observer, runtime.clock
    results = terms.execution.results
    late_answers = LateAnswerService(
        network_id=terms.network_id,
        store=store,
        observer=observer,
        clock=clock,
        policy=results.policy,
        codes=results.codes,
        match_by=terms.match_by,
    )
    network = connections.connect(late_answers.take)
    runtime.health.looks.append(partial(_tell_open, runtime.observer, network))
    ended_consents = EndedConsentWatch(
        store=store,
        observer=observer,
        clock=clock,
        settle_s=terms.execution.intent_to_wire_s + terms.answer_timeout_s,
    )

    def follow_ups(kind: FollowUpKind, settings: FollowUpSettings, vault: TokenVault | None = None) -> FollowUpService:
        return FollowUpService(
            kind=kind,
            network_id=terms.network_id,
            worker=runtime.worker,
            store=store,
            network=network,
            observer=observer,
            clock=clock,
            settings=settings,
            vault=vault,
        )

    return ExecutionStage(
        runtime=runtime,
        terms=terms,
        network=network,
        consumer=connections.consumer,
        service=_service(runtime, connections, terms, network, ended_consents),
        inquiries=follow_ups(terms.inquiry, terms.inquiries),
        reversals=follow_ups(terms.reversal, terms.reversals, connections.vault),
        late_answers=late_answers,
        recovery=RecoveryService(
            network_id=terms.network_id,
            worker=runtime.worker,
            store=store,
            observer=observer,
            clock=clock,
            policy=results.policy,
            settings=terms.recovery,
        ),
        isolated=IsolatedBatch("execution", dead_letters=connections.dead_letters, observer=observer),
        ended_consents=ended_consents,
    )


def _service(
    runtime: Runtime,
    connections: ExecutionConnections,
    terms: ExecutionTerms,
    network: CardNetwork,
    watch: EndedConsentWatch,
) -> ExecutionService:
    signed = connections.signers
    return ExecutionService(
        network_id=terms.network_id,
        worker=runtime.worker,
        terminals=terms.terminals,
        store=runtime.store,
        vault=connections.vault,
        network=network,
        dead_letters=connections.dead_letters,
        observer=runtime.observer,
        clock=runtime.clock,
        settings=terms.execution,
        dispatch=connections.dispatch,
        signatures=signed.signatures,
        keys=signed.keys,
        trust=signed.trust,
        assertions=signed.assertions,
        watch=watch,
    )


async def _tell_open(observer: Observer, network: CardNetwork) -> None:
    """Also while the database is away, and recovery with it."""
    observer.level("network_open", float(network.is_open))


# --- a process ---


@asynccontextmanager
async def execution_process(process: Process, network_id: NetworkId) -> AsyncIterator[ExecutionStage]:
    """The execution of one network, over Kafka, PostgreSQL and the network's links.

    Raises:
        NotConfiguredError: there is no file for this network, or a ring of keys is empty.
    """
    settings = process.settings
    config = load_networks(settings.networks_dir).get(network_id)
    if config is None:
        raise NotConfiguredError(f"no network {network_id} in {settings.networks_dir}")
    vault = token_vault(process)
    handed_on = dispatch(settings)

    def links(on_unmatched: Callable[[UnmatchedAnswer], None]) -> Iso8583Network:
        return Iso8583Network(config, on_unmatched=on_unmatched, observer=LinkMetrics(process.observer, network_id))

    async with signers(process) as signed, publisher(process) as producer:
        connections = ExecutionConnections(
            consumer=consumer(
                process,
                topics=[dispatch_topic(network_id)],
                group_id=f"mypay-execution-{network_id}",
            ),
            connect=links,
            vault=vault,
            dead_letters=dead_letters(process, producer),
            dispatch=handed_on,
            signers=signed,
        )
        yield execution(process, connections, execution_terms(settings, config))


def execution_terms(settings: Settings, config: NetworkConfig) -> ExecutionTerms:
    """What the settings and the network's file say."""
    results = ResultSettings(
        batch_max=settings.execution_results_max,
        wait_s=settings.execution_results_wait_s,
        policy=UnknownPolicy(config.unknown_policy),
        codes=config.codes,
    )
    # The longest that a live worker can hold a payment in SENT: from intent to wire, then the answer's time.
    held_s = settings.execution_intent_to_wire_s + config.answer_timeout_s
    return ExecutionTerms(
        network_id=config.network_id,
        terminals=config.terminals.ids,
        answer_timeout_s=config.answer_timeout_s,
        match_by=config.matching,
        execution=ExecutionSettings(intent_to_wire_s=settings.execution_intent_to_wire_s, results=results),
        inquiry=Inquiry(deadline_s=config.inquiry_deadline_s, codes=config.codes),
        inquiries=_follow_ups(settings, config, config.inquiry_interval_s, 4 * config.inquiry_interval_s),
        reversal=Reversal(alert_after_s=config.reversal_alert_after_s, codes=config.codes),
        reversals=_follow_ups(settings, config, config.reversal_repeat_interval_s, config.reversal_repeat_max_s),
        recovery=RecoverySettings(lease_s=settings.recovery_lease_s, held_s=held_s + settings.recovery_margin_s),
        batch_max=settings.execution_batch_max,
        batch_wait_s=settings.execution_batch_wait_s,
        follow_up_poll_s=settings.follow_up_poll_s,
        recovery_interval_s=settings.recovery_interval_s,
        drain_s=settings.execution_drain_s,
    )


def _follow_ups(
    settings: Settings, config: NetworkConfig, interval_s: float, interval_max_s: float
) -> FollowUpSettings:
    return FollowUpSettings(
        batch=settings.follow_up_batch,
        interval_s=interval_s,
        interval_max_s=interval_max_s,
        # Waiting for the socket takes at most a quarter of it, the answer its time-out: twice that is never lost alive.
        lease_s=4 * config.answer_timeout_s,
        in_order=config.follow_ups_in_order,
    )


def token_vault(process: Process) -> PostgresTokenVault:
    """The vault over the keys that seal cards.

    Raises:
        NotConfiguredError: there is none.
    """
    keys = load_ring(process.settings, Ring.CARDS)
    return PostgresTokenVault(process.store, MasterKeyRing(process.settings.master_keys_dir, keys))
