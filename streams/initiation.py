"""The initiation process: partners' orders → checked and routed. Runs on Faust; scales by partitions and workers."""

import asyncio

from gateway.app.initiation import InitiationParts, initiation_parts
from gateway.app.process import Parts, watch_consumer
from gateway.orders.turns import TURN
from schemas.topics import ORDERS
from streams.app import FaustStage, run_stage


async def run(parts: Parts, stopping: asyncio.Event) -> None:
    """Take in orders until told to stop; what is in hand is finished and its offsets are committed."""
    async with initiation_parts(parts) as initiation:
        stage = FaustStage(
            name="initiation",
            topic=ORDERS,
            batch_max=parts.settings.initiation_look_max,
            batch_wait_s=parts.settings.initiation_batch_wait_s,
            on_assigned=initiation.intake.assigned,
        )
        waiting = asyncio.create_task(_take_waiting(parts, initiation, stopping), name="waiting-orders")
        orders = asyncio.create_task(run_stage(parts, stage, initiation.intake.take, stopping), name="orders")
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
            await initiation.waiting.stop()


async def _take_waiting(parts: Parts, initiation: InitiationParts, stopping: asyncio.Event) -> None:
    """Take what waits for its turn, while there is room."""
    consumer = initiation.waiting
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
    watchdog = watch_consumer(parts, "waiting-orders", consumer.lag)
    while not stopping.is_set():
        room = await initiation.room.free_for_patient()
        if room <= 0:
            # Kafka takes a member that never polls for dead.
            consumer.pause()
            await consumer.take(1, max_wait=0.05)
            consumer.resume()
            watchdog.progress()
            continue
        records = await consumer.take(min(room, TURN), max_wait=0.2)
        if records:
            await initiation.intake.take_waiting(records, taken=consumer.commit, ending=stopping.is_set)
            watchdog.progress()
