"""The bench: how many payments a second the whole gateway settles on this machine, and what each costs.

Everything runs here: load generator, Kafka, PostgreSQL (fsync on), the card network with its own books, and the
gateway's processes. Half of the orders carry a customer's proof. The phases: two baselines; the decisions alone; one
worker of the intake alone; warm-up; the most that is sustained; latency at half of that; one hot consent; the gateway
and a pipeline without features, of the same parts, in turns. A payment counts when PostgreSQL has it SETTLED and the
network's ledger has approved and cleared it; the check of the books over the whole run says so, or the bench fails.
"""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gateway.base.process import SilentObserver
from gateway.identity.jose.issuers import CachedTrustTable
from gateway.proving.bench import baselines
from gateway.proving.bench.baselines import Baseline
from gateway.proving.bench.intake import Intake, NotTakenError, watch_intake
from gateway.proving.bench.lean.run import measure_lean
from gateway.proving.bench.loads import Loads
from gateway.proving.bench.phases import WARM_ORDERS, Phases
from gateway.proving.bench.pure import NotDecidedError, Pure, measure_pure
from gateway.proving.bench.result import BenchError, BenchPlan, BenchResult, Latencies, View
from gateway.proving.demo import percentile
from gateway.proving.traffic.cast import Cast, Role, make_cast, make_partners
from gateway.proving.traffic.presigning import read_presigned
from gateway.proving.world.confirming import (
    HALF_RATE,
    SAME_RATE,
    confirmed_between,
    latencies_at_rate,
)
from gateway.proving.world.opening import open_world
from gateway.proving.world.starting import start_gateway, start_intake
from gateway.proving.world.world import World, WorldPlan

CUSTOMERS: Final = 2000
PURE_ORDERS: Final = 6_000
BACKLOG_ORDERS: Final = 15_000
"""Some five seconds for one worker of the intake."""

_AT_ONCE: Final = 1e6
"""Orders a second: as fast as Kafka takes them."""

BASELINE_COPIES: Final = 6

CYCLE_SECONDS: Final = 2.0


async def run_bench(plan: BenchPlan, home: Path, *, view: View) -> BenchResult:
    """Measure everything.

    Raises:
        BenchError: the measurement is not worth anything.
        WorldError, ChildError, gateway.proving.stack.LocalStackError: it could not be set up, or a process died.
    """
    partners = make_partners(plan.partners)
    cast = make_cast({Role.PLAIN: CUSTOMERS}, partners=partners, now=datetime.now(UTC), seed=plan.seed)
    world_plan = WorldPlan(
        "bench",
        home,
        seed=plan.seed,
        cycle_seconds=CYCLE_SECONDS,
        initiation_workers=plan.initiation_workers,
        log_level="warning",
        with_gateway=False,
        with_proofs=True,
        with_disclosure=plan.disclosure,
        replicated=plan.replicated,
    )
    async with open_world(world_plan, cast, steps=view.step) as world:
        bench = _Bench(plan, world, cast, view)
        result = await bench.run()
        world.succeeded = result.balanced
    return result


class _Bench:
    def __init__(self, plan: BenchPlan, world: World, cast: Cast, view: View) -> None:
        self._plan = plan
        self._world = world
        self._cast = cast
        self._view = view
        self._loads = Loads(world, cast, view, seed=plan.seed)

    async def run(self) -> BenchResult:
        warm = await self._loads.sign(WARM_ORDERS, "w")
        floor, naive = await self._baselines(warm)
        pure = await self._pure(warm)
        result = BenchResult(self._plan, floor, naive, pure, await self._alone())
        phases = Phases(self._plan, self._world, self._cast, self._loads, self._view)
        await phases.sustain(await phases.warm_up(warm), result)
        await phases.at_half_rate(result)
        await phases.at_given_rate(result)
        result.hot = await phases.hot()
        if self._plan.lean_seconds:
            await self._beside_lean(phases, warm, result)
        with self._view.step("Checking the books from three sides"):
            await self._judge(result)
        return result

    async def _baselines(self, orders: Sequence[Path]) -> tuple[Baseline, Baseline]:
        kafka, dsn = self._world.kafka, self._world.postgres_dsn
        with self._view.step("Preparing the baselines' input"):
            records = list(read_presigned(orders))
            await baselines.prepare(kafka, dsn, records, copies=BASELINE_COPIES)
        with self._view.step("Baseline: consume, COPY, produce, no logic"):
            floor = await baselines.floor(kafka, dsn, seconds=self._plan.baseline_seconds)
        with self._view.step("Baseline: one message at a time"):
            naive = await baselines.naive(kafka, dsn, seconds=self._plan.baseline_seconds)
        return floor, naive

    async def _beside_lean(self, phases: Phases, orders: Sequence[Path], result: BenchResult) -> None:
        try:
            await phases.beside_lean(orders, result)
            with self._view.step("The same, through a bare consumer"):
                seconds = self._plan.lean_seconds / 2
                result.bare = await measure_lean(self._world, orders, "bare", seconds=seconds, view=self._view)
        except BenchError as error:
            # It is there to compare with: the gateway's own figures are worth as much without it.
            self._view.line(f"not measured: {error}")

    async def _pure(self, orders: Sequence[Path]) -> Pure:
        with self._view.step("The decisions alone, in one thread"):
            records = list(itertools.islice(read_presigned(orders), PURE_ORDERS))
            trust = CachedTrustTable(self._world.issuers, SilentObserver())
            try:
                return await measure_pure(self._cast, trust, records)
            except NotDecidedError as error:
                raise BenchError(f"an order of the pure path was refused: {error}") from error

    async def _alone(self) -> Intake:
        """Let one worker of the intake take a backlog; then start the rest of the gateway, which ends it."""
        orders = await self._loads.sign(BACKLOG_ORDERS, "b")
        with self._view.step(f"Producing a backlog of {BACKLOG_ORDERS:,} orders"):
            load = self._loads.start(orders, "--per-second", str(_AT_ONCE))
            await load.ended()
            self._loads.count(load)
        worker = await start_intake(self._world, self._view.step)
        with self._view.step("The backlog through one worker of the intake"):
            url = self._world.http[worker.name]
            try:
                intake = await watch_intake(url, worker.pid, BACKLOG_ORDERS, check=self._world.check)
            except NotTakenError as error:
                raise BenchError(str(error)) from error
        await start_gateway(self._world, self._view.step)
        with self._view.step("Settling the backlog"):
            await self._loads.until_settled()
        return intake

    async def _judge(self, result: BenchResult) -> None:
        judged = await self._loads.judged()
        evidence, result.checked = judged.evidence, judged.checked
        result.produced = self._loads.produced
        result.settled = sum(p.state == "settled" for p in evidence.payments.values())
        result.proofs = sum(
            p.state == "settled" and p.payment_id in evidence.proofs_used for p in evidence.payments.values()
        )
        confirmed = confirmed_between(evidence, *result.window)
        if confirmed != result.settled_in_window:
            raise BenchError(
                f"PostgreSQL settled {result.settled_in_window} in the window, the network {confirmed} of them"
            )
        result.half = _latencies(result.half.per_s, latencies_at_rate(evidence, HALF_RATE))
        result.also = _latencies(result.also.per_s, latencies_at_rate(evidence, SAME_RATE))


def _latencies(per_s: float, spans: list[int]) -> Latencies:
    p50, p99, most = (percentile(spans, share) for share in (0.5, 0.99, 1.0))
    return Latencies(per_s, len(spans), p50, p99, most) if spans else Latencies()
