"""The schedule process: what happens because time has come. Any number may run; each row is one's alone."""

import asyncio
from collections.abc import Awaitable, Callable

from gateway.app.process import Parts, watch_consumer
from gateway.app.schedule import ScheduleParts, schedule_parts


async def run(parts: Parts, stopping: asyncio.Event) -> None:
    """Work until told to stop. What is in hand may be cut: what was not written is found again."""
    settings = parts.settings
    async with schedule_parts(parts) as schedule, asyncio.TaskGroup() as tasks:
        timers = {
            "consent-expiry": (schedule.expiry.expire, settings.schedule_interval_s),
            "cancellations": (schedule.cancellations.work, settings.schedule_interval_s),
            "standing-orders": (schedule.occurrences.make_due, settings.schedule_interval_s),
            "due-orders": (schedule.orders.dispatch_due, settings.schedule_interval_s),
            "open-payments": (schedule.open_payments.look, settings.open_payments_interval_s),
            "relayed-events": (schedule.outbox.purge, settings.purge_interval_s),
            "used-proofs": (schedule.used_proofs.purge, settings.purge_interval_s),
        }
        workers = [
            tasks.create_task(_repeat(parts, name, work, pause_s), name=name)
            for name, (work, pause_s) in timers.items()
        ]
        workers.append(tasks.create_task(_follow_calendar(schedule), name="calendar"))
        await stopping.wait()
        for task in workers:
            task.cancel()


async def _follow_calendar(schedule: ScheduleParts) -> None:
    await schedule.occurrences.follow_calendar()


async def _repeat(parts: Parts, name: str, work: Callable[[], Awaitable[int]], pause_s: float) -> None:
    # Always due: a timer that has not come round is a stall, also with an empty table.
    watchdog = watch_consumer(parts, name, _always_due, stall_after_s=parts.settings.stall_after_s + pause_s)
    while True:
        try:
            while await work():
                watchdog.progress()
        except Exception as error:  # noqa: BLE001 - one timer's bug must not stop the others; its watchdog tells
            parts.observer.count("schedule", "failed", reason=type(error).__name__)
            parts.observer.note("timer_failed", level="error", stage=name, error=type(error).__name__)
        else:
            watchdog.progress()
        await asyncio.sleep(pause_s)


async def _always_due() -> int:
    return 1
