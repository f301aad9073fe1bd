"""``mypay bench --grown PAYMENTS``: whether payments cost more where so many are stored already.

Two whole worlds stand side by side, one as it is when it is new, the other with payments of the past and all that
belongs to them (:mod:`gateway.proving.seeding`). They take the same orders in turns, and while one does the other is
idle. A stretch ends when all of its orders are settled.
"""

import statistics
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway.proving.bench.loads import Loads
from gateway.proving.bench.result import View
from gateway.proving.bench.stretch import Stretch, run_stretch
from gateway.proving.books import Checked, balanced
from gateway.proving.seeding import seed
from gateway.proving.traffic.cast import Role, make_cast, make_partners
from gateway.proving.world.opening import open_world
from gateway.proving.world.starting import start_gateway
from gateway.proving.world.world import World, WorldPlan

CUSTOMERS: Final = 2000
WARM_ORDERS: Final = 8_000
EVENTS_KEPT: Final = 1_000_000
"""Of so many payments, the youngest, the outbox still has the events: it keeps them for days, not for years."""

NEW: Final = "new"
GROWN: Final = "grown"


@dataclass(frozen=True, slots=True)
class GrownPlan:
    """What to measure; ``payments``: stored in the second world; ``orders``: of a stretch."""

    payments: int
    rounds: int = 3
    orders: int = 20_000
    seed: int = 1


@dataclass(slots=True)
class GrownResult:
    """Stretches in the new and in the grown world, round by round, and the check of the new one's books.

    Over payments that nobody ordered no books balance: in the grown world all orders were settled.
    """

    plan: GrownPlan
    rounds: list[tuple[Stretch, Stretch]] = field(default_factory=list)
    checked: list[Checked] = field(default_factory=list)

    @property
    def cpu_ratio(self) -> float:
        """How many times the processor time a payment takes in the grown world: the median of the rounds."""
        return self._median(lambda stretch: stretch.all_us)

    @property
    def settled_ratio(self) -> float:
        """Likewise of payments settled a second."""
        return self._median(lambda stretch: stretch.per_s)

    def _median(self, figure: Callable[[Stretch], float]) -> float:
        return statistics.median(figure(grown) / figure(new) for new, grown in self.rounds)

    @property
    def balanced(self) -> bool:
        """True if every check of the books holds."""
        return balanced(self.checked)

    def last_line(self) -> str:
        """The line for machines."""
        return (
            f"grown: payments={self.plan.payments} rounds={len(self.rounds)} cpu_ratio={self.cpu_ratio:.3f} "
            f"settled_ratio={self.settled_ratio:.3f} books={'balanced' if self.balanced else 'unbalanced'}"
        )


async def run_grown(plan: GrownPlan, home: Path, *, view: View) -> GrownResult:
    """Measure.

    Raises:
        BenchError: what was sent did not settle.
        WorldError, ChildError, gateway.proving.stack.LocalStackError: it could not be set up, or a process died.
    """
    cast = make_cast({Role.PLAIN: CUSTOMERS}, partners=make_partners(2), now=datetime.now(UTC), seed=plan.seed)
    result = GrownResult(plan)
    async with AsyncExitStack() as stack:
        worlds: dict[str, tuple[World, Loads]] = {}
        for name in (NEW, GROWN):
            world_plan = WorldPlan(
                f"bench-{name}",
                home,
                seed=plan.seed,
                cycle_seconds=2.0,
                log_level="warning",
                with_gateway=False,
                with_proofs=True,
                prompt=False,
            )
            world = await stack.enter_async_context(open_world(world_plan, cast, steps=view.step))
            if name == GROWN:
                with view.step(f"Storing {plan.payments:,} payments of the past"):
                    await seed(world.postgres_dsn, plan.payments, with_events=min(plan.payments, EVENTS_KEPT))
            await start_gateway(world, view.step)
            worlds[name] = world, Loads(world, cast, view, seed=plan.seed)
        for world, loads in worlds.values():
            await run_stretch(world, loads, await loads.sign(WARM_ORDERS, "w"), WARM_ORDERS)
        for number in range(1, plan.rounds + 1):
            found: dict[str, Stretch] = {}
            # Each begins as often: whatever changes on the machine weighs on both alike.
            for name in (NEW, GROWN) if number % 2 else (GROWN, NEW):
                world, loads = worlds[name]
                signed = await loads.sign(plan.orders, f"s-{number}-")
                with view.step(f"Round {number} of {plan.rounds}: {name}"):
                    found[name] = await run_stretch(world, loads, signed, plan.orders)
            result.rounds.append((found[NEW], found[GROWN]))
        world, loads = worlds[NEW]
        with view.step("Checking the books from three sides"):
            result.checked = (await loads.judged()).checked
        for world, _ in worlds.values():
            world.succeeded = result.balanced
    return result
