"""The intake of partners' orders, with turns between those who send them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from gateway.app.execution_backlog import execution_behind
from gateway.app.holidays import business_days
from gateway.app.keys import dispatch, internal_marks
from gateway.app.networks import NetworkView, cut_overs
from gateway.app.process import Process, consumer, dead_letters, publisher
from gateway.app.runtime import Runtime
from gateway.app.subscription import Subscription
from gateway.app.trust import Signers, signers
from gateway.base.calendar import BusinessDays
from gateway.base.retrying import until_done
from gateway.messaging.backlog import Backlogs
from gateway.messaging.consuming import Consumer
from gateway.messaging.isolation import IsolatedBatch
from gateway.messaging.records import DeadLetters, Publisher
from gateway.network.iso8583.config import load_networks
from gateway.orders.bulk.service import BulkKind
from gateway.orders.cancellations import CancellationKind
from gateway.orders.intake import OrderIntake
from gateway.orders.judging import OrderJudge
from gateway.orders.kinds import AnyKind
from gateway.orders.purchases import PurchaseKind
from gateway.orders.refunds import RefundKind
from gateway.orders.room import LOOK_S, ExecutionRoom
from gateway.orders.scheduled.rules import AHEAD_DAYS_DEFAULT
from gateway.orders.standing.service import StandingOrderKind
from gateway.orders.turns import WAITING_AT_ONCE, FairIntake, Lane
from gateway.payments.cancellations.rules import CutOver
from gateway.payments.dispatch import Dispatch
from gateway.payments.rules.routing import NetworkProfile
from gateway.sealing.marks import RecordMarks
from gateway.sealing.sealing import Purpose
from schemas.primitives import NetworkId
from schemas.principals import Principal, Role
from schemas.topics import TOPICS, WAITING_ORDERS

WAITING_GROUP: Final = f"{Principal(Role.INITIATION).name}:waiting"

MANY: Final = 1_000_000
"""Records, where it is not known how many."""

WAITING_PARTITIONS: Final = next(t.partitions for t in TOPICS if t.name == WAITING_ORDERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class InitiationConnections:
    """What the intake reaches others through.

    Attributes:
        orders: of partners.
        waiting: reads those that wait for their turn.
        marks: on those, under the internal key.
        networks: as they are known at this moment.
        behind: counts the records that execution has not taken yet.
        lane: where orders wait.
    """

    orders: Subscription
    waiting: Consumer
    publisher: Publisher
    dead_letters: DeadLetters
    dispatch: Dispatch
    marks: RecordMarks
    signers: Signers
    networks: Callable[[], Sequence[NetworkProfile]]
    behind: Callable[[], Awaitable[int]]
    lane: Lane


@dataclass(frozen=True, slots=True, kw_only=True)
class InitiationTerms:
    """How orders are taken in; each bound has its reason in :mod:`gateway.app.settings`.

    Attributes:
        cut_overs: of the networks that have one.
        waiting_partitions: of the topic where orders wait.
        waiting_batch_max: records that waited, taken at a time; each holds several orders, or a bulk.
        waiting_wait_s, full_wait_s: how long the next of them is waited for, and while execution has no room.
    """

    cut_overs: Mapping[NetworkId, CutOver] = field(default_factory=dict)
    days: BusinessDays = field(default_factory=BusinessDays)
    ahead_days_max: int = AHEAD_DAYS_DEFAULT
    ahead_max: int = 500
    room_look_s: float = LOOK_S
    turn_min: int = 8
    turn_max: int = 250
    waiting_partitions: int = WAITING_PARTITIONS
    waiting_batch_max: int = WAITING_AT_ONCE
    waiting_wait_s: float = 0.2
    full_wait_s: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class InitiationStage:
    """Takes orders in."""

    runtime: Runtime
    terms: InitiationTerms
    orders: Subscription
    waiting: Consumer
    room: ExecutionRoom
    service: OrderIntake
    isolated: IsolatedBatch
    turns: FairIntake

    async def run(self, stopping: asyncio.Event) -> None:
        """Take in orders until told to stop; what is in hand is finished and its offsets are committed."""
        waiting = asyncio.create_task(self.take_waiting(stopping), name="waiting-orders")
        orders = asyncio.create_task(
            self.orders.run(self.turns.take, stopping, on_assigned=self.turns.assigned), name="orders"
        )
        try:
            # Neither ends by itself before it is told to; where one fails the process does.
            await asyncio.wait({waiting, orders}, return_when=asyncio.FIRST_EXCEPTION)
            for task in (orders, waiting):
                if task.done():
                    task.result()
        finally:
            for task in (orders, waiting):
                task.cancel()
            await asyncio.wait({waiting, orders})
            await self.waiting.stop()

    async def take_waiting(self, stopping: asyncio.Event) -> None:
        """Take what waits for its turn, while there is room."""
        consumer, terms = self.waiting, self.terms
        starting = asyncio.ensure_future(consumer.start())
        # Of the event itself: the stage is started once the orders are read.
        told = asyncio.ensure_future(asyncio.Event.wait(stopping))
        try:
            await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            told.cancel()
            if not starting.done():
                starting.cancel()
        if not starting.done():
            return
        starting.result()
        watchdog = self.runtime.watch("waiting-orders", consumer.lag)
        while not stopping.is_set():
            room = await self.room.free_for_patient()
            if room <= 0:
                # Kafka takes a member that never polls for dead.
                consumer.pause()
                await consumer.take(1, max_wait=terms.full_wait_s)
                consumer.resume()
                watchdog.progress()
                continue
            records = await consumer.take(terms.waiting_batch_max, max_wait=terms.waiting_wait_s)
            if records:
                await self.turns.take_waiting(records, taken=consumer.commit, ending=stopping.is_set)
                watchdog.progress()


def order_kinds(
    runtime: Runtime, connections: InitiationConnections, terms: InitiationTerms, room: ExecutionRoom
) -> list[AnyKind]:
    """Everything that partners may send on ``mypay.orders``; handing the items of bulks on waits for the room."""
    store, observer, clock = runtime.store, runtime.observer, runtime.clock
    signed, networks = connections.signers, connections.networks
    publishing, handing_on = connections.publisher, connections.dispatch
    judge = OrderJudge(trust=signed.trust, networks=networks, ahead_days_max=terms.ahead_days_max)
    return [
        PurchaseKind(
            store=store,
            judge=judge,
            publisher=publishing,
            dispatch=handing_on,
            observer=observer,
            trust=signed.trust,
            assertions=signed.assertions,
        ),
        CancellationKind(store=store, cut_overs=terms.cut_overs, observer=observer, clock=clock),
        RefundKind(store=store, publisher=publishing, dispatch=handing_on, observer=observer),
        StandingOrderKind(
            store=store,
            networks=networks,
            observer=observer,
            trust=signed.trust,
            assertions=signed.assertions,
            days=terms.days,
            ahead_days_max=terms.ahead_days_max,
        ),
        BulkKind(
            store=store,
            judge=judge,
            publisher=publishing,
            dispatch=handing_on,
            observer=observer,
            clock=clock,
            trust=signed.trust,
            assertions=signed.assertions,
            room=room,
        ),
    ]


def initiation(runtime: Runtime, connections: InitiationConnections, terms: InitiationTerms) -> InitiationStage:
    """Put the intake together."""
    store, observer, clock = runtime.store, runtime.observer, runtime.clock
    signed, parked = connections.signers, connections.dead_letters
    room = ExecutionRoom(connections.behind, ahead_max=terms.ahead_max, look_s=terms.room_look_s)
    service = OrderIntake(
        order_kinds(runtime, connections, terms, room),
        store=store,
        keys=signed.keys,
        verifier=signed.signatures,
        dead_letters=parked,
        observer=observer,
        clock=clock,
    )
    isolated = IsolatedBatch("initiation", dead_letters=parked, observer=observer)
    return InitiationStage(
        runtime=runtime,
        terms=terms,
        orders=connections.orders,
        waiting=connections.waiting,
        room=room,
        service=service,
        isolated=isolated,
        turns=FairIntake(
            take=partial(isolated.run, service.take),
            keys=signed.keys,
            verifier=signed.signatures,
            publisher=connections.publisher,
            marks=connections.marks,
            room=room,
            lane=connections.lane,
            partitions=terms.waiting_partitions,
            observer=observer,
            clock=clock,
            turn_min=terms.turn_min,
            turn_max=terms.turn_max,
        ),
    )


# --- a process ---


@asynccontextmanager
async def initiation_process(process: Process, orders: Subscription) -> AsyncIterator[InitiationStage]:
    """The intake over Kafka and PostgreSQL, with its key registry and its view of the networks kept fresh."""
    settings = process.settings
    configured = load_networks(settings.networks_dir)
    handing_on = dispatch(settings)
    networks = NetworkView(process.store, process.clock, configured)
    backlogs = Backlogs(process.kafka, process.observer)
    terms = InitiationTerms(
        cut_overs=cut_overs(configured),
        days=business_days(settings.holidays_file),
        ahead_days_max=settings.order_ahead_days_max,
        ahead_max=settings.initiation_ahead_max,
        turn_min=settings.initiation_turn_min,
        turn_max=settings.initiation_batch_max,
    )
    await until_done(networks.start)
    try:
        async with signers(process) as signed, publisher(process) as producer:
            connections = InitiationConnections(
                orders=orders,
                waiting=consumer(process, topics=[WAITING_ORDERS], group_id=WAITING_GROUP, in_turns=True),
                publisher=producer,
                dead_letters=dead_letters(process, producer),
                dispatch=handing_on,
                marks=internal_marks(settings, Purpose.WAITING_MARK),
                signers=signed,
                networks=networks.profiles,
                behind=partial(execution_behind, backlogs, networks),
                lane=KafkaLane(backlogs),
            )
            yield initiation(process, connections, terms)
    finally:
        await backlogs.stop()
        await networks.stop()


class KafkaLane:
    """Implements :class:`gateway.orders.turns.Lane`."""

    def __init__(self, backlogs: Backlogs) -> None:
        self._backlogs = backlogs

    async def busy(self) -> Mapping[int, int]:
        """All of them, with many, where Kafka does not say: an order could overtake another."""
        found = await self._backlogs.of([(WAITING_ORDERS, WAITING_GROUP)])
        return (
            dict.fromkeys(range(WAITING_PARTITIONS), MANY) if found is None else {n: w for (_, n), w in found.items()}
        )
