"""The execution process of one card network: dispatched orders → intents → ISO 8583 → results.

Takes only what the network has room for. While the network is closed (no link, or its circuit breaker is open)
nothing is consumed: the backlog waits in Kafka, and orders that expire there are refused when they are reached.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from gateway.app.execution import ExecutionParts, execution_parts
from gateway.app.process import Parts, watch_consumer
from gateway.consents.ended_watch import LOOK_S
from gateway.messaging.records import Record
from schemas.primitives import NetworkId


async def run(parts: Parts, stopping: asyncio.Event, *, network_id: NetworkId) -> None:
    """Execute until told to stop; then take no more, wait for answers up to a deadline, and write every result."""
    async with execution_parts(parts, network_id) as execution, asyncio.TaskGroup() as tasks:
        results = tasks.create_task(execution.service.results.run(), name="results")
        late = tasks.create_task(_forever(execution.late_answers.work), name="late-answers")
        workers = [
            tasks.create_task(_take(parts, execution), name="intake"),
            tasks.create_task(_follow_up(parts, execution.inquiries.work), name="inquiries"),
            tasks.create_task(_follow_up(parts, execution.reversals.work), name="reversals"),
            tasks.create_task(_recover(parts, execution), name="recovery"),
            tasks.create_task(_watch_ends(execution), name="ended-consents"),
        ]
        await stopping.wait()
        for task in workers:
            task.cancel()
        await asyncio.wait(workers)
        # What is in flight ends answered or UNKNOWN; either way it is in Postgres before this process ends.
        await execution.network.stop(drain_seconds=parts.settings.execution_drain_s)
        await execution.service.results.written()
        await execution.late_answers.written()
        results.cancel()
        late.cancel()


async def _take(parts: Parts, execution: ExecutionParts) -> None:
    settings, network = parts.settings, execution.network
    # Joining the group can take as long as it takes Kafka to notice that an earlier member died: all else runs already.
    await execution.consumer.start()
    watchdog = watch_consumer(parts, "execution", execution.waiting)
    while True:
        await _wait_open(execution)
        room = await network.reserve(settings.execution_batch_max)
        network.release(room)
        records = await execution.consumer.take(room, max_wait=settings.execution_batch_wait_s)
        if records:
            # A batch that has begun is finished also when we are told to stop: its intents may have committed.
            await _to_the_end(asyncio.create_task(_handle(execution, records)))
            watchdog.progress()


async def _wait_open(execution: ExecutionParts) -> None:
    """Wait for the network, keeping the place in the consumer group: Kafka takes a member that never polls for dead."""
    if execution.network.is_open:
        return
    execution.consumer.pause()
    try:
        while not execution.network.is_open:
            await execution.consumer.take(1, max_wait=0.2)
    finally:
        execution.consumer.resume()


async def _handle(execution: ExecutionParts, records: Sequence[Record]) -> None:
    await execution.isolated.run(execution.service.take, records)
    await execution.consumer.commit(records)


async def _to_the_end(task: "asyncio.Task[None]") -> None:
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def _follow_up(parts: Parts, work: Callable[[], Awaitable[int]]) -> None:
    while True:
        if await work() == 0:
            await asyncio.sleep(parts.settings.follow_up_poll_s)


async def _forever(work: Callable[[], Awaitable[int]]) -> None:
    while True:
        await work()


async def _recover(parts: Parts, execution: ExecutionParts) -> None:
    """Tell the others and routing that this worker lives, and settle what dead ones left behind."""
    try:
        while True:
            is_open = execution.network.is_open
            parts.observer.level("network_open", float(is_open))
            await execution.recovery.report(is_open=is_open)
            await execution.recovery.take_over()
            await asyncio.sleep(parts.settings.recovery_interval_s)
    finally:
        parts.observer.level("network_open", 0.0)


async def _watch_ends(execution: ExecutionParts) -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        await execution.watch.look()
