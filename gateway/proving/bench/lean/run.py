"""Measures the pipeline without features beside the gateway: same servers, same load generator, same kind of host.

The host is a process of its own, with books of its own, so that nothing is left in the gateway's. A payment counts when
PostgreSQL has its answer, as the gateway's counts when it is settled; at the end the table, the events and the host's
counters must tell the same number of orders that were sent, or the figure is worth nothing.
"""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg

from gateway.messaging.topics_admin import ensure_topics
from gateway.proving.bench.lean.figures import Lean
from gateway.proving.bench.lean.pipeline import MAKE_TABLE, TABLE, events_topic, orders_topic
from gateway.proving.bench.loads import AHEAD, SERVER_TREES, server_pids
from gateway.proving.bench.meters import Meters
from gateway.proving.bench.result import BenchError, View
from gateway.proving.collect.topics import read_topics
from gateway.proving.stack.ports import free_ports
from gateway.proving.world.children import Child, base_environment
from gateway.proving.world.simulators import make_simulator
from gateway.proving.world.world import STOP_TIMEOUT_S, World, make_child
from schemas.topics import ORDERS, TOPICS

WORKERS: Final = 1
"""As of each of the gateway's stages. Two reach half as much again on two cores, at the same cost a payment."""

_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.2


async def measure_lean(
    world: World, orders: Sequence[Path], how: str, *, seconds: float, view: View, number: int = 1
) -> Lean:
    """Run the pipeline for a while.

    Args:
        world: its servers, while nothing goes through the gateway.
        orders: signed ones, each id once; when they are used up the measurement ends.
        how: it reads: ``faust`` or ``bare``.
        seconds: of the window.
        view: shows how it goes.
        number: of the window: each has topics of its own.

    Raises:
        BenchError: it did not do what it has to, or the orders did not last.
        ChildError: a process has ended.
    """
    like = next(t for t in TOPICS if t.name == ORDERS)
    made = [replace(like, name=name) for name in (orders_topic(how, number), events_topic(how, number))]
    await ensure_topics(world.kafka, made, replication_factor=1, apply=True)
    await _execute(world, f"DROP TABLE IF EXISTS {TABLE}", MAKE_TABLE)
    run = _Run(world, how, number)
    try:
        await run.start()
        measured = await run.measure(orders, seconds, view)
        await run.check()
    finally:
        await run.stop()
    return measured


