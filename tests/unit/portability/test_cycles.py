"""When the exports of a scheduled transmission are due: at the edges of cycles, late, and over short months."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import date, datetime, timedelta
from typing import Final

import pytest

from gateway.base.calendar import SEOUL
from gateway.portability import schedule
from gateway.portability.rules import requests
from gateway.proving.memory import MemoryClock
from gateway.proving.simulation.bugs.planting import edited
from schemas.consents import Cycle
from tests.support.builders import NOW
from tests.support.portability import PURPOSE, PortabilityRig

WEEK: Final = timedelta(days=7)


async def due_days(late: timedelta, *, begun: datetime, cycles: int, monthly: bool = False) -> list[date]:
    """Days (of Seoul) on which the next exports are due, where each is begun so late."""
    rig = PortabilityRig()
    rig.clock.set(begun)
    monthly_purpose = PURPOSE.model_copy(update={"fnd_cycle": Cycle.MONTHLY, "add_cycle": Cycle.MONTHLY})
    rig.put(monthly_purpose if monthly else PURPOSE)
    await rig.take(rig.record(is_scheduled=True, fnd_cycle="1/m", add_cycle="1/m" if monthly else "1/w"))
    found = []
    for _ in range(cycles):
        [row] = rig.database.transmissions.rows.values()
        assert row.next_due_at is not None
        found.append(row.next_due_at.astimezone(SEOUL).date())
        clock: MemoryClock = rig.clock
        clock.set(row.next_due_at - timedelta(microseconds=1))
        assert await rig.schedule.begin_due() == 0
        clock.set(row.next_due_at + late)
        assert await rig.schedule.begin_due() == 1
        # Once a cycle, however often it is asked.
        assert await rig.schedule.begin_due() == 0
    return found


async def wrong() -> set[str]:
    """What recipients and their customers would complain of."""
    weekly = await due_days(timedelta(hours=30), begun=NOW, cycles=4)
    expected = [(NOW + n * WEEK).astimezone(SEOUL).date() for n in range(1, 5)]
    begun = datetime(2025, 5, 31, 12, tzinfo=SEOUL)
    monthly = await due_days(timedelta(hours=1), begun=begun, cycles=4, monthly=True)
    months = [date(2025, 6, 30), date(2025, 7, 31), date(2025, 8, 31), date(2025, 9, 30)]
    return {
        name
        for name, is_so in {
            "each export that is late makes all later ones later": weekly != expected,
            "a short month shortens what follows": monthly != months,
        }.items()
        if is_so
    }


async def test_cycles_are_counted_from_the_first_day_and_begin_at_their_edge() -> None:
    assert await wrong() == set()


def from_now() -> AbstractContextManager[None]:
    return edited(
        schedule,
        "_moved_on",
        (
            "due = next_due(row.request, row.created_at, exports)\n    while",
            "due = next_due(row.request, now, 1)\n    while",
        ),
    )


def from_the_last_one() -> AbstractContextManager[None]:
    return edited(
        requests,
        "_months_after",
        ("for last in range(day.day, 0, -1):", "for last in range(min(day.day, 28 + months % 3), 0, -1):"),
    )


@pytest.mark.parametrize("plant", [from_now, from_the_last_one])
async def test_a_planted_bug_is_found(plant: Callable[[], AbstractContextManager[None]]) -> None:
    with plant():
        assert await wrong() != set()
