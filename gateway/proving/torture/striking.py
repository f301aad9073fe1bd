"""Carrying strikes out: each begins, lasts, and is undone, whatever else goes on meanwhile."""

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, assert_never

import aiohttp
import psutil

from gateway.base.to_end import in_thread
from gateway.proving import stack as local
from gateway.proving.torture.noise import bomb, flood
from gateway.proving.torture.proxy import Link, Proxy, Way
from gateway.proving.torture.strikes import KILLS, ROWS, Kind, Strike, is_execution
from gateway.proving.torture.supervising import Supervisor
from gateway.proving.world.networks import Network
from gateway.proving.world.world import World

TERMINATE_TIMEOUT_S: Final = 40.0
"""Above what a stage may take to drain, on a busy machine; past it the stage is killed, and that is counted."""

LOG: Final = "strikes.log"
"""Among the processes' logs: one line of JSON a strike, written when it is undone."""

RETRY_S: Final = 0.2

HEAL_TIMEOUT_S: Final = 300.0
"""In which a network's host is reached once all strikes have ended, on a busy machine, or never."""

STARTS_MAX: Final = 3

SERVER_UP_S: Final = 15.0
"""How long a server stays up at least between two kills, so that work goes on also where starts take long."""


class UnhealedError(Exception):
    """What a strike left could not be undone; the text says where."""


@dataclass(frozen=True, slots=True)
class Killed:
    """When a worker of execution was killed, seconds since 1970 UTC, and its process id."""

    at_s: float
    pid: int