class _Run:
    def __init__(self, world: World, how: str, number: int) -> None:
        self._world = world
        self._how = how
        self._number = number
        name = f"lean-{how}-{number}"
        port, control = free_ports(2)
        self._network = replace(
            world.networks[0],
            port=port,
            control_port=control,
            gateway_port=port,
            ledger=world.directory / f"{name}.ledger",
            inbox=world.directory / f"{name}.inbox",
        )
        self._file = world.directory / f"{name}.gateway.toml"
        self._file.write_text(self._network.gateway_file(window=world.plan.window), encoding="utf-8")
        self._network.ledger.unlink(missing_ok=True)
        # It closes no clearing cycle: nobody settles.
        self._host = make_simulator(world, name, self._network)
        self._workers: list[Child] = []
        self._load: Child | None = None
        self._report = world.directory / f"{name}.json"
        self._produced = 0

    async def start(self) -> None:
        """Start host and workers, and wait until they are signed on."""
        self._host.start()
        self._workers = [self._worker(number) for number in range(WORKERS)]
        async with _in_time(f"the pipeline ({self._how}) did not sign on"):
            while not await self._answers():
                self._host.check()
                await asyncio.sleep(_POLL_S)
            for worker in self._workers:
                worker.start()
            while (await self._network.state())["signed_on"] < WORKERS:
                self._look()
                await asyncio.sleep(_POLL_S)

    def _worker(self, number: int) -> Child:
        world = self._world
        arguments = ["-m", "gateway.proving.bench.lean.worker", self._how, "--kafka", world.kafka_bootstrap_servers]
        arguments += ["--dsn", world.postgres_dsn, "--network", str(self._file)]
        arguments += ["--worker", str(number), "--window", str(self._number), "--home", str(world.directory)]
        return make_child(world, f"pipeline {self._how} {number}", arguments, base_environment())

    async def _answers(self) -> bool:
        try:
            await self._network.state()
        except aiohttp.ClientError:
            return False
        return True

    async def measure(self, orders: Sequence[Path], seconds: float, view: View) -> Lean:
        """Load it, let it fill, and measure until the time is up or the orders are."""
        arguments = ["-m", "gateway.proving.traffic.load", "--kafka", self._world.kafka_bootstrap_servers]
        arguments += [
            "--report",
            str(self._report),
            "--topic",
            orders_topic(self._how, self._number),
            "--ahead",
            str(AHEAD),
        ]
        arguments += ["--network", f"http://127.0.0.1:{self._network.control_port}", *map(str, orders)]
        self._load = load = make_child(self._world, f"load {self._how}", arguments, base_environment())
        load.start()
        async with _in_time(f"the pipeline ({self._how}) answered nothing"):
            while await self._answered() < AHEAD:
                self._look()
                await asyncio.sleep(_POLL_S)
        pids = {child.name: child.pid for child in (*self._workers, self._host)}
        meters = Meters({**pids, **server_pids(self._world), "load generator": load.pid}, trees=SERVER_TREES)
        meters.start()
        began, before = time.time(), await self._answered()
        while (elapsed := time.time() - began) < seconds and load.running():
            self._look()
            view.line(f"{elapsed:.0f} s: {(await self._answered() - before) / max(elapsed, 1):,.0f} payments a second")
            await asyncio.sleep(min(_POLL_S, seconds - elapsed))
        ended = time.time()
        await meters.stop()
        await load.stop(STOP_TIMEOUT_S)
        await self._drain()
        if ended - began < seconds / 2:
            raise BenchError(f"the orders for the pipeline ({self._how}) lasted for {ended - began:.1f} s only")
        payments = await self._answered(began, ended)
        # A load generator that has ended has no account any more.
        cpu_us = {name: max(0.0, m.cpu_seconds) * 1e6 / max(1, payments) for name, m in meters.meters.items()}
        return Lean(payments, ended - began, cpu_us, meters.others_cores)

    async def _drain(self) -> None:
        self._produced = int(json.loads(self._report.read_bytes())["produced"])
        async with _in_time(f"the pipeline ({self._how}) did not answer all of its orders"):
            while await self._answered() < self._produced:
                self._look()
                await asyncio.sleep(_POLL_S)

    async def check(self) -> None:
        """Make sure that every order was paid once, and told once.

        Raises:
            BenchError: it was not.
        """
        asked = (await self._network.state())["counters"]
        told = len(
            {
                r.key
                async for r in read_topics(self._world.kafka_bootstrap_servers, [events_topic(self._how, self._number)])
            }
        )
        found = (asked.get("approved", 0), await self._answered(), told)
        if found != (self._produced,) * 3:
            raise BenchError(f"of {self._produced} orders the pipeline paid, kept and told {found}")

    async def stop(self) -> None:
        """End all of its processes, and drop its table."""
        for child in (self._load, *self._workers, self._host):
            if child is not None:
                await child.stop(STOP_TIMEOUT_S)
        await _execute(self._world, f"DROP TABLE IF EXISTS {TABLE}")

    def _look(self) -> None:
        for child in (*self._workers, self._host):
            child.check()

    async def _answered(self, began: float = 0.0, ended: float = math.inf) -> int:
        [row] = await _execute(
            self._world,
            f"SELECT count(*) AS n FROM {TABLE} WHERE state = 'approved' "  # noqa: S608 - ours
            f"AND extract(epoch FROM changed_at) >= {began:f} AND extract(epoch FROM changed_at) < '{ended}'::float8",
        )
        return int(row["n"])


async def _execute(world: World, *statements: str) -> list[Any]:
    connection = await asyncpg.connect(world.postgres_dsn)
    try:
        rows: list[Any] = []
        for statement in statements:
            rows = await connection.fetch(statement)
        return rows
    finally:
        await connection.close()


@asynccontextmanager
async def _in_time(why: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            yield
    except TimeoutError:
        raise BenchError(f"{why} within {_TIMEOUT_S:.0f} s") from None
