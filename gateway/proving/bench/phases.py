"""The phases that need the whole gateway: warm-up, the most that is sustained, half of it, one hot consent."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from gateway.proving.bench.hops import Counts, hops_between, read_hops
from gateway.proving.bench.hot import HOT_ORDERS, PREFIX, Hot, one_customer, read_hot
from gateway.proving.bench.lean.run import measure_lean
from gateway.proving.bench.loads import AHEAD, MORE, POLL_S, Loads, meters_of
from gateway.proving.bench.meters import Meters
from gateway.proving.bench.result import BenchError, BenchPlan, BenchResult, Latencies, Pair, View
from gateway.proving.bench.storage import stored
from gateway.proving.traffic.cast import Cast
from gateway.proving.world.confirming import SKIPPED_S
from gateway.proving.world.world import World

_WARM_SPAN_S: Final = 4.0
"""The rate over the fastest such span of the warm-up says how many orders the measurement needs."""

FULL_S: Final = 5.0
"""From the load's start until every stage is busy."""

_SPARE: Final = 1.25
"""Orders signed beyond what the warm-up's rate would use; should it use more, they are signed while it runs."""

Seen = tuple[float, int]
"""A moment, in seconds, and how many payments were decided by then."""

WARM_ORDERS: Final = 30_000
"""They also load the pipeline without features: its table knows none of the gateway's payments."""

LEAN_PER_S: Final = 4_000
LEAN_TIMES: Final = 2.5
LEAN_FULL_S: Final = 3.0
"""At most so many orders a second, or so many times as many as the gateway settles, for the window and the start before
it."""

_STARVED_SHARE_MAX: Final = 0.02
"""Of the time; a load with nothing to send any longer measures itself."""


def fastest(seen: Sequence[Seen], span_s: float) -> float:
    """Payments a second over the fastest span of so many seconds, or over all that was seen if that is shorter.

    Raises:
        BenchError: what was seen is shorter than half of one.
    """
    whole_s = seen[-1][0] - seen[0][0] if seen else 0.0
    if whole_s < span_s / 2:
        raise BenchError("the warm-up was too short to tell a rate")
    span_s = min(span_s, whole_s)
    spans = ((since, to) for n, since in enumerate(seen) for to in seen[n + 1 :] if to[0] - since[0] >= span_s)
    return max((to[1] - since[1]) / (to[0] - since[0]) for since, to in spans)


