"""A worker of execution that starts while Kafka is away: what dead ones left behind is settled all the same."""

import asyncio

from gateway.proving import stack as local
from tests.support.entries import BCARD, REVERSED
from tests.support.scene import Scene

EXECUTION = f"execution {BCARD}"


async def test_what_a_dead_worker_sent_is_undone_while_kafka_is_away(scene: Scene) -> None:
    network, world = scene.network(BCARD), scene.world
    await network.set_faults(drop_after_apply=1.0, classes=["financial"])
    entries = scene.payments(20, expected=REVERSED)
    await scene.send(entries)
    await scene.until_states(entries, "sent", "unknown", poll_s=0.02)
    await scene.kill(EXECUTION)
    scene.disturbed = True
    await asyncio.to_thread(local.kill_kafka, world.name, home=world.plan.home)
    try:
        await network.clear_faults()
        scene.start(EXECUTION)
        await scene.until_states(entries, "reversed")
    finally:
        await asyncio.to_thread(local.start_kafka, world.name, home=world.plan.home)

    later = scene.payments(3)
    await scene.send(later)
    await scene.until_states(later, "approved")
    await scene.settle()
    await scene.check_books()
