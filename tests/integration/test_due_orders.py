"""Orders whose day has come, on real parts: handed on as execution has room, and paid."""

from datetime import UTC, datetime, timedelta

import asyncpg

from gateway.base.calendar import day_of
from gateway.orders.room import HANDED_ON_AT_ONCE
from tests.support.scene import Scene, the_schedule


async def test_more_orders_of_one_day_than_go_at_once_are_all_paid(scene: Scene) -> None:
    now = datetime.now(UTC)
    tomorrow = {"requested_execution_date": day_of(now) + timedelta(days=1), "expires_at": now + timedelta(hours=24)}
    entries = [
        scene.entry(scene.order().model_copy(update={**tomorrow, "issued_at": now}))
        for _ in range(2 * HANDED_ON_AT_ONCE + 20)
    ]
    await scene.send(entries)
    # Where midnight comes between, they are paid at once.
    await scene.until_states(entries, "scheduled", "approved")
    connection = await asyncpg.connect(scene.world.postgres_dsn)
    try:
        # In place of the night.
        await connection.execute("UPDATE scheduled_order SET look_at = now()")
    finally:
        await connection.close()
    async with the_schedule(scene):
        await scene.until_states(entries, "approved")
    await scene.settle()
    await scene.check_books()
