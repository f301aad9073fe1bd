"""A worker's stage, put together as a process puts it together, over everything in memory.

Bounds are in the proportions of the real ones, shorter: a world need not live long to see each of them pass.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

from gateway.app.consents import ConsentConnections, ConsentStage, consents
from gateway.app.execution import ExecutionConnections, ExecutionStage, ExecutionTerms, execution
from gateway.app.initiation import InitiationConnections, InitiationStage, InitiationTerms, initiation
from gateway.app.relay import RelayStage, relay
from gateway.app.schedule import ScheduleConnections, ScheduleStage, ScheduleTerms, schedule
from gateway.app.settlement import SettlementConnections, SettlementStage, SettlementTerms, settlement
from gateway.base.calendar import BusinessDays
from gateway.network.exchange import UnmatchedAnswer
from gateway.orders.scheduled.service import ScheduleSettings
from gateway.outbox.relay import RelaySettings
from gateway.payments.cancellations.rules import CutOver
from gateway.payments.execution import ExecutionSettings
from gateway.payments.results import ResultSettings
from gateway.payments.rules.routing import NetworkProfile
from gateway.payments.unknown.follow_ups import FollowUpSettings
from gateway.payments.unknown.inquiry import Inquiry
from gateway.payments.unknown.recovery import RecoverySettings
from gateway.proving.memory import (
    MemoryOutboxReader,
    MemoryPublisher,
    MemoryVault,
)
from gateway.proving.simulation.crew.broker import Broker, MemberSubscription, RelayPublisher
from gateway.proving.simulation.crew.data_stages import DataStages
from gateway.proving.simulation.crew.parts import IDLE_S, POLL_S, SELDOM_S
from gateway.proving.simulation.crew.worker import Running, Worker
from gateway.proving.simulation.pending import (
    any_open,
    awaiting_match,
    due_occurrences,
    due_transmissions,
    open_cancellations,
    past_their_end,
)
from gateway.proving.simulation.script.scene import (
    NETWORK,
    PARTITIONS,
    SKEW_MAX_S,
    TERMINAL,
    WAITING_GROUP,
    Script,
    Stage,
)
from gateway.proving.simulation.wire.links import SimulatedLinks
from gateway.settlement.matching import SettlementSettings
from schemas.primitives import NetworkId
from schemas.topics import CONSENT_COMMANDS, ORDERS, WAITING_ORDERS, clearing_topic, dispatch_topic

ANSWER_TIMEOUT_S: Final = 5.0
INTENT_TO_WIRE_S: Final = 2.0
HELD_S: Final = ANSWER_TIMEOUT_S + INTENT_TO_WIRE_S + 3.0
HEARTBEAT_S: Final = 3.0
HEARTBEAT_LEASE_S: Final = 7.0
INQUIRY_DEADLINE_S: Final = 12.0
LEASE_S: Final = 4 * ANSWER_TIMEOUT_S

AHEAD_MAX: Final = 8
TURN_MAX: Final = 3
"""Small, so that in nearly every world something waits for its turn."""


class Assembly(DataStages):
    """Puts the stages of a world's workers together."""

    def __call__(self, worker: Worker) -> Running:
        """Put the worker's stage together."""
        put: Mapping[Stage, Callable[[Worker], Running]] = {
            Stage.INITIATION: self.initiation,
            Stage.EXECUTION: self.execution,
            Stage.CONSENTS: self.consents,
            Stage.RELAY: self.relay,
            Stage.SETTLEMENT: self.settlement,
            Stage.SCHEDULE: self.schedule,
            Stage.DISCLOSURE: self.disclosure,
            Stage.SHARING: self.sharing,
            Stage.PORTABILITY: self.portability,
            Stage.MARKETING: self.marketing,
        }
        return put[worker.stage](worker)

    def initiation(self, worker: Worker) -> InitiationStage:
        """Partners' orders."""
        around = self.around
        connections = InitiationConnections(
            orders=MemberSubscription(self.member(worker, ORDERS), wait_s=IDLE_S),
            waiting=self.member(worker, WAITING_ORDERS, WAITING_GROUP),
            publisher=MemoryPublisher(around.kafka, worker.boundary),
            dead_letters=self.dead_letters(worker),
            dispatch=around.dispatch,
            marks=around.waiting_marks,
            signers=self.signers(worker),
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
        return initiation(self.runtime(worker), connections, terms)

    def execution(self, worker: Worker) -> ExecutionStage:
        """Intents, links, results, reversals, recovery."""
        around, database = self.around, self.around.database
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
            consumer=self.member(worker, dispatch_topic(NETWORK)),
            connect=connect,
            vault=MemoryVault(around.cards, worker.boundary),
            dead_letters=self.dead_letters(worker),
            dispatch=around.dispatch,
            signers=self.signers(worker),
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
        return execution(self.runtime(worker), connections, terms)

    def consents(self, worker: Worker) -> ConsentStage:
        """Partners' commands on consents."""
        connections = ConsentConnections(
            commands=MemberSubscription(self.member(worker, CONSENT_COMMANDS), wait_s=IDLE_S),
            dead_letters=self.dead_letters(worker),
            signers=self.signers(worker),
        )
        return consents(self.runtime(worker), connections)

    def relay(self, worker: Worker) -> RelayStage:
        """Outbox → Kafka."""
        around = self.around
        worker.reader = MemoryOutboxReader(around.database, worker.boundary)
        publishing = RelayPublisher(MemoryPublisher(around.kafka, worker.boundary), around.is_closed)
        settings = RelaySettings(batch=20, gather_s=1.0, idle_s=1.0, standby_s=3.0, parked_retry_s=3.0)
        return relay(self.runtime(worker), worker.reader, publishing, settings)

    def settlement(self, worker: Worker) -> SettlementStage:
        """Clearing messages."""
        database = self.around.database
        worker.needs["breaks"] = lambda: any(awaiting_match(database))
        connections = SettlementConnections(
            consumer=self.member(worker, clearing_topic(NETWORK)), dead_letters=self.dead_letters(worker)
        )
        terms = SettlementTerms(
            networks=frozenset({NETWORK}),
            settlement=SettlementSettings(too_early_s=30.0, too_early_poll_s=1.0),
            batch_wait_s=IDLE_S,
            match_again_s=POLL_S,
        )
        return settlement(self.runtime(worker), connections, terms)

    def schedule(self, worker: Worker) -> ScheduleStage:
        """What happens because time has come."""
        around, database = self.around, self.around.database
        now, soon = worker.clock.now, timedelta(seconds=2 * SKEW_MAX_S)
        worker.needs |= {
            "consent-expiry": lambda: any(past_their_end(database, now() + soon)),
            "cancellations": lambda: any(open_cancellations(database)),
            "standing-orders": lambda: any(due_occurrences(database, now() + soon)),
            "due-exports": lambda: any(due_transmissions(database, now() + soon)),
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
        return schedule(self.runtime(worker), connections, terms)

    async def _behind(self) -> int:
        """Records that execution has not taken yet."""
        kafka, topic = self.around.kafka, dispatch_topic(NETWORK)
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
