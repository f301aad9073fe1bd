"""A stretch: so many orders sent as fast as they go, until they are settled; and what it cost, process by process."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.proving.bench.loads import POLL_S, Loads, meters_of
from gateway.proving.world.world import World


@dataclass(frozen=True, slots=True)
class Stretch:
    """What one cost.

    Attributes:
        cpu_us: microseconds of processor a payment, by process.
        others_cores: cores that other programs kept busy.
        per_s: orders that were settled a second.
    """

    cpu_us: Mapping[str, float]
    others_cores: float
    per_s: float

    @property
    def all_us(self) -> float:
        """Of all processes."""
        return sum(self.cpu_us.values())


async def run_stretch(
    world: World, loads: Loads, orders: Sequence[Path], count: int, *, then: Callable[[], Awaitable[None]] | None = None
) -> Stretch:
    """Run one, over all of a world's processes.

    Args:
        world: whose books nothing else moves meanwhile.
        loads: of that world.
        orders: files of signed orders; they are removed at the end.
        count: how many orders these are.
        then: what belongs to it still, once all is settled.

    Raises:
        BenchError: it does not settle.
        ChildError: a process has ended.
    """
    began = time.monotonic()
    load = loads.start_ahead(orders)
    meters = meters_of(world)
    meters.start()
    while load.running():
        world.check()
        await asyncio.sleep(POLL_S)
    await loads.end(load)
    seconds = time.monotonic() - began
    if then is not None:
        await then()
    await meters.stop()
    for path in orders:
        path.unlink()
    return Stretch(
        {n: m.cpu_seconds * 1e6 / count for n, m in meters.meters.items()}, meters.others_cores, count / seconds
    )


def medians(stretches: Sequence[Stretch]) -> dict[str, float]:
    """The median of each process's microseconds over some stretches; 0 where it did not run."""
    names = dict.fromkeys(n for s in stretches for n in s.cpu_us)
    return {name: statistics.median(s.cpu_us.get(name, 0.0) for s in stretches) for name in names}
