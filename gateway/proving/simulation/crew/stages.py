"""A worker's stage, put together as a process puts it together, over everything in memory.

Bounds are in the proportions of the real ones, shorter: a world need not live long to see each of them pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, assert_never

from gateway.app.consents import ConsentConnections, ConsentStage, consents
from gateway.app.disclosure import DisclosureConnections, DisclosureStage, disclosure
from gateway.app.execution import ExecutionConnections, ExecutionStage, ExecutionTerms, execution
from gateway.app.initiation import InitiationConnections, InitiationStage, InitiationTerms, initiation
from gateway.app.relay import RelayStage, relay
from gateway.app.runtime import Runtime
from gateway.app.schedule import ScheduleConnections, ScheduleStage, ScheduleTerms, schedule
from gateway.app.settlement import SettlementConnections, SettlementStage, SettlementTerms, settlement
from gateway.app.sharing import SharingConnections, SharingStage, SharingTerms, sharing
from gateway.app.trust import Signers
from gateway.base.calendar import BusinessDays
from gateway.directory.funding import OwnedToken
from gateway.disclosure.sequencer import SequencerSettings
from gateway.identity.store import AssertionVerifier, TrustTable
from gateway.network.exchange import CardData, UnmatchedAnswer
from gateway.orders.scheduled.service import ScheduleSettings
from gateway.outbox.relay import RelaySettings
from gateway.payments.cancellations.rules import CutOver
from gateway.payments.dispatch import Dispatch
from gateway.payments.execution import ExecutionSettings
from gateway.payments.results import ResultSettings
from gateway.payments.rules.routing import NetworkProfile
from gateway.payments.unknown.follow_ups import FollowUpSettings
from gateway.payments.unknown.inquiry import Inquiry
from gateway.payments.unknown.recovery import RecoverySettings
from gateway.proving.memory import (
    Database,
    MemoryDeadLetters,
    MemoryDisclosureLog,
    MemoryKeySource,
    MemoryOutboxReader,
    MemoryPublisher,
    MemoryStore,
    MemoryVault,
    MemoryVerifier,
)
from gateway.proving.memory.disclosure import ROOT_MARKS
from gateway.proving.memory.kafka import Parked
from gateway.proving.simulation.crew.broker import Broker, Member, MemberSubscription, RelayPublisher
from gateway.proving.simulation.crew.worker import Running, Worker
from gateway.proving.simulation.outcome import CountingObserver
from gateway.proving.simulation.pending import (
    any_open,
    awaiting_match,
    due_occurrences,
    open_cancellations,
    past_their_end,
    unshared,
)
from gateway.proving.simulation.script.scene import (
    NETWORK,
    PARTITIONS,
    PARTNER,
    SHARED_WITH,
    SKEW_MAX_S,
    TERMINAL,
    WAITING_GROUP,
    Script,
    Stage,
)
from gateway.proving.simulation.wire.links import SimulatedLinks
from gateway.proving.simulation.wire.wire import Wire
from gateway.sealing.marks import RecordMarks
from gateway.sealing.sealing import MasterKeys
from gateway.settlement.matching import SettlementSettings
from gateway.sharing.pseudonyms import Pseudonyms
from gateway.sharing.service import SharingSettings
from schemas.primitives import NetworkId
from schemas.topics import CONSENT_COMMANDS, ERASURES, ORDERS, WAITING_ORDERS, clearing_topic, dispatch_topic

PSEUDONYMS: Final = Pseudonyms(MasterKeys({"20260101": bytes(range(32))}))
"""The same in every world."""

ANSWER_TIMEOUT_S: Final = 5.0
INTENT_TO_WIRE_S: Final = 2.0
HELD_S: Final = ANSWER_TIMEOUT_S + INTENT_TO_WIRE_S + 3.0
HEARTBEAT_S: Final = 3.0
HEARTBEAT_LEASE_S: Final = 7.0
INQUIRY_DEADLINE_S: Final = 12.0
LEASE_S: Final = 4 * ANSWER_TIMEOUT_S
POLL_S: Final = 2.0
SELDOM_S: Final = 600.0
IDLE_S: Final = 5.0
"""How long a stage waits for records before it looks about: its group wakes it when some come."""

AHEAD_MAX: Final = 8
TURN_MAX: Final = 3
"""Small, so that in nearly every world something waits for its turn."""

BATCH_MAX: Final = 6


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all workers of a world have around them.

    Attributes:
        is_closed: true of a topic that the relay may not write to now.
        parked: every dead letter, in order.
    """

    script: Script
    database: Database
    kafka: Broker
    wire: Wire
    observer: CountingObserver
    cards: dict[OwnedToken, CardData]
    verifier: MemoryVerifier
    trust: TrustTable
    assertions: AssertionVerifier
    dispatch: Dispatch
    waiting_marks: RecordMarks
    is_closed: Callable[[str], bool]
    parked: list[Parked]


