"""A network that operators have paused is sent nothing new; what waits goes on waiting, in the group."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

from gateway.app.execution import ExecutionStage
from gateway.messaging.isolation import IsolatedBatch
from schemas.primitives import NetworkId
from tests.support.rig import Rig


@dataclass
class Consumer:
    """Has a record at all times, and says whether it was paused when it was asked."""

    paused: bool = False
    polls: int = 0
    taken: int = 0
    polled: asyncio.Event = field(default_factory=asyncio.Event)
    records: Sequence[Any] = ("record",)
    committed: list[Any] = field(default_factory=list)
    rewound: list[Any] = field(default_factory=list)

    async def start(self) -> None: ...

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    async def take(self, limit: int, *, max_wait: float) -> Sequence[Any]:
        await asyncio.sleep(0)
        self.polls += 1
        self.polled.set()
        if self.paused:
            return []
        self.taken += 1
        return self.records

    async def commit(self, records: Sequence[Any]) -> None:
        self.committed += records

    async def rewind(self, records: Sequence[Any]) -> None:
        self.rewound += records

    async def lag(self) -> int:
        return 7


async def all_done(_: Sequence[Any]) -> Sequence[Any]:
    return []


def stage_over(
    rig: Rig,
    consumer: Consumer,
    recovery: Any,
    room: Callable[[], Awaitable[None]] | None = None,
    take: Callable[[Sequence[Any]], Awaitable[Sequence[Any]]] = all_done,
) -> ExecutionStage:
    async def reserve(limit: int) -> int:
        await (asyncio.sleep(0) if room is None else room())
        return limit

    async def run(work: Any, records: Sequence[Any]) -> None:
        await work(records)

    parts: dict[str, Any] = {
        "network": SimpleNamespace(is_open=True, reserve=reserve, release=lambda _: None),
        "isolated": SimpleNamespace(run=run),
        "service": SimpleNamespace(take=take, give_up=lambda: None),
        "runtime": SimpleNamespace(watch=lambda *_: SimpleNamespace(progress=lambda: None)),
        "terms": SimpleNamespace(batch_max=10, batch_wait_s=0.0, gather_s=0.0),
        "consumer": consumer,
        "recovery": recovery,
    }
    rest = dict.fromkeys(("inquiries", "reversals", "late_answers", "ended_consents"))
    return cast("ExecutionStage", ExecutionStage(**parts, **cast("Any", rest)))


async def polled(consumer: Consumer, times: int = 3) -> None:
    for _ in range(times):
        consumer.polled.clear()
        await consumer.polled.wait()


async def test_nothing_is_taken_before_a_worker_knows_and_while_its_network_is_paused() -> None:
    rig, consumer = Rig(), Consumer()
    recovery = rig.new_recovery("w1")
    network = NetworkId("net-a")
    stage = stage_over(rig, consumer, recovery)
    task = asyncio.create_task(stage.take())
    try:
        await polled(consumer)
        assert (consumer.taken, await stage.waiting()) == (0, 0)
        await recovery.report(is_open=True)
        await polled(consumer)
        assert consumer.taken > 0
        assert await stage.waiting() == 7
        rig.database.network_pauses.rows[network] = True
        await recovery.report(is_open=True)
        await polled(consumer, 1)
        before = consumer.taken
        await polled(consumer, 5)
        assert (consumer.taken, consumer.paused, await stage.waiting()) == (before, True, 0)
        del rig.database.network_pauses.rows[network]
        await recovery.report(is_open=True)
        await polled(consumer)
        assert consumer.taken > before
        assert not consumer.paused
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_nothing_is_taken_where_room_comes_once_the_network_is_paused() -> None:
    rig, consumer = Rig(), Consumer()
    recovery, waits = rig.new_recovery("w1"), asyncio.Event()
    answered = asyncio.Event()

    async def room() -> None:
        waits.set()
        await answered.wait()

    await recovery.report(is_open=True)
    stage = stage_over(rig, consumer, recovery, room)
    task = asyncio.create_task(stage.take())
    try:
        # A slow network has no room for as long as it does not answer.
        await waits.wait()
        rig.database.network_pauses.rows[NetworkId("net-a")] = True
        await recovery.report(is_open=True)
        answered.set()
        await polled(consumer)
        assert (consumer.taken, consumer.paused) == (0, True)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_what_was_not_decided_is_taken_again_and_nothing_behind_it_is_committed() -> None:
    rig, consumer = Rig(), Consumer(records=[in_place(*at) for at in ((0, 7), (0, 8), (1, 3), (0, 9))])
    recovery = rig.new_recovery("w1")
    await recovery.report(is_open=True)

    async def take(records: Sequence[Any]) -> Sequence[Any]:
        # The last one was parked: it is nobody's, and comes again.
        return [r for r in records if (r.partition, r.offset) == (0, 8)]

    stage = stage_over(rig, consumer, recovery, take=take)
    task = asyncio.create_task(stage.take())
    try:
        # It does not wait for the next report to hear of the pause.
        await polled(consumer, 5)
        assert (consumer.taken, consumer.paused, stage.takes) == (1, True, False)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert [(r.partition, r.offset) for r in consumer.rewound] == [(0, 8)]
    assert [(r.partition, r.offset) for r in consumer.committed] == [(0, 7), (1, 3)]


def in_place(partition: int, offset: int) -> Any:
    return SimpleNamespace(
        topic="t", partition=partition, offset=offset, reference=f"t/{partition}/{offset}", unread=None
    )


async def test_behind_one_that_waits_nothing_is_decided_where_a_batch_is_worked_on_one_by_one() -> None:
    """Resumed in that moment, a refund behind it was refused for want of its payment."""
    rig, consumer = Rig(), Consumer(records=[in_place(0, offset) for offset in (7, 8, 9)])
    recovery = rig.new_recovery("w1")
    await recovery.report(is_open=True)
    taken: list[list[int]] = []

    async def take(records: Sequence[Any]) -> Sequence[Any]:
        taken.append([r.offset for r in records])
        if len(records) > 1:
            raise RuntimeError("a bug in the handling of one of them")
        return records if records[0].offset == 8 else []

    stage = stage_over(rig, consumer, recovery, take=take)
    stage = replace(stage, isolated=IsolatedBatch("execution", dead_letters=rig.dead_letters, observer=rig.observer))
    assert [r.offset for r in await stage._work(consumer.records)] == [7]
    assert [r.offset for r in consumer.rewound] == [8, 9]
    assert taken == [[7, 8, 9], [7], [8]]
