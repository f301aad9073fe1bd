"""A process that dies between taking records and committing their offsets: every record is handled all the same.

The real loops of the stages run on fakes. A life ends at one step after another: at every access to the database, the
publisher and the consumer's commit. The next life takes from what was committed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.app.settings import Settings
from gateway.messaging.isolation import IsolatedBatch
from gateway.messaging.records import Outgoing, Record
from gateway.messaging.settings import KafkaSettings
from gateway.network.exchange import FinancialRequest
from gateway.orders.intake import OrderIntake
from gateway.proving.memory import MemoryConsumer, MemoryKafka, MemoryPublisher, MemoryStore
from schemas.topics import CONSENT_COMMANDS, ORDERS, WAITING_ORDERS, dispatch_topic
from streams.app import build_app, read_batches
from tests.support.builders import DISPATCH, NETWORK, numbered_order, order_record
from tests.support.consents import ConsentRig
from tests.support.deadline import in_time
from tests.support.domain_samples import terms
from tests.support.rig import Rig

ENDLESS = 10**9
ORDERS_SENT = ("order-1", "order-2", "order-3")


class CrashedError(BaseException):
    """The process is gone: nothing in it may catch this."""


@dataclass
class CrashAt:
    """A boundary that lets ``left`` visits pass and crashes at all that follow: the dead do nothing."""

    left: int = ENDLESS
    places: list[str] = field(default_factory=list)

    async def __call__(self, place: str) -> None:
        self.places.append(place)
        if len(self.places) > self.left:
            raise CrashedError


@dataclass
class Consumer:
    """The consumer of a stage over the fake Kafka: what a life took and did not commit comes again in the next."""

    kafka: MemoryKafka
    topic: str
    boundary: CrashAt
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._inner = MemoryConsumer(self.kafka, topics=[self.topic], group_id=self.topic, boundary=self.boundary)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def take(self, max_items: int, *, max_wait: float) -> list[Record]:
        taken = self._inner._next(max_items)
        if not taken:
            # A loop asks again only when it is done with what it had.
            self.idle.set()
            await asyncio.sleep(0)
        return taken

    async def commit(self, records: Sequence[Record]) -> bool:
        await self.boundary("consumer.commit")
        for record in records:
            self.kafka.commit(self.topic, (record.topic, record.partition), record.offset + 1)
        await self.boundary("consumer.committed")
        return True

    async def lag(self) -> int:
        return self._inner.lag

    def pause(self) -> None: ...

    def resume(self) -> None: ...


def isolated(stage: str, rig: Any) -> IsolatedBatch:
    return IsolatedBatch(stage, dead_letters=rig.dead_letters, observer=rig.observer)


async def until_idle(loop: Awaitable[None], idle: asyncio.Event) -> None:
    """Run a stage's endless loop until it has nothing left, or has crashed."""
    running = asyncio.ensure_future(loop)
    waiting = asyncio.ensure_future(idle.wait())
    try:
        async with in_time("the stage to take everything"):
            await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
    finally:
        for task in (running, waiting):
            task.cancel()
        await asyncio.wait({running, waiting})


# --- one life of each stage ---


async def execute(rig: Rig, crash: CrashAt, _: Path) -> None:
    rig.store = MemoryStore(rig.database, crash)
    network = rig.new_network()
    consumer = Consumer(rig.kafka, dispatch_topic(NETWORK), crash)
    stage = rig.new_stage(network, consumer=consumer)
    service = stage.service
    # As its first report tells; that is no step of taking.
    stage.recovery._paused = False
    await until_idle(stage.take(), consumer.idle)
    async with rig.results(service):
        await network.wait_idle()
        await service.results.written()


def initiating(rig: Rig, crash: CrashAt) -> OrderIntake:
    return rig.new_initiation(store=MemoryStore(rig.database, crash), publisher=MemoryPublisher(rig.kafka, crash))


async def initiate(rig: Rig, crash: CrashAt, home: Path) -> None:
    take = initiating(rig, crash).take
    await by_faust(ORDERS, rig.kafka, crash, home, lambda r: isolated("initiation", rig).run(take, r))


async def initiate_waiting(rig: Rig, crash: CrashAt, _: Path) -> None:
    """The partners' own records lie where orders wait; whether the gateway marked them is not the question here."""
    consumer = Consumer(rig.kafka, WAITING_ORDERS, crash)
    stage = rig.new_intake(
        store=MemoryStore(rig.database, crash),
        publisher=MemoryPublisher(rig.kafka, crash),
        waiting=consumer,
        ahead_max=10,
        room_look_s=0.0,
        turn_min=2,
        turn_max=2,
    )
    await until_idle(stage.take_waiting(asyncio.Event()), consumer.idle)


