"""Workers: one process of a stage each, wired as bootstrap wires it and run by loops like those in ``streams``.

A crash ends every task of a worker at once and forgets what it held in memory; what had left its sockets goes on.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import timedelta
from enum import StrEnum, unique
from typing import TYPE_CHECKING, Any, Final

from gateway.app.consents import ConsentConnections, consents
from gateway.app.execution import ExecutionConnections, ExecutionTerms, execution
from gateway.app.initiation import InitiationConnections, InitiationTerms, initiation
from gateway.app.relay import relay
from gateway.app.runtime import Runtime
from gateway.app.schedule import ScheduleConnections, ScheduleTerms, schedule
from gateway.app.settlement import SettlementConnections, SettlementTerms, settlement
from gateway.app.trust import Signers
from gateway.base.calendar import BusinessDays
from gateway.messaging.isolation import IsolatedBatch
from gateway.messaging.records import Record
from gateway.network.exchange import UnmatchedAnswer
from gateway.orders.room import ExecutionRoom
from gateway.orders.scheduled.service import ScheduleSettings
from gateway.orders.turns import FairIntake
from gateway.outbox.relay import RelaySettings
from gateway.payments.execution import ExecutionSettings
from gateway.payments.results import ResultSettings
from gateway.payments.rules.routing import NetworkProfile
from gateway.payments.unknown.follow_ups import FollowUpSettings
from gateway.payments.unknown.inquiry import Inquiry
from gateway.payments.unknown.recovery import RecoverySettings
from gateway.proving.memory import (
    MemoryDeadLetters,
    MemoryKeySource,
    MemoryOutboxReader,
    MemoryPublisher,
    MemoryStore,
    MemoryVault,
)
from gateway.proving.memory.database import FollowUpRow
from gateway.proving.simulation.adversary import Adversary
from gateway.proving.simulation.audit import UNEXPECTED
from gateway.proving.simulation.broker import Member, RelayPublisher
from gateway.proving.simulation.links import SimulatedLinks
from gateway.proving.simulation.loop import SkewedClock
from gateway.proving.simulation.scene import NETWORK, PARTNER, TERMINAL
from gateway.settlement.matching import SettlementSettings
from schemas.consents import ConsentStatus
from schemas.topics import CONSENT_COMMANDS, ORDERS, WAITING_ORDERS, clearing_topic, dispatch_topic

if TYPE_CHECKING:
    from gateway.proving.simulation.world import World

ANSWER_TIMEOUT_S: Final = 5.0
INTENT_TO_WIRE_S: Final = 2.0
HELD_S: Final = ANSWER_TIMEOUT_S + INTENT_TO_WIRE_S + 3.0
HEARTBEAT_S: Final = 3.0
HEARTBEAT_LEASE_S: Final = 7.0
INQUIRY_DEADLINE_S: Final = 12.0
LEASE_S: Final = 4 * ANSWER_TIMEOUT_S
POLL_S: Final = 2.0
"""Bounds in the proportions of the real ones, shorter: a world need not live long to see each of them pass."""

SKEW_MAX_S: Final = 5.0
OPEN: Final = (ConsentStatus.AWAU, ConsentStatus.AUTH, ConsentStatus.SUSP)

AHEAD_MAX: Final = 8
TURN_MAX: Final = 3
"""Small, so that in nearly every world something waits for its turn."""

WAITING_GROUP: Final = "initiation:waiting"

PARTITIONS: Final = 3
_BATCH: Final = 6


@unique
class Stage(StrEnum):
    """Kinds of processes."""

    INITIATION = "initiation"
    EXECUTION = "execution"
    CONSENTS = "consents"
    RELAY = "relay"
    SETTLEMENT = "settlement"
    SCHEDULE = "schedule"


WORKERS: Final = {
    Stage.INITIATION: 2,
    Stage.EXECUTION: 2,
    Stage.CONSENTS: 1,
    Stage.RELAY: 2,
    Stage.SETTLEMENT: 1,
    Stage.SCHEDULE: 1,
}
"""How many of each run in a world."""


class Worker:
    """One process.

    Attributes:
        name: never used again after a crash.
        dead: True once it has crashed: nothing that it still does has any effect.
        frozen_until: loop time until which it does nothing, as after SIGSTOP.
        member: its place in its consumer group, where the stage has one.
        waiting: the intake's place among those that read what waits for its turn.
        links: its links to the card network, where it has any.
        reader: its session on the outbox, where it has one.
    """

    def __init__(self, world: "World", stage: Stage, name: str) -> None:
        self.world = world
        self.stage = stage
        self.name = name
        self.dead = False
        self.frozen_until = 0.0
        self.clock = SkewedClock(world.loop, world.script.epoch)
        self.boundary = Adversary(world, self)
        self.member: Member | None = None
        self.waiting: Member | None = None
        self.links: SimulatedLinks | None = None
        self.reader: MemoryOutboxReader | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._store = MemoryStore(world.database, self.boundary)
        self._publisher = MemoryPublisher(world.kafka, self.boundary)
        self._dead_letters = MemoryDeadLetters(self.boundary)
        self._dead_letters.parked = world.parked
        self._runtime = Runtime(store=self._store, observer=world.observer, clock=self.clock, worker=name)

    def start(self) -> None:
        """Begin to work."""
        _STARTERS[self.stage](self)

    def crash(self) -> None:
        """End at once."""
        self.dead = True
        if self.links is not None:
            self.links.crash()
        if self.reader is not None:
            self.reader.lose_session()
        for task in self._tasks:
            task.cancel()

    def rewind(self) -> None:
        """Read again from what the group has committed."""
        for member in (self.member, self.waiting):
            if member is not None:
                member.rewind()

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a task of this process; an error that ends it is one of the gateway's."""
        task = self.world.loop.create_task(coroutine)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.world.violated(UNEXPECTED, f"{self.name} ended: {type(error).__name__}: {error}")

    # --- stages ---

    async def _consume(self, topic: str, take: Callable[[Sequence[Record]], Coroutine[Any, Any, None]]) -> None:
        world = self.world
        isolated = IsolatedBatch(self.stage, dead_letters=self._dead_letters, observer=world.observer)
        self.member = member = Member(world.kafka, topic, self.stage, world.rng, self.boundary)
        world.rebalance(self.stage)
        while True:
            records = await member.take(_BATCH)
            await isolated.run(take, records)
            await member.commit()

    async def _repeat(
        self,
        work: Callable[[], Coroutine[Any, Any, int]],
        pause_s: float = POLL_S,
        *,
        needed: Callable[[], bool] = lambda: True,
    ) -> None:
        """Work again and again. Where a look shows that there is nothing to do, only time passes."""
        while True:
            if not needed() or await work() == 0:
                await asyncio.sleep(pause_s)

    def _signers(self) -> Signers:
        world = self.world
        keys = MemoryKeySource([PARTNER], boundary=self.boundary)
        return Signers(keys, world.verifier, world.trust, world.trust)

    def start_initiation(self) -> None:
        """Partners' orders."""
        world = self.world
        stage = initiation(
            self._runtime,
            InitiationConnections(
                orders=_UNUSED,
                waiting=_UNUSED,
                publisher=self._publisher,
                dead_letters=self._dead_letters,
                dispatch=world.dispatch,
                marks=world.waiting_marks,
                signers=self._signers(),
                networks=_networks,
                behind=world.backlog,
                lane=world,
            ),
            InitiationTerms(
                cut_overs=world.cut_overs,
                ahead_max=AHEAD_MAX,
                room_look_s=1.0,
                turn_min=1,
                turn_max=TURN_MAX,
                waiting_partitions=PARTITIONS,
            ),
        )
        self.run(self._take_orders(stage.turns))
        self.run(self._take_waiting(stage.turns, stage.room))

    async def _take_orders(self, intake: FairIntake) -> None:
        world = self.world
        self.member = member = Member(world.kafka, ORDERS, self.stage, world.rng, self.boundary)
        world.rebalance(self.stage)
        assigned: list[int] = []
        while True:
            records = await member.take(_BATCH)
            if assigned != list(member.assigned):
                assigned = list(member.assigned)
                await intake.assigned()
            await intake.take(records)
            await member.commit()

    async def _take_waiting(self, intake: FairIntake, room: ExecutionRoom) -> None:
        world = self.world
        self.waiting = member = Member(world.kafka, WAITING_ORDERS, WAITING_GROUP, world.rng, self.boundary)
        world.rebalance(self.stage)
        while True:
            await room.wait_for_patient()
            records = await member.take(_BATCH)
            await intake.take_waiting(records)
            await member.commit()

    def start_execution(self) -> None:
        """Intents, links, results, reversals, recovery."""
        world = self.world
        queue = FollowUpSettings(
            batch=20, interval_s=3.0, interval_max_s=6.0, lease_s=LEASE_S, in_order=world.script.in_order
        )
        results = ResultSettings(policy=world.script.unknown_policy)

        def connect(on_unmatched: Callable[[UnmatchedAnswer], None]) -> SimulatedLinks:
            self.links = SimulatedLinks(NETWORK, self.name, world.wire, on_unmatched=on_unmatched)
            return self.links

        stage = execution(
            self._runtime,
            ExecutionConnections(
                consumer=_UNUSED,
                connect=connect,
                vault=MemoryVault(world.cards, self.boundary),
                dead_letters=self._dead_letters,
                dispatch=world.dispatch,
                signers=self._signers(),
            ),
            ExecutionTerms(
                network_id=NETWORK,
                terminals=[TERMINAL],
                answer_timeout_s=ANSWER_TIMEOUT_S,
                match_by=world.wire.match_by,
                execution=ExecutionSettings(intent_to_wire_s=INTENT_TO_WIRE_S, results=results),
                inquiry=Inquiry(deadline_s=INQUIRY_DEADLINE_S),
                inquiries=queue,
                reversals=queue,
                recovery=RecoverySettings(lease_s=HEARTBEAT_LEASE_S, held_s=HELD_S),
            ),
        )
        service, late_answers, watch = stage.service, stage.late_answers, stage.ended_consents
        links, recovery, inquiries, reversals = stage.network, stage.recovery, stage.inquiries, stage.reversals

        async def take(records: Sequence[Record]) -> None:
            await links.wait_open()
            await service.take(records)

        async def recover() -> int:
            await recovery.report(is_open=links.is_open)
            await recovery.take_over()
            return 0

        async def look() -> int:
            await watch.look()
            return 0

        self.run(service.results.run())
        self.run(self._repeat(late_answers.work))
        self.run(self._consume(dispatch_topic(NETWORK), take))
        database = world.database
        self.run(self._repeat(inquiries.work, needed=lambda: _any_open(database.inquiries.rows.values())))
        self.run(self._repeat(reversals.work, needed=lambda: _any_open(database.reversals.rows.values())))
        self.run(self._repeat(recover, HEARTBEAT_S))
        self.run(self._repeat(look, 5.0))

    def start_consents(self) -> None:
        """Partners' commands on consents."""
        connections = ConsentConnections(commands=_UNUSED, dead_letters=self._dead_letters, signers=self._signers())
        self.run(self._consume(CONSENT_COMMANDS, consents(self._runtime, connections).service.take))

    def start_relay(self) -> None:
        """Outbox → Kafka."""
        self.reader = MemoryOutboxReader(self.world.database, self.boundary)
        publishing = RelayPublisher(self._publisher, self.world.is_closed)
        settings = RelaySettings(batch=20, idle_s=1.0, standby_s=3.0, parked_retry_s=3.0)
        self.run(relay(self._runtime, self.reader, publishing, settings).service.run())

    def start_settlement(self) -> None:
        """Clearing messages."""
        stage = settlement(
            self._runtime,
            SettlementConnections(consumer=_UNUSED, dead_letters=self._dead_letters),
            SettlementTerms(
                networks=frozenset({NETWORK}), settlement=SettlementSettings(too_early_s=30.0, too_early_poll_s=1.0)
            ),
        )
        self.run(self._consume(clearing_topic(NETWORK), stage.service.take))
        self.run(self._repeat(stage.service.match_again, needed=lambda: any(self.world.awaiting_match())))

    def start_schedule(self) -> None:
        """What happens because time has come."""
        world, now = self.world, self.clock.now
        database, soon = world.database, timedelta(seconds=2 * SKEW_MAX_S)
        stage = schedule(
            self._runtime,
            ScheduleConnections(publisher=self._publisher, dispatch=world.dispatch, networks=_networks),
            ScheduleTerms(
                cut_overs=world.cut_overs,
                days=BusinessDays(),
                batch_max=20,
                orders=ScheduleSettings(batch=20, lease_s=10.0, again_s=8.0, again_max_s=16.0),
            ),
        )
        for work, needed in (
            (
                stage.expiry.expire,
                lambda: any(
                    c.status in OPEN and c.terms.valid_until <= now() + soon for c in database.consents.rows.values()
                ),
            ),
            (stage.cancellations.work, lambda: any(c.is_open for c in database.cancellations.rows.values())),
            (
                stage.occurrences.make_due,
                lambda: any(
                    o.next_due_at is not None and o.next_due_at <= now() + soon for o in database.standing.rows.values()
                ),
            ),
            (stage.orders.dispatch_due, lambda: any(r.closed_at is None for r in database.scheduled.rows.values())),
        ):
            self.run(self._repeat(work, needed=needed))


_UNUSED: Any = None


def _networks() -> list[NetworkProfile]:
    return [NetworkProfile(NETWORK, frozenset({"KRW"}), None, 10, 0, open=True)]


def _any_open(rows: Iterable[FollowUpRow]) -> bool:
    return any(row.closed_at is None for row in rows)


_STARTERS: Final[dict[Stage, Callable[[Worker], None]]] = {
    Stage.INITIATION: Worker.start_initiation,
    Stage.EXECUTION: Worker.start_execution,
    Stage.CONSENTS: Worker.start_consents,
    Stage.RELAY: Worker.start_relay,
    Stage.SETTLEMENT: Worker.start_settlement,
    Stage.SCHEDULE: Worker.start_schedule,
}
