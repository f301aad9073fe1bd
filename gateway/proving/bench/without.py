"""``mypay bench --without PARTS``: what parts of the gateway cost, by stretches with and without them in turns.

All in one run: the same world, customers and servers, and as many orders in each stretch. A stretch begins and ends at
rest: its orders are settled, and where the parts run, what they make of these orders is made, told and logged. So what
is late is counted, and what a part leaves to others (rows, events that the relay publishes) counts as its own.

Autovacuum would fall into one stretch or another, whoever wrote what it looks at. So it is off, and each stretch ends
with a VACUUM of what it wrote. That tables which are young are analyzed once a minute counts in none.
"""

import asyncio
import statistics
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum, unique
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import asyncpg

from gateway.proving.bench.collecting import Collector, open_collector
from gateway.proving.bench.loads import POLL_S, Loads
from gateway.proving.bench.result import BenchError, View
from gateway.proving.bench.stretch import Stretch, run_stretch
from gateway.proving.books import Checked, balanced
from gateway.proving.traffic.cast import Role, make_cast, make_partners
from gateway.proving.traffic.receivers import make_receivers
from gateway.proving.world.children import Child
from gateway.proving.world.opening import open_world
from gateway.proving.world.starting import start_gateway, until_ready
from gateway.proving.world.world import STOP_TIMEOUT_S, World, WorldPlan, make_child

CUSTOMERS: Final = 2000
WARM_ORDERS: Final = 8_000
WARM_NAME: Final = "w"
SCRAPE_S: Final = 5.0
"""How often metrics are fetched from each process in a stretch with them: three times as often as is usual."""

_CATCH_UP_S: Final = 120.0


@unique
class Part(StrEnum):
    """What can be left out."""

    SHARING = "sharing"
    DISCLOSURE = "disclosure"
    OBSERVABILITY = "observability"
    TRACING = "tracing"


_STAGES: Final[Mapping[Part, str]] = {Part.SHARING: "sharing", Part.DISCLOSURE: "disclosure"}
"""Parts that are processes of their own."""

_EVERYWHERE: Final = frozenset({Part.OBSERVABILITY, Part.TRACING})
"""Parts that are in every process: all of them start anew with and without these."""