async def by_faust(
    topic: str, kafka: MemoryKafka, crash: CrashAt, home: Path, take: Callable[[Sequence[Record]], Awaitable[None]]
) -> None:
    """The agent that Faust runs, over a reader of the fake Kafka."""
    consumer = Consumer(kafka, topic, crash)

    class Reader:
        doorway = None

        async def take(self) -> Sequence[Any]:
            found = await consumer.take(2, max_wait=0.0)
            fields = ("topic", "partition", "offset", "key", "value")
            return [
                SimpleNamespace(
                    **{f: getattr(r, f) for f in fields}, headers=list(r.headers), timestamp=r.timestamp_ms / 1000
                )
                for r in found
            ]

        def acknowledge(self, messages: Sequence[Any]) -> None:
            for message in messages:
                kafka.commit(topic, (topic, message.partition), message.offset + 1)

    async def told(records: Sequence[Record]) -> None:
        # Faust's last chance before the batch is acknowledged.
        await take(records)
        await crash("before the acknowledgement")

    app: Any = build_app("test", Settings(home=home), KafkaSettings("127.0.0.1:1"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.app.BatchReader", lambda *_, **__: Reader())
        read_batches(app, topic, told, batch_max=2, batch_wait_s=0.0)
        [agent] = app.agents.values()
        await until_idle(agent.fun(None), consumer.idle)


async def change_consents(rig: ConsentRig, crash: CrashAt, home: Path) -> None:
    take = rig.new_service(MemoryStore(rig.database, crash)).take
    kafka: MemoryKafka = rig.kafka  # type: ignore[attr-defined]
    await by_faust(CONSENT_COMMANDS, kafka, crash, home, lambda r: isolated("consents", rig).run(take, r))


# --- what lies in Kafka, and what must have become of it ---


async def orders_dispatched() -> Rig:
    rig = Rig()
    await rig.initiation.take([order_record(numbered_order(n), offset=n) for n in (1, 2, 3)])
    return rig


async def orders_sent(topic: str = ORDERS) -> Rig:
    rig = Rig()
    for n in (1, 2, 3):
        _write(rig.kafka, replace(order_record(numbered_order(n), offset=n), topic=topic))
    return rig


async def commands_sent() -> ConsentRig:
    rig = ConsentRig()
    rig.kafka = MemoryKafka(rig.clock)  # type: ignore[attr-defined]
    for n in (1, 2, 3):
        _write(rig.kafka, rig.request(terms(consent_id=f"consent-{n}")))  # type: ignore[attr-defined]
    return rig


def _write(kafka: MemoryKafka, record: Record) -> None:
    kafka.write(Outgoing(topic=record.topic, key=record.key or b"", value=record.value, headers=list(record.headers)))


def executed(rig: Rig) -> None:
    """Every order has its payment, and no more than one request of it reached the network."""
    asked = [r.trace.stan for r in rig.host.received if isinstance(r, FinancialRequest)]
    assert len(asked) == len(set(asked)) <= 3
    assert sorted(rig.states()) == [*ORDERS_SENT], "an order was lost"


def dispatched(rig: Rig) -> None:
    """Every order is in execution's topic; what was published and not acknowledged may be there twice."""
    records = rig.kafka.records(dispatch_topic(NETWORK))
    assert {DISPATCH.read(r, NETWORK).order().order.order_id for r in records} == {*ORDERS_SENT}, "an order was lost"  # type: ignore[arg-type]


def changed(rig: ConsentRig) -> None:
    """Every command was handled, and told once."""
    assert len(rig.database.consents.rows) == 3, "a command was lost"
    assert len(rig.events()) == 3


STAGES: dict[str, tuple[Any, Any, Any]] = {
    "execution": (orders_dispatched, execute, executed),
    "initiation": (orders_sent, initiate, dispatched),
    "waiting orders": (partial(orders_sent, WAITING_ORDERS), initiate_waiting, dispatched),
    "consents": (commands_sent, change_consents, changed),
}


@pytest.mark.parametrize("stage", STAGES)
async def test_what_was_taken_and_not_committed_is_handled_in_the_next_life(stage: str, tmp_path: Path) -> None:
    set_up, live, judge = STAGES[stage]
    whole = CrashAt()
    rig = await set_up()
    await live(rig, whole, tmp_path)
    judge(rig)
    assert len(whole.places) > 3

    for step in range(len(whole.places)):
        rig = await set_up()
        with pytest.raises(CrashedError):
            await live(rig, CrashAt(step), tmp_path)
        await live(rig, CrashAt(), tmp_path)
        judge(rig)


async def test_orders_of_a_life_that_ended_before_its_commit_are_executed_by_the_next(tmp_path: Path) -> None:
    """Not only are they not lost: where their intents had not committed they are paid."""
    rig = await orders_dispatched()
    with pytest.raises(CrashedError):
        await execute(rig, CrashAt(0), tmp_path)
    assert (rig.states(), rig.host.received) == ({}, [])
    await execute(rig, CrashAt(), tmp_path)
    assert rig.states() == dict.fromkeys(ORDERS_SENT, "approved")
