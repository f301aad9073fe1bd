"""The bench: how many payments a second the whole gateway settles on this machine, and what each costs.

Everything runs here: load generator, Kafka, PostgreSQL (fsync on), the card network with its own books, and the
gateway's processes. Half of the orders carry a customer's proof. The phases: two baselines; the decisions alone; one
worker of the intake alone; warm-up; the most that is sustained; latency at half of that; one hot consent. A payment
counts when PostgreSQL has it SETTLED and the network's ledger has approved and cleared it; the check of the books over
the whole run says so, or the bench fails.
"""

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import asyncpg

from gateway.base.process import SilentObserver
from gateway.identity.jose.issuers import CachedTrustTable
from gateway.proving import stack as local
from gateway.proving.bench import baselines
from gateway.proving.bench.baselines import Baseline
from gateway.proving.bench.hot import HOT_ORDERS, PREFIX, Hot, one_customer, read_hot
from gateway.proving.bench.intake import Intake, NotTakenError, watch_intake
from gateway.proving.bench.meters import Meter, Meters
from gateway.proving.bench.pure import NotDecidedError, Pure, measure_pure
from gateway.proving.books import Checked
from gateway.proving.demo import percentile
from gateway.proving.traffic.cast import Cast, Role, make_cast, make_partners
from gateway.proving.traffic.presigning import presign, read_presigned
from gateway.proving.world.children import Child, base_environment
from gateway.proving.world.confirming import confirmed_between, latencies_at_half_rate, produced_on_topic
from gateway.proving.world.judging import judge
from gateway.proving.world.world import World, WorldPlan, make_child, open_world, start_gateway, start_intake

CUSTOMERS: Final = 2000
AHEAD: Final = 4000
"""Orders between Kafka and the network: about two seconds of work, so that no stage ever waits for orders."""

PURE_ORDERS: Final = 6_000
BACKLOG_ORDERS: Final = 15_000
"""Some five seconds for one worker of the intake."""

_AT_ONCE: Final = 1e6
"""Orders a second: as fast as Kafka takes them."""

WARM_ORDERS: Final = 30_000
WARM_TAIL_S: Final = 4.0
"""The rate over the end of the warm-up says how many orders the measurement needs."""

BASELINE_COPIES: Final = 6
FULL_S: Final = 5.0
"""From the load's start until every stage is busy."""

SPARE: Final = 1.25
"""Orders signed beyond what the warm-up's rate would use; should it use more, they are signed while it runs."""

LEFT_S: Final = 15.0
"""Orders for this long are always there: signing as many again takes one core a third of it."""

STARVED_SHARE_MAX: Final = 0.02
"""Of the time; a load with nothing to send any longer measures itself."""

SETTLE_TIMEOUT_S: Final = 120.0
CYCLE_SECONDS: Final = 2.0
_POLL_S: Final = 0.2
_MORE: Final = "s-more-"


