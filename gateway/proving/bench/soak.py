"""``mypay bench --soak MINUTES``: whether any process's memory grows over a long run at a steady rate.

All stages run, with sharing and the disclosure log. The rate is one at which nothing queues: what grows then grows with
payments, not with a backlog. Each process is sampled once a second, and its median over the last quarter compared with
that over the second one; the first quarter is warming up.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway.proving.bench.loads import MORE, Loads, meters_of
from gateway.proving.bench.meters import Meter
from gateway.proving.bench.result import View
from gateway.proving.books import Checked, balanced
from gateway.proving.traffic.cast import Role, make_cast, make_partners
from gateway.proving.traffic.receivers import make_receivers
from gateway.proving.world.opening import open_world
from gateway.proving.world.world import World, WorldPlan

CUSTOMERS: Final = 2000
FIRST_ORDERS: Final = 10_000
FILLS_ITS_HEAP: Final = frozenset(("Kafka",))
"""Told, not judged: a JVM takes its heap bit by bit, for hours, up to what it may have at most."""

_LOOK_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class SoakPlan:
    """What to run: ``per_second`` orders for ``minutes``."""

    minutes: float
    per_second: float = 100.0
    seed: int = 1


@dataclass(slots=True)
class SoakResult:
    """What was seen: each process's memory, and the check of the books."""

    plan: SoakPlan
    payments: int = 0
    meters: dict[str, Meter] = field(default_factory=dict)
    checked: list[Checked] = field(default_factory=list)

    @property
    def growing(self) -> list[str]:
        """Processes whose memory grew, and should not."""
        return [name for name, meter in self.meters.items() if not meter.flat and name not in FILLS_ITS_HEAP]

    @property
    def balanced(self) -> bool:
        """True if every check of the books holds."""
        return balanced(self.checked)

    def last_line(self) -> str:
        """The line for machines."""
        growing = ",".join(name.replace(" ", "-") for name in self.growing) or "none"
        return (
            f"soak: minutes={self.plan.minutes:.0f} per_s={self.plan.per_second:.0f} payments={self.payments} "
            f"growing={growing} books={'balanced' if self.balanced else 'unbalanced'}"
        )


async def run_soak(plan: SoakPlan, home: Path, *, view: View) -> SoakResult:
    """Run, and watch.

    Raises:
        BenchError: what was sent did not settle.
        WorldError, ChildError, gateway.proving.stack.LocalStackError: it could not be set up, or a process died.
    """
    receivers = make_receivers()
    now = datetime.now(UTC)
    cast = make_cast({Role.PLAIN: CUSTOMERS}, partners=make_partners(2), now=now, seed=plan.seed, receivers=receivers)
    world_plan = WorldPlan(
        "soak",
        home,
        seed=plan.seed,
        cycle_seconds=2.0,
        log_level="warning",
        with_proofs=True,
        with_disclosure=True,
        with_sharing=True,
        prompt=False,
    )
    result = SoakResult(plan)
    async with open_world(world_plan, cast, steps=view.step) as world:
        loads = Loads(world, cast, view, seed=plan.seed)
        await _load(plan, world, loads, view, result)
        with view.step("Checking the books from three sides"):
            result.payments, result.checked = loads.produced, (await loads.judged()).checked
        world.succeeded = result.balanced
    return result


async def _load(plan: SoakPlan, world: World, loads: Loads, view: View, result: SoakResult) -> None:
    seconds = plan.minutes * 60
    load = loads.start(
        await loads.sign(FIRST_ORDERS, "s"), "--per-second", str(plan.per_second), "--more", str(world.directory), MORE
    )
    signing = asyncio.create_task(loads.keep_signing(FIRST_ORDERS, seconds), name="signing")
    meters = meters_of(world)
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    meters.start()
    try:
        with view.step(f"{plan.per_second:,.0f} orders a second for {plan.minutes:,.0f} minutes"):
            while (left := ends - loop.time()) > 0:
                world.check()
                load.check()
                if signing.done():
                    signing.result()
                view.line(f"{left / 60:,.0f} minutes left")
                await asyncio.sleep(min(_LOOK_S, left))
    finally:
        signing.cancel()
        with suppress(asyncio.CancelledError):
            await signing
        await meters.stop()
        result.meters = meters.meters
    await loads.end(load)