class Assembly:
    """Puts the stages of a world's workers together."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    def __call__(self, worker: Worker) -> Running:
        """Put the worker's stage together."""
        put: Callable[[Worker], Running]
        match worker.stage:
            case Stage.INITIATION:
                put = self.initiation
            case Stage.EXECUTION:
                put = self.execution
            case Stage.CONSENTS:
                put = self.consents
            case Stage.RELAY:
                put = self.relay
            case Stage.SETTLEMENT:
                put = self.settlement
            case Stage.SCHEDULE:
                put = self.schedule
            case Stage.DISCLOSURE:
                put = self.disclosure
            case Stage.SHARING:
                put = self.sharing
            case _:
                assert_never(worker.stage)
        return put(worker)

    def initiation(self, worker: Worker) -> InitiationStage:
        """Partners' orders."""
        around = self._around
        connections = InitiationConnections(
            orders=MemberSubscription(self._member(worker, ORDERS), wait_s=IDLE_S),
            waiting=self._member(worker, WAITING_ORDERS, WAITING_GROUP),
            publisher=MemoryPublisher(around.kafka, worker.boundary),
            dead_letters=self._dead_letters(worker),
            dispatch=around.dispatch,
            marks=around.waiting_marks,
            signers=self._signers(worker),
            networks=_networks,
            behind=self._behind,
            lane=_Lane(around.kafka),
        )
        terms = InitiationTerms(
            cut_overs=_cut_overs(around.script),
            ahead_max=AHEAD_MAX,
            room_look_s=1.0,
            turn_min=1,
            turn_max=TURN_MAX,
            waiting_partitions=PARTITIONS,
            waiting_wait_s=IDLE_S,
            full_wait_s=1.0,
        )
        return initiation(self._runtime(worker), connections, terms)

    def execution(self, worker: Worker) -> ExecutionStage:
        """Intents, links, results, reversals, recovery."""
        around, database = self._around, self._around.database
        queue = FollowUpSettings(
            batch=20, interval_s=3.0, interval_max_s=6.0, lease_s=LEASE_S, in_order=around.script.in_order
        )
        results = ResultSettings(policy=around.script.unknown_policy)

        def connect(on_unmatched: Callable[[UnmatchedAnswer], None]) -> SimulatedLinks:
            worker.links = SimulatedLinks(NETWORK, worker.name, around.wire, on_unmatched=on_unmatched)
            return worker.links

        worker.needs["inquiries"] = lambda: any_open(database.inquiries.rows.values())
        worker.needs["reversals"] = lambda: any_open(database.reversals.rows.values())
        connections = ExecutionConnections(
            consumer=self._member(worker, dispatch_topic(NETWORK)),
            connect=connect,
            vault=MemoryVault(around.cards, worker.boundary),
            dead_letters=self._dead_letters(worker),
            dispatch=around.dispatch,
            signers=self._signers(worker),
        )
        terms = ExecutionTerms(
            network_id=NETWORK,
            terminals=[TERMINAL],
            answer_timeout_s=ANSWER_TIMEOUT_S,
            match_by=around.wire.match_by,
            execution=ExecutionSettings(intent_to_wire_s=INTENT_TO_WIRE_S, results=results),
            inquiry=Inquiry(deadline_s=INQUIRY_DEADLINE_S),
            inquiries=queue,
            reversals=queue,
            recovery=RecoverySettings(lease_s=HEARTBEAT_LEASE_S, held_s=HELD_S),
            batch_wait_s=IDLE_S,
            follow_up_poll_s=POLL_S,
            recovery_interval_s=HEARTBEAT_S,
            ended_consents_interval_s=IDLE_S,
            drain_s=ANSWER_TIMEOUT_S,
        )
        return execution(self._runtime(worker), connections, terms)

    def consents(self, worker: Worker) -> ConsentStage:
        """Partners' commands on consents."""
        connections = ConsentConnections(
            commands=MemberSubscription(self._member(worker, CONSENT_COMMANDS), wait_s=IDLE_S),
            dead_letters=self._dead_letters(worker),
            signers=self._signers(worker),
        )
        return consents(self._runtime(worker), connections)

    def relay(self, worker: Worker) -> RelayStage:
        """Outbox → Kafka."""
        around = self._around
        worker.reader = MemoryOutboxReader(around.database, worker.boundary)
        publishing = RelayPublisher(MemoryPublisher(around.kafka, worker.boundary), around.is_closed)
        settings = RelaySettings(batch=20, gather_s=1.0, idle_s=1.0, standby_s=3.0, parked_retry_s=3.0)
        return relay(self._runtime(worker), worker.reader, publishing, settings)

    def settlement(self, worker: Worker) -> SettlementStage:
        """Clearing messages."""
        database = self._around.database
        worker.needs["breaks"] = lambda: any(awaiting_match(database))
        connections = SettlementConnections(
            consumer=self._member(worker, clearing_topic(NETWORK)), dead_letters=self._dead_letters(worker)
        )
        terms = SettlementTerms(
            networks=frozenset({NETWORK}),
            settlement=SettlementSettings(too_early_s=30.0, too_early_poll_s=1.0),
            batch_wait_s=IDLE_S,
            match_again_s=POLL_S,
        )
        return settlement(self._runtime(worker), connections, terms)

    def schedule(self, worker: Worker) -> ScheduleStage:
        """What happens because time has come."""
        around, database = self._around, self._around.database
        now, soon = worker.clock.now, timedelta(seconds=2 * SKEW_MAX_S)
        worker.needs |= {
            "consent-expiry": lambda: any(past_their_end(database, now() + soon)),
            "cancellations": lambda: any(open_cancellations(database)),
            "standing-orders": lambda: any(due_occurrences(database, now() + soon)),
            "due-orders": lambda: any(r.closed_at is None for r in database.scheduled.rows.values()),
        }
        connections = ScheduleConnections(
            publisher=MemoryPublisher(around.kafka, worker.boundary), dispatch=around.dispatch, networks=_networks
        )
        terms = ScheduleTerms(
            cut_overs=_cut_overs(around.script),
            days=BusinessDays(),
            batch_max=20,
            orders=ScheduleSettings(batch=20, lease_s=10.0, again_s=8.0, again_max_s=16.0),
            interval_s=POLL_S,
            open_payments_interval_s=SELDOM_S,
            purge_interval_s=SELDOM_S,
        )
        return schedule(self._runtime(worker), connections, terms)

    def disclosure(self, worker: Worker) -> DisclosureStage:
        """Uses of consents → their chain."""
        worker.log = MemoryDisclosureLog(self._around.database, worker.boundary)
        connections = DisclosureConnections(log=worker.log, sign=ROOT_MARKS.sign, random=worker.rng.randbytes)
        settings = SequencerSettings(batch=20, idle_s=1.0, standby_s=3.0, period=timedelta(seconds=15))
        return disclosure(self._runtime(worker), connections, settings)

    def sharing(self, worker: Worker) -> SharingStage:
        """What is settled → affiliates' shares, and erase notices."""
        around, database = self._around, self._around.database
        worker.needs["shares"] = lambda: unshared(database)
        connections = SharingConnections(
            confirmations=self._member(worker, ERASURES),
            keys=MemoryKeySource(SHARED_WITH, boundary=worker.boundary),
            signatures=around.verifier,
            dead_letters=self._dead_letters(worker),
            pseudonyms=PSEUDONYMS,
        )
        terms = SharingTerms(
            sharing=SharingSettings(batch=20),
            interval_s=POLL_S,
            sweep_interval_s=SELDOM_S,
            look_interval_s=IDLE_S,
            batch_wait_s=IDLE_S,
        )
        return sharing(self._runtime(worker), connections, terms)

    # --- what several have ---

    def _runtime(self, worker: Worker) -> Runtime:
        return Runtime(
            store=MemoryStore(self._around.database, worker.boundary),
            observer=self._around.observer,
            clock=worker.clock,
            worker=worker.name,
            pause=worker.pause,
        )

    def _member(self, worker: Worker, topic: str, group: str = "") -> Member:
        member = Member(
            self._around.kafka,
            topic,
            group or worker.stage,
            rng=worker.rng,
            boundary=worker.boundary,
            joins=worker.join,
            batch_max=BATCH_MAX,
        )
        worker.members.append(member)
        return member

    def _dead_letters(self, worker: Worker) -> MemoryDeadLetters:
        letters = MemoryDeadLetters(worker.boundary)
        letters.parked = self._around.parked
        return letters

    def _signers(self, worker: Worker) -> Signers:
        around = self._around
        keys = MemoryKeySource([PARTNER], boundary=worker.boundary)
        return Signers(keys, around.verifier, around.trust, around.assertions)

    async def _behind(self) -> int:
        """Records that execution has not taken yet."""
        kafka, topic = self._around.kafka, dispatch_topic(NETWORK)
        return sum(len(kafka.log(topic, n)) - kafka.committed(Stage.EXECUTION, (topic, n)) for n in range(PARTITIONS))


class _Lane:
    """Implements :class:`gateway.orders.turns.Lane`."""

    def __init__(self, kafka: Broker) -> None:
        self._kafka = kafka

    async def busy(self) -> dict[int, int]:
        """Partition → records that wait for their turn."""
        kafka, topic = self._kafka, WAITING_ORDERS
        waiting = {n: len(kafka.log(topic, n)) - kafka.committed(WAITING_GROUP, (topic, n)) for n in range(PARTITIONS)}
        return {n: w for n, w in waiting.items() if w > 0}


def _networks() -> list[NetworkProfile]:
    return [NetworkProfile(NETWORK, frozenset({"KRW"}), None, 10, 0, open=True)]


def _cut_overs(script: Script) -> dict[NetworkId, CutOver]:
    return {NETWORK: script.cut_over} if script.cut_over else {}
