"""What drives a measured world: orders signed ahead, the load generator's processes, and how far the world has come."""

import asyncio
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import asyncpg

from gateway.proving import stack as local
from gateway.proving.bench.meters import Meters
from gateway.proving.bench.result import BenchError, View
from gateway.proving.traffic.cast import Cast
from gateway.proving.traffic.presigning import presign
from gateway.proving.world.children import Child, base_environment
from gateway.proving.world.confirming import produced_on_topic
from gateway.proving.world.judging import Judged, judge
from gateway.proving.world.world import World, make_child

AHEAD: Final = 4000
"""Orders between Kafka and the network: about two seconds of work, so that no stage ever waits for orders."""

MORE: Final = "s-more-"
"""Names of files of orders that are signed while others are sent begin with it."""

_MORE_ORDERS_MIN: Final = 5_000
_MORE_S: Final = 8.0
"""So many at a time: they are there only when all of them are signed, on a machine that is busy."""

_LEFT_S: Final = 15.0
"""Orders for this long are always there: signing as many again takes one core a third of it."""

_SETTLE_TIMEOUT_S: Final = 120.0
_REST: Final = 25
_REST_MAX_S: Final = 1.0
"""Between questions of how many are settled: so many times as long as one took, and no longer than this."""

_STOP_S: Final = 30.0
POLL_S: Final = 0.2

SERVER_TREES: Final = frozenset(("PostgreSQL", local.STANDBY_TITLE))
"""Servers with child processes."""


async def approved(world: World) -> int:
    """Payments that a world's networks have approved so far."""
    states = await asyncio.gather(*(n.state() for n in world.networks))
    return sum(int(s["counters"].get("approved", 0)) for s in states)


class Loads:
    """Signs and sends the orders of one world, and counts what became of them.

    Attributes:
        produced: orders that were sent so far.
        signed_meanwhile: orders that had to be signed while others were sent.
    """

    def __init__(self, world: World, cast: Cast, view: View, *, seed: int) -> None:
        self._world = world
        self._cast = cast
        self._view = view
        self._seed = seed
        self._started = 0
        self.produced = 0
        self.signed_meanwhile = 0

    async def sign(self, count: int, name: str, cast: Cast | None = None) -> list[Path]:
        """Sign good orders into files; their ids begin with ``name``."""
        with self._view.step(f"Signing {count:,} orders"):
            directory = self._world.directory
            return await asyncio.to_thread(presign, cast or self._cast, count, directory, name=name, seed=self._seed)

    def start(self, orders: Sequence[Path], *how: str) -> Child:
        """Start to send; ``how``: options of :mod:`gateway.proving.traffic.load`."""
        self._started += 1
        arguments = ["-m", "gateway.proving.traffic.load", "--kafka", self._world.kafka_bootstrap_servers]
        arguments += ["--report", str(self._report), *how, *map(str, orders)]
        child = make_child(self._world, f"load {self._started}", arguments, base_environment())
        child.start()
        return child

    def start_ahead(self, orders: Sequence[Path], *, more: str = "") -> Child:
        """Start to send as fast as the networks decide; also what :meth:`keep_signing` signs by the name ``more``."""
        urls = [f"http://127.0.0.1:{n.control_port}" for n in self._world.networks]
        how = ["--ahead", str(AHEAD), *(a for url in urls for a in ("--network", url))]
        return self.start(orders, *how, *(("--more", str(self._world.directory), more) if more else ()))

    async def end(self, load: Child) -> float:
        """Stop the load, if it still runs, and wait until everything it sent is settled; tells how long it starved."""
        await load.stop(_STOP_S)
        starved = self.count(load)
        await self.until_settled()
        return starved

    def count(self, load: Child) -> float:
        """Count what a load that has ended sent; returns for how many seconds it had nothing to send."""
        if not self._report.exists():
            load.check()
        told = json.loads(self._report.read_bytes())
        self.produced += int(told["produced"])
        return float(told["starved_s"])

    async def keep_signing(self, signed: int, seconds: float, name: str = MORE) -> None:
        """Sign more orders whenever those that are left would not last; the load takes them up.

        Args:
            signed: orders that are there already.
            seconds: that they have to last for altogether.
            name: what names of files, and of orders, begin with: no other call has the same.
        """
        decided = before = await self.decided()
        began = time.monotonic()
        for number in itertools.count():
            while True:
                decided = await self.decided() - before
                rate = decided / max(1.0, time.monotonic() - began)
                if signed - decided - AHEAD < rate * min(_LEFT_S, began + seconds - time.monotonic()):
                    break
                await asyncio.sleep(1.0)
            count = max(_MORE_ORDERS_MIN, int(rate * _MORE_S))
            await asyncio.to_thread(
                presign, self._cast, count, self._world.directory, name=f"{name}{number:04d}", seed=number, processes=1
            )
            signed += count
            self.signed_meanwhile += count

    async def until_settled(self) -> None:
        """Wait until everything that was sent is settled.

        Raises:
            BenchError: it takes too long.
            ChildError: a process has ended.
        """
        deadline = time.monotonic() + _SETTLE_TIMEOUT_S
        while True:
            asked_at = time.monotonic()
            settled = await self._payments("state = 'settled'")
            if settled >= self.produced:
                return
            self._world.check()
            if time.monotonic() > deadline:
                raise BenchError(f"{self.produced - settled} of {self.produced} payments did not settle in time")
            self._view.line(f"settled {settled:,} of {self.produced:,}")
            # The question reads the whole table, and what that takes is measured as the gateway's.
            await asyncio.sleep(min(_REST_MAX_S, max(POLL_S, _REST * (time.monotonic() - asked_at))))

    async def decided(self) -> int:
        """Payments that the networks have approved so far."""
        return await approved(self._world)

    async def settled_between(self, began: float, ended: float) -> int:
        """Payments settled in a window, in seconds since 1970."""
        condition = "state = 'settled' AND changed_at >= to_timestamp($2) AND changed_at < to_timestamp($3)"
        return await self._payments(condition, began, ended)

    async def _payments(self, condition: str, *arguments: object) -> int:
        connection = await asyncpg.connect(self._world.postgres_dsn)
        # Others' may be stored there by the million.
        sql = f"SELECT count(*) FROM payment WHERE partner_id = ANY($1) AND {condition}"  # noqa: S608 - ours
        partners = [p.partner_id for p in self._cast.partners]
        try:
            return int(await connection.fetchval(sql, partners, *arguments))
        finally:
            await connection.close()

    async def judged(self) -> Judged:
        """Check the books of all that was sent, at rest.

        Raises:
            BenchError: the topic has other orders than were confirmed.
        """
        produced = await produced_on_topic(self._world.kafka_bootstrap_servers)
        if len(produced) != self.produced:
            raise BenchError(f"{self.produced} orders were confirmed, and {len(produced)} are on the topic")
        return await judge(self._world, produced)

    @property
    def _report(self) -> Path:
        return self._world.directory / f"load-{self._started}.json"


def meters_of(world: World, load: Child | None = None) -> Meters:
    """Meters of all of a world's processes and servers, and of what loads it."""
    pids = {child.name: child.pid for child in (*world.stages, *world.simulators)} | server_pids(world)
    return Meters(pids if load is None else {**pids, "load generator": load.pid}, trees=SERVER_TREES)


def server_pids(world: World) -> dict[str, int]:
    """Kafka and PostgreSQL, as far as they run here for this world alone."""
    status = local.status(world.name, home=world.plan.home)
    servers = (("Kafka", status.kafka), ("PostgreSQL", status.postgres))
    return {**{name: server.pid for name, server in servers if server.pid is not None}, **status.replicas}