@dataclass(slots=True)
class Striker:
    """Strikes one world.

    Attributes:
        proxies: network id → what stands between gateway and network.
        struck: kind → how often it was carried out.
        missed: kind → how often its target was down or in another strike's hands.
        kills: processes ended by SIGKILL.
        overdue: stages that did not stop in time when they were told to.
        killed: every kill of a worker of execution.
    """

    world: World
    supervisor: Supervisor
    proxies: Mapping[str, Proxy]
    struck: Counter[Kind] = field(default_factory=Counter)
    missed: Counter[Kind] = field(default_factory=Counter)
    kills: int = 0
    overdue: Counter[str] = field(default_factory=Counter)
    killed: list[Killed] = field(default_factory=list)
    _servers_down: set[str] = field(default_factory=set)
    _servers_up_at: dict[str, float] = field(default_factory=dict)

    async def run(self, strikes: Sequence[Strike]) -> None:
        """Carry all of them out, each at its time, and return when the last one is undone."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as tasks:
            for strike in strikes:
                await asyncio.sleep(max(0.0, began + strike.at_s - loop.time()))
                tasks.create_task(self._strike(strike), name=f"strike {strike.kind}")

    async def _strike(self, strike: Strike) -> None:
        began = datetime.now(UTC)
        carried_out = await self._carry_out(strike)
        if carried_out:
            self.struck[strike.kind] += 1
            self.kills += strike.kind in KILLS
        else:
            self.missed[strike.kind] += 1
        self._log(strike, began, carried_out=carried_out)

    def _log(self, strike: Strike, began: datetime, *, carried_out: bool) -> None:
        told = {
            "began": began.isoformat(),
            "undone": datetime.now(UTC).isoformat(),
            "kind": strike.kind,
            "target": strike.target,
            "carried_out": carried_out,
        }
        with (self.world.logs / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(told) + "\n")

    async def _carry_out(self, strike: Strike) -> bool:
        match strike.kind:
            case Kind.KILL | Kind.FREEZE | Kind.FREEZE_LONG | Kind.TERMINATE:
                return await self._at_process(strike, strike.target)
            case Kind.HOST | Kind.HOST_FROZEN:
                return await self._at_process(strike, f"network {strike.target}")
            case Kind.KAFKA | Kind.POSTGRES | Kind.KAFKA_FROZEN | Kind.POSTGRES_FROZEN:
                return await self._at_server(strike)
            case (
                Kind.LINKS_CUT
                | Kind.HALF_OPEN
                | Kind.REQUESTS_SWALLOWED
                | Kind.ANSWERS_SWALLOWED
                | Kind.REQUESTS_HELD
                | Kind.ANSWERS_HELD
            ):
                return await self._at_links(strike)
            case (
                Kind.LOST_BEFORE
                | Kind.LOST_AFTER
                | Kind.CLOSED_BEFORE
                | Kind.CLOSED_AFTER
                | Kind.LATE
                | Kind.TWICE
                | Kind.GARBLED
                | Kind.WRONG_AMOUNT
                | Kind.WRONG_RRN
                | Kind.OTHER_LINK
                | Kind.UNLISTED
                | Kind.NOISY
                | Kind.SILENT_BOOKING
                | Kind.SILENT_LOSING
                | Kind.DEAF
            ):
                return await self._at_host(strike)
            case Kind.FLOOD | Kind.BOMB:
                kafka = self.world.kafka
                kid = self.world.cast.partners[0].kid
                return await (bomb(kafka) if strike.kind is Kind.BOMB else flood(kafka, kid))
            case _ as never:
                assert_never(never)

    async def _at_process(self, strike: Strike, name: str) -> bool:
        child = self.supervisor.take(name)
        if child is None:
            return False
        try:
            match strike.kind:
                case Kind.FREEZE | Kind.FREEZE_LONG | Kind.HOST_FROZEN:
                    child.signal(signal.SIGSTOP)
                case Kind.TERMINATE:
                    if await child.stop(TERMINATE_TIMEOUT_S) == -signal.SIGKILL:
                        self.overdue[name] += 1
                case _:
                    if is_execution(name):
                        self.killed.append(Killed(time.time(), child.pid))
                    child.kill()
                    await child.ended()
            await asyncio.sleep(strike.lasts_s)
        finally:
            self.supervisor.give_back(child)
        return True

    async def _at_server(self, strike: Strike) -> bool:
        loop = asyncio.get_running_loop()
        server = _Server(self.world, kafka=strike.kind in {Kind.KAFKA, Kind.KAFKA_FROZEN})
        up_at = self._servers_up_at.get(server.title)
        if server.title in self._servers_down or (up_at is not None and loop.time() < up_at + SERVER_UP_S):
            return False
        self._servers_down.add(server.title)
        try:
            if strike.kind in KILLS:
                await in_thread(server.kill)
            else:
                await in_thread(server.freeze)
            await asyncio.sleep(strike.lasts_s)
        finally:
            # To its end also when cancelled: what it starts is there when the run's end takes everything down.
            await in_thread(server.restore)
            if strike.kind in KILLS:
                self._servers_up_at[server.title] = loop.time()
            self._servers_down.discard(server.title)
        return True

    async def _at_links(self, strike: Strike) -> bool:
        proxy = self.proxies[strike.target]
        links = tuple(proxy.links)
        if not links:
            return False
        one = (links[int(strike.choice * len(links))],) if strike.choice < 1 else links[:1]
        match strike.kind:
            case Kind.REQUESTS_HELD | Kind.ANSWERS_HELD:
                # One link alone: what goes by another overtakes what is held, a reversal its own request.
                proxy.hold(Way.REQUESTS if strike.kind is Kind.REQUESTS_HELD else Way.ANSWERS, one)
                await asyncio.sleep(strike.lasts_s)
                proxy.release(one)
            case Kind.LINKS_CUT:
                proxy.cut(links if strike.choice < 0.5 else one, reset=strike.choice < 0.25)
            case _:
                await self._swallow(strike, proxy, links if strike.choice < 0.5 else one)
        return True

    @staticmethod
    async def _swallow(strike: Strike, proxy: Proxy, links: Collection[Link]) -> None:
        if strike.kind is not Kind.ANSWERS_SWALLOWED:
            proxy.swallow(Way.REQUESTS, links)
        if strike.kind is not Kind.REQUESTS_SWALLOWED:
            proxy.swallow(Way.ANSWERS, links)
        await asyncio.sleep(strike.lasts_s)
        proxy.cut(links, reset=strike.choice < 0.25)

    async def _at_host(self, strike: Strike) -> bool:
        faults = dict(ROWS[strike.kind].faults)
        network = next(n for n in self.world.networks if n.network_id == strike.target)
        if not await _told(network, faults):
            return False
        await asyncio.sleep(strike.lasts_s)
        # A host that was killed meanwhile has forgotten the fault; a frozen one is told when it wakes up.
        await _told(network, {name: _OFF.get(name, 0.0) for name in faults if name != "late_ms"})
        return True

    async def heal(self) -> None:
        """Undo what may be left of any strike, again until everything has been reached.

        Raises:
            UnhealedError: a network's host could not be reached for :data:`HEAL_TIMEOUT_S`.
        """
        servers = [_Server(self.world, kafka=kafka) for kafka in (True, False)]
        await asyncio.gather(*(in_thread(s.restore) for s in servers))
        for proxy in self.proxies.values():
            proxy.release(tuple(proxy.links))
        for network in self.world.networks:
            await _heal(network)


class _Server:
    """Kafka or PostgreSQL of a world."""

    def __init__(self, world: World, *, kafka: bool) -> None:
        self.title = "kafka" if kafka else "postgres"
        self._name, self._home = world.name, world.plan.home
        self._kill, self._start = (
            (local.kill_kafka, local.start_kafka) if kafka else (local.kill_postgres, local.start_postgres)
        )

    def kill(self) -> None:
        """End it and its children at once."""
        self._kill(self._name, home=self._home)

    def freeze(self) -> None:
        """Stop it and its children; clients' connections stay open, and nothing answers."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def restore(self) -> None:
        """Make it answer again: wake it up if it is frozen, start it if it does not run.

        Raises:
            gateway.proving.stack.LocalStackError: it did not start, not even when it was tried again.
        """
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.resume()
        for _ in range(STARTS_MAX - 1):
            # A start takes a second or two; on a machine that is overloaded it may outlast even its long deadline.
            with suppress(local.LocalStackError):
                self._start(self._name, home=self._home)
                return
        self._start(self._name, home=self._home)

    def _processes(self) -> list[psutil.Process]:
        status = local.status(self._name, home=self._home)
        pid = (status.kafka if self.title == "kafka" else status.postgres).pid
        with suppress(psutil.NoSuchProcess):
            if pid is not None:
                parent = psutil.Process(pid)
                return [parent, *parent.children(recursive=True)]
        return []


_OFF: Final[Mapping[str, object]] = {
    "silence": "off",
    "ignore_management": False,
    "classes": ("financial", "reversal", "inquiry"),
}
"""What a fault's key is when nothing is wrong; any other is a rate."""

_UNREACHABLE: Final = (aiohttp.ClientError, TimeoutError, OSError)


async def _told(network: Network, faults: Mapping[str, object]) -> bool:
    with suppress(*_UNREACHABLE):
        await network.set_faults(**faults)
        return True
    return False


async def _heal(network: Network) -> None:
    # A host that was struck last may only be starting.
    loop = asyncio.get_running_loop()
    deadline = loop.time() + HEAL_TIMEOUT_S
    while not await _cleared(network):
        if loop.time() >= deadline:
            raise UnhealedError(f"the host of {network.network_id} cannot be reached: its faults are not undone")
        await asyncio.sleep(RETRY_S)


async def _cleared(network: Network) -> bool:
    with suppress(*_UNREACHABLE):
        await network.clear_faults()
        return True
    return False


@asynccontextmanager
async def in_background(*tasks: "asyncio.Task[None]") -> AsyncIterator[None]:
    """Run tasks beside the block; they are cancelled at its end, and their errors are raised."""
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()
