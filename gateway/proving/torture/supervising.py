"""Keeping a world's processes running while it is struck: what ends is started again, as a process supervisor does."""

import asyncio
import signal
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from gateway.proving.world.children import Child
from gateway.proving.world.world import World

LOOK_S: Final = 0.2
RESTART_S: Final = 1.0
"""Pause before a process that ended by itself is started again."""

HEALTH_EVERY_S: Final = 3.0
HEALTH_FAILURES_MAX: Final = 3
"""Refusals of ``/healthz`` in a row before a process is killed and started anew, as orchestrators do."""


@dataclass(slots=True)
class Supervisor:
    """Watches the gateway's stages and the networks' hosts.

    Attributes:
        taken: names of processes that a strike has in hand: left alone until it gives them back.
        ended: name → how often it ended by itself, without a strike.
        unhealthy: name → how often it was restarted because it said that it was stuck.
    """

    world: World
    taken: set[str] = field(default_factory=set)
    ended: Counter[str] = field(default_factory=Counter)
    unhealthy: Counter[str] = field(default_factory=Counter)
    _refusals: Counter[str] = field(default_factory=Counter)

    def child(self, name: str) -> Child:
        """A stage or a host by its name."""
        return next(c for c in self._children() if c.name == name)

    def take(self, name: str) -> Child | None:
        """Hand a running process to a strike; None if another has it, or it does not run."""
        child = self.child(name)
        if name in self.taken or not child.running():
            return None
        self.taken.add(name)
        return child

    def give_back(self, child: Child) -> None:
        """End a strike: the process runs and is watched again."""
        child.signal(signal.SIGCONT)
        child.start()
        self._refusals.pop(child.name, None)
        self.taken.discard(child.name)

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._restart())
            tasks.create_task(self._ask_health())

    async def _restart(self) -> None:
        while True:
            dead = [c for c in self._children() if c.name not in self.taken and not c.running()]
            for child in dead:
                self.ended[child.name] += 1
            if dead:
                await asyncio.sleep(RESTART_S)
            for child in dead:
                child.start()
            await asyncio.sleep(LOOK_S)

    async def _ask_health(self) -> None:
        timeout = aiohttp.ClientTimeout(total=HEALTH_EVERY_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                await asyncio.sleep(HEALTH_EVERY_S)
                await asyncio.gather(*(self._ask(session, name, url) for name, url in self.world.http.items()))

    async def _ask(self, session: aiohttp.ClientSession, name: str, url: str) -> None:
        if name in self.taken:
            return
        # One that cannot be asked is starting, or about to be found dead.
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with session.get(f"{url}/healthz") as answer:
                if answer.status == 200:
                    self._refusals.pop(name, None)
                    return
            self._refusals[name] += 1
            if self._refusals[name] >= HEALTH_FAILURES_MAX and (child := self.take(name)) is not None:
                self.unhealthy[name] += 1
                child.kill()
                await child.ended()
                self.give_back(child)

    def _children(self) -> Iterable[Child]:
        return (*self.world.stages, *self.world.simulators)