class BenchError(Exception):
    """The measurement is not worth anything; the text says why."""


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What to measure.

    Attributes:
        seconds: of the sustained run; latency_seconds: of the run at half the rate; baseline_seconds: of each baseline.
        partners: 2 sign with ES256; 4: half of them with Ed25519.
        profile: name of a stage to record with py-spy during the sustained run, or None.
    """

    seconds: float = 60.0
    latency_seconds: float = 30.0
    baseline_seconds: float = 10.0
    partners: int = 2
    initiation_workers: int = 1
    seed: int = 1
    profile: str | None = None


class View(Protocol):
    """Shows the bench to whoever watches."""

    def step(self, title: str) -> AbstractContextManager[None]:
        """A step runs, for as long as the block lasts."""

    def line(self, text: str) -> None:
        """A line of numbers that changes."""


@dataclass(slots=True)
class BenchResult:
    """What was measured.

    Attributes:
        settled_per_s: over the sustained window.
        thirds_per_s: the same over each third of it: sustained means that they are alike.
        meters: processes over the window; cpu_us: microseconds of processor a payment settled in it, by process.
        produced, settled: over the whole run.
        pure: the decisions alone, in one thread; intake: one worker of the intake on a backlog.
        hot: a stretch of orders under one consent.
        proofs: how many of the settled payments had a customer's proof.
        others_cores: cores that other programs of the machine kept busy over the window: they slow the gateway down.
        signed_meanwhile: orders that had to be signed while the gateway was measured: it is one of these programs.
        profile: where py-spy wrote, if it was asked to.
    """

    plan: BenchPlan
    floor: Baseline
    naive: Baseline
    pure: Pure
    intake: Intake
    settled_per_s: float = 0.0
    thirds_per_s: tuple[float, ...] = ()
    half_rate_per_s: float = 0.0
    hot: Hot = field(default_factory=Hot)
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    latencies: int = 0
    meters: dict[str, Meter] = field(default_factory=dict)
    cpu_us: dict[str, float] = field(default_factory=dict)
    produced: int = 0
    settled: int = 0
    proofs: int = 0
    settled_in_window: int = 0
    checked: list[Checked] = field(default_factory=list)
    others_cores: float = 0.0
    signed_meanwhile: int = 0
    profile: Path | None = None

    @property
    def balanced(self) -> bool:
        """True if every check of the books holds."""
        return bool(self.checked) and all(c.ok for c in self.checked)

    def last_line(self) -> str:
        """The line for machines."""
        return (
            f"bench: settled_per_s={self.settled_per_s:.0f} p50_ms={self.p50_ms:.0f} p99_ms={self.p99_ms:.0f} "
            f"cpu_us_per_payment={sum(self.cpu_us.values()):.0f} "
            f"floor_ratio={_ratio(self.settled_per_s, self.floor.per_second):.3f} "
            f"naive_ratio={_ratio(self.settled_per_s, self.naive.per_second):.1f}"
        )


def _ratio(a: float, b: float) -> float:
    return a / b if b else 0.0


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
        self._produced = 0
        self._loads = 0
        self._signed_meanwhile = 0

    async def run(self) -> BenchResult:
        warm = await self._sign(WARM_ORDERS, "w")
        floor, naive = await self._baselines(warm)
        pure = await self._pure(warm)
        result = BenchResult(self._plan, floor, naive, pure, await self._alone())
        rate = await self._warm_up(warm)
        count = int(rate * (self._plan.seconds + FULL_S) * SPARE) + AHEAD
        orders = await self._sign(count, "s")
        began, ended = await self._sustain(orders, count, result)
        for path in (*orders, *self._world.directory.glob(f"{_MORE}*.orders")):
            path.unlink()
        settled = await self._settled_between(began, ended)
        result.settled_per_s = settled / (ended - began)
        await self._latency(result)
        result.hot = await self._hot()
        with self._view.step("Checking the books from three sides"):
            await self._judge(result, began, ended)
        return result

    async def _sign(self, count: int, name: str, cast: Cast | None = None) -> list[Path]:
        with self._view.step(f"Signing {count:,} orders"):
            return await asyncio.to_thread(
                presign, cast or self._cast, count, self._world.directory, name=name, seed=self._plan.seed
            )

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
        orders = await self._sign(BACKLOG_ORDERS, "b")
        with self._view.step(f"Producing a backlog of {BACKLOG_ORDERS:,} orders"):
            load = self._start_load(orders, "--per-second", str(_AT_ONCE))
            await load.ended()
            self._count_load(load)
        worker = await start_intake(self._world, self._view.step)
        with self._view.step("The backlog through one worker of the intake"):
            url = self._world.http[worker.name]
            try:
                intake = await watch_intake(url, worker.pid, BACKLOG_ORDERS, check=self._world.check)
            except NotTakenError as error:
                raise BenchError(str(error)) from error
        await start_gateway(self._world, self._view.step)
        with self._view.step("Settling the backlog"):
            await self._until_settled()
        return intake

    # --- load ---

    def _start_load(self, orders: Sequence[Path], *how: str) -> Child:
        self._loads += 1
        report = self._world.directory / f"load-{self._loads}.json"
        arguments = ["-m", "gateway.proving.traffic.load", "--kafka", self._world.kafka_bootstrap_servers]
        arguments += ["--report", str(report), *how, *map(str, orders)]
        child = make_child(self._world, f"load {self._loads}", arguments, base_environment())
        child.start()
        return child

    def _ahead(self) -> list[str]:
        urls = [f"http://127.0.0.1:{n.control_port}" for n in self._world.networks]
        return ["--ahead", str(AHEAD), *(a for url in urls for a in ("--network", url))]

    async def _end_load(self, load: Child) -> float:
        """Stop the load, if it still runs, and wait until everything it sent is settled; tells how long it starved."""
        await load.stop(30.0)
        starved = self._count_load(load)
        await self._until_settled()
        return starved

    async def _keep_signing(self, signed: int) -> None:
        """Sign more orders whenever those that are left would not last; the load takes them up."""
        decided = before = await self._decided()
        began = time.monotonic()
        for number in itertools.count():
            while True:
                decided = await self._decided() - before
                rate = decided / max(1.0, time.monotonic() - began)
                if signed - decided - AHEAD < rate * LEFT_S:
                    break
                await asyncio.sleep(1.0)
            count = max(WARM_ORDERS // 3, int(rate * LEFT_S))
            await asyncio.to_thread(
                presign, self._cast, count, self._world.directory, name=f"{_MORE}{number:04d}", seed=number, processes=1
            )
            signed += count
            self._signed_meanwhile += count

    def _count_load(self, load: Child) -> float:
        report = self._world.directory / f"load-{self._loads}.json"
        if not report.exists():
            load.check()
        told = json.loads(report.read_bytes())
        self._produced += int(told["produced"])
        return float(told["starved_s"])

    async def _until_settled(self) -> None:
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while (settled := await self._count("state = 'settled'")) < self._produced:
            self._world.check()
            if time.monotonic() > deadline:
                raise BenchError(f"{self._produced - settled} of {self._produced} payments did not settle in time")
            self._view.line(f"settled {settled:,} of {self._produced:,}")
            await asyncio.sleep(_POLL_S)

    async def _decided(self) -> int:
        states = await asyncio.gather(*(n.state() for n in self._world.networks))
        return sum(int(s["counters"].get("approved", 0)) for s in states)

    async def _count(self, condition: str, *arguments: object) -> int:
        connection = await asyncpg.connect(self._world.postgres_dsn)
        try:
            return int(await connection.fetchval(f"SELECT count(*) FROM payment WHERE {condition}", *arguments))  # noqa: S608 - ours
        finally:
            await connection.close()

    async def _settled_between(self, began: float, ended: float) -> int:
        condition = "state = 'settled' AND changed_at >= to_timestamp($1) AND changed_at < to_timestamp($2)"
        return await self._count(condition, began, ended)

    # --- phases ---

    async def _warm_up(self, orders: Sequence[Path]) -> float:
        """Fill every cache; return payments a second towards the end."""
        with self._view.step("Warming up"):
            load = self._start_load(orders, *self._ahead())
            seen: list[tuple[float, int]] = []
            while load.running():
                self._world.check()
                seen.append((time.monotonic(), await self._decided()))
                self._view.line(f"warming up: {seen[-1][1]:,} payments")
                await asyncio.sleep(_POLL_S)
            await self._end_load(load)
        if not seen:
            raise BenchError("the load ended before it began")
        now, decided = seen[-1]
        then, before = next((s for s in seen if now - s[0] <= WARM_TAIL_S), seen[0])
        if now - then < WARM_TAIL_S / 2:
            raise BenchError("the warm-up was too short to tell a rate")
        return (decided - before) / (now - then)

    async def _sustain(self, orders: Sequence[Path], signed: int, result: BenchResult) -> tuple[float, float]:
        """The most that is sustained; returns the window, in seconds since 1970."""
        with self._view.step(f"Sustained load for {self._plan.seconds:.0f} s"):
            load = self._start_load(orders, *self._ahead(), "--more", str(self._world.directory), _MORE)
            signing = asyncio.create_task(self._keep_signing(signed), name="signing")
            await asyncio.sleep(FULL_S)
            meters = Meters(self._pids(load), trees=frozenset(("PostgreSQL",)))
            profile = self._start_profile(result)
            meters.start()
            began, before = time.time(), await self._decided()
            while (elapsed := time.time() - began) < self._plan.seconds:
                self._world.check()
                if signing.done():
                    signing.result()
                rate = (await self._decided() - before) / elapsed if elapsed > 1 else 0
                self._view.line(f"{elapsed:.0f} s: {rate:,.0f} payments a second through the network")
                await asyncio.sleep(min(1.0, self._plan.seconds - elapsed))
            ended = time.time()
            await meters.stop()
            signing.cancel()
            result.signed_meanwhile = self._signed_meanwhile
            load.check()
            if profile is not None:
                await asyncio.to_thread(profile.wait)
            starved = await self._end_load(load)
            if starved > STARVED_SHARE_MAX * self._plan.seconds:
                raise BenchError(
                    f"for {starved:.1f} s there was nothing to send: signing took longer than settling, "
                    "on a machine that is busy with something else"
                )
        result.meters, result.others_cores = meters.meters, meters.others_cores
        settled = max(1, await self._settled_between(began, ended))
        result.settled_in_window = settled
        result.cpu_us = {name: m.cpu_seconds * 1e6 / settled for name, m in meters.meters.items()}
        third = (ended - began) / 3
        counts = [await self._settled_between(began + n * third, began + (n + 1) * third) for n in range(3)]
        result.thirds_per_s = tuple(n / third for n in counts)
        return began, ended

    async def _latency(self, result: BenchResult) -> None:
        result.half_rate_per_s = result.settled_per_s / 2
        orders = await self._sign(max(1, int(result.half_rate_per_s * self._plan.latency_seconds)), "h")
        with self._view.step(f"Latency at half the rate for {self._plan.latency_seconds:.0f} s"):
            load = self._start_load(orders, "--per-second", f"{result.half_rate_per_s:.1f}")
            began = time.monotonic()
            while load.running():
                self._world.check()
                self._view.line(f"{time.monotonic() - began:.0f} s at {result.half_rate_per_s:,.0f} a second")
                await asyncio.sleep(_POLL_S)
            await self._end_load(load)

    async def _hot(self) -> Hot:
        orders = await self._sign(HOT_ORDERS, PREFIX, one_customer(self._cast))
        with self._view.step(f"One consent, {HOT_ORDERS:,} orders"):
            load = self._start_load(orders, *self._ahead())
            await load.ended()
            await self._end_load(load)
        hot = await read_hot(self._world.postgres_dsn)
        if hot.orders != HOT_ORDERS:
            raise BenchError(f"{hot.orders} of {HOT_ORDERS} orders under the hot consent were sent")
        return hot

    def _pids(self, load: Child) -> dict[str, int]:
        pids = {child.name: child.pid for child in (*self._world.stages, *self._world.simulators)}
        status = local.status(self._world.name, home=self._world.plan.home)
        for name, server in (("Kafka", status.kafka), ("PostgreSQL", status.postgres)):
            if server.pid is not None:
                pids[name] = server.pid
        return {**pids, "load generator": load.pid}

    def _start_profile(self, result: BenchResult) -> "subprocess.Popen[bytes] | None":
        if self._plan.profile is None:
            return None
        child = self._world.stage(self._plan.profile)
        result.profile = self._world.plan.home / f"profile-{child.name.replace(' ', '-')}.svg"
        py_spy = Path(sys.executable).with_name("py-spy")
        seconds = str(max(1, int(self._plan.seconds / 2)))
        argv = [str(py_spy), "record", "-p", str(child.pid), "-d", seconds, "-o", str(result.profile)]
        return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - ours

    # --- proof ---

    async def _judge(self, result: BenchResult, began: float, ended: float) -> None:
        produced = await produced_on_topic(self._world.kafka_bootstrap_servers)
        if len(produced) != self._produced:
            raise BenchError(f"{self._produced} orders were confirmed, and {len(produced)} are on the topic")
        judged = await judge(self._world, produced)
        evidence, result.checked = judged.evidence, judged.checked
        result.produced = len(produced)
        result.settled = sum(p.state == "settled" for p in evidence.payments.values())
        result.proofs = sum(
            p.state == "settled" and p.payment_id in evidence.proofs_used for p in evidence.payments.values()
        )
        confirmed = confirmed_between(evidence, began, ended)
        if confirmed != result.settled_in_window:
            raise BenchError(
                f"PostgreSQL settled {result.settled_in_window} in the window, the network {confirmed} of them"
            )
        spans = latencies_at_half_rate(evidence)
        result.latencies = len(spans)
        result.p50_ms, result.p99_ms, result.max_ms = (percentile(spans, share) for share in (0.5, 0.99, 1.0))