class Phases:
    """Runs them on one world, whose gateway is ready."""

    def __init__(self, plan: BenchPlan, world: World, cast: Cast, loads: Loads, view: View) -> None:
        self._plan = plan
        self._world = world
        self._cast = cast
        self._loads = loads
        self._view = view

    async def warm_up(self, orders: Sequence[Path]) -> float:
        """Fill every cache; return payments a second while it went fastest: what comes may go as fast again.

        Raises:
            BenchError: too short to tell.
        """
        with self._view.step("Warming up"):
            load = self._loads.start_ahead(orders)
            seen: list[Seen] = []
            while load.running():
                self._world.check()
                seen.append((time.monotonic(), await self._loads.decided()))
                self._view.line(f"warming up: {seen[-1][1]:,} payments")
                await asyncio.sleep(POLL_S)
            await self._loads.end(load)
        return fastest(seen, _WARM_SPAN_S)

    async def sustain(self, rate: float, result: BenchResult) -> None:
        """The most that is sustained; ``rate``: payments a second to expect.

        Raises:
            BenchError: the load had nothing to send for too long.
        """
        signed = int(rate * (self._plan.seconds + FULL_S) * _SPARE) + AHEAD
        orders = await self._loads.sign(signed, "s")
        with self._view.step(f"Sustained load for {self._plan.seconds:.0f} s"):
            meters = await self._sustained(orders, signed, result)
        for path in (*orders, *self._world.directory.glob(f"{MORE}*.orders")):
            path.unlink()
        result.meters, result.others_cores = meters.meters, meters.others_cores
        began, ended = result.window
        result.settled_in_window = await self._loads.settled_between(began, ended)
        result.settled_per_s = result.settled_in_window / (ended - began)
        third = (ended - began) / 3
        counts = [await self._loads.settled_between(began + n * third, began + (n + 1) * third) for n in range(3)]
        result.thirds_per_s = tuple(n / third for n in counts)

    async def _sustained(self, orders: Sequence[Path], signed: int, result: BenchResult) -> Meters:
        load = self._loads.start_ahead(orders, more=MORE)
        signing = asyncio.create_task(self._loads.keep_signing(signed, FULL_S + self._plan.seconds), name="signing")
        await asyncio.sleep(FULL_S)
        meters = meters_of(self._world, load)
        profile = self._start_profile(result)
        stored_before = await stored(self._world)
        meters.start()
        began, before = time.time(), await self._loads.decided()
        while (elapsed := time.time() - began) < self._plan.seconds:
            self._world.check()
            if signing.done():
                signing.result()
            rate = (await self._loads.decided() - before) / elapsed if elapsed > 1 else 0
            self._view.line(f"{elapsed:.0f} s: {rate:,.0f} payments a second through the network")
            await asyncio.sleep(min(1.0, self._plan.seconds - elapsed))
        result.window = (began, time.time())
        await meters.stop()
        result.stored = (await stored(self._world)).since(stored_before)
        signing.cancel()
        result.signed_meanwhile = self._loads.signed_meanwhile
        load.check()
        if profile is not None:
            await asyncio.to_thread(profile.wait)
        starved = await self._loads.end(load)
        if starved > _STARVED_SHARE_MAX * self._plan.seconds:
            raise BenchError(
                f"for {starved:.1f} s there was nothing to send: signing took longer than settling, "
                "on a machine that is busy with something else"
            )
        return meters

    async def at_half_rate(self, result: BenchResult) -> None:
        """Half of what was sustained, steadily: latencies are told by the books."""
        result.half = Latencies(result.settled_per_s / 2)
        with self._view.step(f"Latency at half the rate for {self._plan.latency_seconds:.0f} s"):
            before = await self._steadily(result.half.per_s, "h")
            result.hops = hops_between(before, await self._read_hops())

    async def at_given_rate(self, result: BenchResult) -> None:
        """The same at the rate that was asked for."""
        if self._plan.also_per_s:
            result.also = Latencies(self._plan.also_per_s)
            with self._view.step(f"Latency at {self._plan.also_per_s:,.0f} a second"):
                await self._steadily(result.also.per_s, "e")

    async def _steadily(self, per_s: float, name: str) -> Counts:
        """Send for as long as planned, until all is settled; tells how far hops were when they began to count."""
        orders = await self._loads.sign(max(1, int(per_s * self._plan.latency_seconds)), name)
        load = self._loads.start(orders, "--per-second", f"{per_s:.1f}")
        began = time.monotonic()
        counts: Counts = {}
        while load.running():
            self._world.check()
            elapsed = time.monotonic() - began
            if not counts and elapsed >= SKIPPED_S:
                counts = await self._read_hops()
            self._view.line(f"{elapsed:.0f} s at {per_s:,.0f} a second")
            await asyncio.sleep(POLL_S)
        await self._loads.end(load)
        return counts

    async def _read_hops(self) -> Counts:
        return await read_hops(list(self._world.http.values()))

    async def beside_lean(self, orders: Sequence[Path], result: BenchResult) -> None:
        """Windows of the gateway and of the pipeline without features in turns, each after all else has come to rest.

        The gateway stands idle beside the pipeline; what it takes then is told.
        """
        seconds = self._plan.lean_seconds
        lasting = [*orders]
        per_s = max(LEAN_PER_S, LEAN_TIMES * result.settled_per_s)
        if (more := int(per_s * (seconds + LEAN_FULL_S)) - WARM_ORDERS) > 0:
            lasting += await self._loads.sign(more, "l")
        for number in range(1, self._plan.lean_rounds + 1):
            with self._view.step(f"Pair {number} of {self._plan.lean_rounds}: the gateway"):
                settled_per_s, others = await self._window(seconds, result.settled_per_s, number)
            with self._view.step(f"Pair {number} of {self._plan.lean_rounds}: without features"):
                idle = Meters({child.name: child.pid for child in (*self._world.stages, *self._world.simulators)})
                idle.start()
                lean = await measure_lean(
                    self._world, lasting, "faust", seconds=seconds, view=self._view, number=number
                )
                await idle.stop()
            idle_cores = sum(m.cpu_seconds for m in idle.meters.values()) / idle.seconds
            lean = replace(lean, others_cores=max(0.0, lean.others_cores - idle_cores))
            result.pairs.append(Pair(settled_per_s, others, lean, idle_cores))

    async def _window(self, seconds: float, rate: float, number: int) -> tuple[float, float]:
        """A stretch of load: payments settled a second in its window, and cores that others kept busy."""
        signed = int(rate * (seconds + FULL_S) * _SPARE) + AHEAD
        orders = await self._loads.sign(signed, f"s-{number}-")
        more = f"{MORE}{number}-"
        load = self._loads.start_ahead(orders, more=more)
        signing = asyncio.create_task(self._loads.keep_signing(signed, FULL_S + seconds, more), name="signing")
        try:
            await asyncio.sleep(FULL_S)
            meters = meters_of(self._world, load)
            meters.start()
            began = time.time()
            while time.time() - began < seconds:
                self._world.check()
                load.check()
                if signing.done():
                    signing.result()
                await asyncio.sleep(POLL_S)
            ended = time.time()
            await meters.stop()
        finally:
            signing.cancel()
            # Whatever became of the window, what was sent is counted and settles: the books are over all of it.
            starved = await self._loads.end(load)
            for path in orders:
                path.unlink()
        if starved > _STARVED_SHARE_MAX * seconds:
            raise BenchError(f"for {starved:.1f} s there was nothing to send to the gateway beside the pipeline")
        return await self._loads.settled_between(began, ended) / (ended - began), meters.others_cores

    async def hot(self) -> Hot:
        """A stretch of orders under one consent.

        Raises:
            BenchError: not all of them were sent to the network.
        """
        orders = await self._loads.sign(HOT_ORDERS, PREFIX, one_customer(self._cast))
        with self._view.step(f"One consent, {HOT_ORDERS:,} orders"):
            load = self._loads.start_ahead(orders)
            await load.ended()
            await self._loads.end(load)
        hot = await read_hot(self._world.postgres_dsn)
        if hot.orders != HOT_ORDERS:
            raise BenchError(f"{hot.orders} of {HOT_ORDERS} orders under the hot consent were sent")
        return hot

    def _start_profile(self, result: BenchResult) -> "subprocess.Popen[bytes] | None":
        if self._plan.profile is None:
            return None
        child = self._world.stage(self._plan.profile)
        result.profile = self._world.plan.home / f"profile-{child.name.replace(' ', '-')}.svg"
        py_spy = Path(sys.executable).with_name("py-spy")
        seconds = str(max(1, int(self._plan.seconds / 2)))
        argv = [str(py_spy), "record", "-p", str(child.pid), "-d", seconds, "-o", str(result.profile)]
        return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - ours