_READERS: Final = "SELECT reader, tx::text, id FROM outbox_reader"
_END: Final = """
SELECT tx::text, id FROM outbox WHERE tx < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY outbox.tx DESC, outbox.id DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class WithoutPlan:
    """What to compare; ``orders``: of a stretch."""

    parts: frozenset[Part]
    rounds: int = 3
    orders: int = 20_000
    seed: int = 1


@dataclass(slots=True)
class WithoutResult:
    """Stretches with and without the parts, round by round."""

    plan: WithoutPlan
    rounds: list[tuple[Stretch, Stretch]] = field(default_factory=list)
    checked: list[Checked] = field(default_factory=list)

    @property
    def with_us(self) -> float:
        """The median of what a payment costs with the parts."""
        return statistics.median(w.all_us for w, _ in self.rounds)

    @property
    def without_us(self) -> float:
        """The same without them."""
        return statistics.median(o.all_us for _, o in self.rounds)

    @property
    def share(self) -> float:
        """What the parts take of what a payment costs with them: the median of the rounds."""
        return statistics.median((w.all_us - o.all_us) / w.all_us for w, o in self.rounds)

    @property
    def balanced(self) -> bool:
        """True if every check of the books holds."""
        return balanced(self.checked)

    def last_line(self) -> str:
        """The line for machines."""
        return (
            f"without: parts={','.join(sorted(self.plan.parts))} rounds={len(self.rounds)} "
            f"with_us={self.with_us:.0f} without_us={self.without_us:.0f} share={self.share:.3f}"
        )


async def run_without(plan: WithoutPlan, home: Path, *, view: View) -> WithoutResult:
    """Measure.

    Raises:
        BenchError: the measurement is not worth anything.
        WorldError, ChildError, gateway.proving.stack.LocalStackError: it could not be set up, or a process died.
    """
    partners = make_partners(2)
    receivers = make_receivers() if Part.SHARING in plan.parts else None
    now = datetime.now(UTC)
    cast = make_cast({Role.PLAIN: CUSTOMERS}, partners=partners, now=now, seed=plan.seed, receivers=receivers)
    world_plan = WorldPlan(
        "bench-without",
        home,
        seed=plan.seed,
        cycle_seconds=2.0,
        log_level="warning",
        with_proofs=True,
        with_disclosure=Part.DISCLOSURE in plan.parts,
        with_sharing=Part.SHARING in plan.parts,
        # What gathers for longer costs less: as it is by default, not as it suits a demo.
        prompt=False,
    )
    async with open_collector() as collector, open_world(world_plan, cast, steps=view.step) as world:
        loads = Loads(world, cast, view, seed=plan.seed)
        run = _Run(plan, world, loads, view, collector)
        result = await run.run()
        if Part.TRACING in plan.parts and not collector.requests:
            raise BenchError("nothing was traced")
        with view.step("Checking the books from three sides"):
            result.checked = (await loads.judged()).checked
        world.succeeded = result.balanced
    return result


class _Run:
    def __init__(self, plan: WithoutPlan, world: World, loads: Loads, view: View, collector: Collector) -> None:
        self._plan = plan
        self._world = world
        self._loads = loads
        self._view = view
        self._collector = collector
        self._names = [_STAGES[p] for p in sorted(plan.parts) if p in _STAGES]

    async def run(self) -> WithoutResult:
        result = WithoutResult(self._plan)
        if Part.TRACING in self._plan.parts:
            await self._switch(with_parts=True)
        await self._ask("ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()")
        await self._stretch(WARM_NAME, WARM_ORDERS, with_parts=True)
        # Plans are made of what is known of the tables.
        await self._ask("ANALYZE")
        running = True
        for number in range(1, self._plan.rounds + 1):
            with_name, without_name = names_of(number)
            found: dict[bool, Stretch] = {}
            # Each round begins as the one before has ended: whatever grows with the tables weighs on both alike.
            for with_parts in (running, not running):
                if with_parts is not running:
                    await self._switch(with_parts=with_parts)
                    running = with_parts
                words, name = (f"with {self._words}", with_name) if with_parts else ("without", without_name)
                with self._view.step(f"Round {number} of {self._plan.rounds}: {words}"):
                    found[with_parts] = await self._stretch(name, self._plan.orders, with_parts=with_parts)
            having, lacking = found[True], found[False]
            result.rounds.append((having, lacking))
            self._view.line(f"round {number}: {having.all_us:,.0f} | {lacking.all_us:,.0f} µs of processor a payment")
        if not running:
            # What was told meanwhile is shared and logged, too, before the books are checked.
            await self._switch(with_parts=True)
        return result

    async def _ask(self, *statements: str) -> None:
        """Have the server do these, one after the other, each in no transaction with others."""
        connection = await asyncpg.connect(self._world.postgres_dsn)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    @property
    def _words(self) -> str:
        return ", ".join(sorted(self._plan.parts))

    async def _switch(self, *, with_parts: bool) -> None:
        """Start or stop the parts; what waited for them meanwhile is dealt with before anything is measured."""
        world = self._world
        if not with_parts:
            for child in [world.stage(name) for name in self._names]:
                await child.stop(STOP_TIMEOUT_S)
                world.stages.remove(child)
                del world.http[child.name]
        if self._plan.parts & _EVERYWHERE:
            await asyncio.gather(*(s.stop(STOP_TIMEOUT_S) for s in world.stages))
            world.stages[:] = [self._remade(s.name, with_parts=with_parts) for s in world.stages]
            for stage in world.stages:
                stage.start()
        if with_parts:
            await start_gateway(world, self._view.step)
        else:
            await until_ready(world)
        await self._caught_up()

    def _remade(self, name: str, *, with_parts: bool) -> Child:
        """A stage's process, not started yet, at the port that it had."""
        stage, *words = name.split(" ")
        silent = not with_parts and Part.OBSERVABILITY in self._plan.parts
        own = {"MYPAY_HTTP_PORT": str(urlsplit(self._world.http[name]).port), "MYPAY_WORKER": name.replace(" ", "-")}
        if with_parts and Part.TRACING in self._plan.parts:
            own |= self._collector.environment
        module = "gateway.proving.bench.silent" if silent else "streams"
        arguments = ["-m", module, stage, *(["--network", words[0]] if stage == "execution" else [])]
        return make_child(self._world, name, arguments, {**self._world.environment, **own})

    async def _stretch(self, name: str, count: int, *, with_parts: bool) -> Stretch:
        orders = await self._loads.sign(count, name)
        scraping = (
            asyncio.create_task(self._scrape(), name="scraping") if self._is_scraped(with_parts=with_parts) else None
        )
        try:
            return await run_stretch(self._world, self._loads, orders, count, then=self._at_rest)
        finally:
            if scraping is not None:
                scraping.cancel()
                await asyncio.wait([scraping])

    async def _at_rest(self) -> None:
        await self._caught_up()
        await self._ask("VACUUM")

    def _is_scraped(self, *, with_parts: bool) -> bool:
        return with_parts and Part.OBSERVABILITY in self._plan.parts

    async def _scrape(self) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                for url in self._world.http.values():
                    with suppress(aiohttp.ClientError):
                        async with session.get(f"{url}/metrics") as answer:
                            await answer.read()
                await asyncio.sleep(SCRAPE_S)

    async def _caught_up(self) -> None:
        """Wait until whoever runs of the outbox's readers has come to its end."""
        names = {child.name for child in self._world.stages}
        connection = await asyncpg.connect(self._world.postgres_dsn)
        deadline = time.monotonic() + _CATCH_UP_S
        try:
            while True:
                end = await connection.fetchrow(_END)
                readers = [r for r in await connection.fetch(_READERS) if r["reader"] in names]
                if end is None or all(_place(r) >= _place(end) for r in readers):
                    return
                if time.monotonic() > deadline:
                    raise BenchError("the readers of the outbox did not come to its end in time")
                await asyncio.sleep(POLL_S)
        finally:
            await connection.close()


def _place(row: asyncpg.Record) -> tuple[int, int]:
    return int(row["tx"]), row["id"]


def names_of(number: int) -> tuple[str, str]:
    """What orders' ids of a round's stretches begin with: by the first letter the books know the phase."""
    return f"s-with-{number}-", f"s-without-{number}-"
